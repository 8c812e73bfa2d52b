use std::{arch::x86_64::*, ops::Range};

use super::{gemm_weights::NARROW, lanes::load};

/// One level in so many may exceed [`NARROW`]; where more do, all are widened. Making up for one costs as much as some
/// twenty products save.
const RARE: usize = 32;

/// Copies of the windows of some pixels, one after the other: as bytes up to [`NARROW`] with a list of what was cut off,
/// or widened to 16 bits.
#[derive(Debug)]
pub(super) struct Panel {
    narrow: Vec<u8>,
    wide: Vec<i16>,
    is_wide: bool,
    excess: Vec<Excess>,
    /// For each pixel, where its excess starts, and one more.
    first: Vec<u32>,
    /// Where the copied windows start.
    starts: Vec<u32>,
    /// Of each tile, where its windows are in the panel, or nothing where they can be read from the input.
    tiles: Vec<Option<u32>>,
}

/// How some pixels are divided into tiles of even height, the taller ones first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    count: usize,
    rows: usize,
    taller: usize,
}

impl Tiles {
    /// `pixels` in tiles of at most `most`.
    pub(super) fn new(pixels: usize, most: usize) -> Self {
        let count = pixels.div_ceil(most);
        Self { count, rows: pixels / count.max(1), taller: pixels % count.max(1) }
    }

    /// Which pixels each has.
    pub(super) fn iter(self) -> impl Iterator<Item = Range<usize>> {
        let start = move |tile: usize| tile * self.rows + tile.min(self.taller);
        (0..self.count).map(move |tile| start(tile)..start(tile + 1))
    }

    /// Those of one height together, with it.
    pub(super) fn by_rows(self) -> impl Iterator<Item = (TilesOf, usize)> {
        let Self { count, rows, taller } = self;
        let tall = TilesOf { range: 0..taller, pixel: 0 };
        let rest = TilesOf { range: taller..count, pixel: taller * (rows + 1) };
        [(tall, rows + 1), (rest, rows)].into_iter().filter(|(tiles, _)| !tiles.range.is_empty())
    }
}

/// Tiles of one height.
#[derive(Clone, Debug)]
pub(super) struct TilesOf {
    /// Of the panel's tiles.
    pub(super) range: Range<usize>,
    /// The first one's first pixel in the panel.
    pub(super) pixel: usize,
}

/// What a level has beyond [`NARROW`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Excess {
    /// In the panel.
    pub(super) pixel: u32,
    /// In the window.
    pub(super) at: u32,
    /// 1 to 128.
    pub(super) by: u16,
}

/// Where the windows of some pixels lie in the input.
pub(super) struct Windows<'a> {
    pub(super) starts: &'a [u32],
    /// Where each run starts, from the window's start.
    pub(super) runs: &'a [u32],
    /// Bytes of a run.
    pub(super) run: usize,
    /// Levels from one copied run to the next: a run, filled up to whole quads.
    pub(super) step: usize,
    /// Levels of a copied window.
    pub(super) size: usize,
}

impl Windows<'_> {
    /// Whether no level exceeds [`NARROW`], nor any other byte between the first and the last window of a run.
    #[target_feature(enable = "avx2")]
    fn are_narrow(&self, input: &[u8]) -> bool {
        let (Some(first), Some(last)) = (self.starts.first(), self.starts.last()) else { return true };
        let levels = |run: &u32| &input[(first + run) as usize..(last + run) as usize + self.run];
        self.runs.iter().all(|run| are_narrow(levels(run)))
    }

    /// The same of all bytes between the first window and the end of the last: one pass, where windows overlap.
    #[target_feature(enable = "avx2")]
    fn are_all_narrow(&self, input: &[u8]) -> bool {
        let (Some(first), Some(last)) = (self.starts.first(), self.starts.last()) else { return true };
        let (Some(start), Some(end)) = (self.runs.first(), self.runs.last()) else { return true };
        are_narrow(&input[(first + start) as usize..(last + end) as usize + self.run])
    }

    /// Whether they lie one after the other without a gap.
    fn are_adjacent(&self) -> bool {
        let apart = |pair: &[u32]| (pair[1] - pair[0]) as usize == self.run;
        self.runs.len() == 1 && self.run == self.size && self.starts.windows(2).all(apart)
    }
}

