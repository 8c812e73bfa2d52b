//! The frame: bar above, rail left, screen in the middle, inspector right, progress and log below.

use eframe::egui::{self, Align, Key, Layout, Panel, RichText, ScrollArea, Ui, pos2, vec2};

use super::browse::{Browsing, Field};
use super::choices::Choices;
use super::controls::{banner_ui, primary_ui};
use super::graph_view::{GraphPane, Selection};
use super::inspector::{Inspector, inspector_ui};
use super::screens::{self, Tab};
use super::theme::{self, Tone, Type};
use super::{rail, status, top_bar, welcome};
use crate::session::{Command, CommandKind, Step, StepState, View};

/// What a panel asks for; the window passes it on to the worker.
#[derive(Clone, Debug)]
pub enum Request {
    /// To be done by the session.
    Command(Command),
    /// Stop what runs.
    Cancel,
    /// Halt what runs.
    Pause,
    /// Go on.
    Resume,
}

/// What stands in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of the six steps.
    Step,
    /// The images and what becomes of them.
    Images,
    /// The files of every model.
    Compare,
}

impl Place {
    /// Those below the steps.
    pub const BELOW: [Self; 2] = [Self::Images, Self::Compare];

    /// As the rail names it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Step => "Steps",
            Self::Images => "Images",
            Self::Compare => "Compare",
        }
    }

    /// What it answers.
    fn question(self) -> &'static str {
        match self {
            Self::Step => "",
            Self::Images => "What does the model see?",
            Self::Compare => "How small does each model become?",
        }
    }
}

/// Everything that the window remembers between frames that is not the session's.
#[derive(Debug)]
pub struct Workbench {
    /// Whether a step is looked at, or what else.
    pub place: Place,
    /// The step that is looked at.
    pub step: Step,
    /// And how.
    pub tab: Tab,
    /// What is set but not yet asked for.
    pub choices: Choices,
    /// The layer that is looked at.
    pub selection: Selection,
    pub(super) panes: [GraphPane; 2],
    pub(super) inspector: Inspector,
    pub(super) drawer: bool,
    pub(super) log: status::Log,
    pub(super) prepare: screens::PrepareScreen,
    pub(super) stubs: screens::StubsScreen,
    pub(super) fusion: screens::FuseScreen,
    pub(super) calibrate: screens::CalibrateScreen,
    pub(super) result: screens::ResultScreen,
    pub(super) download: screens::DownloadCard,
    pub(super) qat: screens::QatScreen,
    pub(super) opening: bool,
    pub(super) images: screens::ImagesScreen,
    pub(super) compare: screens::CompareScreen,
    browsing: Option<Browsing>,
    requests: Vec<Request>,
    /// Since all steps were asked for the screen goes along, until the user looks elsewhere or cancels.
    following: bool,
}

impl Workbench {
    /// As it is at first start.
    pub fn new(choices: Choices) -> Self {
        Self {
            place: Place::Step,
            step: Step::Stubs,
            tab: Tab::Picture,
            choices,
            selection: Selection::default(),
            panes: Default::default(),
            inspector: Inspector::default(),
            drawer: false,
            log: status::Log::default(),
            prepare: screens::PrepareScreen::default(),
            stubs: screens::StubsScreen::default(),
            fusion: screens::FuseScreen::default(),
            calibrate: screens::CalibrateScreen::default(),
            result: screens::ResultScreen::default(),
            download: screens::DownloadCard::default(),
            qat: screens::QatScreen::default(),
            opening: false,
            images: screens::ImagesScreen::default(),
            compare: screens::CompareScreen::default(),
            browsing: None,
            requests: Vec::new(),
            following: false,
        }
    }

    /// Asks the session for something.
    pub fn ask(&mut self, command: Command) {
        self.following = matches!(command, Command::RunAll(_));
        self.requests.push(Request::Command(command));
    }

    /// Starts over with what is picked. The file takes the new name only now: until then it is the open model's.
    pub(super) fn open_chosen(&mut self) {
        self.choices.name_the_file();
        self.choices.forget_other_layers();
        self.ask(Command::Open(Box::new(self.choices.recipe())));
    }

    pub(super) fn request(&mut self, request: Request) {
        self.following &= !matches!(request, Request::Cancel);
        self.requests.push(request);
    }

    /// Opens a file dialog for a field, unless one is open.
    pub(super) fn browse(&mut self, field: Field, ctx: &egui::Context) {
        if self.browsing.is_none() {
            let ctx = ctx.clone();
            self.browsing = Browsing::open(field, move || ctx.request_repaint());
        }
    }

