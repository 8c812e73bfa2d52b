use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use eframe::egui::{Align, Button, Checkbox, Label, Layout, RichText, Role, Ui, WidgetInfo};
use egui_extras::{Column, TableBuilder};

use super::{heading, prose};
use crate::app::actions::Given;
use crate::app::browse::Field;
use crate::app::controls::{banner_ui, path_ui, primary_ui, small_ui};
use crate::app::fonts;
use crate::app::glossary::label_ui;
use crate::app::lead::Lead;
use crate::app::number;
use crate::app::plot::{Kind, chart_inks, draw_chart_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::chart::{self, Chart, Form, Group, Value};
use crate::session::{CommandKind, KeptRun, Probe, Project, Run, View, published_sizes, wilson, write_file};

const LINE: f32 = theme::ROW;
/// Columns that a narrow window leaves out.
const TIME: usize = 8;
const AGE: usize = 9;
/// Runs that the charts show where none is picked: the newest.
const SHOWN: usize = 6;
/// Width of a chart that is saved.
const WIDTH: f32 = 720.0;
/// Pixels a point of a picture that is saved.
const DENSITY: f32 = 2.0;

type Answer = Result<(Vec<KeptRun>, Vec<String>), String>;

/// The runs of the project, those that are picked, and where charts are saved.
#[derive(Debug, Default)]
pub struct RunsScreen {
    probe: Option<Probe<Answer>>,
    /// Read when this many commands had ended.
    read_at: Option<usize>,
    runs: Vec<KeptRun>,
    wrong: Vec<String>,
    picked: BTreeSet<usize>,
    /// Where charts and tables go.
    pub(in crate::app) folder: String,
    /// The project folder as it is typed.
    project: String,
    saved: Option<Result<String, String>>,
}

impl RunsScreen {
    /// What was read of the project so far, the oldest first.
    pub fn runs(&self) -> &[KeptRun] {
        &self.runs
    }

    /// Reads the project again after every command that ended: it may have kept a run.
    fn update(&mut self, ui: &Ui, project: Project, ended: usize) {
        if self.read_at != Some(ended) && self.probe.is_none() {
            self.read_at = Some(ended);
            let ctx = ui.ctx().clone();
            let job = move |emit: &mut dyn FnMut(Answer) -> ControlFlow<()>| {
                let read = project.runs().map_err(|e| e.to_string());
                let said = read.map(|(runs, wrong)| (runs, wrong.iter().map(ToString::to_string).collect()));
                // Nobody listens any more where that breaks.
                let _ = emit(said);
            };
            // Without a thread the page stays as it is; the next command's end asks again.
            self.probe = Probe::start(move || ctx.request_repaint(), job).ok();
        }
        let mut read = None;
        let more = self.probe.as_ref().is_some_and(|probe| probe.drain(|answer| read = Some(answer)));
        if !more && let Some(why) = self.probe.take().and_then(|p| p.failure().map(str::to_owned)) {
            read = Some(Err(why));
        }
        match read {
            Some(Ok((runs, wrong))) => (self.runs, self.wrong) = (runs, wrong),
            Some(Err(why)) => self.wrong = vec![why],
            None => {}
        }
    }

    /// The picked runs, or the newest.
    fn shown(&self) -> Vec<&KeptRun> {
        if self.picked.is_empty() {
            return self.runs.iter().rev().take(SHOWN).collect();
        }
        self.runs.iter().rev().filter(|r| self.picked.contains(&r.number)).collect()
    }
}

/// Every run of the project as a table, and what they gave as charts.
pub(super) fn runs_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let project = Project::new(bench.choices.folder());
    bench.runs.update(ui, project, view.ended);
    project_ui(ui, bench, view);
    for wrong in bench.runs.wrong.clone() {
        banner_ui(ui, Tone::Trouble, &wrong);
    }
    if bench.runs.runs.is_empty() {
        prose(
            ui,
            "Every run that is saved and measured is kept here, with its choices and figures, to be compared. There is none yet.",
        );
        let idle = view.allows(CommandKind::RunAll);
        if primary_ui(ui, bench.lead == Lead::FirstRun, idle, "Run all steps now").clicked() {
            bench.run_all(view);
        }
        return;
    }
    prose(ui, &format!("The charts show the runs that are picked, else the newest {SHOWN}."));
    if let Some(path) = table_ui(ui, &mut bench.runs) {
        bench.take(Given::Recipe(path), view, ui.ctx());
    }
    let inks = chart_inks(theme::palette(ui));
    for chart in charts(&bench.runs.shown()) {
        ui.add_space(theme::GAP);
        draw_chart_ui(ui, &chart, &inks);
    }
    save_ui(ui, bench);
}

