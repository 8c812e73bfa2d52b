use super::TrainError;

/// What a batch's logits say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Loss {
    /// Mean cross-entropy.
    pub mean: f32,
    /// How many images' largest logit is their label's (the first of equal ones).
    pub correct: usize,
    /// Gradient of the mean by the logits.
    pub gradient: Vec<f32>,
}

/// `torch.nn.CrossEntropyLoss(label_smoothing=...)` of logits `[images, classes]`.
pub(super) fn cross_entropy(
    logits: &[f32],
    labels: &[usize],
    classes: usize,
    smoothing: f32,
) -> Result<Loss, TrainError> {
    check_labels(labels, classes)?;
    let (mut sum, mut correct, mut gradient) = (0.0f64, 0, vec![0.0; logits.len()]);
    let (low, high) = (smoothing / classes as f32, 1.0 - smoothing);
    for ((row, out), &label) in logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).zip(labels) {
        let best = argmax(row);
        correct += usize::from(best == label);
        let total: f32 = row.iter().map(|v| (v - row[best]).exp()).sum();
        let log_total = total.ln();
        for (i, (g, v)) in out.iter_mut().zip(row).enumerate() {
            let target = low + if i == label { high } else { 0.0 };
            let log_p = v - row[best] - log_total;
            sum -= f64::from(target * log_p);
            *g = (log_p.exp() - target) / labels.len() as f32;
        }
    }
    Ok(Loss { mean: (sum / labels.len() as f64) as f32, correct, gradient })
}

/// Refuses a label without a logit.
pub(super) fn check_labels(labels: &[usize], classes: usize) -> Result<(), TrainError> {
    match labels.iter().find(|label| **label >= classes) {
        Some(label) => Err(TrainError::Label { label: *label, classes }),
        None => Ok(()),
    }
}

/// Mean, how many are right, and the gradient: what the GPU's tests compare.
#[cfg(test)]
pub(crate) fn cross_entropy_for_tests(
    logits: &[f32],
    labels: &[usize],
    classes: usize,
    smoothing: f32,
) -> (f32, usize, Vec<f32>) {
    let loss = cross_entropy(logits, labels, classes, smoothing).expect("labels fit");
    (loss.mean, loss.correct, loss.gradient)
}

/// The first of the largest values.
fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (i, v)| if *v > row[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.nn.functional.cross_entropy` of the same numbers.
    #[test]
    fn as_torch() {
        let logits = [1.0, 2.0, 0.5, -1.0, 0.0, 3.0];
        let plain = cross_entropy(&logits, &[1, 0], 3, 0.0).expect("labels fit");
        assert!((plain.mean - 2.265_126_5).abs() < 1e-5, "{}", plain.mean);
        assert_eq!(plain.correct, 1);
        let smooth = cross_entropy(&logits, &[1, 0], 3, 0.1).expect("labels fit");
        assert!((smooth.mean - 2.223_459_7).abs() < 1e-5, "{}", smooth.mean);
    }

    #[test]
    fn gradient_is_the_slope() {
        let logits = [0.3f32, -0.7, 1.1, 0.2, 0.9, -1.4];
        let at = |l: &[f32]| cross_entropy(l, &[2, 0], 3, 0.2).expect("labels fit");
        let gradient = at(&logits).gradient;
        for i in 0..logits.len() {
            let shifted = |by: f32| {
                let mut l = logits;
                l[i] += by;
                at(&l).mean
            };
            let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            assert!((slope - gradient[i]).abs() < 1e-4, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn a_label_beyond_the_classes_is_refused() {
        assert!(matches!(cross_entropy(&[0.0; 3], &[3], 3, 0.0), Err(TrainError::Label { label: 3, classes: 3 })));
    }
}
