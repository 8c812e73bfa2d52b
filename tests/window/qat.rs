//! The second method by its labels: the switch, training with fake quantization live, the result three ways.

use eframe::egui::{Key, Theme};
use egui_kittest::kittest::Queryable;
use octet::session::{CommandKind, Stage, Step, TrainEvent};

use crate::window::{done, open, until};

#[test]
fn the_second_method_by_labels() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = open([1280.0, 900.0], Theme::Dark, folder.path());
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    harness.get_by_label("Method: QAT").click();
    harness.run_steps(3);
    until(&mut harness, "the method", |w| w.view().recipe.as_ref().is_some_and(|r| !r.method.is_ptq()));
    for (button, step) in [
        ("Insert stubs", Step::Stubs),
        ("Use shipped weights", Step::Weights),
        ("Fuse", Step::Fuse),
        ("Prepare", Step::Prepare),
    ] {
        harness.get_by_label(button).click();
        until(&mut harness, button, |w| done(w, step));
        if step != Step::Prepare {
            harness.get_by_label_contains("Continue to ").click();
            harness.run_steps(3);
        }
    }
    harness.get_by_label("Continue to Train").click();
    harness.run_steps(3);
    harness.get_by_label("Can the model learn to live with int8's levels?");
    harness.get_by_label("Step size: From the range");
    harness.get_by_label("Levels: As int8 has them");
    harness.get_by_label("Keep a checkpoint after each epoch").click();
    until(&mut harness, "keeping checkpoints", |w| w.view().finished == Some(CommandKind::KeepCheckpoints));
    harness.get_by_label("Train").click();
    harness.run_steps(2);
    // Live: the curves are there before the end.
    while !harness.state().view().qat.iter().any(|e| matches!(e, TrainEvent::Ranges(_))) {
        std::thread::sleep(std::time::Duration::from_millis(5));
        harness.step();
    }
    harness.run_steps(2);
    harness.get_by_label_contains("Loss: train");
    harness.get_by_label_contains("Layer: ");
    until(&mut harness, "training", |w| done(w, Step::Calibrate));
    assert!(harness.query_all_by_label_contains("ranges freeze at").count() >= 3, "each curve has the mark");
    harness.get_by_label("Resume");
    assert!(folder.path().join("shufflenet_v2_x0_5.octet.checkpoint").is_file());

    harness.get_by_label("Code").click();
    harness.run_steps(3);
    harness.get_by_label_contains("freeze_bn_stats");
    harness.get_by_label("Picture").click();
    harness.get_by_label("Continue to Convert").click();
    harness.run_steps(3);
    harness.get_by_label("Convert").click();
    until(&mut harness, "converting", |w| done(w, Step::Convert));
    harness.get_by_label("Save and measure").click();
    until(&mut harness, "saving", |w| matches!(w.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    harness.get_by_label_contains("as PyTorch converts");
    harness.get_by_label_contains("clamp at 255 where");
    harness.get_by_label("Result: Error by layer").click();
    crate::screens::wait(&mut harness, "every layer's error", |h| h.state().bench().result().errors().is_some());
    harness.get_by_label_contains("Float is the model that training with fake quantization ended with");
    // Trained again, what goes on is seen, and not what was there before.
    harness.key_press(Key::Num4);
    harness.run_steps(2);
    harness.get_by_label("Return to here").click();
    until(&mut harness, "back", |w| w.view().stage().and_then(|s| s.done()) == Some(Step::Prepare));
    harness.key_press(Key::Num5);
    harness.run_steps(2);
    harness.get_by_label_contains("An earlier step was changed");
    harness.key_press(Key::R);
    harness.run_steps(2);
    while harness.state().view().qat.is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
        harness.step();
    }
    harness.run_steps(2);
    assert!(harness.query_by_label_contains("An earlier step was changed").is_none());
    harness.get_by_label_contains("Loss: train");
    until(&mut harness, "training again", |w| done(w, Step::Calibrate));
    let Some(Stage::Trained { accuracy: Some(best), .. }) = harness.state().view().stage().map(AsRef::as_ref) else {
        panic!("not trained")
    };
    harness.get_by_label(&octet::app::number::percent(*best));
    // Back to the first method: what was trained is undone, the weights stay.
    harness.get_by_label("Method: PTQ").click();
    harness.run_steps(3);
    until(&mut harness, "the method", |w| w.view().stage().and_then(|s| s.done()) == Some(Step::Weights));
}