impl Panel {
    pub(super) const fn new() -> Self {
        Self {
            narrow: Vec::new(),
            wide: Vec::new(),
            is_wide: false,
            excess: Vec::new(),
            first: Vec::new(),
            starts: Vec::new(),
            tiles: Vec::new(),
        }
    }

    /// Copies the windows of those tiles that have levels above [`NARROW`].
    ///
    /// # Safety
    /// As [`Panel::fill`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn fill_tiles(&mut self, windows: &Windows<'_>, tiles: Tiles, input: &[u8]) {
        self.tiles.clear();
        if windows.are_all_narrow(input) {
            return self.tiles.resize(tiles.count, None);
        }
        let mut copied = std::mem::take(&mut self.starts);
        copied.clear();
        for tile in tiles.iter() {
            let starts = &windows.starts[tile];
            if (Windows { starts, ..*windows }).are_narrow(input) {
                self.tiles.push(None);
            } else {
                self.tiles.push(Some(copied.len() as u32));
                copied.extend_from_slice(starts);
            }
        }
        if !copied.is_empty() {
            // SAFETY: as this function's.
            unsafe { self.fill(&Windows { starts: &copied, ..*windows }, input) };
        }
        self.starts = copied;
    }

    /// Of each tile, where its windows are in the panel, or nothing where they can be read from the input.
    pub(super) fn rows(&self) -> &[Option<u32>] {
        &self.tiles
    }

    pub(super) fn narrow(&self) -> &[u8] {
        &self.narrow
    }

    /// The widened windows, where levels were too large for the narrow ones.
    pub(super) fn wide(&self) -> Option<&[i16]> {
        self.is_wide.then_some(&self.wide)
    }

    /// Of some pixels.
    pub(super) fn excess(&self, pixels: Range<usize>) -> &[Excess] {
        if self.excess.is_empty() {
            return &[];
        }
        &self.excess[self.first[pixels.start] as usize..self.first[pixels.end] as usize]
    }

    /// Copies the windows; what fills up the last quad of each run is arbitrary.
    ///
    /// # Safety
    /// The features of this module; every window must lie in the input with `SLACK` behind.
    #[target_feature(enable = "avx2")]
    unsafe fn fill(&mut self, windows: &Windows<'_>, input: &[u8]) {
        let size = windows.starts.len() * windows.size + 32;
        self.narrow.resize(self.narrow.len().max(size), 0);
        // SAFETY: as this function's.
        self.is_wide = unsafe { !self.copy(windows, input) };
        if self.is_wide {
            self.wide.resize(self.wide.len().max(size), 0);
            // SAFETY: as this function's.
            unsafe { self.widen(windows, input) };
        }
    }

    /// Says whether few levels were cut off, and stops where it becomes clear that many would be.
    ///
    /// # Safety
    /// As [`Panel::fill`].
    #[target_feature(enable = "avx2")]
    unsafe fn copy(&mut self, windows: &Windows<'_>, input: &[u8]) -> bool {
        self.excess.clear();
        self.first.clear();
        if windows.are_adjacent() {
            // One long run: its pixels are told apart where a level is cut off.
            let start = windows.starts[0] + windows.runs[0];
            // SAFETY: as this function's.
            return unsafe { self.copy_adjacent(windows, input.as_ptr().add(start as usize)) };
        }
        let most = _mm256_set1_epi8(NARROW as i8);
        let mut to = self.narrow.as_mut_ptr();
        for (pixel, start) in windows.starts.iter().enumerate() {
            self.first.push(self.excess.len() as u32);
            for (i, offset) in windows.runs.iter().enumerate() {
                // SAFETY: the run lies in the input, with `SLACK` behind; what is written behind a run's end is
                // overwritten by the next run, or within the 32 levels behind the last one.
                unsafe {
                    let from = input.as_ptr().add((start + offset) as usize);
                    let to = to.add(i * windows.step);
                    for at in (0..windows.run).step_by(32) {
                        let levels = _mm256_loadu_si256(from.add(at).cast());
                        _mm256_storeu_si256(to.add(at).cast(), _mm256_min_epu8(levels, most));
                        let mut large = _mm256_movemask_epi8(levels) as u32;
                        if large != 0 {
                            let left = windows.run - at;
                            if left < 32 {
                                large &= (1 << left) - 1;
                            }
                            while large != 0 {
                                let bit = large.trailing_zeros() as usize;
                                large &= large - 1;
                                self.excess.push(Excess {
                                    pixel: pixel as u32,
                                    at: (i * windows.step + at + bit) as u32,
                                    by: u16::from(*from.add(at + bit) - NARROW),
                                });
                            }
                        }
                    }
                }
            }
            if self.excess.len() > 64 + (pixel + 1) * windows.size / RARE {
                return false;
            }
            // SAFETY: the next window, or the end of the last.
            to = unsafe { to.add(windows.size) };
        }
        self.first.push(self.excess.len() as u32);
        true
    }

    /// As [`Panel::copy`], of windows that lie as they will in the panel.
    ///
    /// # Safety
    /// As [`Panel::fill`]; the windows start at `from`.
    #[target_feature(enable = "avx2")]
    unsafe fn copy_adjacent(&mut self, windows: &Windows<'_>, from: *const u8) -> bool {
        let most = _mm256_set1_epi8(NARROW as i8);
        let (pixels, size) = (windows.starts.len(), windows.size);
        let bytes = pixels * size;
        for at in (0..bytes).step_by(32) {
            // SAFETY: the windows lie in the input with `SLACK` behind, and in the panel with 32 levels behind.
            unsafe {
                let levels = _mm256_loadu_si256(from.add(at).cast());
                _mm256_storeu_si256(self.narrow.as_mut_ptr().add(at).cast(), _mm256_min_epu8(levels, most));
                let mut large = _mm256_movemask_epi8(levels) as u32;
                if large != 0 {
                    while large != 0 {
                        let at = at + large.trailing_zeros() as usize;
                        large &= large - 1;
                        if at < bytes {
                            let (pixel, by) = ((at / size) as u32, u16::from(*from.add(at) - NARROW));
                            self.excess.push(Excess { pixel, at: (at % size) as u32, by });
                        }
                    }
                    if self.excess.len() > 64 + at / RARE {
                        return false;
                    }
                }
            }
        }
        if self.excess.is_empty() {
            return true;
        }
        let mut first = 0;
        for pixel in 0..=pixels {
            first += self.excess[first..].iter().take_while(|e| (e.pixel as usize) < pixel).count();
            self.first.push(first as u32);
        }
        true
    }

    /// # Safety
    /// As [`Panel::fill`].
    #[target_feature(enable = "avx2")]
    unsafe fn widen(&mut self, windows: &Windows<'_>, input: &[u8]) {
        let mut to = self.wide.as_mut_ptr();
        for start in windows.starts {
            for (i, offset) in windows.runs.iter().enumerate() {
                // SAFETY: as in `copy`.
                unsafe {
                    let from = input.as_ptr().add((start + offset) as usize);
                    let to = to.add(i * windows.step);
                    for at in (0..windows.run).step_by(16) {
                        let levels = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.add(at).cast()));
                        _mm256_storeu_si256(to.add(at).cast(), levels);
                    }
                }
            }
            // SAFETY: the next window, or the end of the last.
            to = unsafe { to.add(windows.size) };
        }
    }
}

/// Whether no level exceeds [`NARROW`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn are_narrow(levels: &[u8]) -> bool {
    let Some(end) = levels.last_chunk::<32>() else { return _mm256_movemask_epi8(load(levels)) == 0 };
    let mut any = _mm256_setzero_si256();
    for levels in levels.as_chunks::<32>().0 {
        // SAFETY: 32 bytes.
        any = _mm256_or_si256(any, unsafe { _mm256_loadu_si256(levels.as_ptr().cast()) });
    }
    // SAFETY: 32 bytes.
    any = _mm256_or_si256(any, unsafe { _mm256_loadu_si256(end.as_ptr().cast()) });
    _mm256_movemask_epi8(any) == 0
}
