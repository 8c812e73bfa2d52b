use std::ops::Range;

/// Bytes that must be readable behind the last level of every activation: vector loads run over.
pub const SLACK: usize = 64;

/// Where the levels of one image's activation lie in a slice: height, width, then channels innermost (NHWC).
///
/// A map may leave room: a border of pixels around the image, which holds the zero point so that a convolution reads
/// its padding from memory; or other channels between its pixels, so that a map sees a part of a wider activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Height.
    pub h: usize,
    /// Width.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Index of the first level: row 0, column 0, channel 0.
    pub start: usize,
    /// Bytes from one pixel to the next, `c` or more.
    pub pixel: usize,
    /// Bytes from one row to the next, `w * pixel` or more.
    pub row: usize,
    /// Pixels around the image that belong to it.
    pub border: usize,
}

impl Map {
    /// Without gaps.
    pub fn dense(h: usize, w: usize, c: usize) -> Self {
        Self::bordered(h, w, c, 0)
    }

    /// With `border` pixels on each of the four sides.
    pub fn bordered(h: usize, w: usize, c: usize, border: usize) -> Self {
        let row = (w + 2 * border) * c;
        Self { h, w, c, start: border * (row + c), pixel: c, row, border }
    }

    /// The channels from `first` on, `count` of them.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn channels(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.c, "channels {first}..{} of {}", first + count, self.c);
        Self { c: count, start: self.start + first, ..self }
    }

    /// Index of the first channel of a pixel.
    pub fn at(self, y: usize, x: usize) -> usize {
        self.start + y * self.row + x * self.pixel
    }

    /// Whether the pixels of a row lie next to each other.
    pub fn is_packed(self) -> bool {
        self.pixel == self.c
    }

    /// From the first to the last level of row `y`.
    pub fn row_range(self, y: usize) -> Range<usize> {
        self.at(y, 0)..self.at(y, self.w - 1) + self.c
    }

    /// Number of levels.
    pub fn len(self) -> usize {
        self.h * self.w * self.c
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Bytes from index 0 to the end of the border.
    pub fn bytes(self) -> usize {
        self.at(self.h - 1 + self.border, self.w - 1 + self.border) + self.pixel
    }

    /// Asserts what the kernels rely on: no two levels share a byte, and all lie within `len` bytes.
    ///
    /// # Panics
    /// If not: the planner is wrong then.
    pub(super) fn assert_within(self, len: usize) {
        assert!(!self.is_empty() && self.c <= self.pixel && self.w * self.pixel <= self.row, "overlapping: {self:?}");
        assert!(self.start >= self.border * (self.row + self.pixel), "the border lies before the slice: {self:?}");
        assert!(self.at(self.h - 1, self.w - 1) + self.c <= len, "{self:?} does not fit {len} bytes");
    }

    /// Sets the border to `level`.
    pub fn fill_border(self, data: &mut [u8], level: u8) {
        let Self { h, w, border, pixel, row, c, .. } = self;
        if border == 0 {
            return;
        }
        assert_eq!(pixel, c, "only a whole activation owns its border");
        let first = self.start - border * (row + pixel);
        // Above, with the left end of row 0; then each row's right end with the next one's left end; then below.
        data[first..self.start].fill(level);
        for y in 0..h - 1 {
            data[self.at(y, w - 1) + c..self.at(y + 1, 0)].fill(level);
        }
        let last = self.at(h - 1, w - 1) + c;
        data[last..first + (h + 2 * border) * row].fill(level);
    }

    /// The levels without gaps, row-major NHWC.
    pub fn gather(self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        for y in 0..self.h {
            for x in 0..self.w {
                out.extend_from_slice(&data[self.at(y, x)..][..self.c]);
            }
        }
        out
    }
}
