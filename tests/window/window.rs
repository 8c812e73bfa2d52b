use std::time::{Duration, Instant};

use eframe::egui::{Key, Theme, Ui};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use octet::app::Window;
use octet::app::choices::Choices;
use octet::session::{ModelId, ObserverKind, Override, Scheme, Stage, Step};

use crate::raster::Textures;
use crate::{harness, snapshot};

pub fn draw(ui: &mut Ui, window: &mut Window) {
    window.logic();
    window.ui(ui);
}

pub fn open(size: [f32; 2], look: Theme, folder: &std::path::Path) -> (Harness<'static, Window>, Textures) {
    let mut choices = Choices::new(folder.to_owned());
    choices.calibration.batches = 2;
    choices.qat.train.epochs = 2;
    let window = Window::new(choices, || {}).expect("the system gives a thread");
    harness(size, look, window, draw)
}

/// Draws until nothing runs and `ready` holds.
pub fn until(harness: &mut Harness<'_, Window>, what: &str, ready: impl Fn(&Window) -> bool) {
    let start = Instant::now();
    loop {
        harness.step();
        let window = harness.state();
        if window.view().running.is_none() && ready(window) {
            break;
        }
        let log = window.view().log.last();
        assert!(start.elapsed() < Duration::from_secs(120), "{what} is not done after two minutes: {log:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    harness.run_steps(3);
}

pub fn done(window: &Window, step: Step) -> bool {
    window.view().stage_of(step).is_some()
}

#[test]
fn the_first_start_offers_three_ways() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 800.0], Theme::Dark, folder.path());
    harness.run();
    harness.get_by_label("Quantize the sample now: Quantize");
    harness.get_by_label("Walk the six steps: Begin");
    harness.get_by_label("Open my model: Choose").click();
    harness.run();
    harness.get_by_label("Image folder");
    // The project folder below is another one each time.
    snapshot::part(&harness, &textures, "welcome_dark", [0, 0, 1280, 716]);
}

#[test]
fn one_click_leads_to_the_result() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = open([1280.0, 800.0], Theme::Light, folder.path());
    harness.run();
    harness.get_by_label("Quantize the sample now: Quantize").click();
    until(&mut harness, "all six steps", |w| matches!(w.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    assert_eq!(harness.state().bench().step, Step::Convert);
    harness.get_by_label_contains("Time of one image: float32");
}

#[test]
fn run_all_runs_the_model_that_is_picked_under_its_own_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = open([1280.0, 800.0], Theme::Dark, folder.path());
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    let named = |harness: &Harness<'_, Window>| harness.state().bench().choices.out();
    harness.get_by_label_contains("Model: ").click();
    harness.run_steps(3);
    harness.get_by_label("MobileNetV3 large").click();
    harness.run_steps(3);
    assert!(named(&harness).ends_with("shufflenet_v2_x0_5.octet.safetensors"), "the open model keeps its file's name");

    harness.get_by_label("Run all").click();
    let start = Instant::now();
    // No weights of it are shipped, so it trains: that it does is enough.
    while harness.state().view().training.is_empty() {
        harness.step();
        assert!(start.elapsed() < Duration::from_secs(60), "nothing trains: {:?}", harness.state().view().log.last());
    }
    let view = harness.state().view();
    assert_eq!(view.recipe.as_ref().map(|r| r.model), Some(ModelId::MobileNetV3Large));
    assert!(view.progress.as_ref().is_some_and(|p| p.what == "Training" && p.total > p.done));
    assert!(named(&harness).ends_with("mobilenet_v3_large.octet.safetensors"));
    harness.key_press(Key::Escape);
    until(&mut harness, "cancelling", |_| true);
}

