//! One screen a step: its question answered with the user's own model and images.
//!
//! Screens draw the session's `View`, change drafts in the workbench and ask for commands; they never wait.

mod calibrate;
mod code;
mod compare;
mod convert;
mod download;
mod fuse;
mod graphs;
mod images;
mod layers;
mod prepare;
mod saturation;
mod stubs;
mod weights;

use eframe::egui::{self, Button, RichText, ScrollArea, Ui};

use super::controls::{banner_ui, primary_ui};
use super::theme::{self, Tone};
use super::workbench::{Place, Workbench};
use crate::session::{Command, Stage, Step, View, Warning, ships_weights};

pub(super) use calibrate::CalibrateScreen;
pub use compare::CompareScreen;
pub(super) use download::DownloadCard;
pub use images::ImagesScreen;
pub(super) use layers::PrepareScreen;

/// Three ways to look at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Its question answered.
    Picture,
    /// The graph before and after.
    Graph,
    /// The same in PyTorch.
    Code,
}

impl Tab {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Picture, Self::Graph, Self::Code];

    /// As the tab says.
    pub fn title(self) -> &'static str {
        match self {
            Self::Picture => "Picture",
            Self::Graph => "Graph",
            Self::Code => "Code",
        }
    }
}

/// What a step's screen answers.
pub(super) fn question(step: Step) -> &'static str {
    match step {
        Step::Stubs => "Where do values become int8, and where float again?",
        Step::Weights => "What has the model learned?",
        Step::Fuse => "Which layers become one?",
        Step::Prepare => "What will be watched, and how?",
        Step::Calibrate => "Which values really occur?",
        Step::Convert => "What does int8 cost, and what does it save?",
    }
}

/// What *Run* does on the current step.
pub(super) fn command(bench: &Workbench, view: &View) -> Option<Command> {
    let choices = &bench.choices;
    Some(match bench.step {
        Step::Stubs => Command::InsertStubs,
        Step::Weights => {
            let recipe = view.recipe.as_ref()?;
            if view.stage().is_some_and(|stage| stage.has_untrained_head()) {
                return Some(Command::Train(choices.train));
            }
            match choices.weights() {
                Some(path) => Command::LoadWeights(path),
                None if ships_weights(recipe.model, &recipe.data) => Command::UseShippedWeights,
                None => Command::Train(choices.train),
            }
        }
        Step::Fuse => Command::Fuse(choices.fuse()),
        Step::Prepare => Command::Prepare(choices.qconfig.clone()),
        Step::Calibrate => Command::Calibrate(choices.calibration),
        Step::Convert => match view.stage_of(Step::Convert) {
            Some(_) => Command::Save(choices.out()),
            None => Command::Convert,
        },
    })
}

/// What that button says.
fn label(command: &Command, again: bool) -> &'static str {
    match command {
        Command::InsertStubs if again => "Insert again",
        Command::InsertStubs => "Insert stubs",
        Command::LoadWeights(_) => "Load weights",
        Command::UseShippedWeights => "Use shipped weights",
        Command::DownloadWeights(_) => "Download weights",
        Command::ReinitHead(true) => "New head",
        Command::ReinitHead(false) => "The file's head",
        Command::Train(_) if again => "Train on",
        Command::Train(_) => "Train",
        Command::Fuse(_) if again => "Fuse again",
        Command::Fuse(_) => "Fuse",
        Command::Prepare(_) if again => "Prepare again",
        Command::Prepare(_) => "Prepare",
        Command::Calibrate(_) if again => "Calibrate again",
        Command::Calibrate(_) => "Calibrate",
        Command::TrainQat(_) if again => "Train again",
        Command::TrainQat(_) => "Train",
        Command::Convert => "Convert",
        Command::Save(_) if again => "Save again",
        Command::Save(_) => "Save and measure",
        Command::Open(_)
        | Command::ChooseMethod(_)
        | Command::KeepCheckpoints(_)
        | Command::BackTo(_)
        | Command::RunAll(_) => "Run",
    }
}

/// The button that runs the current step.
pub(super) fn run_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, primary: bool) {
    let Some(command) = command(bench, view) else { return };
    let enabled = view.allows(command.kind());
    let text = label(&command, !primary);
    let button = if primary { primary_ui(ui, enabled, text) } else { ui.add_enabled(enabled, Button::new(text)) };
    if button.clicked() {
        bench.ask(command);
    }
}

/// Whether a step has nothing left to do: the last one is done when its file is saved and measured.
pub(super) fn is_finished(step: Step, view: &View) -> bool {
    match view.stage_of(step).map(AsRef::as_ref) {
        Some(Stage::Converted { .. }) | None => false,
        Some(stage) if stage.has_untrained_head() => false,
        Some(
            Stage::Opened { .. }
            | Stage::Stubbed { .. }
            | Stage::Weighted { .. }
            | Stage::Fused { .. }
            | Stage::Prepared { .. }
            | Stage::Calibrated { .. }
            | Stage::Trained { .. }
            | Stage::Saved { .. },
        ) => true,
    }
}

/// Draws the current step's current tab.
pub(super) fn screen_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    match bench.tab {
        Tab::Graph => graphs::graphs_ui(ui, bench, view),
        Tab::Code => code::code_ui(ui, bench, view),
        Tab::Picture => match bench.step {
            Step::Fuse => fuse::fuse_ui(ui, bench, view),
            Step::Calibrate => calibrate::calibrate_ui(ui, bench, view),
            Step::Stubs => scrolled(ui, |ui| stubs::stubs_ui(ui, bench, view)),
            Step::Weights => scrolled(ui, |ui| weights::weights_ui(ui, bench, view)),
            Step::Prepare => {
                let room = ui.available_height();
                scrolled(ui, |ui| prepare::prepare_ui(ui, bench, view, room));
            }
            Step::Convert => scrolled(ui, |ui| convert::convert_ui(ui, bench, view)),
        },
    }
}

/// Draws a place that is no step.
pub(super) fn place_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, place: Place) {
    match place {
        Place::Step => screen_ui(ui, bench, view),
        Place::Images => images::images_ui(ui, bench, view),
        Place::Compare => scrolled(ui, |ui| compare::compare_ui(ui, &mut bench.compare)),
    }
}

fn scrolled(ui: &mut Ui, draw: impl FnOnce(&mut Ui)) {
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        // The bar floats over the content's right edge.
        let room = egui::Margin { right: 16, ..egui::Margin::ZERO };
        egui::Frame::NONE.inner_margin(room).show(ui, draw);
    });
}

/// What a user should know before he goes on: the first few as banners, the rest counted.
fn warnings_ui(ui: &mut Ui, warnings: &[Warning]) {
    const SHOWN: usize = 4;
    for warning in warnings.iter().take(SHOWN) {
        banner_ui(ui, Tone::Trouble, &warning.to_string());
    }
    if warnings.len() > SHOWN {
        prose(ui, &format!("{} more warnings are in the log.", warnings.len() - SHOWN));
    }
}

/// A paragraph of secondary text, no wider than the eye likes.
fn prose(ui: &mut Ui, text: &str) {
    let weak = theme::palette(ui).weak;
    ui.scope(|ui| {
        ui.set_max_width(560.0);
        ui.add(egui::Label::new(RichText::new(text).color(weak)).wrap());
    });
}

/// A small heading within a screen.
fn heading(ui: &mut Ui, text: &str) {
    let strong = theme::palette(ui).strong;
    ui.add_space(theme::GRID);
    ui.label(RichText::new(text).font(theme::Type::Body.strong()).color(strong));
}