    /// What was asked for since the last call.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// Looks at a step.
    pub fn go(&mut self, step: Step) {
        self.following = false;
        self.place = Place::Step;
        self.step = step;
    }

    /// Looks at something that is no step.
    pub fn look(&mut self, place: Place) {
        self.following = false;
        self.place = place;
    }

    /// The images' page.
    pub fn images(&self) -> &screens::ImagesScreen {
        &self.images
    }

    /// The range that is tried while calibrating.
    pub fn calibrate(&self) -> &screens::CalibrateScreen {
        &self.calibrate
    }

    /// What is known of the converted model beyond its figures.
    pub fn result(&self) -> &screens::ResultScreen {
        &self.result
    }

    /// The sizes' page.
    pub fn compare(&self) -> &screens::CompareScreen {
        &self.compare
    }

    /// While all steps run, shows the one that is at work; its end shows the result.
    fn follow(&mut self, view: &View) {
        if !self.following {
            return;
        }
        let done = view.stage().and_then(|s| s.done());
        let next = done.map_or(0, |d| (d.index() + 1).min(Step::ALL.len() - 1));
        (self.place, self.step) = (Place::Step, Step::ALL[next]);
        self.following = done != Some(Step::Convert) && view.failure.is_none();
    }
}

/// Draws the whole window.
pub fn workbench_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    bench.follow(view);
    if bench.browsing.as_ref().is_some_and(|b| b.finish(&mut bench.choices)) {
        bench.browsing = None;
    }
    keys(ui, bench, view);
    let size = ui.available_size();
    let narrow = size.x < theme::NARROW;
    let bar = theme::panel_frame(ui).inner_margin(egui::Margin::symmetric(16, 8));
    Panel::top("bar").frame(bar).show(ui, |ui| top_bar::top_bar_ui(ui, bench, view, narrow));
    let low = size.y < theme::LOW;
    let foot = theme::panel_frame(ui).inner_margin(egui::Margin::symmetric(16, 4));
    Panel::bottom("status").frame(foot).show(ui, |ui| status::status_ui(ui, bench, view, low));
    if view.stage().is_none() {
        let frame = theme::ground_frame(ui);
        egui::CentralPanel::no_frame().frame(frame).show(ui, |ui| welcome::welcome_ui(ui, bench, view));
        return;
    }
    let rail_width = if narrow { theme::RAIL_NARROW } else { theme::RAIL };
    let frame = theme::panel_frame(ui).inner_margin(egui::Margin::same(8));
    Panel::left("rail").resizable(false).exact_size(rail_width).frame(frame).show(ui, |ui| {
        ScrollArea::vertical().show(ui, |ui| rail::rail_ui(ui, bench, view, narrow));
    });
    // A layer is looked at within a step; the other places need the room.
    if !narrow && bench.place == Place::Step {
        let frame = theme::panel_frame(ui);
        Panel::right("inspector").default_size(theme::INSPECTOR).size_range(220.0..=480.0).frame(frame).show(
            ui,
            |ui| {
                inspect(ui, bench, view);
            },
        );
    }
    let frame = theme::ground_frame(ui);
    egui::CentralPanel::no_frame().frame(frame).show(ui, |ui| centre_ui(ui, bench, view));
    if narrow && bench.drawer {
        drawer_ui(ui, bench, view);
    }
}

fn inspect(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let graph = view.stage_of(bench.step).or_else(|| view.stage_before(bench.step)).or(view.stage()).map(|s| s.graph());
    ScrollArea::vertical().id_salt("inspector").auto_shrink(false).show(ui, |ui| {
        inspector_ui(ui, &mut bench.inspector, graph, &bench.selection);
    });
}

/// On a narrow window the inspector lies over the screen.
fn drawer_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let room = ui.ctx().content_rect();
    let width = theme::INSPECTOR.min(room.width() - theme::RAIL_NARROW);
    let top = room.top() + 48.0;
    let area = egui::Area::new(egui::Id::unique("drawer")).fixed_pos(pos2(room.right() - width, top));
    area.order(egui::Order::Foreground).show(ui.ctx(), |ui| {
        theme::panel_frame(ui).stroke(theme::hairline(ui)).show(ui, |ui| {
            ui.set_min_size(vec2(width - 34.0, room.height() - top - 80.0));
            ui.set_max_width(width - 34.0);
            ui.set_max_height(room.height() - top - 80.0);
            if ui.button("Close").clicked() {
                bench.drawer = false;
            }
            inspect(ui, bench, view);
        });
    });
}

