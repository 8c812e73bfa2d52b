//! Data with next to nothing in it, through all six steps.

use std::fs;
use std::path::Path;

use octet::data::Source;
use octet::session::{
    Calibration, Command, Control, Device, Method, ModelId, QatTraining, Recipe, Session, SessionError, Stage,
    TrainConfig, WeightsChoice,
};
use tempfile::TempDir;

/// `count` pictures of one colour.
fn pictures(folder: &Path, count: usize, colour: [u8; 3]) {
    fs::create_dir_all(folder).expect("a folder");
    for i in 0..count {
        let path = folder.join(format!("{i}.png"));
        image::RgbImage::from_pixel(32, 32, image::Rgb(colour)).save(path).expect("a picture");
    }
}

fn recipe(data: &Path, weights: WeightsChoice) -> Recipe {
    let mut recipe = Recipe {
        data: Source::Path(data.to_owned()),
        weights,
        calibration: Calibration { batches: 2, batch: 1, foresee: false },
        train: TrainConfig { epochs: 1, batch: 4, ..TrainConfig::default() },
        threads: 1,
        ..Recipe::new(ModelId::ShuffleNetV2X05)
    };
    recipe.preprocess.size = Some(32);
    recipe
}

/// All steps; the accuracy of the int8 file, where there is one.
fn run_all(recipe: Recipe) -> Result<Option<f64>, SessionError> {
    let folder = TempDir::new().expect("a folder");
    let mut session = Session::new(Device::Cpu);
    let mut apply = |command| session.apply(command, &mut |_| {}, &Control::default());
    apply(Command::Open(Box::new(recipe)))?;
    apply(Command::RunAll(folder.path().join("a.octet.safetensors")))?;
    match session.stage()?.as_ref() {
        Stage::Saved { measured, .. } => Ok(measured.int8.accuracy),
        other => panic!("{other:?}"),
    }
}

/// The weights that come with Octet, as a file.
fn weights() -> WeightsChoice {
    WeightsChoice::File(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/weights/shufflenet_v2_x0_5.safetensors"))
}

#[test]
fn constant_images_train_and_quantize() {
    let folder = TempDir::new().expect("a folder");
    for class in ["a", "b"] {
        pictures(&folder.path().join(class), 10, [0; 3]);
    }
    // Nothing tells the classes apart: half of them is what there is to have.
    assert_eq!(run_all(recipe(folder.path(), WeightsChoice::Train)).expect("it runs"), Some(0.5));
    let mut training = QatTraining::default();
    (training.train.epochs, training.train.batch) = (1, 4);
    let qat = Recipe { method: Method::Qat(training), ..recipe(folder.path(), WeightsChoice::Train) };
    assert_eq!(run_all(qat).expect("it runs"), Some(0.5));
}

#[test]
fn one_image_calibrates_and_trains_nobody() {
    let folder = TempDir::new().expect("a folder");
    pictures(folder.path(), 1, [10, 200, 30]);
    assert_eq!(run_all(recipe(folder.path(), weights())).expect("it runs"), None);
    // With a class it is still one: nothing is held out, and batch norm has no variance.
    let folder = TempDir::new().expect("a folder");
    pictures(&folder.path().join("only"), 1, [10, 200, 30]);
    let error = run_all(recipe(folder.path(), WeightsChoice::Train)).expect_err("one image").to_string();
    assert!(error.contains("2 or more") || error.contains("two"), "{error}");
}

#[test]
fn one_class_is_learnt_at_once() {
    let folder = TempDir::new().expect("a folder");
    pictures(&folder.path().join("only"), 10, [90, 20, 30]);
    assert_eq!(run_all(recipe(folder.path(), WeightsChoice::Train)).expect("it runs"), Some(1.0));
}

#[test]
fn a_batch_of_one_calibrates_as_a_larger_one_sees_it() {
    let folder = TempDir::new().expect("a folder");
    pictures(&folder.path().join("a"), 6, [200, 20, 30]);
    pictures(&folder.path().join("b"), 6, [20, 20, 230]);
    let one = Recipe {
        calibration: Calibration { batches: 4, batch: 1, foresee: false },
        ..recipe(folder.path(), weights())
    };
    assert_eq!(run_all(one).expect("it runs"), None, "ten classes for two");
    let none = Recipe {
        calibration: Calibration { batches: 4, batch: 0, foresee: false },
        ..recipe(folder.path(), weights())
    };
    assert!(run_all(none).expect_err("no batch").to_string().contains("calibration.batch"));
    let mut train = recipe(folder.path(), WeightsChoice::Train);
    train.train.batch = 1;
    assert!(run_all(train).expect_err("no variance").to_string().contains("batch norm needs a variance"));
}

/// Files that are all damaged: an epoch without an image was a training that had learnt nothing, and said so to nobody.
#[test]
fn images_that_cannot_be_read_train_nobody() {
    let folder = TempDir::new().expect("a folder");
    for class in ["a", "b"] {
        let inside = folder.path().join(class);
        fs::create_dir_all(&inside).expect("a folder");
        for i in 0..6 {
            fs::write(inside.join(format!("{i}.png")), "no picture").expect("a file");
        }
    }
    let error = run_all(recipe(folder.path(), WeightsChoice::Train)).expect_err("nothing to see").to_string();
    assert!(error.contains("found 0 labelled images") && error.contains("can be read"), "{error}");
}
