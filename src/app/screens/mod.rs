//! One screen a step: its question answered with the user's own model and images.
//!
//! Screens draw the session's `View`, change drafts in the workbench and ask for commands; they never wait.

mod analyze;
mod beside;
mod by_layer;
mod calibrate;
mod clip;
mod code;
mod compare;
mod convergence;
mod convert;
mod download;
mod flips;
mod fuse;
mod graphs;
mod images;
mod layers;
mod levels;
mod prepare;
mod qat;
mod repairs;
mod result;
mod runs;
mod saturation;
mod site;
mod stubs;
mod weights;

use eframe::egui::{self, Align, Label, Layout, RichText, ScrollArea, Ui, vec2};

use super::controls::{banner_ui, primary_ui};
use super::glossary::{label_ui, words_ui};
use super::lead::Lead;
use super::plot::{Table, save_table_ui, whole_table_ui};
use super::theme::{self, Tone, Type};
use super::workbench::{Place, Workbench};
use crate::session::{Command, Stage, Step, View, Warning, ships_weights};

pub use beside::Beside;
pub use calibrate::CalibrateScreen;
pub(super) use clip::{decibels, figures_small_ui, levels as levels_of};
pub(super) use code::code_of;
pub use compare::CompareScreen;
pub(super) use download::DownloadCard;
pub use images::ImagesScreen;
pub(super) use layers::PrepareScreen;
pub(super) use qat::QatScreen;
pub use result::{ResultScreen, ResultView};
pub use runs::RunsScreen;
pub(super) use site::{FuseScreen, fold_of};
pub(super) use stubs::StubsScreen;

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
pub(super) fn question(bench: &Workbench) -> &'static str {
    match bench.step {
        Step::Stubs => "Where do values become int8, and where float again?",
        Step::Weights => "What has the model learned?",
        Step::Fuse => "Which layers become one?",
        Step::Prepare => "What will be watched, and how?",
        Step::Calibrate if bench.choices.by_qat => "Can the model learn to live with int8's levels?",
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
        Step::Calibrate if choices.by_qat => Command::TrainQat(choices.qat),
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
        Command::SetRange(_, Some(_)) => "Keep range",
        Command::SetRange(_, None) => "Drop range",
        Command::TrainQat(_) if again => "Train again",
        Command::TrainQat(_) => "Train",
        Command::Convert => "Convert",
        Command::Save(_) if again => "Save again",
        Command::Save(_) => "Save and measure",
        Command::Open(_)
        | Command::ChooseMethod(_)
        | Command::ChooseDevice(_)
        | Command::Choose(_)
        | Command::KeepCheckpoints(_)
        | Command::BackTo(_)
        | Command::Redo
        | Command::Repair(_)
        | Command::UndoRepair
        | Command::Continue(_)
        | Command::UseProject(_)
        | Command::RunAll(_) => "Run",
    }
}

/// The button that runs the current step, or runs it `again`.
pub(super) fn run_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, again: bool) {
    let Some(command) = command(bench, view) else { return };
    let enabled = view.allows(command.kind());
    if primary_ui(ui, !again && bench.lead == Lead::Step, enabled, label(&command, again)).clicked() {
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
            Step::Calibrate if bench.choices.by_qat => qat::qat_ui(ui, bench, view),
            Step::Calibrate => calibrate::calibrate_ui(ui, bench, view),
            Step::Stubs => stubs::stubs_ui(ui, bench, view),
            Step::Weights => scrolled(ui, |ui| weights::weights_ui(ui, bench, view)),
            Step::Prepare => {
                let room = ui.available_height();
                scrolled(ui, |ui| prepare::prepare_ui(ui, bench, view, room));
            }
            Step::Convert => convert::convert_ui(ui, bench, view),
        },
    }
}

/// Draws a place that is no step.
pub(super) fn place_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, place: Place) {
    match place {
        Place::Step => screen_ui(ui, bench, view),
        Place::Images => images::images_ui(ui, bench, view),
        Place::Compare => scrolled(ui, |ui| compare::place_ui(ui, bench, view)),
        Place::Learn => super::tutorial::learn_ui(ui, bench, view),
    }
}

fn scrolled(ui: &mut Ui, draw: impl FnOnce(&mut Ui)) {
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        // The bar floats over the content's right edge.
        let room = egui::Margin { right: 16, ..egui::Margin::ZERO };
        egui::Frame::NONE.inner_margin(room).show(ui, draw);
    });
}

