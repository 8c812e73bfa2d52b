//! Every check of the tutorial where its work is not done: it says what is missing.

use std::path::Path;

use octet::app::tutorial::{Check, Progress};
use octet::session::{
    Calibration, Command, Control, Device, FuseOptions, Method, ModelId, ObserverKind, Override, QConfig, QatTraining,
    Recipe, Session, Stage, Step, View, WeightsChoice,
};

struct Bench {
    session: Session,
    view: View,
    progress: Progress,
}

impl Bench {
    fn open(recipe: Recipe) -> Self {
        let mut bench =
            Self { session: Session::new(Device::Cpu), view: View::default(), progress: Progress::default() };
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
        let found = check.judge(&self.view, &self.progress).expect_err("it is not done");
        assert!(found.contains(why), "{check:?} says: {found}");
    }

    #[track_caller]
    fn done(&self, check: Check) {
        assert_eq!(check.judge(&self.view, &self.progress).err(), None, "{check:?}");
    }
}

#[test]
fn nothing_is_done_before_anything_was() {
    let bench = Bench { session: Session::new(Device::Cpu), view: View::default(), progress: Progress::default() };
    for check in Check::ALL {
        assert!(check.judge(&bench.view, &bench.progress).is_err(), "{check:?} on nothing");
    }
    let bench = Bench::sample();
    for check in Check::ALL {
        assert!(check.judge(&bench.view, &bench.progress).is_err(), "{check:?} on a model just opened");
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
        assert!(check.judge(&bench.view, &bench.progress).is_err(), "{check:?} after going back");
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

impl Bench {
    /// The spoilt model with these choices, up to the measured file.
    fn planted(folder: &Path, qconfig: QConfig) -> Self {
        let file = folder.join("tutorial.mobilenet_v3_small.safetensors");
        let planted = octet::session::plant(ModelId::MobileNetV3Small, &file).expect("weights ship");
        assert_eq!(planted.layer, "features.2.block.0.0");
        let mut recipe = Recipe::new(ModelId::MobileNetV3Small);
        (recipe.weights, recipe.qconfig) = (WeightsChoice::File(file), qconfig);
        recipe.calibration = Calibration { batches: 4, batch: 32, foresee: false };
        let mut bench = Self::open(recipe);
        bench.give(Command::RunAll(folder.join("m.octet.safetensors")));
        bench
    }

    fn int8(&self) -> f64 {
        match self.view.stage().expect("open").as_ref() {
            Stage::Saved { measured, .. } => measured.int8.accuracy.expect("labels"),
            _ => panic!("saved"),
        }
    }
}

fn per_tensor() -> QConfig {
    let mut qconfig = QConfig::default();
    qconfig.weight.observer = ObserverKind::MinMax;
    qconfig
}

#[test]
fn the_first_finale_is_broken_and_repaired_only_by_measurement() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bench = Bench::sample();
    bench.not(Check::BrokenPerTensor, "planted model is not open");
    bench.not(Check::GivenBack, "planted model is not open");

    // Per channel it does not break.
    let mut bench2 = Bench::planted(folder.path(), QConfig::default());
    bench2.not(Check::BrokenPerTensor, "still have a scale a channel");
    bench2.not(Check::RepairedPerChannel, "Break it first");
    bench2.not(Check::RepairedByQat, "Repair it per channel first");
    bench2.not(Check::GivenBack, "keep one scale a layer");
    let repaired = bench2.int8();

    bench = Bench::planted(folder.path(), per_tensor());
    bench.done(Check::BrokenPerTensor);
    bench.progress.figures.insert("break per tensor".to_owned(), bench.int8());
    bench.not(Check::RepairedPerChannel, "choose Per channel");
    bench.not(Check::GivenBack, "0 layers are left in float");
    bench2.progress = bench.progress.clone();
    bench2.done(Check::RepairedPerChannel);
    assert!(repaired > bench.int8() + 0.3, "{repaired} {}", bench.int8());

    // PTQ's own file is no training's, and training must not do worse.
    bench2.progress.figures.insert("break per channel".to_owned(), repaired);
    bench2.not(Check::RepairedByQat, "method is still PTQ");
}

#[test]
fn one_layer_goes_back_to_float_within_the_budget() {
    let folder = tempfile::tempdir().expect("a folder");
    let back = |layers: &[&str]| {
        let float = |q: QConfig, name: &&str| q.with_override(*name, Override::Float);
        Bench::planted(folder.path(), layers.iter().fold(per_tensor(), float))
    };
    back(&["classifier.0"]).not(Check::GivenBack, "may be spent");
    back(&["features.3.block.0.0"]).not(Check::GivenBack, "it is another layer");
    back(&["features.2.block.0.0", "features.2.block.1.0"]).not(Check::GivenBack, "2 layers are left in float");
    back(&["features.2.block.0.0"]).done(Check::GivenBack);
}

#[test]
fn the_dead_range_is_found_when_it_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |qconfig: QConfig| {
        let mut recipe = Recipe::new(ModelId::ShuffleNetV2X05);
        recipe.qconfig = qconfig;
        recipe.calibration = Calibration { batches: 4, batch: 32, foresee: false };
        let mut bench = Bench::open(recipe);
        bench.give(Command::RunAll(folder.path().join("r.octet.safetensors")));
        bench
    };
    let layer = "stage3.0.branch1.2";
    let mut good = open(QConfig::default());
    good.not(Check::RangePlanted, "No range was planted yet");
    good.not(Check::RangeFound, "No range was planted yet");
    good.progress.guesses.insert("range planted".to_owned(), layer.to_owned());
    good.not(Check::RangePlanted, "has no wrong range");

    let mut bad = open(QConfig::default().with_fixed(layer, Some([0.0, 0.02])));
    bad.progress = good.progress.clone();
    bad.done(Check::RangePlanted);
    bad.not(Check::RangeFound, "still set");
    bad.give(Command::BackTo(Step::Calibrate));
    bad.give(Command::SetRange(layer.to_owned(), None));
    bad.not(Check::RangeFound, "Not converted");
    bad.give(Command::Convert);
    bad.save(folder.path());
    bad.done(Check::RangeFound);

    // Another layer in the same plight is no answer.
    let mut other = open(QConfig::default().with_fixed("conv1.0", Some([0.0, 0.02])));
    other.progress = good.progress.clone();
    other.not(Check::RangeFound, "not the model as it was");
}