/// The folder that runs are kept in, typed or picked.
fn project_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let now = bench.choices.folder().display().to_string();
    if bench.runs.project.is_empty() {
        bench.runs.project.clone_from(&now);
    }
    let mut used = None;
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new("Runs are kept in").color(theme::palette(ui).weak));
        if path_ui(ui, "Project folder", "a folder", &mut bench.runs.project) {
            bench.browse(Field::Project, ui.ctx());
        }
        let typed = bench.runs.project.trim();
        let other = !typed.is_empty() && typed != now;
        if other && ui.add_enabled(view.running.is_none(), Button::new("Use this folder")).clicked() {
            used = Some(PathBuf::from(typed));
        }
    });
    if let Some(folder) = used {
        bench.use_project(folder);
    }
}

/// The table; the file of the run that was to be opened again.
fn table_ui(ui: &mut Ui, screen: &mut RunsScreen) -> Option<PathBuf> {
    // What fits; what is left out is in the charts below.
    let room = ui.available_width();
    let shown = |i: usize| match i {
        TIME => room >= 840.0,
        AGE => room >= 720.0,
        _ => true,
    };
    let head = ["", "run", "model", "choices", "float32", "int8", "change", "file", "one image", "kept", ""];
    let head = head.into_iter().enumerate().filter(|(i, _)| shown(*i));
    let weak = theme::palette(ui).weak;
    let mut again = None;
    let RunsScreen { runs, picked, .. } = screen;
    ui.scope(|ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        let mut builder = TableBuilder::new(ui)
            .id_salt("runs")
            .cell_layout(Layout::left_to_right(Align::Center))
            .striped(false)
            .max_scroll_height(12.0 * LINE)
            .auto_shrink([false, true]);
        for (i, _) in head.clone() {
            builder = builder.column(match i {
                0 => Column::exact(24.0),
                3 => Column::remainder().clip(true).at_least(96.0),
                4..=5 => Column::exact(56.0),
                6 => Column::exact(68.0),
                10 => Column::exact(64.0),
                _ => Column::auto(),
            });
        }
        builder
            .header(LINE, |mut row| {
                for (i, name) in head {
                    row.col(|ui| {
                        let text = RichText::new(name).font(Type::Small.font()).color(weak);
                        ui.with_layout(aligned(i), |ui| label_ui(ui, text));
                    });
                }
            })
            .body(|body| {
                body.rows(LINE, runs.len(), |mut row| {
                    let run = &runs[runs.len() - 1 - row.index()];
                    row.col(|ui| pick_ui(ui, run, picked));
                    for (i, text) in cells(run).into_iter().enumerate().filter(|(i, _)| shown(*i + 1)) {
                        let font = if i == 1 || i == 2 { Type::Body.font() } else { Type::Body.mono() };
                        row.col(|ui| {
                            let label = Label::new(RichText::new(text).font(font)).extend();
                            ui.with_layout(aligned(i + 1), |ui| ui.add(label));
                        });
                    }
                    row.col(|ui| {
                        let button = small_ui(ui, "Open");
                        let name = format!("Open what run {} was made by", run.number);
                        button.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
                        if button.on_hover_text("Open the model, images and choices of this run").clicked() {
                            again = Some(run.path.clone());
                        }
                    });
                });
            });
    });
    again
}

/// Accuracies and their difference end at one place, to be compared.
fn aligned(column: usize) -> Layout {
    match column {
        4..=6 => Layout::right_to_left(Align::Center),
        _ => Layout::left_to_right(Align::Center),
    }
}

fn pick_ui(ui: &mut Ui, run: &KeptRun, picked: &mut BTreeSet<usize>) {
    let mut on = picked.contains(&run.number);
    let box_ = ui.add(Checkbox::without_text(&mut on));
    let name = format!("Show run {} in the charts", run.number);
    box_.widget_info(|| WidgetInfo::selected(Role::CheckBox, true, on, &name));
    if box_.changed() {
        if on {
            picked.insert(run.number);
        } else {
            picked.remove(&run.number);
        }
    }
}

