//! Threads that wait for work spinning, then parked: a layer of a small network lasts microseconds, less than it takes
//! to wake a sleeping thread.

use std::{
    any::Any,
    cell::UnsafeCell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

/// Looks at the state (each a few nanoseconds with its pause) before a worker goes to sleep: some 100 microseconds.
const SPINS: usize = 4_000;

/// `state`: bit 0 says that a job is open, bits 1 to 15 count the workers inside it, the rest is the job's number.
const OPEN: u64 = 1;
const INSIDE: u64 = 2;
const NUMBER: u32 = 16;

/// Called with the thread that runs it and the part.
type Job = *const (dyn Fn(usize, usize) + Sync + 'static);

/// On a cache line of its own: what two threads write would go to and fro between them.
#[repr(align(128))]
struct Line<T>(T);

struct Board {
    state: AtomicU64,
    job: UnsafeCell<Option<Job>>,
    parts: AtomicUsize,
    /// Of each thread, the next part of its share.
    next: Vec<Line<AtomicUsize>>,
    asleep: Vec<AtomicBool>,
    busy: AtomicBool,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written by the owner alone, while the state is closed and no worker is inside; workers read it only
// inside an open state. The pointee is `Sync` and outlives the job: `Pool::run` waits for every worker to leave.
unsafe impl Sync for Board {}
// SAFETY: as above; the pointer is never used outside a job.
unsafe impl Send for Board {}

/// A fixed set of worker threads. The caller of [`Pool::run`] works too, so one thread means no worker at all.
pub(super) struct Pool {
    board: Arc<Board>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// `threads` in all. Where the system refuses a thread, the pool does with fewer.
    pub(super) fn new(threads: usize) -> Self {
        let threads = threads.clamp(1, 1 << 10);
        let board = Arc::new(Board {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            parts: AtomicUsize::new(0),
            next: (0..threads).map(|_| Line(AtomicUsize::new(0))).collect(),
            asleep: (1..threads).map(|_| AtomicBool::new(false)).collect(),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let spawn = |i: usize| {
            let board = Arc::clone(&board);
            std::thread::Builder::new().name(format!("octet-kernel-{i}")).spawn(move || work(&board, i)).ok()
        };
        let workers = (0..threads - 1).map_while(spawn).collect();
        Self { board, workers }
    }

    pub(super) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f` once for each of `0..parts`, in no order, and returns when all are done. A panic in `f` comes through.
    /// Each thread begins with the same share of the parts every time, so that it finds in its own cache what it wrote in
    /// the layer before, and helps the others once that is done.
    /// While the workers are taken, by another thread or from inside a job, the caller does it all alone.
    pub(super) fn run(&self, parts: usize, f: impl Fn(usize) + Sync) {
        self.run_telling(parts, &|_, part| f(part));
    }

    /// What `f` gives for each of `0..jobs`, in their order; they run as the parts of [`Pool::run`] do. Each thread has
    /// the same of the `states` in every job, and in every call: what it left there lies in its own cache.
    ///
    /// # Panics
    /// If there are fewer states than threads.
    pub(super) fn map<S: Send, R: Send>(
        &self,
        states: &mut [S],
        jobs: usize,
        f: impl Fn(&mut S, usize) -> R + Sync,
    ) -> Vec<R> {
        let states: Vec<Mutex<&mut S>> = states.iter_mut().map(Mutex::new).collect();
        let results: Vec<Mutex<Option<R>>> = (0..jobs).map(|_| Mutex::new(None)).collect();
        self.run_telling(jobs, &|thread, job| {
            let mut state = states[thread].lock().expect("no other thread has it");
            *results[job].lock().expect("each is written once") = Some(f(&mut state, job));
        });
        let found = results.into_iter().map(|r| r.into_inner().expect("no thread is in it"));
        found.map(|r| r.expect("every job has run")).collect()
    }

    /// [`Pool::run`], with the thread that calls as `f`'s first argument; the caller is 0.
    fn run_telling(&self, parts: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        let board = &*self.board;
        if board.busy.swap(true, SeqCst) {
            return (0..parts).for_each(|part| f(0, part));
        }
        // SAFETY: only the lifetime changes. Below, the job is closed and every worker waited for before `f` ends,
        // also when it panics.
        let job: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize, usize) + Sync), Job>(f) };
        // SAFETY: the state is closed and nobody is inside: the job before ended so, and `busy` keeps
        // every other caller out.
        unsafe { *board.job.get() = Some(job) };
        board.parts.store(parts, SeqCst);
        board.next.iter().enumerate().for_each(|(thread, next)| next.0.store(board.share(thread, parts), SeqCst));
        let number = (board.state.load(SeqCst) >> NUMBER) + 1;
        board.state.store((number << NUMBER) | OPEN, SeqCst);
        for (worker, asleep) in self.workers.iter().zip(&board.asleep) {
            if asleep.swap(false, SeqCst) {
                worker.thread().unpark();
            }
        }
        let mine = catch_unwind(AssertUnwindSafe(|| board.take_parts(0, f)));
        board.state.fetch_and(!OPEN, SeqCst);
        while board.state.load(SeqCst) & ((1 << NUMBER) - 1) != 0 {
            std::hint::spin_loop();
        }
        let theirs = board.panic.lock().map_or(None, |mut p| p.take());
        board.busy.store(false, SeqCst);
        if let Some(panic) = mine.err().or(theirs) {
            resume_unwind(panic);
        }
    }
}

impl Board {
    /// The first part of a thread's share, which ends where the next one's begins.
    fn share(&self, thread: usize, parts: usize) -> usize {
        parts * thread / self.next.len()
    }

    fn take_parts(&self, me: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        let (parts, threads) = (self.parts.load(SeqCst), self.next.len());
        for thread in (me..threads).chain(0..me) {
            let (next, end) = (&self.next[thread].0, self.share(thread + 1, parts));
            while next.load(SeqCst) < end {
                let part = next.fetch_add(1, SeqCst);
                if part < end {
                    f(me, part);
                }
            }
        }
    }
}

fn work(board: &Board, index: usize) {
    let mut done = 0;
    let mut spins = 0;
    while !board.stop.load(SeqCst) {
        let state = board.state.load(SeqCst);
        let fresh = state & OPEN != 0 && state >> NUMBER != done;
        if fresh && board.state.compare_exchange(state, state + INSIDE, SeqCst, SeqCst).is_ok() {
            done = state >> NUMBER;
            // SAFETY: we are inside an open job: it was written before the state opened, and lives until we leave.
            let outcome = unsafe {
                let job = *board.job.get();
                job.map_or(Ok(()), |job| catch_unwind(AssertUnwindSafe(|| board.take_parts(index + 1, &*job))))
            };
            if let (Err(panic), Ok(mut slot)) = (outcome, board.panic.lock()) {
                *slot = Some(panic);
            }
            board.state.fetch_sub(INSIDE, SeqCst);
            spins = 0;
        } else if spins < SPINS {
            spins += 1;
            std::hint::spin_loop();
        } else {
            board.asleep[index].store(true, SeqCst);
            let state = board.state.load(SeqCst);
            if (state & OPEN == 0 || state >> NUMBER == done) && !board.stop.load(SeqCst) {
                std::thread::park();
            }
            board.asleep[index].store(false, SeqCst);
            spins = 0;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.board.stop.store(true, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker's panic was handed to the caller of `run` already.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn every_part_runs_once_also_after_sleeping() {
        let pool = Pool::new(3);
        for round in 0..2_000_usize {
            let counts: Vec<AtomicU32> = (0..round % 17).map(|_| AtomicU32::new(0)).collect();
            pool.run(counts.len(), |part| {
                counts[part].fetch_add(1, SeqCst);
            });
            assert!(counts.iter().all(|c| c.load(SeqCst) == 1), "round {round}");
            if round % 500 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn results_stand_in_the_order_of_the_jobs_and_no_two_threads_share_a_state() {
        let pool = Pool::new(3);
        for jobs in 0..20 {
            let mut states = [0; 3];
            let squares = pool.map(&mut states, jobs, |state, job| {
                *state += 1;
                job * job
            });
            assert_eq!(squares, (0..jobs).map(|j| j * j).collect::<Vec<_>>());
            assert_eq!(states.iter().sum::<usize>(), jobs, "each job counted once: {states:?}");
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(8, |part| assert!(part != 5, "part five"))));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, |part| {
            sum.fetch_add(part, SeqCst);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}
