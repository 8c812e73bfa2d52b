use std::{fmt, str::FromStr};

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image as Pixels, ImageRef},
};
use serde::{Deserialize, Serialize};

use super::{DataError, Image};

/// How an image of any shape becomes a square one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The shorter side to [`Preprocess::resize`], then the centre: torchvision's evaluation transform.
    Crop,
    /// Centred on a black square, then resized: nothing is cut off.
    Pad,
    /// Resized, the aspect ratio lost.
    Squash,
}

/// From a decoded image to a model's input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Height and width of the input.
    pub size: usize,
    /// How it gets there.
    pub fit: Fit,
    /// The shorter side before the centre is cropped, of [`Fit::Crop`] alone; `size * 256 / 224` where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// Subtracted from each channel's values in 0..1.
    pub mean: [f32; 3],
    /// Then divides them.
    pub std: [f32; 3],
}

/// Beyond this ratio of the sides a crop sees only the middle: resizing the whole would take memory for nothing.
const MAX_ELONGATION: usize = 8;

const MAX_SIZE: usize = 4096;

/// A longer side is made shorter before the black square is put around it: 192 MiB at most.
const MAX_SQUARE: usize = 2 * MAX_SIZE;

impl Fit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Crop, Self::Pad, Self::Squash];

    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crop => "crop",
            Self::Pad => "pad",
            Self::Squash => "squash",
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fit {
    type Err = DataError;

    fn from_str(s: &str) -> Result<Self, DataError> {
        Self::ALL
            .into_iter()
            .find(|f| f.name() == s)
            .ok_or_else(|| DataError::Preprocess(format!("unknown `{s}`; expected crop, pad or squash")))
    }
}

impl Preprocess {
    /// ImageNet's, as torchvision's weights expect.
    pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    /// ImageNet's.
    pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

    /// With ImageNet's mean and standard deviation.
    pub fn new(size: usize, fit: Fit) -> Self {
        Self { size, fit, resize: None, mean: Self::IMAGENET_MEAN, std: Self::IMAGENET_STD }
    }

    /// Whether images can go through it.
    ///
    /// # Errors
    /// [`DataError::Preprocess`] for a size of 0 or above 4,096, a shorter side below the size or above 8,192, a mean that
    /// is no number, a deviation not above 0.
    pub fn check(&self) -> Result<(), DataError> {
        if self.size == 0 || self.size > MAX_SIZE {
            return Err(DataError::Preprocess(format!("size {}: expected 1 to {MAX_SIZE}", self.size)));
        }
        if let Some(odd) = self.resize.filter(|side| *side < self.size || *side > 2 * MAX_SIZE) {
            let detail = format!("shorter side {odd}: expected {} (the size) to {}", self.size, 2 * MAX_SIZE);
            return Err(DataError::Preprocess(detail));
        }
        if let Some(odd) = self.mean.iter().find(|m| !m.is_finite()) {
            return Err(DataError::Preprocess(format!("mean {odd}: expected a finite number")));
        }
        match self.std.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            Some(odd) => Err(DataError::Preprocess(format!("standard deviation {odd}: expected a number above 0"))),
            None => Ok(()),
        }
    }

    /// The square image that the model sees, before normalization.
    pub fn fit(&self, image: &Image) -> Image {
        match self.fit {
            Fit::Crop => self.cropped(image),
            // The square of a long strip would take a thousand times its memory.
            Fit::Pad => resize(&image.within(MAX_SQUARE).squared(), self.size, self.size),
            Fit::Squash => resize(image, self.size, self.size),
        }
    }

    /// `torchvision.transforms.Resize(resize)`, then `CenterCrop(size)`, with their roundings.
    fn cropped(&self, image: &Image) -> Image {
        let (w, h) = (image.width, image.height);
        let reach = w.min(h).saturating_mul(MAX_ELONGATION);
        if w.max(h) > reach {
            let (width, height) = (w.min(reach), h.min(reach));
            return self.cropped(&image.part((w - width) / 2, (h - height) / 2, width, height));
        }
        let short = self.resize.unwrap_or(self.size * 256 / 224);
        let (width, height) = if w <= h { (short, short * h / w) } else { (short * w / h, short) };
        let resized = resize(image, width, height);
        let middle = |side: usize| ((side - self.size) as f64 / 2.0).round_ties_even() as usize;
        resized.part(middle(width), middle(height), self.size, self.size)
    }

    /// The normalized input: three planes of `size * size` values, `(pixel / 255 - mean) / std`.
    pub fn apply(&self, image: &Image) -> Vec<f32> {
        let mut input = Vec::with_capacity(3 * self.size * self.size);
        self.normalize(&self.fit(image), &mut input);
        input
    }

    /// Appends the planes of an image that [`Preprocess::fit`] made.
    pub(super) fn normalize(&self, fitted: &Image, input: &mut Vec<f32>) {
        for channel in 0..3 {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            let table: [f32; 256] = std::array::from_fn(|pixel| (pixel as f32 / 255.0 - mean) / std);
            input.extend(fitted.rgb.chunks_exact(3).map(|p| table[usize::from(p[channel])]));
        }
    }
}

/// Antialiased bilinear filtering in 8 bits, as Pillow's `Image.resize(size, BILINEAR)`.
pub(super) fn resize(image: &Image, width: usize, height: usize) -> Image {
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    let source = ImageRef::new(image.width as u32, image.height as u32, &image.rgb, PixelType::U8x3)
        .expect("an image has three bytes a pixel");
    let mut target = Pixels::new(width as u32, height as u32, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options).expect("both are U8x3 and neither is empty");
    Image { width, height, rgb: target.into_vec() }
}
