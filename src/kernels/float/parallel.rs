use rayon::prelude::*;

/// Below so many scalar operations waking a second thread costs more than it saves.
const WORTH_WAKING: usize = 200_000;

/// Calls `f(index, part)` for consecutive parts of `part` values of `out` (the last may be shorter), on several threads
/// where `work`, in scalar operations altogether, is worth it.
pub(super) fn for_each_part<T: Send>(out: &mut [T], part: usize, work: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let part = part.max(1);
    if work < WORTH_WAKING || out.len() <= part {
        out.chunks_mut(part).enumerate().for_each(|(i, chunk)| f(i, chunk));
    } else {
        out.par_chunks_mut(part).enumerate().for_each(|(i, chunk)| f(i, chunk));
    }
}

/// Runs `f` on a thread of the pool, where handing parts to the others is cheap.
pub fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| f())
}
