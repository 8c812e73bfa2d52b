use super::ObserverView;

/// Batches that must have moved nothing before more images are said to be of no help.
const CALM_BATCHES: usize = 4;
/// How far a batch may move the ranges on average, in parts of their widths, and be called calm.
const CALM: f64 = 0.002;

/// How far each batch after the first moved the ranges, and whether more will.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Convergence {
    /// One a batch, from the second on.
    pub batches: Vec<Moved>,
    /// Whether the last batches moved so little that more images hardly help.
    pub settled: bool,
}

/// How far one batch moved the ranges: both ends of a range together, over its width after that batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// Mean over all observers.
    pub mean: f64,
    /// The one that moved farthest.
    pub largest: f64,
}

/// Of all observers so far.
pub fn convergence(observers: &[ObserverView]) -> Convergence {
    let count = observers.iter().map(|o| o.batches.len()).max().unwrap_or(0);
    let batches: Vec<Moved> = (1..count).filter_map(|batch| moved(observers, batch)).collect();
    let calm = batches.iter().rev().take(CALM_BATCHES).filter(|m| m.mean <= CALM).count();
    Convergence { settled: calm == CALM_BATCHES, batches }
}

fn moved(observers: &[ObserverView], batch: usize) -> Option<Moved> {
    let all: Vec<f64> =
        observers.iter().filter_map(|o| share(*o.batches.get(batch - 1)?, *o.batches.get(batch)?)).collect();
    let largest = all.iter().copied().reduce(f64::max)?;
    Some(Moved { mean: all.iter().sum::<f64>() / all.len() as f64, largest })
}

fn share(before: (f32, f32), after: (f32, f32)) -> Option<f64> {
    let moved = f64::from((after.0 - before.0).abs()) + f64::from((after.1 - before.1).abs());
    let width = f64::from(after.1) - f64::from(after.0);
    match width > 0.0 {
        true => Some(moved / width).filter(|m| m.is_finite()),
        // A constant that stays one has not moved.
        false => (moved == 0.0).then_some(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::NodeId;

    fn observer(batches: &[(f32, f32)]) -> ObserverView {
        let (min, max) = *batches.last().expect("a batch");
        let batches = batches.to_vec();
        let name = "conv".to_owned();
        ObserverView {
            node: NodeId(0),
            name,
            batches,
            min,
            max,
            histogram: Vec::new(),
            histogram_min: min,
            histogram_max: max,
            levels: None,
        }
    }

    #[test]
    fn each_batch_moves_the_ranges_by_a_share_of_their_width() {
        let a = observer(&[(0.0, 1.0), (0.0, 2.0), (-2.0, 2.0)]);
        let b = observer(&[(-1.0, 1.0), (-1.0, 1.0), (-1.0, 1.0)]);
        let found = convergence(&[a, b]);
        assert_eq!(found.batches, [Moved { mean: 0.25, largest: 0.5 }; 2]);
        assert!(!found.settled);
    }

    #[test]
    fn ranges_that_stand_still_are_settled_after_a_few_batches() {
        let mut batches = vec![(0.0, 1.0), (0.0, 2.0)];
        for more in 0..6 {
            let settled = convergence(&[observer(&batches)]).settled;
            assert_eq!(settled, more >= CALM_BATCHES, "after {more} calm batches");
            batches.push((0.0, 2.0));
        }
        assert_eq!(convergence(&[]), Convergence::default());
        assert!(convergence(&[observer(&[(3.0, 3.0); 9])]).settled, "a constant");
    }
}
