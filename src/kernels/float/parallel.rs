use rayon::prelude::*;

use super::threads::crew;
use crate::kernels::shared::Shared;

/// Below so many scalar operations waking a second thread costs more than it saves.
const WORTH_WAKING: usize = 200_000;
/// The same where the others wait spinning.
const WORTH_SHARING: usize = 15_000;

/// Calls `f(index, part)` for consecutive parts of `part` values of `out` (the last may be shorter), on several threads
/// where `work`, in scalar operations altogether, is worth it.
pub(super) fn for_each_part<T: Send>(out: &mut [T], part: usize, work: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let part = part.max(1);
    if work < WORTH_SHARING || out.len() <= part {
        return out.chunks_mut(part).enumerate().for_each(|(i, chunk)| f(i, chunk));
    }
    match crew() {
        Some(pool) => {
            let (len, out) = (out.len(), Shared::new(out));
            pool.run(len.div_ceil(part), |i| {
                // SAFETY: parts do not overlap, and each is worked on once.
                f(i, unsafe { out.slice(i * part..((i + 1) * part).min(len)) });
            });
        }
        None if work < WORTH_WAKING => out.chunks_mut(part).enumerate().for_each(|(i, chunk)| f(i, chunk)),
        None => out.par_chunks_mut(part).enumerate().for_each(|(i, chunk)| f(i, chunk)),
    }
}

/// Calls `f` for each of `0..parts`, on several threads where `work` is worth it.
pub(super) fn for_each(parts: usize, work: usize, f: impl Fn(usize) + Sync) {
    let mut indices = vec![(); parts];
    for_each_part(&mut indices, 1, work, |i, _| f(i));
}

/// Threads that share work.
pub(super) fn threads() -> usize {
    crew().map_or_else(rayon::current_num_threads, |pool| pool.threads())
}

/// Runs `f` on a thread of the pool, where handing parts to the others is cheap.
pub fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| f())
}
