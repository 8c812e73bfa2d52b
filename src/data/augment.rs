use serde::{Deserialize, Serialize};

use super::{Image, random::Random};

/// What training does to an image so that it never sees the same one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Augment {
    /// Mirrors left and right, every second image.
    pub flip: bool,
    /// Moves by up to so many pixels in both directions; what comes in at the border is reflected.
    pub shift: usize,
    /// With the image's index it decides what happens to it: give another one each epoch.
    pub seed: u64,
}

impl Augment {
    /// Image `index` of a split, changed as the seed says: the same on any thread, in any order.
    pub fn apply(&self, image: &Image, index: usize) -> Image {
        let mut random = Random::new(self.seed, index as u64 + 1);
        let flipped = random.below(2) == 1 && self.flip;
        let mut offset = |side: usize| {
            let reach = self.shift.min(side.saturating_sub(1));
            random.below(2 * reach + 1) as isize - reach as isize
        };
        let (dx, dy) = (offset(image.width), offset(image.height));
        if (flipped, dx, dy) == (false, 0, 0) {
            return image.clone();
        }
        let mut rgb = Vec::with_capacity(image.rgb.len());
        for y in 0..image.height {
            let row = reflect(y as isize + dy, image.height) * image.width;
            for x in 0..image.width {
                let x = reflect(x as isize + dx, image.width);
                let x = if flipped { image.width - 1 - x } else { x };
                rgb.extend_from_slice(&image.rgb[3 * (row + x)..3 * (row + x) + 3]);
            }
        }
        Image { rgb, ..*image }
    }
}

/// A position up to one `side` outside, mirrored at the edge pixel (`-1` is `1`).
fn reflect(at: isize, side: usize) -> usize {
    let last = side as isize - 1;
    let at = at.abs();
    (if at > last { 2 * last - at } else { at }) as usize
}
