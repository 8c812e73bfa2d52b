//! The lesson beside the step that it is about.

use std::collections::BTreeMap;
use std::path::PathBuf;

use eframe::egui::{self, CollapsingHeader, Label, RichText, Role, ScrollArea, Sense, Stroke, Ui, WidgetInfo, vec2};

use super::check::{Check, Verdict};
use super::finale::{BEFORE, PLANTED_FILE, REPAIRED, Setup};
use super::formula::{self, Numbers};
use super::guess::predictions_ui;
use super::lessons::{Lesson, Path, lessons};
use super::measure::{Found, Measure};
use super::play::{Plays, play_ui};
use super::prose::prose_ui;
use super::todo::{Todo, commands, finale_choices, open_and_run, solve};
use crate::app::asked::Asked;
use crate::app::controls::{primary_ui, small_ui};
use crate::app::lead::Lead;
use crate::app::screens::code_of;
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::{Place, Workbench};
use crate::session::{Command, ModelId, Planted, View, plant};

/// Which lesson is open, and what of it is not kept.
#[derive(Debug, Default)]
pub struct Tutorial {
    open: Option<usize>,
    /// On a narrow window: whether the lesson stands in the middle, or the step.
    pub(in crate::app) read: bool,
    pub(super) drafts: BTreeMap<String, Found>,
    todo: Todo,
    numbers: Option<(Vec<usize>, Numbers)>,
    planting: Option<Planting>,
    pub(super) plays: Plays,
}

impl Tutorial {
    /// The lesson that is open.
    pub fn lesson(&self) -> Option<&'static Lesson> {
        lessons().get(self.open?)
    }

    /// Whether *Do it for me* is still at work.
    pub fn is_busy(&self) -> bool {
        self.planting.is_some() || self.todo.is_busy()
    }

    /// What was still to be pressed is not.
    pub(in crate::app) fn stop(&mut self) {
        self.todo.stop();
        self.planting = None;
    }
}

impl Workbench {
    /// Opens a lesson beside the step that it is about.
    pub(in crate::app) fn open_lesson(&mut self, index: usize) {
        let Some(lesson) = lessons().get(index) else { return };
        self.tutorial.open = Some(index);
        self.tutorial.read = true;
        self.memory.tutorial.at = Some(lesson.key());
        self.go(lesson.check.step());
    }

    /// Puts the lesson away; where it was left is remembered.
    pub(in crate::app) fn leave_lesson(&mut self) {
        self.tutorial.open = None;
        self.tutorial.stop();
        self.look(Place::Learn);
    }

    /// Presses what is left to be pressed, and notes what is done.
    pub(in crate::app) fn attend_lesson(&mut self, view: &View) {
        self.attend_planting();
        if let Some(next) = self.tutorial.todo.next(view) {
            self.ask(next);
        }
        let Some(lesson) = self.tutorial.lesson() else { return };
        // *Do it for me* does the work of the lessons before this one too.
        for (_, other) in lesson.path.lessons().take(lesson.step) {
            let known = other.step != lesson.step && self.memory.tutorial.done.contains(&other.key());
            if !known && other.check.judge(view, &self.memory.tutorial).is_ok() {
                self.memory.tutorial.done.insert(other.key());
                self.note_figure(other.check, view);
            }
        }
    }
}

impl Workbench {
    /// Keeps what later lessons of a finale compare with.
    fn note_figure(&mut self, check: Check, view: &View) {
        let key = match check {
            Check::BrokenPerTensor => BEFORE,
            Check::RepairedPerChannel => REPAIRED,
            _ => return,
        };
        if let Some(Found::Number(percent)) = Measure::Int8Accuracy.found(view) {
            self.memory.tutorial.figures.insert(key.to_owned(), percent / 100.0);
        }
    }

    /// Begins to write the spoilt weights; with `solve` the lesson is then done, else the model is opened.
    fn plant_model(&mut self, ui: &Ui, solve: Option<Check>) {
        let path = self.choices.folder().join(PLANTED_FILE);
        let mut asked = Asked::default();
        let to = path.clone();
        asked.once(ui, move |emit| {
            let planted = plant(ModelId::MobileNetV3Small, &to).map_err(|e| e.to_string())?;
            // A window that is gone wants nothing.
            let _ = emit(planted);
            Ok(())
        });
        self.tutorial.planting = Some(Planting { path, solve, asked });
    }

