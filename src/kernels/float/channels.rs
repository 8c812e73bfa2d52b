use super::Float;

/// Copies `width` channels of each row of `from` (rows of `from_channels`, starting at channel `from_first`) to `to`.
pub fn copy_channels<T: Float>(
    (from, from_channels, from_first): (&[T], usize, usize),
    (to, to_channels, to_first): (&mut [T], usize, usize),
    width: usize,
) {
    for (from, to) in from.chunks_exact(from_channels).zip(to.chunks_exact_mut(to_channels)) {
        to[to_first..to_first + width].copy_from_slice(&from[from_first..from_first + width]);
    }
}

/// Adds every row of `from` (rows of `width`) to the channels from `first` on of the rows of `to`.
pub fn add_channels<T: Float>(from: &[T], width: usize, (to, to_channels, first): (&mut [T], usize, usize)) {
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(to_channels)) {
        to[first..first + width].iter_mut().zip(from).for_each(|(to, from)| *to += *from);
    }
}

/// Channel `g * (channels / groups) + i` goes to `i * groups + g`, in every row.
pub fn shuffle<T: Float>(x: &[T], channels: usize, groups: usize, y: &mut [T]) {
    let width = channels / groups;
    for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
        for (g, x) in x.chunks_exact(width).enumerate() {
            for (y, x) in y[g..].iter_mut().step_by(groups).zip(x) {
                *y = *x;
            }
        }
    }
}

/// The inverse of [`shuffle`], and its gradient.
pub fn unshuffle<T: Float>(y: &[T], channels: usize, groups: usize, x: &mut [T]) {
    shuffle(y, channels, channels / groups, x);
}
