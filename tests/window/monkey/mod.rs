//! A monkey on the labels: random but seeded things that a careless user does, at every stage. Whatever he does, nothing
//! panics, every frame is drawn, the buttons say what the session allows, and Cancel ends what runs.
//!
//! `tests/window/monkey/run [SEEDS]` is the long form; a seed alone repeats what it did, but for what hangs on time.

mod acts;
mod checks;
mod start;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eframe::egui::epaint::text::MissingGlyphPolicy;
use eframe::egui::{Theme, Ui};
use egui_kittest::Harness;
use octet::app::Window;
use octet::app::memory::Memory;
use octet::session::{CommandKind, Project, View};

use crate::harness;
use checks::Seen;
use start::Start;

/// Seeds and actions of the form that always runs.
const SHORT: (&str, &str) = ("0..10", "40");
/// A frame may not take longer, on a machine that others use.
const FRAME: Duration = Duration::from_secs(10);
/// Nor may Cancel, nor closing the window.
const CANCEL: Duration = Duration::from_secs(30);
/// What runs and is not halted gets on within that.
const STALLED: Duration = Duration::from_secs(90);
/// A frame that takes so long is taken for a deadlock: the process ends.
const DEAD: Duration = Duration::from_secs(120);
/// Actions that are told of a seed that failed.
const TOLD: usize = 25;

/// Numbers that a seed repeats (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T: ?Sized>(&mut self, all: &'a [&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// What the monkey did last, and whether frames are still drawn: read by the watch where they are not.
#[derive(Clone, Default)]
struct Journal {
    acts: Arc<Mutex<VecDeque<String>>>,
    beat: Arc<AtomicU64>,
}

impl Journal {
    fn note(&self, act: String) {
        let mut acts = self.acts.lock().unwrap_or_else(PoisonError::into_inner);
        acts.push_back(act);
        while acts.len() > TOLD {
            acts.pop_front();
        }
    }

    fn tell(&self, seed: u64, why: &str) {
        eprintln!("seed {seed}: {why}\n  the last actions:");
        for act in self.acts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            eprintln!("    {act}");
        }
        eprintln!("  again: tests/window/monkey/run {seed}..{}", seed + 1);
    }

    /// Ends the process where no frame ends: a deadlock cannot be waited out.
    fn watch(&self, seed: u64) {
        let (acts, beat) = (Arc::downgrade(&self.acts), self.beat.clone());
        std::thread::spawn(move || {
            let (mut last, mut since) = (0, Instant::now());
            while let Some(acts) = acts.upgrade() {
                let now = beat.load(Ordering::Relaxed);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                if since.elapsed() > DEAD {
                    Journal { acts, beat }.tell(seed, "no frame is drawn any more: a deadlock");
                    std::process::exit(101);
                }
                drop(acts);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
    }
}

/// What a seed gave.
#[derive(Default)]
struct Told {
    /// Milliseconds of each frame: `logic` and `ui`.
    frames: Vec<f64>,
    commands: usize,
    failures: usize,
    cancels: Vec<(CommandKind, Duration)>,
    closing: Duration,
}

struct Monkey {
    dice: Dice,
    harness: Harness<'static, Window>,
    times: Rc<RefCell<Vec<f64>>>,
    /// What the last frame was drawn of, where a check asked for it.
    drawn: Rc<RefCell<Option<Option<View>>>>,
    folder: PathBuf,
    journal: Journal,
    seen: Seen,
    cancels: Vec<(CommandKind, Duration)>,
    _server: crate::server::Server,
}

impl Monkey {
    fn new(seed: u64, start: Start, folder: &Path, journal: &Journal) -> Self {
        let (choices, server) = start::choices(start, folder);
        let times = Rc::new(RefCell::new(Vec::new()));
        let (clock, beat) = (times.clone(), journal.beat.clone());
        let drawn = Rc::new(RefCell::new(None));
        let keep = drawn.clone();
        let draw = move |ui: &mut Ui, window: &mut Window| {
            let begin = Instant::now();
            window.logic();
            let logic = begin.elapsed();
            // The last pass of a frame is the one that is seen.
            if keep.borrow().is_some() {
                *keep.borrow_mut() = Some(Some(window.view().clone()));
            }
            let begin = Instant::now();
            window.ui(ui);
            clock.borrow_mut().push((logic + begin.elapsed()).as_secs_f64() * 1e3);
            beat.fetch_add(1, Ordering::Relaxed);
        };
        let window = Window::new(choices, || {}).expect("the system gives a thread").asking(start::dialog);
        let look = if seed.is_multiple_of(2) { Theme::Dark } else { Theme::Light };
        let (mut harness, _) = harness([1280.0, 800.0], look, window, draw);
        let ctx = harness.ctx.clone();
        // As outside of tests: somebody types what no font at hand can draw.
        ctx.set_missing_glyph_policy(MissingGlyphPolicy::Tofu);
        harness.state_mut().remember(&ctx, Memory::default(), Some(folder.join("window.json")));
        Self {
            dice: Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)),
            harness,
            times,
            drawn,
            folder: folder.to_owned(),
            journal: journal.clone(),
            seen: Seen::default(),
            cancels: Vec::new(),
            _server: server,
        }
    }

    fn run(mut self, start: Start, actions: usize) -> Told {
        start::prepare(&mut self.harness, start);
        for i in 0..actions {
            self.act(i);
            self.harness.run_steps(2);
            if self.dice.chance(30) {
                // Lets the work get on a little.
                std::thread::sleep(Duration::from_millis(self.dice.below(30) as u64));
                self.harness.step();
            }
            self.check(i);
        }
        if self.harness.state().view().running.is_some() {
            self.cancel();
        }
        let view = self.harness.state().view();
        let mut told = Told { commands: view.ended, failures: self.seen.failures, ..Told::default() };
        told.cancels = std::mem::take(&mut self.cancels);
        let closing = Instant::now();
        drop(self.harness);
        told.closing = closing.elapsed();
        assert!(told.closing < CANCEL, "closing the window took {:?}", told.closing);
        told.frames = self.times.take();
        // What was worked on is there at the next start.
        let kept = Project::new(&self.folder).unfinished();
        assert!(kept.is_ok(), "{kept:?}");
        told
    }
}

