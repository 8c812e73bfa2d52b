use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use ::image::{DynamicImage, ImageDecoder, ImageReader};

use super::{DataError, preprocess::resize};

/// 111 megapixels, more than all but a few cameras take; a small file that claims more would take over 5 s to decode and turn.
/// Decoded, as RGB and turned, an image takes three times this at most.
const MAX_DECODED_BYTES: u64 = 320 << 20;

/// A decoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Red, green, blue; row by row; `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

impl Image {
    /// All black.
    pub fn black(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![0; 3 * width * height] }
    }

    /// Decodes a jpg, png, webp or bmp file, told apart by content, turned as its EXIF orientation says. Transparency
    /// is dropped, as Pillow's `convert("RGB")` does.
    ///
    /// # Errors
    /// [`DataError::Read`], [`DataError::Image`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Read { path: path.to_owned(), source };
        let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(unreadable)?;
        // A decoder may quote the file, whatever is in it.
        let said = |detail: String| detail.replace(char::is_control, " ");
        let refuse = |detail| DataError::Image { path: path.to_owned(), detail: said(detail) };
        // A decoder that panics on a hostile file costs that file alone, not the run.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
            let (width, height) = decoder.dimensions();
            let rgb = 3 * u64::from(width) * u64::from(height);
            if rgb.max(decoder.total_bytes()) > MAX_DECODED_BYTES || rgb == 0 {
                return Err(format!("{width}x{height} pixels, expected 1 to 111 million"));
            }
            let orientation = decoder.orientation().map_err(|e| e.to_string())?;
            let mut image = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
            image.apply_orientation(orientation);
            Ok(image.into_rgb8())
        }));
        let rgb = decoded.unwrap_or_else(|_| Err("its decoder failed".to_owned())).map_err(refuse)?;
        Ok(Self { width: rgb.width() as usize, height: rgb.height() as usize, rgb: rgb.into_raw() })
    }

    /// The same image with neither side longer than `side`, its proportions kept.
    pub fn within(&self, side: usize) -> Self {
        let longer = self.width.max(self.height);
        if longer <= side {
            return self.clone();
        }
        let scaled = |length: usize| (length * side / longer).max(1);
        resize(self, scaled(self.width), scaled(self.height))
    }

    /// The `width` x `height` pixels from (`left`, `top`), all within the image.
    pub(super) fn part(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let row = |y: usize| &self.rgb[3 * (y * self.width + left)..3 * (y * self.width + left + width)];
        Self { width, height, rgb: (top..top + height).flat_map(|y| row(y).iter().copied()).collect() }
    }

    /// In the middle of a black square of the longer side.
    pub(super) fn squared(&self) -> Self {
        let side = self.width.max(self.height);
        let (left, top) = ((side - self.width) / 2, (side - self.height) / 2);
        let mut square = Self::black(side, side);
        for (y, row) in self.rgb.chunks_exact(3 * self.width).enumerate() {
            let start = 3 * ((top + y) * side + left);
            square.rgb[start..start + row.len()].copy_from_slice(row);
        }
        square
    }
}