    /// Goes on once the weights are written.
    fn attend_planting(&mut self) {
        let Some(planting) = &mut self.tutorial.planting else { return };
        planting.asked.take();
        if let Some(why) = planting.asked.failure() {
            self.notice = Some(why.to_owned());
            self.tutorial.planting = None;
            return;
        }
        let Some(planted) = planting.asked.answer().cloned() else { return };
        let (path, check) = (planting.path.display().to_string(), planting.solve);
        self.tutorial.planting = None;
        finale_choices(self, ModelId::MobileNetV3Small, path);
        let todo = match check {
            Some(check) => {
                solve(check, self, Some(&planted));
                open_and_run(self)
            }
            None => vec![Command::Open(Box::new(self.choices.recipe()))],
        };
        self.tutorial.todo.take(todo);
    }

    /// Sets up a finale, on the learner's wish.
    fn set_up(&mut self, ui: &Ui, setup: Setup) {
        match setup {
            Setup::PlantedModel => self.plant_model(ui, None),
            Setup::PlantedRange => {
                finale_choices(self, ModelId::ShuffleNetV2X05, String::new());
                solve(Check::RangePlanted, self, None);
                self.tutorial.todo.take(vec![Command::Open(Box::new(self.choices.recipe()))]);
            }
        }
    }

    /// Does a lesson for the learner.
    fn do_it(&mut self, ui: &Ui, lesson: &Lesson, view: &View) {
        match lesson.path {
            Path::Ptq | Path::Qat => {
                let todo = commands(lesson.check, self, view);
                self.tutorial.todo.take(todo);
            }
            Path::Break | Path::Budget => self.plant_model(ui, Some(lesson.check)),
            Path::Range => {
                finale_choices(self, ModelId::ShuffleNetV2X05, String::new());
                solve(lesson.check, self, None);
                let todo = open_and_run(self);
                self.tutorial.todo.take(todo);
            }
        }
        self.go(lesson.check.step());
    }
}

/// The spoilt weights while they are written, and what is done with them.
#[derive(Debug)]
struct Planting {
    path: PathBuf,
    solve: Option<Check>,
    asked: Asked<Planted>,
}

/// Draws the open lesson.
pub(in crate::app) fn lesson_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(lesson) = bench.tutorial.lesson() else { return };
    head_ui(ui, bench, lesson);
    let foot = theme::ROW + 4.0 * theme::GAP;
    let room = (ui.available_height() - foot).max(80.0);
    ScrollArea::vertical().id_salt(("lesson", lesson.key())).max_height(room).auto_shrink(false).show(ui, |ui| {
        ui.set_max_width(ui.available_width() - theme::PADDING);
        ui.spacing_mut().item_spacing.y = theme::GAP;
        prose_ui(ui, &lesson.why);
        formula_ui(ui, bench, view, lesson);
        let verdict = lesson.check.judge(view, &bench.memory.tutorial);
        let guessed = predictions_ui(ui, bench, view, lesson, verdict.is_ok());
        task_ui(ui, bench, view, lesson, (guessed, &verdict));
        if let Some(play) = lesson.play {
            play_ui(ui, play, bench, view);
        }
        if let Some(text) = &lesson.watch_out {
            heading_ui(ui, "Watch out");
            prose_ui(ui, text);
        }
        code_ui(ui, bench, view, lesson);
        ui.add_space(theme::PADDING);
    });
    ui.add(egui::Separator::default().spacing(theme::GAP));
    foot_ui(ui, bench, lesson);
}

pub(super) fn heading_ui(ui: &mut Ui, text: &str) {
    ui.add_space(theme::GRID);
    ui.label(RichText::new(text).font(Type::Body.strong()).color(theme::palette(ui).strong));
}

