use std::fmt;

use serde::{Deserialize, Serialize};

/// Shape of one image's activation, without the batch: channels, height, width. A flat vector is `c` x 1 x 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Channels.
    pub c: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
}

impl Shape {
    /// `c` channels of `h` x `w`.
    pub fn new(c: usize, h: usize, w: usize) -> Self {
        Self { c, h, w }
    }

    /// A vector of `c` values.
    pub fn flat(c: usize) -> Self {
        Self { c, h: 1, w: 1 }
    }

    /// Number of values of one image.
    pub fn len(self) -> usize {
        self.c * self.h * self.w
    }

    /// Whether it has no value.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Pixels of one channel.
    pub fn pixels(self) -> usize {
        self.h * self.w
    }

    /// The shape after a window of `kernel` moved by `stride` over an input padded by `padding` on each side, as
    /// `torch.nn.Conv2d` computes it; `None` where the window does not fit.
    pub fn windowed(self, channels: usize, kernel: [usize; 2], stride: usize, padding: usize) -> Option<Self> {
        let along = |size: usize, kernel: usize| {
            (size + 2 * padding).checked_sub(kernel).filter(|_| stride > 0).map(|room| room / stride + 1)
        };
        Some(Self { c: channels, h: along(self.h, kernel[0])?, w: along(self.w, kernel[1])? })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.h == 1 && self.w == 1 { write!(f, "{}", self.c) } else { write!(f, "{}x{}x{}", self.c, self.h, self.w) }
    }
}
