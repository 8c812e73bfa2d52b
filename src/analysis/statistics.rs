//! How sure a difference is: formulas on counts, with their sources.

/// The two-sided exact McNemar test of paired outcomes: how probable a split as uneven as `lost` to `gained`, or more, is
/// where each image is as likely to go either way. The binomial distribution itself, so that small counts are as good as
/// large ones (McNemar 1947; Fagerland, Lydersen and Laake 2013 for the exact form).
pub fn mcnemar(lost: usize, gained: usize) -> f64 {
    let n = lost + gained;
    // log(n choose k) / 2^n, term by term.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=lost.min(gained) {
        if k > 0 {
            log_term += ((n - k + 1) as f64 / k as f64).ln();
        }
        tail += log_term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// Standard deviations of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % interval of a difference of paired fractions, `(gained - lost) / n`: Wald's, with half an image added to each of
/// the four cells (Agresti and Min 2005).
pub fn paired_interval(lost: usize, gained: usize, n: usize) -> (f64, f64) {
    let (b, c, n) = (lost as f64 + 0.5, gained as f64 + 0.5, n as f64 + 2.0);
    let difference = (c - b) / n;
    let half = Z * ((b + c) - (c - b).powi(2) / n).max(0.0).sqrt() / n;
    ((difference - half).max(-1.0), (difference + half).min(1.0))
}

/// Wilson's 95 % interval of a fraction of `n`: where the true share is likely to be.
pub fn wilson(fraction: f64, n: usize) -> (f64, f64) {
    let n = n.max(1) as f64;
    let middle = (fraction + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z * (fraction * (1.0 - fraction) / n + Z * Z / (4.0 * n * n)).sqrt() / (1.0 + Z * Z / n);
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// Spearman's rank correlation, equal values sharing the mean of their ranks; `None` where one side does not vary, for then
/// nothing can agree.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(a), ranks(b));
    let n = a.len() as f64;
    let mean = (n + 1.0) / 2.0;
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(&b) {
        ab += (x - mean) * (y - mean);
        aa += (x - mean) * (x - mean);
        bb += (y - mean) * (y - mean);
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let equal = order[start..].iter().take_while(|i| values[**i] == values[order[start]]).count().max(1);
        let rank = (2 * start + equal + 1) as f64 / 2.0;
        order[start..start + equal].iter().for_each(|i| ranks[*i] = rank);
        start += equal;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn mcnemar_is_the_binomial() {
        // 2 * (1 + 5) / 2^5, 2 * 1 / 2^6; an even split and none at all say nothing.
        assert!(close(mcnemar(4, 1), 0.375) && close(mcnemar(1, 4), 0.375));
        assert!(close(mcnemar(0, 6), 0.03125));
        assert!(close(mcnemar(3, 3), 1.0) && close(mcnemar(0, 0), 1.0));
        // scipy.stats.binomtest(1000, 2100).pvalue
        assert!((mcnemar(1000, 1100) - 0.030_742).abs() < 2e-4, "{}", mcnemar(1000, 1100));
    }

    #[test]
    fn intervals_hold_what_was_measured() {
        let (low, high) = paired_interval(20, 10, 2000);
        assert!(low < -0.005 && high > -0.005 && close(low + high, 2.0 * -10.0 / 2002.0), "{low} {high}");
        let (low, high) = wilson(0.9, 100);
        assert!((low - 0.825_6).abs() < 1e-3 && (high - 0.944_8).abs() < 1e-3, "{low} {high}");
        assert!(close(wilson(1.0, 10).1, 1.0));
    }

    #[test]
    fn spearman_looks_at_ranks_alone() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 400.0, 500.0]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), Some(-1.0));
        assert_eq!(spearman(&[1.0, 2.0], &[7.0, 7.0]), None);
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 9.0]), [2.5, 1.0, 2.5, 4.0]);
    }
}
