//! Everything that can be done, named once: what the keys do, what the palette lists, what the help says.

use std::path::PathBuf;

use eframe::egui::{Context, Key, KeyboardShortcut, Modifiers, Theme};

use super::browse::Field;
use super::memory::{ZOOM_STEP, clamp_zoom};
use super::screens::{self, Beside, Tab};
use super::workbench::{Place, Request, Workbench};
use crate::session::{Backend, Command, CommandKind, ModelId, Step, View};

/// As many as the fields of the screens take.
const MOST_EPOCHS: usize = 1000;

/// Something that can be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Look at a step.
    Go(Step),
    /// Look at a place below the steps.
    Look(Place),
    /// Look at the step in another way.
    Tab(Tab),
    /// Run the current step.
    Run,
    /// Run every step that is left.
    RunAll,
    /// Stop what runs.
    Cancel,
    /// Undo the newest step.
    Undo,
    /// Bring it back.
    Redo,
    /// Write the int8 file.
    Save,
    /// Show the whole graph.
    Fit,
    /// Find a layer by name.
    Find,
    /// The other theme.
    Theme,
    /// Larger, smaller, as it is.
    Larger,
    /// Smaller.
    Smaller,
    /// Scale 1.
    ActualSize,
    /// Open or close the log.
    Log,
    /// Open or close the inspector where it is a drawer.
    Inspector,
    /// This list of commands.
    Palette,
    /// The list of keys.
    Help,
    /// Pick a file for a field in a dialog.
    Browse(Field),
    /// Open another architecture.
    Model(ModelId),
    /// Take another backend's defaults.
    Qconfig(Backend),
    /// Quantize after training, or train with fake quantization (`true`).
    Method(bool),
    /// Write something beside the int8 file.
    Beside(Beside),
    /// Select a node of the graph.
    Node(String),
    /// Open a file or folder by the path that was typed, for what it is.
    File(PathBuf),
    /// The sample with the weights that come with Octet, all six steps at once (`true`) or one by one.
    Sample(bool),
    /// Go on with what was last worked on.
    Continue,
    /// Train so many epochs, with fake quantization or without.
    Epochs(usize),
}

impl Action {
    /// All that need no choice, in the order of the help.
    const PLAIN: [Self; 15] = [
        Self::Run,
        Self::RunAll,
        Self::Cancel,
        Self::Undo,
        Self::Redo,
        Self::Save,
        Self::Find,
        Self::Fit,
        Self::Palette,
        Self::Help,
        Self::Theme,
        Self::Larger,
        Self::Smaller,
        Self::ActualSize,
        Self::Log,
    ];

    /// Everything that can be done with what is open.
    pub(super) fn all(view: &View) -> Vec<Self> {
        let mut all: Vec<Self> = Step::ALL.map(Self::Go).to_vec();
        all.extend(Place::BELOW.map(Self::Look));
        all.extend(Tab::ALL.map(Self::Tab));
        all.extend(Self::PLAIN);
        all.extend([Self::Inspector, Self::Sample(true), Self::Sample(false), Self::Continue]);
        all.extend([Field::Weights, Field::Data, Field::Recipe, Field::Project].map(Self::Browse));
        all.extend(ModelId::ALL.map(Self::Model));
        all.extend(Backend::ALL.map(Self::Qconfig));
        all.extend([false, true].map(Self::Method));
        all.extend(Beside::ALL.map(Self::Beside));
        let graph = view.stage().map(|s| s.graph());
        all.extend(graph.iter().flat_map(|g| &g.nodes).map(|n| Self::Node(n.name.clone())));
        all
    }