/// What the table says of a run.
fn cells(kept: &KeptRun) -> [String; 9] {
    let run = &kept.run;
    let accuracy = |a: Option<f64>| a.map_or(number::NONE.to_owned(), number::percent);
    let change = match (run.float.accuracy, run.int8.accuracy) {
        (Some(a), Some(b)) => number::points(b - a),
        _ => number::NONE.to_owned(),
    };
    let file = format!("{}{}", number::bytes(run.int8.bytes), if kept.has_file { "" } else { ", gone" });
    let age = kept.when.and_then(|when| when.elapsed().ok());
    [
        kept.number.to_string(),
        run.recipe.model.title().to_owned(),
        choices(run),
        accuracy(run.float.accuracy),
        accuracy(run.int8.accuracy),
        change,
        file,
        format!("{} \u{2192} {}", number::millis(run.float.latency_ms), number::millis(run.int8.latency_ms)),
        age.map_or(number::NONE.to_owned(), |age| format!("{} ago", number::seconds(age.as_secs_f64()))),
    ]
}

/// What was chosen, as short as it can be said.
fn choices(run: &Run) -> String {
    let config = &run.recipe.qconfig;
    let method = if run.recipe.method.is_ptq() { "PTQ" } else { "QAT" };
    let mut said = vec![method.to_owned(), config.name.to_string(), config.activation.observer.title().to_lowercase()];
    if !config.overrides.is_empty() {
        let count = config.overrides.len();
        said.push(format!("{count} {} otherwise", if count == 1 { "layer" } else { "layers" }));
    }
    said.join(", ")
}

fn name(kept: &KeptRun) -> String {
    format!("{}  {}, {}", kept.number, kept.run.recipe.model.title(), choices(&kept.run))
}

/// Size beside the published figures, accuracy with its interval, time of one image.
fn charts(runs: &[&KeptRun]) -> [Chart; 3] {
    let ink = |tone: Tone| {
        let [r, g, b, _] = tone.fill().to_array();
        [r, g, b]
    };
    let value = |name: &str, value: f64, text: String, tone| Value {
        name: name.to_owned(),
        value,
        interval: None,
        text,
        ink: ink(tone),
        outlined: false,
    };
    let sizes = |kept: &KeptRun| {
        let run = &kept.run;
        let kb = |bytes: u64| bytes as f64 / 1e3;
        let mut values = vec![
            value("float32", kb(run.float.bytes), number::bytes(run.float.bytes), Tone::Float),
            value(
                "int8",
                kb(run.int8.bytes),
                format!("{}  {}", number::bytes(run.int8.bytes), number::times(run.shrink)),
                Tone::Int8,
            ),
        ];
        if let Some(p) = published_sizes(run.recipe.model, run.classes) {
            let bytes = |kb: f64| number::bytes((kb * 1e3) as u64);
            let of_others = |name: &str, kb: f64, tone| Value { outlined: true, ..value(name, kb, bytes(kb), tone) };
            values.push(of_others("float32, published", p.float_kb, Tone::Float));
            values.push(of_others("int8, published", p.int8_kb, Tone::Int8));
        }
        values
    };
    let accuracies = |kept: &KeptRun| {
        let run = &kept.run;
        let of = |name: &str, accuracy: Option<f64>, tone| {
            let text = accuracy.map_or("not measured".to_owned(), number::percent);
            let interval = accuracy.map(|a| wilson(a, run.images)).map(|(low, high)| (low * 100.0, high * 100.0));
            Value { interval, ..value(name, accuracy.map_or(f64::NAN, |a| a * 100.0), text, tone) }
        };
        let mut values = vec![of("float32", run.float.accuracy, Tone::Float)];
        values.extend(run.fake.map(|fake| of("fake-quantized", Some(fake), Tone::FakeQuantized)));
        values.push(of("int8", run.int8.accuracy, Tone::Int8));
        values
    };
    let times = |kept: &KeptRun| {
        let run = &kept.run;
        [("float32", run.float.latency_ms, Tone::Float), ("int8", run.int8.latency_ms, Tone::Int8)]
            .map(|(name, ms, tone)| value(name, ms, number::millis(ms), tone))
            .to_vec()
    };
    let chart = |title: &str, unit: &str, form, values: &dyn Fn(&KeptRun) -> Vec<Value>| Chart {
        title: title.to_owned(),
        unit: unit.to_owned(),
        form,
        groups: runs.iter().map(|kept| Group { name: name(kept), values: values(kept) }).collect(),
    };
    [
        chart("Size of the file", "KB of 1,000 bytes", Form::Bars, &sizes),
        chart("Accuracy with its 95 % interval", "% of the held-out images", Form::Points, &accuracies),
        chart("Time of one image", "ms", Form::Bars, &times),
    ]
}

