//! Every check of the tutorial where its work is not done: it says what is missing.

use std::path::Path;

use octet::app::tutorial::Check;
use octet::graph::{ObserverKind, WeightSpec};
use octet::session::{
    Calibration, Command, Control, Device, FuseOptions, Method, ModelId, QConfig, QatTraining, Recipe, Session, Step,
    View,
};

struct Bench {
    session: Session,
    view: View,
}

impl Bench {
    fn open(recipe: Recipe) -> Self {
        let mut bench = Self { session: Session::new(Device::Cpu), view: View::default() };
        bench.give(Command::Open(Box::new(recipe)));
        bench
    }

    fn sample() -> Self {
        Self::open(Recipe::new(ModelId::ShuffleNetV2X05))
    }

    fn give(&mut self, command: Command) {
        let view = &mut self.view;
        let given = self.session.apply(command, &mut |event| view.apply(event), &Control::default());
        given.expect("the command is carried out");
    }

    /// Up to `last`, without anything odd.
    fn go(&mut self, last: Step) {
        for step in Step::ALL.into_iter().filter(|s| *s <= last && self.view.stage_of(*s).is_none()).collect::<Vec<_>>()
        {
            self.give(match step {
                Step::Stubs => Command::InsertStubs,
                Step::Weights => Command::UseShippedWeights,
                Step::Fuse => Command::Fuse(FuseOptions::default()),
                Step::Prepare => Command::Prepare(QConfig::default()),
                Step::Calibrate => Command::Calibrate(Calibration { batches: 2, batch: 32, foresee: false }),
                Step::Convert => Command::Convert,
            });
        }
    }

    fn save(&mut self, folder: &Path) {
        self.give(Command::Save(folder.join("a.octet.safetensors")));
    }

    #[track_caller]
    fn not(&self, check: Check, why: &str) {
        let found = check.judge(&self.view).expect_err("it is not done");
        assert!(found.contains(why), "{check:?} says: {found}");
    }

    #[track_caller]
    fn done(&self, check: Check) {
        assert_eq!(check.judge(&self.view).err(), None, "{check:?}");
    }
}

#[test]
fn nothing_is_done_before_anything_was() {
    let bench = Bench { session: Session::new(Device::Cpu), view: View::default() };
    for check in Check::ALL {
        assert!(check.judge(&bench.view).is_err(), "{check:?} on nothing");
    }
    let bench = Bench::sample();
    for check in Check::ALL {
        assert!(check.judge(&bench.view).is_err(), "{check:?} on a model just opened");
    }
}

#[test]
fn the_first_paths_checks_pass_only_when_it_is_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bench = Bench::sample();
    bench.not(Check::Stubs, "stubs are not inserted yet");
    bench.go(Step::Stubs);
    bench.done(Check::Stubs);
    bench.not(Check::Weights, "weights are random");
    bench.go(Step::Weights);
    bench.done(Check::Weights);

    // Fused, but for every site.
    bench.not(Check::Fused, "Nothing is fused yet");
    bench.go(Step::Fuse);
    bench.done(Check::Fused);
    let octet::session::Stage::Fused { report, .. } = bench.view.stage_of(Step::Fuse).expect("fused").as_ref() else {
        panic!("fused");
    };
    let disabled = report.sites.iter().map(|s| s.name.clone()).collect();
    bench.give(Command::BackTo(Step::Weights));
    bench.not(Check::Fused, "Nothing is fused yet");
    bench.give(Command::Fuse(FuseOptions { disabled }));
    bench.not(Check::Fused, "No site is fused");
    bench.give(Command::BackTo(Step::Weights));

    bench.not(Check::Prepared, "No observer is placed");
    bench.go(Step::Prepare);
    bench.done(Check::Prepared);

    // Calibrated, with a handful of images.
    bench.not(Check::Calibrated, "have seen nothing");
    bench.give(Command::Calibrate(Calibration { batches: 1, batch: 8, foresee: false }));
    bench.not(Check::Calibrated, "8 images are too few");
    bench.give(Command::Calibrate(Calibration { batches: 2, batch: 32, foresee: false }));
    bench.done(Check::Calibrated);

    // Converted is not saved, and a file that is gone is none.
    bench.not(Check::Saved, "Not converted");
    bench.go(Step::Convert);
    bench.not(Check::Saved, "not saved and measured");
    bench.save(folder.path());
    bench.done(Check::Saved);
    bench.not(Check::QatSaved, "method is still PTQ");
    std::fs::remove_file(folder.path().join("a.octet.safetensors")).expect("the file goes");
    bench.not(Check::Saved, "is gone");
    // What is undone is not done.
    bench.give(Command::BackTo(Step::Stubs));
    for check in [Check::Weights, Check::Fused, Check::Prepared, Check::Calibrated, Check::Saved] {
        assert!(check.judge(&bench.view).is_err(), "{check:?} after going back");
    }
}

#[test]
fn weights_that_guess_are_not_trained() {
    let folder = tempfile::tempdir().expect("a folder");
    // A state dict of random weights loads, and names no image.
    let model = octet::zoo::ModelConfig { classes: 10, size: 32 };
    let random = octet::zoo::init(&octet::zoo::build(ModelId::ShuffleNetV2X05, model).expect("a model"), 7);
    let file = folder.path().join("random.safetensors");
    octet::weights::write_safetensors(&file, &random, false).expect("the file is written");
    let mut bench = Bench::sample();
    bench.go(Step::Stubs);
    bench.give(Command::LoadWeights(file));
    bench.not(Check::Weights, "hardly better than guessing");
    bench.not(Check::QatWeights, "hardly better than guessing");
    bench.give(Command::UseShippedWeights);
    bench.done(Check::QatWeights);
}

#[test]
fn the_second_paths_checks_pass_only_when_it_is_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bench = Bench::sample();
    bench.not(Check::QatWeights, "stubs are not inserted");
    bench.go(Step::Stubs);
    bench.not(Check::QatWeights, "weights are random");
    bench.go(Step::Weights);
    bench.done(Check::QatWeights);
    bench.not(Check::TrainingMode, "method is still PTQ");

    // The guide's mistake: fused for inference first.
    bench.go(Step::Prepare);
    bench.not(Check::QatFused, "method is still PTQ");
    bench.not(Check::QatPrepared, "method is still PTQ");
    let mut training = QatTraining::default();
    training.train.epochs = 1;
    bench.give(Command::ChooseMethod(Method::Qat(training)));
    bench.done(Check::TrainingMode);
    bench.not(Check::QatFused, "Nothing is fused yet");
    bench.not(Check::Fused, "The method is QAT");
    bench.go(Step::Fuse);
    bench.done(Check::QatFused);
    bench.not(Check::QatPrepared, "No observer is placed");
    bench.go(Step::Prepare);
    bench.done(Check::QatPrepared);
    bench.not(Check::QatTrained, "not trained with fake quantization");
    bench.give(Command::TrainQat(training));
    bench.done(Check::QatTrained);
    bench.not(Check::QatSaved, "Not converted");
    bench.go(Step::Convert);
    bench.not(Check::QatSaved, "not saved");
    bench.save(folder.path());
    bench.done(Check::QatSaved);
    bench.not(Check::Saved, "The method is QAT");
}