    /// What is typed out in full: a path that exists, or a number of epochs.
    pub(super) fn typed(query: &str) -> Option<Self> {
        let query = query.trim();
        let home = || directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned());
        let path = match query.strip_prefix("~/") {
            Some(rest) => home()?.join(rest),
            None => PathBuf::from(query),
        };
        if path.is_absolute() {
            return path.exists().then_some(Self::File(path));
        }
        let count: usize = query.to_lowercase().strip_prefix("epochs")?.trim().parse().ok()?;
        (1..=MOST_EPOCHS).contains(&count).then_some(Self::Epochs(count))
    }

    /// Those with keys, for the help; the six steps as one.
    pub(super) fn keyed() -> Vec<(String, String)> {
        let mut rows = vec![("1 \u{2026} 6".to_owned(), "Look at a step".to_owned())];
        rows.extend(Self::PLAIN.iter().filter_map(|a| Some((a.keys()?.to_owned(), a.title()))));
        rows.push(("Tab, Enter".to_owned(), "Go from control to control, press one".to_owned()));
        rows
    }

    /// As the palette names it.
    pub fn title(&self) -> String {
        match self {
            Self::Go(step) => format!("{} {}", step.index() + 1, step.title()),
            Self::Look(place) => place.title().to_owned(),
            Self::Tab(tab) => format!("{} of this step", tab.title()),
            Self::Run => "Run this step".to_owned(),
            Self::RunAll => "Run all steps".to_owned(),
            Self::Cancel => "Cancel what runs".to_owned(),
            Self::Undo => "Undo the newest step".to_owned(),
            Self::Redo => "Redo what was undone".to_owned(),
            Self::Save => "Save the int8 file".to_owned(),
            Self::Fit => "Fit the graph".to_owned(),
            Self::Find => "Find a layer".to_owned(),
            Self::Theme => "Light or dark".to_owned(),
            Self::Larger => "Larger".to_owned(),
            Self::Smaller => "Smaller".to_owned(),
            Self::ActualSize => "Scale of 100 %".to_owned(),
            Self::Log => "Show or hide the log".to_owned(),
            Self::Inspector => "Show or hide the inspector".to_owned(),
            Self::Palette => "Search commands and layers".to_owned(),
            Self::Help => "Keys".to_owned(),
            Self::Browse(field) => field.title().to_owned(),
            Self::Model(model) => format!("Open {}", model.title()),
            Self::Qconfig(backend) => format!("Qconfig {backend}"),
            Self::Method(false) => "Method: post-training quantization (PTQ)".to_owned(),
            Self::Method(true) => "Method: quantization-aware training (QAT)".to_owned(),
            Self::Beside(what) => format!("{} beside the int8 file", what.title()),
            Self::Node(name) => name.clone(),
            Self::File(path) => path.display().to_string(),
            Self::Sample(true) => "Quantize the sample now".to_owned(),
            Self::Sample(false) => "Walk the six steps on the sample".to_owned(),
            Self::Continue => "Continue where you were".to_owned(),
            Self::Epochs(count) => format!("Train {count} {}", if *count == 1 { "epoch" } else { "epochs" }),
        }
    }

    /// What kind of thing it is, beside its name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Go(_) => "step",
            Self::Look(_) | Self::Tab(_) => "screen",
            Self::Browse(_) | Self::File(_) | Self::Beside(_) => "file",
            Self::Model(_) => "model",
            Self::Qconfig(_) => "qconfig",
            Self::Method(_) => "method",
            Self::Node(_) => "layer",
            Self::Epochs(_) => "training",
            Self::Run
            | Self::RunAll
            | Self::Cancel
            | Self::Undo
            | Self::Redo
            | Self::Save
            | Self::Fit
            | Self::Find
            | Self::Theme
            | Self::Larger
            | Self::Smaller
            | Self::ActualSize
            | Self::Log
            | Self::Inspector
            | Self::Sample(_)
            | Self::Continue
            | Self::Palette
            | Self::Help => "command",
        }
    }

    /// Its keys in words.
    pub fn keys(&self) -> Option<&'static str> {
        match self {
            Self::Go(step) => Some(["1", "2", "3", "4", "5", "6"][step.index()]),
            Self::Run => Some("R"),
            Self::Cancel => Some("Esc"),
            Self::Undo => Some("Ctrl+Z"),
            Self::Redo => Some("Ctrl+Shift+Z"),
            Self::Save => Some("Ctrl+S"),
            Self::Fit => Some("F"),
            Self::Find => Some("/"),
            Self::Larger => Some("Ctrl++"),
            Self::Smaller => Some("Ctrl+\u{2212}"),
            Self::ActualSize => Some("Ctrl+0"),
            Self::Palette => Some("Ctrl+P"),
            Self::Help => Some("?"),
            Self::Look(_)
            | Self::Tab(_)
            | Self::RunAll
            | Self::Theme
            | Self::Log
            | Self::Inspector
            | Self::Browse(_)
            | Self::Model(_)
            | Self::Qconfig(_)
            | Self::Method(_)
            | Self::Beside(_)
            | Self::Node(_)
            | Self::File(_)
            | Self::Sample(_)
            | Self::Continue
            | Self::Epochs(_) => None,
        }
    }

    /// Whether it can be done now.
    pub(super) fn can(&self, bench: &Workbench, view: &View) -> bool {
        let open = view.stage().is_some();
        match self {
            Self::Go(_) | Self::Look(_) | Self::Tab(_) | Self::Fit | Self::Find | Self::Inspector | Self::Node(_) => {
                open
            }
            Self::Run => screens::command(bench, view).is_some_and(|c| view.allows(c.kind())),
            Self::RunAll => view.allows(CommandKind::RunAll),
            Self::Cancel => view.running.is_some(),
            Self::Undo => undo(view).is_some_and(|step| view.allows(CommandKind::BackTo(step))),
            Self::Redo => view.allows(CommandKind::Redo),
            Self::Save => view.allows(CommandKind::Save),
            Self::Beside(_) => bench.result.written.can(view),
            Self::Browse(_) | Self::Model(_) | Self::File(_) | Self::Sample(_) => view.running.is_none(),
            // Once something else is open it would be taken away.
            Self::Continue => !open && view.running.is_none() && bench.unfinished.is_some(),
            Self::Method(_) => view.allows(CommandKind::ChooseMethod),
            Self::Qconfig(_)
            | Self::Epochs(_)
            | Self::Theme
            | Self::Larger
            | Self::Smaller
            | Self::ActualSize
            | Self::Log
            | Self::Palette
            | Self::Help => true,
        }
    }

    /// Does it, where it can be done.
    pub(super) fn perform(&self, bench: &mut Workbench, view: &View, ctx: &Context) {
        if !self.can(bench, view) {
            return;
        }
        match self {
            Self::Go(step) => bench.go(*step),
            Self::Look(place) => bench.look(*place),
            Self::Tab(tab) => {
                bench.place = Place::Step;
                bench.tab = *tab;
            }
            Self::Run => bench.requests_of(screens::command(bench, view)),
            Self::RunAll => bench.run_all(view),
            Self::Cancel => bench.request(Request::Cancel),
            Self::Undo => bench.requests_of(undo(view).map(Command::BackTo)),
            Self::Redo => bench.ask(Command::Redo),
            Self::Save => bench.ask(Command::Save(bench.choices.out())),
            Self::Beside(what) => {
                bench.go(Step::Convert);
                bench.write_beside(*what, view, ctx);
            }
            Self::Fit => bench.panes.iter_mut().for_each(|pane| pane.fit()),
            Self::Find => {
                bench.place = Place::Step;
                // Fusing has the graphs on its picture; the other steps have them on a tab of their own.
                if bench.step != Step::Fuse || bench.tab == Tab::Code {
                    bench.tab = Tab::Graph;
                }
                bench.panes[0].ask_for_name();
            }
            Self::Theme => {
                let other = if ctx.theme() == Theme::Dark { Theme::Light } else { Theme::Dark };
                ctx.set_theme(other);
                bench.memory.theme = Some(other);
            }
            Self::Larger => zoom(bench, ctx, ctx.zoom_factor() + ZOOM_STEP),
            Self::Smaller => zoom(bench, ctx, ctx.zoom_factor() - ZOOM_STEP),
            Self::ActualSize => zoom(bench, ctx, 1.0),
            Self::Log => bench.log.toggle(),
            Self::Inspector => bench.drawer = !bench.drawer,
            Self::Palette => bench.palette.open(),
            Self::Help => bench.help = !bench.help,
            Self::Browse(field) => bench.browse(*field, ctx),
            Self::Model(model) => {
                bench.choices.take_model(*model);
                bench.open_chosen();
            }
            Self::Qconfig(backend) => bench.choices.take_backend(*backend),
            Self::Method(by_qat) => {
                bench.choices.by_qat = *by_qat;
                bench.ask(Command::ChooseMethod(bench.choices.method()));
            }
            Self::Node(name) => bench.show_node(name, view),
            Self::File(path) => bench.give(path, view, ctx),
            Self::Sample(all) => bench.open_sample(*all),
            Self::Continue => bench.go_on(),
            Self::Epochs(count) => {
                bench.choices.train.epochs = *count;
                bench.choices.qat.train.epochs = *count;
            }
        }
    }
}