#[test]
fn six_steps_by_their_buttons() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 800.0], Theme::Dark, folder.path());
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    let steps = [
        ("Insert stubs", Step::Stubs),
        ("Use shipped weights", Step::Weights),
        ("Fuse", Step::Fuse),
        ("Prepare", Step::Prepare),
        ("Calibrate", Step::Calibrate),
        ("Convert", Step::Convert),
    ];
    for (button, step) in steps {
        harness.get_by_label(button).click();
        until(&mut harness, button, |w| done(w, step));
        if let Some(next) = Step::ALL.get(step.index() + 1) {
            harness.get_by_label(&format!("Continue to {}", next.title())).click();
            harness.run_steps(2);
        }
    }
    harness.get_by_label("Save and measure").click();
    until(&mut harness, "saving", |w| matches!(w.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    let Some(Stage::Saved { measured, .. }) = harness.state().view().stage().map(AsRef::as_ref) else {
        panic!("saved");
    };
    assert!(measured.file.starts_with(folder.path()) && measured.file.exists());
    assert!(harness.query_all_by_label_contains("smaller").next().is_some());
    harness.get_by_label_contains("Size of the file: float32");
    harness.key_press(Key::Num3);
    harness.run_steps(2);
    assert_eq!(harness.state().bench().step, Step::Fuse);
    harness.get_by_label_contains("sites fused");
    if let Some(folder) = std::env::var_os("PICTURES") {
        pictures(&mut harness, &textures, std::path::Path::new(&folder));
    }
}

/// Up to a step that is ready to be run, and shows its screen.
pub fn walk_to(harness: &mut Harness<'_, Window>, last: Step) {
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(harness, "opening", |w| w.view().stage().is_some());
    let steps = [("Insert stubs", Step::Stubs), ("Use shipped weights", Step::Weights), ("Fuse", Step::Fuse)];
    for (button, step) in steps {
        harness.get_by_label(button).click();
        until(harness, button, |w| done(w, step));
        harness.get_by_label(&format!("Continue to {}", Step::ALL[step.index() + 1].title())).click();
        harness.run_steps(2);
    }
    assert_eq!(harness.state().bench().step, last);
}

/// Picks `option` in the drop-down of this name.
fn pick(harness: &mut Harness<'_, Window>, name: &str, option: &str) {
    harness.get_by_label_contains(name).click();
    harness.run_steps(3);
    let found: Vec<_> = harness.query_all_by_label(option).collect();
    found.last().expect("the option is offered").click();
    harness.run_steps(3);
}

#[test]
fn every_choice_of_prepare_is_made_by_its_label() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 800.0], Theme::Light, folder.path());
    walk_to(&mut harness, Step::Prepare);
    for label in [
        "Qconfig: qnnpack",
        "Qconfig: onednn",
        "Observer: MSE",
        "Activations: Symmetric",
        "Scales of weights: Per tensor",
        "Weights: Symmetric",
        "Bits: 6",
    ] {
        harness.get_by_label(label).click();
        harness.run_steps(2);
    }
    harness.get_by_label_contains("6 bits are for study");
    harness.get_by_label("Search layers").click();
    harness.run_steps(2);
    harness.get_by_label("Search layers").type_text("conv1");
    harness.run_steps(3);
    pick(&mut harness, "Output of conv1.0: ", "float");
    assert_eq!(harness.state().bench().choices.qconfig.overrides["conv1.0"], Override::Float);
    harness.get_by_label_contains("only those of their own (1)").click();
    harness.run_steps(2);
    harness.get_by_label("Prepare").click();
    until(&mut harness, "preparing", |w| done(w, Step::Prepare));
    let recipe = harness.state().view().recipe.clone().expect("a recipe");
    let config = &recipe.qconfig;
    assert_eq!((config.activation.observer, config.activation.scheme), (ObserverKind::Mse, Scheme::Symmetric));
    assert_eq!(
        (config.activation.quant_max, config.weight.bits, config.weight.observer),
        (63, 6, ObserverKind::MinMax)
    );
    harness.get_by_label_contains("left in float");
    if let Some(folder) = std::env::var_os("PICTURES") {
        let picture = textures.picture(&harness);
        picture.save(std::path::Path::new(&folder).join("prepare_light.png")).expect("a picture");
    }
    harness.get_by_label("Bits: 8").click();
    harness.run_steps(2);
    harness.get_by_label_contains("prepare again to use them");
    harness.get_by_label("Clear all").scroll_to_me();
    harness.run_steps(3);
    harness.get_by_label("Clear all").click();
    harness.run_steps(2);
    assert!(harness.state().bench().choices.qconfig.overrides.is_empty());
}

#[test]
fn a_warning_stands_on_the_prepare_screen() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = open([1280.0, 800.0], Theme::Dark, folder.path());
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    for (button, step) in [("Insert stubs", Step::Stubs), ("Use shipped weights", Step::Weights), ("Fuse", Step::Fuse)]
    {
        harness.get_by_label(button).click();
        until(&mut harness, button, |w| done(w, step));
        if step != Step::Fuse {
            harness.get_by_label(&format!("Continue to {}", Step::ALL[step.index() + 1].title())).click();
            harness.run_steps(2);
        }
    }
    harness.get_by_label("Fuse conv1.0").click();
    harness.run_steps(2);
    harness.get_by_label("Fuse again").click();
    until(&mut harness, "fusing again", |w| {
        w.view().stage().is_some_and(|s| s.graph().find("conv1.1").is_some() && s.done() == Some(Step::Fuse))
    });
    harness.get_by_label("Continue to Prepare").click();
    harness.run_steps(2);
    harness.get_by_label("Prepare").click();
    until(&mut harness, "preparing", |w| done(w, Step::Prepare));
    harness.get_by_label_contains("node `conv1.1`: BatchNorm2d has no int8 kernel and is left in float");
}

/// Every step and tab, for eyes; `PICTURES=folder` asks for them.
fn pictures(harness: &mut Harness<'_, Window>, textures: &Textures, folder: &std::path::Path) {
    for key in [Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5, Key::Num6] {
        harness.key_press(key);
        for tab in ["Picture", "Graph", "Code"] {
            harness.get_by_label(tab).click();
            harness.run_steps(4);
            let name = format!("{}_{tab}.png", harness.state().bench().step.index() + 1);
            textures.picture(harness).save(folder.join(name)).expect("a picture");
        }
        harness.get_by_label("Picture").click();
        harness.run_steps(2);
    }
    harness.ctx.set_theme(Theme::Light);
    for (size, key) in [([1280.0, 800.0], Key::Num3), ([640.0, 360.0], Key::Num5), ([960.0, 640.0], Key::Num6)] {
        harness.set_size(size.into());
        harness.key_press(key);
        harness.run_steps(4);
        textures.picture(harness).save(folder.join(format!("light_{}.png", size[0]))).expect("a picture");
    }
}
