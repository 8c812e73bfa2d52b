use super::in_pool;

/// Multiply-adds below which no kernel here wakes another thread.
const WORTH_WAKING: usize = 500_000;

/// The threads that a caller of these kernels lets them have.
#[derive(Debug)]
pub struct Threads {
    /// `None` where they are all of the process's pool.
    own: Option<rayon::ThreadPool>,
}

impl Threads {
    /// All of the process's pool.
    pub fn of_process() -> Self {
        Self { own: None }
    }

    /// `count` of them; 0 is taken as 1. Where the system refuses a thread, the process's own pool serves.
    pub fn new(count: usize) -> Self {
        let count = count.max(1);
        let whole = count == rayon::current_num_threads();
        let build = || rayon::ThreadPoolBuilder::new().num_threads(count).build().ok();
        Self { own: if whole { None } else { build() } }
    }

    /// Runs `f`, whose kernels then use these threads alone; on the caller's where `work`, in multiply-adds, is little.
    pub fn run<R: Send>(&self, work: usize, f: impl FnOnce() -> R + Send) -> R {
        match &self.own {
            _ if work < WORTH_WAKING => f(),
            Some(pool) => pool.install(f),
            None => in_pool(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_is_worth_it_runs_on_as_many_threads_as_were_asked_for() {
        for count in [1, 2, 3] {
            assert_eq!(Threads::new(count).run(WORTH_WAKING, rayon::current_num_threads), count);
        }
        let caller = std::thread::current().id();
        assert_eq!(Threads::new(1).run(10, || std::thread::current().id()), caller);
    }
}
