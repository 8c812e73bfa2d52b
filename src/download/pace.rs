use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Bytes that are here, those of an earlier transfer included.
    pub bytes: u64,
    /// Bytes in all: as the server says, else about.
    pub total: u64,
    /// Over the last seconds; `None` at first.
    pub bytes_per_second: Option<f64>,
    /// Until the end, at that rate; `None` at first.
    pub seconds_left: Option<f64>,
}

/// The rate is that of so long.
const WINDOW: Duration = Duration::from_secs(4);
/// And is not told before so much of it has passed.
const LEAST: Duration = Duration::from_millis(300);

/// Bytes over time, the last seconds of it.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seen: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// `bytes` of `total` are here now.
    pub fn at(&mut self, now: Instant, bytes: u64, total: u64) -> Transfer {
        self.seen.push_back((now, bytes));
        // One that is just older than the window stays, so that a slow transfer has a rate as well.
        while self.seen.len() > 2 && now - self.seen[1].0 > WINDOW {
            self.seen.pop_front();
        }
        let (then, before) = self.seen[0];
        let passed = now - then;
        let rate = (passed >= LEAST).then(|| bytes.saturating_sub(before) as f64 / passed.as_secs_f64());
        let left = rate.filter(|r| *r > 0.0).map(|r| total.saturating_sub(bytes) as f64 / r);
        Transfer { bytes, total, bytes_per_second: rate, seconds_left: left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let first = pace.at(start, 500, 10_500);
        assert_eq!((first.bytes_per_second, first.seconds_left), (None, None));
        for second in 1..=10 {
            let now = pace.at(start + Duration::from_secs(second), 500 + 100 * second, 10_500);
            assert_eq!(now.bytes_per_second, Some(100.0));
        }
        for second in 11..=15 {
            pace.at(start + Duration::from_secs(second), 1_500 + 1_000 * (second - 10), 10_500);
        }
        let fast = pace.at(start + Duration::from_secs(16), 7_500, 10_500);
        assert_eq!((fast.bytes_per_second, fast.seconds_left), (Some(1_000.0), Some(3.0)));
    }

    #[test]
    fn a_stand_still_has_no_end() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.at(start, 5, 10);
        let now = pace.at(start + Duration::from_secs(1), 5, 10);
        assert_eq!((now.bytes_per_second, now.seconds_left), (Some(0.0), None));
    }
}