/// Every seed of a range; the figures in a line each.
fn play(seeds: std::ops::Range<u64>, actions: usize) {
    checks::listen();
    let began = Instant::now();
    let (mut all, mut worst_cancel, mut count) = (Vec::new(), Duration::ZERO, 0);
    let (mut commands, mut cancels) = (0, 0);
    let mut wrong = Vec::new();
    for seed in seeds {
        let start = Start::ALL[seed as usize % Start::ALL.len()];
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::default();
        journal.watch(seed);
        let monkey = || Monkey::new(seed, start, folder.path(), &journal).run(start, actions);
        let told = match catch_unwind(AssertUnwindSafe(monkey)) {
            Ok(told) => told,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                journal.tell(seed, text);
                wrong.push(seed);
                checks::forget();
                continue;
            }
        };
        let mut frames = told.frames;
        frames.sort_by(f64::total_cmp);
        let (median, worst) = (frames[frames.len() / 2], frames[frames.len() - 1]);
        let cancel = told.cancels.iter().max_by_key(|(_, took)| *took);
        let cancelled = cancel.map_or("no cancel".to_owned(), |(kind, took)| {
            format!("{} cancels, the longest {:.2} s ({})", told.cancels.len(), took.as_secs_f64(), kind.verb())
        });
        eprintln!(
            "seed {seed:3} {start:?}: {actions} actions, {} frames, median {median:.1} ms, worst {worst:.0} ms; {} commands, \
             {} refused with a reason; {cancelled}; closed in {:.2} s",
            frames.len(),
            told.commands,
            told.failures,
            told.closing.as_secs_f64()
        );
        worst_cancel = worst_cancel.max(cancel.map_or(Duration::ZERO, |c| c.1));
        (count, commands, cancels) = (count + 1, commands + told.commands, cancels + told.cancels.len());
        all.extend(frames);
    }
    all.sort_by(f64::total_cmp);
    if let (Some(median), Some(worst)) = (all.get(all.len() / 2), all.last()) {
        eprintln!(
            "{count} seeds of {actions} actions: {} frames, median {median:.1} ms, worst {worst:.0} ms; {commands} commands; \
             {cancels} cancels, the longest {:.2} s; {:.0} s in all",
            all.len(),
            worst_cancel.as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
    }
    assert!(wrong.is_empty(), "seeds that failed: {wrong:?}");
}

/// `first..end`, from the environment.
fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("MONKEY_SEEDS").unwrap_or("0..50".to_owned());
    let (first, end) = text.split_once("..").unwrap_or(("0", &text));
    let number = |text: &str| text.trim().parse().unwrap_or_else(|e| panic!("MONKEY_SEEDS={text}: {e}"));
    number(first)..number(end)
}

#[test]
#[ignore = "the long form; `tests/window/monkey/run` runs it"]
fn long() {
    let actions = std::env::var("MONKEY_ACTIONS").unwrap_or("1000".to_owned());
    play(seeds(), actions.parse().expect("a number of actions"));
}

/// A process of its own: a panic anywhere in it, a deadlock and files at odd places are nobody else's.
#[test]
fn a_monkey_on_the_labels_breaks_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Command::new(std::env::current_exe().expect("this program"));
    program.args(["--exact", "monkey::long", "--ignored", "--nocapture"]);
    program.env("MONKEY_SEEDS", SHORT.0).env("MONKEY_ACTIONS", SHORT.1);
    program.env("HOME", folder.path()).current_dir(folder.path());
    let output = program.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    eprintln!("{said}");
}
