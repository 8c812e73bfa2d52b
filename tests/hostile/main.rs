//! Every reader against files made to break it: mutated ones by the ten thousand, seeded, and those that once did break
//! it, by name. `run` beside this file tries a million and more; `RELIABILITY.md` has its last figures.
//!
//! A reader may refuse a file, with one sentence, or open it; what it opens must also run. It may not panic, take longer
//! than five seconds, or more memory than its bound (`readers::Kind::room`).

mod allocation;
mod bombs;
mod found;
mod graphs;
mod json;
mod long;
mod mutate;
mod pickles;
mod pictures;
mod readers;
mod seeds;
#[path = "../common/tiny.rs"]
mod tiny;
mod trial;
mod wire;

use readers::Kind;

/// How many of each kind are tried where the whole suite is run, in one to three seconds each.
const BOUNDED: [(Kind, u64); 10] = [
    (Kind::Torch, 6_000),
    (Kind::Safetensors, 4_000),
    (Kind::Checkpoint, 3_000),
    (Kind::Octet, 4_000),
    (Kind::Onnx, 4_000),
    (Kind::Image, 350),
    (Kind::Records, 3_000),
    (Kind::Recipe, 6_000),
    (Kind::Project, 4_000),
    (Kind::Remembered, 4_000),
];

/// Other seeds than the long form's, which `OCTET_HOSTILE_SEED` changes.
const SEED: u64 = 11;

#[test]
fn no_mutated_file_breaks_a_reader() {
    let _alone = trial::alone();
    let mut found = Vec::new();
    for (kind, count) in BOUNDED {
        let start = std::time::Instant::now();
        let tally = trial::try_all(kind, SEED, 0..count, &mut |what| found.push(what));
        let seconds = start.elapsed().as_secs_f64();
        println!("{kind:?}: {count} inputs, {} opened, {} ran, {seconds:.1} s", tally.opened, tally.ran);
        // A mutator that breaks every file at the first byte would test nothing behind it.
        assert!(tally.opened * 200 > count, "{kind:?}: only {} of {count} opened", tally.opened);
        assert!(tally.opened < count, "{kind:?}: nothing was refused");
    }
    assert!(found.is_empty(), "{} of the inputs broke a reader:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_files_that_are_mutated_open_as_they_are() {
    let _alone = trial::alone();
    let folder = trial::Folder::new();
    for (kind, _) in BOUNDED {
        for (i, seed) in seeds::of(kind).iter().enumerate() {
            let outcome = readers::open(kind, seed, folder.path());
            assert!(outcome.error.is_none(), "{kind:?} {i} ({}): {:?}", seed.name, outcome.error);
        }
    }
}

/// The watch itself: what it is there to catch, it catches.
#[test]
fn the_watch_sees_a_panic_a_delay_and_an_allocation() {
    let _alone = trial::alone();
    let room = trial::Room { bytes: 1 << 20 };
    let panics = trial::watched(room, || panic!("a reader's bug"));
    assert!(panics.is_some_and(|w| w.contains("a reader's bug")));
    let takes = trial::watched(room, || drop(std::hint::black_box(vec![0_u8; 2 << 20])));
    assert!(takes.is_some_and(|w| w.contains("MiB")));
    assert_eq!(trial::watched(room, || drop(std::hint::black_box(vec![0_u8; 1 << 19]))), None);
}
