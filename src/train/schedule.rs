/// The learning rate at a step: linear from near 0 to `peak` over `warmup` steps, then half a cosine to 0 at `total`.
pub(super) fn learning_rate(peak: f64, step: usize, warmup: f64, total: usize) -> f64 {
    let step = step as f64;
    if step < warmup {
        return peak * (step + 1.0) / (warmup + 1.0);
    }
    let along = (step - warmup) / (total as f64 - warmup).max(1.0);
    0.5 * peak * (1.0 + (std::f64::consts::PI * along.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::learning_rate;

    #[test]
    fn rises_to_the_peak_then_falls_to_zero() {
        let rates: Vec<f64> = (0..=100).map(|s| learning_rate(0.1, s, 10.0, 100)).collect();
        assert!(rates[..=10].windows(2).all(|w| w[0] < w[1]), "{rates:?}");
        assert!(rates[10..].windows(2).all(|w| w[0] > w[1]), "{rates:?}");
        assert!((rates[10] - 0.1).abs() < 1e-12 && rates[100].abs() < 1e-12 && (rates[55] - 0.05).abs() < 1e-12);
    }

    #[test]
    fn a_warmup_longer_than_the_training_never_divides_by_nothing() {
        assert!((0..5).all(|s| learning_rate(0.1, s, 9.0, 5) > 0.0));
    }
}