/// What a user should know before he goes on: each kind once, its nodes behind a click; the first few kinds as banners.
fn warnings_ui(ui: &mut Ui, warnings: &[Warning]) {
    const SHOWN: usize = 3;
    let mut kinds: Vec<(&'static str, Vec<&Warning>)> = Vec::new();
    for warning in warnings {
        match kinds.iter_mut().find(|(kind, _)| *kind == warning.kind()) {
            Some((_, alike)) => alike.push(warning),
            None => kinds.push((warning.kind(), vec![warning])),
        }
    }
    for (kind, alike) in kinds.iter().take(SHOWN) {
        match alike[..] {
            [one] => banner_ui(ui, Tone::Trouble, &one.to_string()),
            _ => folded_ui(ui, kind, alike),
        }
    }
    if kinds.len() > SHOWN {
        prose(ui, &format!("{} more kinds of warnings are in the log.", kinds.len() - SHOWN));
    }
}

/// Warnings of one kind on one banner.
fn folded_ui(ui: &mut Ui, kind: &str, alike: &[&Warning]) {
    let p = theme::palette(ui);
    let text = format!("{} nodes: {}; {}.", alike.len(), alike[0].problem.in_general(), alike[0].remedy());
    let frame = egui::Frame::new().fill(Tone::Trouble.wash(p.dark)).corner_radius(theme::RADIUS);
    frame.inner_margin(egui::Margin::symmetric(12, 8)).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = theme::GRID;
        ui.horizontal_top(|ui| {
            let ink = Tone::Trouble.ink(p.dark);
            ui.label(RichText::new(Tone::Trouble.glyph()).font(theme::Type::Body.strong()).color(ink));
            ui.add(egui::Label::new(RichText::new(text).color(p.strong)).wrap());
        });
        let which = RichText::new(format!("Which {} nodes", alike.len())).font(theme::Type::Small.font());
        egui::CollapsingHeader::new(which).id_salt(("warnings", kind)).show(ui, |ui| {
            for warning in alike {
                let line = format!("{}: {}", warning.node, warning.found());
                ui.add(egui::Label::new(RichText::new(line).font(theme::Type::Small.font())).wrap());
            }
        });
    });
}

/// A paragraph of secondary text, no wider than the eye likes.
fn prose(ui: &mut Ui, text: &str) {
    let weak = theme::palette(ui).weak;
    ui.scope(|ui| {
        ui.set_max_width(ui.available_width().min(560.0));
        words_ui(ui, text, theme::Type::Body.font(), weak);
    });
}

/// Two columns with room between them, so that what is in one is not read with the other.
fn halves_ui(ui: &mut Ui, draw: impl FnOnce(&mut Ui, &mut Ui)) {
    let gap = ui.spacing().item_spacing.x;
    ui.spacing_mut().item_spacing.x = theme::PADDING * 1.5;
    ui.columns_const(|[left, right]: &mut [Ui; 2]| {
        left.spacing_mut().item_spacing.x = gap;
        right.spacing_mut().item_spacing.x = gap;
        draw(left, right);
    });
    ui.spacing_mut().item_spacing.x = gap;
}

/// One above the other from the left: text is not stretched to the column's width.
fn stacked(ui: &mut Ui, draw: impl FnOnce(&mut Ui)) {
    ui.with_layout(egui::Layout::top_down(egui::Align::Min), draw);
}

/// A heading with a small button at the line's end.
fn titled_ui(ui: &mut Ui, text: &str, button: impl FnOnce(&mut Ui)) {
    let line = vec2(ui.available_width(), theme::ROW);
    ui.allocate_ui_with_layout(line, Layout::right_to_left(Align::Center), |ui| {
        button(ui);
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            let text = RichText::new(text).font(Type::Body.strong()).color(theme::palette(ui).strong);
            ui.add(Label::new(text).truncate());
        });
    });
}

/// A table under its title, to be saved.
fn saved_table_ui(ui: &mut Ui, title: &str, table: &Table) {
    titled_ui(ui, title, |ui| save_table_ui(ui, title, || table.clone()));
    whole_table_ui(ui, title, table);
}

/// A small heading within a screen.
fn heading(ui: &mut Ui, text: &str) {
    let strong = theme::palette(ui).strong;
    ui.add_space(theme::GRID);
    label_ui(ui, RichText::new(text).font(theme::Type::Body.strong()).color(strong));
}
