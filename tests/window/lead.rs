//! One button at most leads on, and it is the one that should.

use eframe::egui::{Key, Theme};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use octet::app::Window;
use octet::session::Step;

use crate::window::{done, open, until};

/// The labels of the primary buttons.
pub fn leading(harness: &Harness<'_, Window>) -> Vec<String> {
    let all = harness.root().children_recursive().filter_map(|node| {
        let node = node.accesskit_node();
        (node.author_id() == Some("primary")).then(|| node.label().unwrap_or_default())
    });
    all.collect()
}

#[track_caller]
fn leads(harness: &Harness<'_, Window>, label: &str) {
    assert_eq!(leading(harness), [label]);
}

fn press(harness: &mut Harness<'_, Window>, label: &str) {
    harness.get_by_label(label).scroll_to_me();
    harness.run_steps(4);
    harness.get_by_label(label).click();
    harness.run_steps(4);
}

#[test]
fn one_button_leads_on_wherever_one_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = open([1280.0, 900.0], Theme::Dark, folder.path());
    harness.run();
    leads(&harness, "Take the tutorial: Start");
    press(&mut harness, "Open my model: Choose");
    leads(&harness, "Open model");
    press(&mut harness, "Open my model: Choose");
    press(&mut harness, "Walk the six steps: Begin");
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    leads(&harness, "Insert stubs");
    harness.key_press(Key::Num3);
    harness.run_steps(3);
    leads(&harness, "Go to Stubs");

    // Places that are no step: what is theirs, or the bar's.
    for (place, label) in
        [("Images", "Run all"), ("Compare", "Run all steps now"), ("Learn", "First method: PTQ: Begin")]
    {
        press(&mut harness, place);
        leads(&harness, label);
    }
    press(&mut harness, "Compare");
    press(&mut harness, "Compare: Sizes of every model");
    leads(&harness, "Run all");

    // A lesson leads before its step, and to it.
    press(&mut harness, "Learn");
    press(&mut harness, "First method: PTQ: Begin");
    leads(&harness, "Insert stubs");
    harness.key_press(Key::Num2);
    harness.run_steps(3);
    leads(&harness, "Go to Stubs for this task");
    harness.key_press(Key::Num1);
    harness.run_steps(3);
    press(&mut harness, "Insert stubs");
    until(&mut harness, "stubs", |w| done(w, Step::Stubs));
    leads(&harness, "Next lesson");
    harness.get_by_label("Continue to Weights");
    press(&mut harness, "Lesson 3: Fuse, not done");
    leads(&harness, "Guess sites-fused");
    press(&mut harness, "Skip guessing sites-fused");
    // Its step's turn has not come, and the lesson does what is before it.
    leads(&harness, "Do it for me");
    press(&mut harness, "Leave");
    leads(&harness, "Resume");
    harness.key_press(Key::Num1);
    harness.run_steps(3);
    leads(&harness, "Continue to Weights");
}
