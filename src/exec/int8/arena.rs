use std::ops::Range;

/// A buffer and the steps during which it holds something, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) bytes: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// A cache line, so that no two buffers share one.
const ALIGN: usize = 64;

/// Where each buffer lies, and the bytes in all: the largest first, each at the lowest place that no buffer of the same
/// time takes.
pub(super) fn assign(needs: &[Need]) -> (Vec<Range<usize>>, usize) {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(needs[*i].bytes), needs[*i].first));
    let mut ranges = vec![0..0; needs.len()];
    let mut placed: Vec<usize> = Vec::new();
    for i in order {
        let need = needs[i];
        let mut taken: Vec<Range<usize>> = placed
            .iter()
            .filter(|j| needs[**j].first <= need.last && need.first <= needs[**j].last)
            .map(|j| ranges[*j].clone())
            .collect();
        taken.sort_by_key(|r| r.start);
        let bytes = need.bytes.next_multiple_of(ALIGN);
        let mut start = 0;
        for other in taken {
            if start + bytes <= other.start {
                break;
            }
            start = start.max(other.end);
        }
        ranges[i] = start..start + bytes;
        placed.push(i);
    }
    let total = ranges.iter().map(|r| r.end).max().unwrap_or(0);
    (ranges, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_one_time_do_not_meet_and_others_share() {
        let need = |bytes, first, last| Need { bytes, first, last };
        let needs = [need(100, 0, 1), need(200, 1, 2), need(64, 2, 3), need(10, 0, 3), need(128, 3, 4)];
        let (ranges, total) = assign(&needs);
        for (i, a) in needs.iter().enumerate() {
            assert!(ranges[i].len() >= a.bytes);
            for (j, b) in needs.iter().enumerate().filter(|(j, _)| *j != i) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = ranges[i].end <= ranges[j].start || ranges[j].end <= ranges[i].start;
                assert!(apart || !together, "{i} and {j}: {:?} {:?}", ranges[i], ranges[j]);
            }
        }
        assert!(total < needs.iter().map(|n| n.bytes.next_multiple_of(ALIGN)).sum());
    }
}
