/// What a quantized form of a model made of images, beside float.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SweepScore {
    /// Images.
    pub images: usize,
    /// Named as their label, or, where there are no labels, as float names them.
    pub right: usize,
    /// Sum over images and classes of `(logit - float's logit)^2`.
    pub squares: f64,
    /// Logits summed over.
    pub logits: usize,
}

impl SweepScore {
    /// Fraction that was right.
    pub fn top1(&self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }

    /// Mean of `(logit - float's logit)^2`: the proxy. It tells layers apart where too few images change their class.
    pub fn logit_mse(&self) -> f64 {
        self.squares / self.logits.max(1) as f64
    }

    /// Takes in a batch: `[batch, classes]` logits of float and of the other, and what is right of each image.
    pub fn add(&mut self, float: &[f32], other: &[f32], right: &[usize]) {
        let classes = float.len() / right.len().max(1);
        for (row, label) in other.chunks_exact(classes.max(1)).zip(right) {
            self.right += usize::from(largest(row) == *label);
        }
        self.squares += float.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        self.images += right.len();
        self.logits += float.len();
    }
}

/// Index of the largest value, the first of equals; one that is not a number is never the largest.
pub(super) fn largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] || row[best].is_nan() {
            best = i;
        }
    }
    best
}

/// By how much the logit of `label` is above all others; below zero where another class is named.
pub(super) fn margin(row: &[f32], label: usize) -> f32 {
    let others = row.iter().enumerate().filter(|(i, _)| *i != label);
    row[label] - others.map(|(_, v)| *v).fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_counts_rights_and_averages_squares() {
        let mut score = SweepScore::default();
        score.add(&[1.0, 2.0, 5.0, 0.0], &[3.0, 2.0, 5.0, 2.0], &[1, 0]);
        assert_eq!((score.images, score.right), (2, 1));
        assert_eq!((score.top1(), score.logit_mse()), (0.5, 2.0));
        assert_eq!((margin(&[3.0, 2.0, 1.0], 0), margin(&[3.0, 2.0], 1)), (1.0, -1.0));
        assert_eq!(largest(&[f32::NAN, 1.0, 1.0]), 1);
    }
}