fn centre_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    if bench.place != Place::Step {
        title_ui(ui, bench.place.title(), bench.place.question());
        ui.add(egui::Separator::default().spacing(theme::GAP));
        if let Some((CommandKind::Open, message)) = &view.failure {
            banner_ui(ui, Tone::Trouble, message);
        }
        screens::place_ui(ui, bench, view, bench.place);
        return;
    }
    header_ui(ui, bench, view);
    ui.horizontal(|ui| {
        for tab in Tab::ALL {
            if ui.selectable_label(bench.tab == tab, tab.title()).clicked() {
                bench.tab = tab;
            }
        }
    });
    ui.add(egui::Separator::default().spacing(theme::GAP));
    if let Some((kind, message)) = &view.failure
        && (kind.step() == Some(bench.step) || kind.step().is_none())
    {
        banner_ui(ui, Tone::Trouble, message);
    }
    screens::screen_ui(ui, bench, view);
}

fn title_ui(ui: &mut Ui, title: &str, question: &str) {
    let p = theme::palette(ui);
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = 2.0;
        ui.set_max_width((ui.available_width() - 200.0).max(160.0));
        ui.label(RichText::new(title).font(Type::Display.strong()).color(p.strong));
        ui.label(RichText::new(question).color(p.weak));
    });
}

/// The step's name, its question, and the one button that leads on.
fn header_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let step = bench.step;
    let state = view.steps()[step.index()].clone();
    ui.horizontal_top(|ui| {
        let title = step.title_in(&bench.choices.method());
        title_ui(ui, &format!("{}  {title}", step.index() + 1), screens::question(bench));
        let row = vec2(ui.available_width(), theme::ROW);
        ui.allocate_ui_with_layout(row, Layout::right_to_left(Align::Center), |ui| match state.state {
            StepState::Locked => go_ui(ui, bench, view),
            StepState::Running => {
                if primary_ui(ui, true, "Cancel").clicked() {
                    bench.request(Request::Cancel);
                }
            }
            StepState::Ready => screens::run_ui(ui, bench, view, true),
            StepState::Done => done_ui(ui, bench, view),
        });
    });
}

/// A locked step points to the one that comes first.
fn go_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let next = view.steps().iter().find(|s| s.state == StepState::Ready).map(|s| s.step);
    if let Some(next) = next
        && primary_ui(ui, true, &format!("Go to {}", next.title_in(&bench.choices.method()))).clicked()
    {
        bench.go(next);
    }
}

/// A finished step leads on to the next; it can be run again while it is the newest, and be returned to else.
fn done_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let step = bench.step;
    let newest = view.stage().and_then(|s| s.done()) == Some(step);
    let finished = screens::is_finished(step, view);
    if !finished {
        screens::run_ui(ui, bench, view, true);
        return;
    }
    if let Some(next) = Step::ALL.get(step.index() + 1)
        && primary_ui(ui, true, &format!("Continue to {}", next.title_in(&bench.choices.method()))).clicked()
    {
        bench.go(*next);
    }
    if newest {
        screens::run_ui(ui, bench, view, false);
    } else {
        let back = ui.add_enabled(view.allows(CommandKind::BackTo(step)), egui::Button::new("Return to here"));
        let back = back.on_hover_text("Undo every later step, to change something here");
        if back.clicked() {
            bench.ask(Command::BackTo(step));
        }
    }
}

/// 1 to 6 look at a step, R runs it, Escape cancels, F fits the graph.
fn keys(ui: &Ui, bench: &mut Workbench, view: &View) {
    if ui.ctx().text_edit_focused() {
        return;
    }
    let pressed = |key| ui.input(|i| i.key_pressed(key) && i.modifiers.is_none());
    let digits = [Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5, Key::Num6];
    for (key, step) in digits.into_iter().zip(Step::ALL) {
        if pressed(key) {
            bench.go(step);
        }
    }
    if pressed(Key::Escape) && view.running.is_some() {
        bench.request(Request::Cancel);
    }
    if pressed(Key::R)
        && let Some(command) = screens::command(bench, view)
        && view.allows(command.kind())
    {
        bench.ask(command);
    }
    if pressed(Key::F) {
        for pane in &mut bench.panes {
            pane.fit();
        }
    }
}
