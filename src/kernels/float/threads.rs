use std::{cell::RefCell, sync::Arc};

use crate::kernels::pool::Pool;

/// The threads that a caller of these kernels lets them have. They wait spinning for a while, then parked: a layer of a
/// small network lasts less than it takes to wake a thread.
#[derive(Clone, Debug)]
pub struct Threads {
    pool: Arc<Pool>,
}

thread_local! {
    /// Those that work for this thread; without any, the process's own pool does.
    static CREW: RefCell<Option<Arc<Pool>>> = const { RefCell::new(None) };
}

impl Threads {
    /// `count` of them, the caller's included; 0 is taken as 1. Where the system refuses a thread, they are fewer.
    pub fn new(count: usize) -> Self {
        Self::sharing(Arc::new(Pool::new(count.max(1))))
    }

    /// Those of a pool that others use too.
    pub(in crate::kernels) fn sharing(pool: Arc<Pool>) -> Self {
        Self { pool }
    }

    /// How many, the caller's included.
    pub fn count(&self) -> usize {
        self.pool.threads()
    }

    /// What `f` gives for each of `0..jobs`, several at a time. What runs in it takes threads of its own: one.
    pub fn map<R: Send>(&self, jobs: usize, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
        self.pool.map(&mut vec![(); self.count()], jobs, |(), job| f(job))
    }

    /// Runs `f`, whose kernels then use these threads alone.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Puts back what was there, also in a panic.
        struct Restore(Option<Arc<Pool>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CREW.replace(self.0.take());
            }
        }
        let _restore = Restore(CREW.replace(Some(Arc::clone(&self.pool))));
        f()
    }
}

/// The pool that works for this thread.
pub(super) fn crew() -> Option<Arc<Pool>> {
    CREW.with_borrow(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_use_the_threads_of_the_innermost_run() {
        let count = || crew().map(|pool| pool.threads());
        assert_eq!(count(), None);
        Threads::new(3).run(|| {
            assert_eq!(count(), Some(3));
            let broken = std::panic::catch_unwind(|| Threads::new(1).run(|| assert_eq!(count(), Some(2))));
            assert!(broken.is_err());
            assert_eq!(count(), Some(3));
        });
        assert_eq!(count(), None);
    }
}