/// Where charts go, and the buttons that write them.
fn save_ui(ui: &mut Ui, bench: &mut Workbench) {
    ui.add_space(theme::GAP);
    heading(ui, "Save charts and table");
    if bench.runs.folder.is_empty() {
        bench.runs.folder = bench.choices.folder().join("charts").display().to_string();
    }
    if path_ui(ui, "Folder for charts", "a folder", &mut bench.runs.folder) {
        bench.browse(Field::Charts, ui.ctx());
    }
    ui.horizontal(|ui| {
        for kind in Kind::ALL {
            let button = ui.button(kind.name());
            button.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Save as {}", kind.name())));
            if button.clicked() {
                let folder = PathBuf::from(bench.runs.folder.trim());
                bench.runs.saved = Some(save(&bench.runs.shown(), kind, &folder));
            }
        }
    });
    match &bench.runs.saved {
        Some(Ok(said)) => prose(ui, said),
        Some(Err(why)) => banner_ui(ui, Tone::Trouble, why),
        None => {}
    }
}

/// Writes the charts, on a light ground, or the table; what was written.
fn save(runs: &[&KeptRun], kind: Kind, folder: &Path) -> Result<String, String> {
    std::fs::create_dir_all(folder)
        .map_err(|e| format!("{}: cannot be made: {e}; name another folder", folder.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        write_file(&path, bytes).map(drop).map_err(|e| e.to_string())
    };
    let inks = chart_inks(theme::palette_of(eframe::egui::Theme::Light));
    let names = ["size", "accuracy", "time"];
    match kind {
        Kind::Csv => write("runs.csv", chart::csv(rows(runs).iter().map(Vec::as_slice)).as_bytes())?,
        Kind::Png | Kind::Svg => {
            for (name, chart) in names.into_iter().zip(charts(runs)) {
                let svg = chart::svg(&chart::layout(&chart, WIDTH, &inks), &inks);
                if kind == Kind::Svg {
                    write(&format!("{name}.svg"), svg.as_bytes())?;
                } else {
                    let png = chart::png(&svg, DENSITY, &fonts::WORDS).map_err(|e| e.to_string())?;
                    write(&format!("{name}.png"), &png)?;
                }
            }
        }
    }
    let what = match kind {
        Kind::Csv => "runs.csv".to_owned(),
        Kind::Png | Kind::Svg => names.map(|n| format!("{n}.{}", kind.name().to_lowercase())).join(", "),
    };
    Ok(format!("Saved {what} in {}.", folder.display()))
}

/// The runs with their figures in full, for a spreadsheet.
fn rows(runs: &[&KeptRun]) -> Vec<Vec<String>> {
    let head = [
        "run",
        "model",
        "qconfig",
        "observer",
        "weights",
        "images",
        "float_accuracy",
        "int8_accuracy",
        "float_bytes",
        "int8_bytes",
        "shrink",
        "float_ms",
        "int8_ms",
        "cpu",
        "file",
    ];
    let maybe = |a: Option<f64>| a.map_or(String::new(), |a| a.to_string());
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(runs.iter().map(|kept| {
        let run = &kept.run;
        vec![
            kept.number.to_string(),
            run.recipe.model.to_string(),
            run.recipe.qconfig.name.to_string(),
            run.recipe.qconfig.activation.observer.title().to_owned(),
            run.weights.clone(),
            run.images.to_string(),
            maybe(run.float.accuracy),
            maybe(run.int8.accuracy),
            run.float.bytes.to_string(),
            run.int8.bytes.to_string(),
            run.shrink.to_string(),
            run.float.latency_ms.to_string(),
            run.int8.latency_ms.to_string(),
            run.cpu.clone(),
            run.file.display().to_string(),
        ]
    }));
    rows
}