/// Path, place on it, title, and a dot for each lesson to go to it.
fn head_ui(ui: &mut Ui, bench: &mut Workbench, lesson: &Lesson) {
    let p = theme::palette(ui);
    let count = lesson.path.lessons().count();
    ui.horizontal(|ui| {
        let text = format!("{} \u{b7} {} of {count}", lesson.path.title(), lesson.step);
        ui.add(Label::new(RichText::new(text).font(Type::Small.strong()).color(p.weak)).truncate());
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            let leave = small_ui(ui, "Leave");
            if leave.on_hover_text("Where you are is remembered").clicked() {
                bench.leave_lesson();
            }
        });
    });
    ui.add(Label::new(RichText::new(&lesson.title).font(Type::Title.strong()).color(p.strong)).wrap());
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = theme::GRID;
        let width = ((ui.available_width() - theme::GRID * count as f32) / count as f32).min(48.0);
        for (index, other) in lesson.path.lessons() {
            let done = bench.memory.tutorial.done.contains(&other.key());
            if mark_ui(ui, other, done, other.step == lesson.step, width) {
                bench.open_lesson(index);
            }
        }
    });
    ui.add_space(theme::GRID);
}

fn mark_ui(ui: &mut Ui, lesson: &Lesson, done: bool, current: bool, width: f32) -> bool {
    let p = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(width, 16.0), Sense::click());
    let word = if done { "done" } else { "not done" };
    let name = format!("Lesson {}: {}, {word}", lesson.step, lesson.title);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, current, &name));
    let fill = match (done, current) {
        (true, _) => Tone::Int8.fill(),
        (false, true) => p.accent_ink,
        (false, false) => p.hairline,
    };
    let bar = egui::Rect::from_center_size(rect.center(), vec2(width, if current { 6.0 } else { 4.0 }));
    ui.painter().rect_filled(bar, 3.0, fill);
    if response.has_focus() || response.hovered() {
        let line = Stroke::new(1.0, p.accent_ink);
        ui.painter().rect_stroke(rect, 4.0, line, egui::StrokeKind::Inside);
    }
    response.on_hover_text(&name).clicked()
}

/// The formula, and under it what it is with this layer's numbers.
fn formula_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, lesson: &Lesson) {
    let numbers = bench.tutorial_numbers(view);
    let p = theme::palette(ui);
    theme::card_frame(ui).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.spacing_mut().item_spacing.y = 2.0;
        let mut missing = false;
        for line in &lesson.formula {
            // Numbers of the qconfig are not the layer's.
            let own = formula::slots(line).any(|slot| !slot.ends_with("_levels") && !slot.ends_with("_steps"));
            match formula::fill(line, &numbers) {
                Some(text) => {
                    let ink = if own { p.accent_ink } else { p.strong };
                    ui.add(Label::new(RichText::new(text).font(Type::Body.mono()).color(ink)).wrap());
                }
                None => missing = true,
            }
        }
        if missing {
            let text = "The numbers of your own layer come here once this step is done.";
            ui.add(Label::new(RichText::new(text).font(Type::Small.font()).color(p.weak)).wrap());
        }
    });
}

impl Workbench {
    /// The numbers of formulas, found anew where what they are of has changed.
    fn tutorial_numbers(&mut self, view: &View) -> Numbers {
        let address = |stage: &std::sync::Arc<crate::session::Stage>| std::sync::Arc::as_ptr(stage) as usize;
        let mut of: Vec<usize> = view.stages.iter().map(|s| s.as_ref().map_or(0, address)).collect();
        of.push(view.qat.len());
        of.push(view.recipe.as_ref().map_or(0, |r| std::sync::Arc::as_ptr(r) as usize));
        of.extend(self.selection.name().unwrap_or_default().bytes().map(usize::from));
        if let Some((same, numbers)) = &self.tutorial.numbers
            && *same == of
        {
            return numbers.clone();
        }
        let numbers = formula::numbers(view, &self.selection, &self.choices.qconfig);
        self.tutorial.numbers = Some((of, numbers.clone()));
        numbers
    }
}