fn zoom(bench: &mut Workbench, ctx: &Context, to: f32) {
    let to = clamp_zoom(to);
    ctx.set_zoom_factor(to);
    bench.memory.zoom = Some(to);
}

/// The step that is the newest one after the newest is undone.
fn undo(view: &View) -> Option<Step> {
    let newest = view.stage()?.done()?;
    newest.index().checked_sub(1).map(|i| Step::ALL[i])
}

/// What is done with a file that is dropped or picked, by what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// A folder of images, or a file of them.
    Data(PathBuf),
    /// A state dict.
    Weights(PathBuf),
    /// An int8 file, a recipe or a kept run: all of them lead to a recipe.
    Recipe(PathBuf),
}

/// With the command key, in the order that more keys come first: Ctrl+Shift+Z before Ctrl+Z.
const COMMANDED: [(Modifiers, Key, Action); 9] = [
    (Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::Z, Action::Redo),
    (Modifiers::COMMAND, Key::Y, Action::Redo),
    (Modifiers::COMMAND, Key::Z, Action::Undo),
    (Modifiers::COMMAND, Key::S, Action::Save),
    (Modifiers::COMMAND, Key::P, Action::Palette),
    (Modifiers::COMMAND, Key::Plus, Action::Larger),
    (Modifiers::COMMAND, Key::Equals, Action::Larger),
    (Modifiers::COMMAND, Key::Minus, Action::Smaller),
    (Modifiers::COMMAND, Key::Num0, Action::ActualSize),
];

