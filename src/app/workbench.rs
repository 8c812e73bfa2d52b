//! What the window remembers between frames, and what its panels ask for.

use std::path::PathBuf;

use eframe::egui::{Context, Ui};

use super::actions::Given;
use super::browse::{self, Browsing, Dialog, Field, Finished};
use super::choices::Choices;
use super::drops::Reading;
use super::graph_view::{GraphPane, Selection};
use super::inspector::Inspector;
use super::lead::Lead;
use super::memory::Memory;
use super::palette::Palette;
use super::screens::{self, Beside, ResultView, Tab};
use super::tutorial::Tutorial;
use super::{keep, status};
use crate::session::{Command, Project, Step, Unfinished, View};

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
    /// The tutorial's overview.
    Learn,
}

impl Place {
    /// Those below the steps.
    pub const BELOW: [Self; 3] = [Self::Images, Self::Compare, Self::Learn];

    /// As the rail names it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Step => "Steps",
            Self::Images => "Images",
            Self::Compare => "Compare",
            Self::Learn => "Learn",
        }
    }

    /// What it answers.
    pub(super) fn question(self) -> &'static str {
        match self {
            Self::Step => "",
            Self::Images => "What does the model see?",
            Self::Compare => "What did each run give, and what does each model weigh?",
            Self::Learn => "How does quantization work, and how is it done?",
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
    pub(super) runs: screens::RunsScreen,
    pub(super) palette: Palette,
    pub(super) help: bool,
    /// The lesson that is open.
    pub tutorial: Tutorial,
    /// What is remembered from one start to the next.
    pub memory: Memory,
    /// What was last worked on in the project, when the window was opened or the project chosen.
    pub(super) unfinished: Option<Unfinished>,
    /// What a user should know of what he just did, until he does something else.
    pub(super) notice: Option<String>,
    /// What was done well, and when: said for a while.
    pub(super) said: Option<(String, f64)>,
    pub(super) keeping: Vec<keep::Keeping>,
    pub(super) reading: Option<Reading>,
    browsing: Option<Browsing>,
    pub(super) dialog: Dialog,
    /// Whether what runs was halted.
    pub(super) paused: bool,
    /// Which button is the primary one, in this frame.
    pub(super) lead: Lead,
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
            runs: screens::RunsScreen::default(),
            palette: Palette::default(),
            help: false,
            tutorial: Tutorial::default(),
            memory: Memory::default(),
            unfinished: None,
            notice: None,
            said: None,
            keeping: Vec::new(),
            reading: None,
            browsing: None,
            dialog: browse::system,
            paused: false,
            lead: Lead::default(),
            requests: Vec::new(),
            following: false,
        }
    }

    /// Asks the session for something.
    pub fn ask(&mut self, command: Command) {
        self.following = matches!(command, Command::RunAll(_));
        self.notice = None;
        if let Command::Repair(repair) = &command {
            (self.choices.qconfig, self.choices.repairs) = (repair.qconfig.clone(), repair.repairs.clone());
        }
        if let Command::Open(_) = command {
            self.memory.note(&self.choices.weights, &self.choices.data);
        }
        self.requests.push(Request::Command(command));
    }

    /// Asks for a command where there is one.
    pub(super) fn requests_of(&mut self, command: Option<Command>) {
        if let Some(command) = command {
            self.ask(command);
        }
    }

    /// Writes something beside the int8 file, and shows on the result's summary what became of it.
    pub(super) fn write_beside(&mut self, what: Beside, view: &View, ctx: &Context) {
        let errors = self.result.errors().map(<[_]>::to_vec);
        self.result.view = ResultView::Summary;
        self.result.written.start(what, view, errors.as_deref(), ctx);
    }

    /// Every step that is left. What is picked is what runs, opened or not.
    pub(super) fn run_all(&mut self, view: &View) {
        if view.recipe.as_ref().is_some_and(|recipe| self.choices.reopens(recipe)) {
            self.open_chosen();
        }
        self.ask(Command::Choose(Box::new(self.choices.recipe())));
        self.ask(Command::RunAll(self.choices.out()));
    }

    /// Selects a node and brings it into view.
    pub(super) fn show_node(&mut self, name: &str, view: &View) {
        self.place = Place::Step;
        if self.step != Step::Fuse || self.tab == Tab::Code {
            self.tab = Tab::Graph;
        }
        let graphs =
            || [view.stage_before(self.step), view.stage_of(self.step)].into_iter().flatten().map(|s| &**s.graph());
        let mut selection = Selection::default();
        selection.select(name, graphs());
        let found: Vec<String> = graphs().filter_map(|g| selection.within(g)).map(|n| n.name.clone()).collect();
        self.selection = selection;
        for (pane, name) in self.panes.iter_mut().zip(found) {
            pane.reveal(&name);
        }
    }

    /// Starts over with what is picked. The file takes the new name only now: until then it is the open model's.
    pub(super) fn open_chosen(&mut self) {
        self.choices.name_the_file();
        self.choices.forget_other_layers();
        self.ask(Command::Open(Box::new(self.choices.recipe())));
    }

    pub(super) fn request(&mut self, request: Request) {
        if let Request::Cancel = request {
            self.following = false;
            self.tutorial.stop();
        }
        self.requests.push(request);
    }

    /// Opens the sample with the weights that come with Octet, and runs all steps on it, or stands before the first.
    pub(super) fn open_sample(&mut self, all: bool) {
        self.choices.take_sample();
        self.open_chosen();
        if all {
            self.ask(Command::RunAll(self.choices.out()));
        } else {
            self.go(Step::Stubs);
        }
    }

    /// Notes what can be gone on with in a project.
    pub(super) fn look_into(&mut self, project: &Project) {
        match project.unfinished() {
            Ok(unfinished) => self.unfinished = unfinished,
            Err(e) => self.notice = Some(e.to_string()),
        }
    }

    /// Goes on with what was last worked on, at the same step.
    pub(super) fn go_on(&mut self) {
        let Some(kept) = self.unfinished.take() else { return };
        self.choices.take_recipe(&kept.recipe);
        if let Some(saved) = &kept.saved {
            self.choices.out = saved.display().to_string();
        }
        let next = kept.done.map_or(0, |d| (d.index() + 1).min(Step::ALL.len() - 1));
        self.ask(Command::Continue(Box::new(kept)));
        self.go(Step::ALL[next]);
    }

    /// Keeps runs and the session in another folder from now on.
    pub(super) fn use_project(&mut self, folder: PathBuf) {
        if let Err(e) = std::fs::create_dir_all(&folder) {
            self.notice = Some(format!("{}: cannot be made: {e}; choose another folder", folder.display()));
            return;
        }
        self.notice = None;
        self.choices.take_folder(folder.clone());
        self.look_into(&Project::new(&folder));
        self.runs = screens::RunsScreen::default();
        self.memory.project = Some(folder.clone());
        self.ask(Command::UseProject(folder));
    }

    /// Where charts go.
    pub(super) fn charts_folder(&self) -> PathBuf {
        match self.runs.folder.trim() {
            "" => self.choices.folder().join("charts"),
            folder => PathBuf::from(folder),
        }
    }

    /// Opens a file dialog for a field, unless one is open.
    pub(super) fn browse(&mut self, field: Field, ctx: &Context) {
        if self.browsing.is_none() {
            let ctx = ctx.clone();
            self.browsing = Browsing::open(field, self.dialog, move || ctx.request_repaint());
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

    /// The runs' page.
    pub fn runs(&self) -> &screens::RunsScreen {
        &self.runs
    }

    /// The sizes' page.
    pub fn compare(&self) -> &screens::CompareScreen {
        &self.compare
    }

    /// What is undone or brought back may be of the other method: the switch shows the session's.
    pub(super) fn keep_method(&mut self, view: &View) {
        if let (Some(recipe), None, true) = (&view.recipe, view.running, self.requests.is_empty()) {
            self.choices.by_qat = !recipe.method.is_ptq();
        }
    }

    /// While all steps run, shows the one that is at work; its end shows the result.
    pub(super) fn follow(&mut self, view: &View) {
        if !self.following {
            return;
        }
        let done = view.stage().and_then(|s| s.done());
        let next = done.map_or(0, |d| (d.index() + 1).min(Step::ALL.len() - 1));
        (self.place, self.step) = (Place::Step, Step::ALL[next]);
        self.following = done != Some(Step::Convert) && view.failure.is_none();
    }
}

/// Takes what was picked in a dialog.
pub(super) fn picked(ui: &Ui, bench: &mut Workbench, view: &View) {
    let Some(finished) = bench.browsing.as_ref().map(Browsing::finish) else { return };
    match finished {
        Finished::Open => return,
        Finished::Nothing => {}
        Finished::Picked(Field::Project, path) => bench.use_project(path),
        Finished::Picked(Field::Recipe, path) => bench.take(Given::Recipe(path), view, ui.ctx()),
        Finished::Picked(field, path) => {
            let path = path.display().to_string();
            match field {
                Field::Weights => bench.choices.weights = path,
                Field::Data => bench.choices.data = path,
                Field::Charts => bench.runs.folder = path,
                Field::Out | Field::Recipe | Field::Project => bench.choices.out = path,
            }
            bench.opening |= view.stage().is_none();
        }
    }
    bench.browsing = None;
}