/// What is to be done, whether it is, and the button that does it.
fn task_ui(
    ui: &mut Ui,
    bench: &mut Workbench,
    view: &View,
    lesson: &'static Lesson,
    (guessed, verdict): (bool, &Verdict),
) {
    let p = theme::palette(ui);
    heading_ui(ui, "Task");
    let line = Stroke::new(1.0, if verdict.is_ok() { Tone::Int8.ink(p.dark) } else { p.accent_ink });
    theme::card_frame(ui).stroke(line).show(ui, |ui| {
        ui.set_width(ui.available_width());
        prose_ui(ui, &lesson.task);
        let (glyph, ink, text) = match verdict {
            Ok(text) => ("\u{2713} Done: ", Tone::Int8.ink(p.dark), text),
            Err(text) => ("Not done: ", Tone::Observed.ink(p.dark), text),
        };
        let text = RichText::new(format!("{glyph}{text}")).color(ink);
        ui.add(Label::new(text).wrap());
        let idle = view.running.is_none() && !bench.tutorial.is_busy();
        if verdict.is_ok() {
            return;
        }
        if let Some(setup) = lesson.setup
            && primary_ui(ui, bench.lead == Lead::SetUp, idle && guessed, setup.title()).clicked()
        {
            bench.set_up(ui, setup);
        }
        if !guessed {
            ui.add(Label::new(RichText::new("First a guess, above, or skip it.").color(p.weak)).wrap());
            return;
        }
        ui.horizontal_wrapped(|ui| {
            if primary_ui(ui, bench.lead == Lead::DoIt, idle, "Do it for me").clicked() {
                bench.do_it(ui, lesson, view);
            }
            if !idle {
                ui.spinner();
            }
            if bench.step != lesson.check.step() || bench.place != Place::Step {
                let text = format!("Go to {}", lesson.check.step().title_in(&bench.choices.method()));
                let go = primary_ui(ui, bench.lead == Lead::ToTask, true, &text);
                go.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("{text} for this task")));
                if go.clicked() {
                    bench.go(lesson.check.step());
                }
            }
        });
    });
}

/// How a model of one's own gets its stubs.
const WRAPPER: &str = "
# A model of your own gets them by a wrapper:
class Quantizable(torch.nn.Module):
    def __init__(self, model):
        super().__init__()  # first: without it no module can be an attribute
        self.quant = torch.ao.quantization.QuantStub()
        self.model = model
        self.dequant = torch.ao.quantization.DeQuantStub()

    def forward(self, x):
        return self.dequant(self.model(self.quant(x)))
";

/// What the second method needs before it fuses.
const TRAINING_MODE: &str = "
# In training mode batch norms go on learning with the rest:
model.train()
";

/// The step in PyTorch, with the learner's choices.
fn code_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, lesson: &Lesson) {
    let Some(mut code) = code_of(lesson.check.step(), lesson.check.by_qat(), bench, view) else { return };
    match lesson.check {
        Check::Stubs => code += WRAPPER,
        Check::TrainingMode => code += TRAINING_MODE,
        _ => {}
    }
    let p = theme::palette(ui);
    let head = RichText::new("The same in PyTorch").font(Type::Body.strong()).color(p.strong);
    CollapsingHeader::new(head).id_salt("lesson code").default_open(false).show(ui, |ui| {
        if small_ui(ui, "Copy").clicked() {
            ui.ctx().copy_text(code.clone());
        }
        ScrollArea::horizontal().id_salt("lesson code").show(ui, |ui| {
            ui.add(Label::new(RichText::new(&code).font(Type::Body.mono()).color(p.text)).selectable(true).extend());
        });
    });
}

/// Back and on.
fn foot_ui(ui: &mut Ui, bench: &mut Workbench, lesson: &Lesson) {
    let all: Vec<usize> = lesson.path.lessons().map(|(index, _)| index).collect();
    let done = bench.memory.tutorial.done.contains(&lesson.key());
    let leads = bench.lead == Lead::NextLesson;
    ui.horizontal(|ui| {
        if lesson.step > 1 && ui.button("Back").clicked() {
            bench.open_lesson(all[lesson.step - 2]);
        }
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| match all.get(lesson.step) {
            Some(next) => {
                let text = if done { "Next lesson" } else { "Skip to the next" };
                if primary_ui(ui, leads, true, text).clicked() {
                    bench.open_lesson(*next);
                }
            }
            None => {
                let text = if done { "Finish" } else { "To the overview" };
                if primary_ui(ui, leads, true, text).clicked() {
                    bench.leave_lesson();
                }
            }
        });
    });
}

/// Where a path is to be begun, or gone on with: its first lesson that is not done.
pub(super) fn next_of(path: Path, done: &std::collections::BTreeSet<String>) -> Option<usize> {
    path.lessons().find(|(_, lesson)| !done.contains(&lesson.key())).map(|(index, _)| index)
}