/// What the keys pressed since the last frame ask for. While text is typed, keys that make text are text, and Ctrl+Z undoes
/// typing.
pub(super) fn pressed(ctx: &Context) -> Vec<Action> {
    let typing = ctx.text_edit_focused();
    let mut asked = Vec::new();
    ctx.input_mut(|input| {
        for (modifiers, key, action) in &COMMANDED {
            let of_text = matches!(action, Action::Undo | Action::Redo);
            if !(typing && of_text) && input.consume_shortcut(&KeyboardShortcut::new(*modifiers, *key)) {
                asked.push(action.clone());
            }
        }
        if input.consume_key(Modifiers::NONE, Key::F1) {
            asked.push(Action::Help);
        }
    });
    if typing {
        return asked;
    }
    let plain = |key| ctx.input(|i| i.key_pressed(key) && i.modifiers.is_none());
    let digits = [Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5, Key::Num6];
    asked.extend(digits.into_iter().zip(Step::ALL).filter(|(key, _)| plain(*key)).map(|(_, step)| Action::Go(step)));
    let letters = [(Key::Escape, Action::Cancel), (Key::R, Action::Run), (Key::F, Action::Fit)];
    asked.extend(letters.into_iter().filter(|(key, _)| plain(*key)).map(|(_, action)| action));
    // Where these stand on a keyboard differs, so what they make counts.
    let typed =
        |text: &str| ctx.input(|i| i.events.iter().any(|e| matches!(e, eframe::egui::Event::Text(t) if t == text)));
    if typed("?") {
        asked.push(Action::Help);
    }
    if typed("/") {
        asked.push(Action::Find);
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_a_name_of_its_own() {
        let all = Action::all(&View::default());
        let mut names: Vec<String> = all.iter().map(Action::title).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(all.contains(&Action::Undo) && all.contains(&Action::Model(ModelId::ResNet50)));
    }

    #[test]
    fn the_help_names_every_key_once() {
        let keys: Vec<String> = Action::keyed().into_iter().map(|(k, _)| k).collect();
        for key in ["R", "Esc", "F", "/", "?", "Ctrl+P", "Ctrl+Z", "Ctrl+S", "Ctrl++"] {
            assert_eq!(keys.iter().filter(|k| *k == key).count(), 1, "{key} in {keys:?}");
        }
    }
}
