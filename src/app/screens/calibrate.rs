use eframe::egui::{Align, Label, Layout, Rect, RichText, Role, ScrollArea, Sense, Ui, WidgetInfo, vec2};
use egui_extras::{Column, TableBuilder};

use super::clip::{Trial, levels, trial_ui};
use super::convergence::convergence_ui;
use super::{halves_ui, prose, stacked, warnings_ui};
use crate::app::controls::number_ui;
use crate::app::glossary::{explain, label_ui};
use crate::app::layer_name::layer_name_ui;
use crate::app::number;
use crate::app::plot::{Histogram, Table, histogram_ui, levels_ui, range_ui, save_table_ui, spark_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{ObserverView, SampleScore, Stage, Step, View};

const LINE: f32 = 28.0;
/// Widest that a node's name is: its figures stand near it.
const NAME: f32 = 280.0;
/// Room of the table's scroll bar.
const BAR: f32 = 12.0;
/// Height from which the curves of all layers stand above the table; below, they scroll with the plots.
const TALL: f32 = 500.0;

/// By what the table of observers is sorted, and the range that is tried on the one that is looked at.
#[derive(Debug, Default)]
pub struct CalibrateScreen {
    order: Order,
    pub(super) trial: Trial,
}

impl CalibrateScreen {
    /// Whether the clip lines were moved, and what they say is not kept yet.
    pub(in crate::app) fn is_tried(&self, view: &View) -> bool {
        self.trial.is_changed(view)
    }

    /// The range that the clip lines say, and its score once that is complete.
    pub fn tried(&self) -> (Option<crate::session::Range>, Option<SampleScore>) {
        (self.trial.range(), self.trial.score())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Order {
    #[default]
    Graph,
    Least,
    Greatest,
    Moved,
}

/// Every observer's range as it grows; the selected one's histogram.
pub(super) fn calibrate_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    ui.horizontal_wrapped(|ui| {
        number_ui(ui, "Batches", &mut bench.choices.calibration.batches, 1..=10_000, 0.5);
        number_ui(ui, "Images a batch", &mut bench.choices.calibration.batch, 1..=1024, 0.5);
        ui.checkbox(&mut bench.choices.calibration.foresee, "Accuracy on the way")
            .on_hover_text("Up to eight times, converts what is there and tries it on 256 held-out images");
        if view.observed_images > 0 {
            let text = format!("{} images seen", number::count(view.observed_images));
            let text = RichText::new(text).font(Type::Body.strong()).color(theme::palette(ui).strong);
            ui.add(Label::new(text).extend());
        }
        if !view.observers.is_empty() {
            save_table_ui(ui, "Observers", || whole(view));
        }
    });
    if view.observers.is_empty() {
        prose(
            ui,
            "Training images run through the float model while every observer watches the values that pass. The range of each is drawn here, batch by batch.",
        );
        return;
    }
    if let Some(Stage::Calibrated { warnings, .. }) = view.stage_of(Step::Calibrate).map(AsRef::as_ref) {
        warnings_ui(ui, warnings);
    }
    let selected = selected(bench, view);
    let room = ui.available_size();
    if room.x < 640.0 {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            plots_ui(ui, bench, view, &selected);
            ui.allocate_ui(vec2(room.x, 320.0), |ui| table_ui(ui, bench, view));
            convergence_ui(ui, view);
        });
        return;
    }
    let tall = room.y >= TALL;
    if tall {
        convergence_ui(ui, view);
        ui.add_space(theme::GRID);
    }
    let height = ui.available_height();
    halves_ui(ui, |left, right| {
        left.set_max_height(height);
        right.set_max_height(height);
        table_ui(left, bench, view);
        ScrollArea::vertical().id_salt("observer").auto_shrink(false).show(right, |ui| {
            ui.set_max_width(ui.available_width() - theme::PADDING);
            stacked(ui, |ui| plots_ui(ui, bench, view, &selected));
            if !tall {
                convergence_ui(ui, view);
            }
        });
    });
}

/// The observer of the selected node, else the first.
fn selected(bench: &Workbench, view: &View) -> ObserverView {
    let named = view.observers.iter().find(|o| bench.selection.name() == Some(&o.name));
    let found = named.or_else(|| view.observers.iter().find(|o| bench.selection.contains(&o.name)));
    found.unwrap_or(&view.observers[0]).clone()
}

fn plots_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, observer: &ObserverView) {
    let p = theme::palette(ui);
    ui.label(RichText::new(&observer.name).font(Type::Title.strong()).color(p.strong));
    if trial_ui(ui, bench, view, observer) {
        ui.add_space(theme::GAP);
    } else if observer.histogram.is_empty() {
        let done = view.stage_of(Step::Calibrate).is_some();
        let text = "This observer keeps the extremes alone: there is no histogram to clip.";
        if done {
            prose(ui, text);
        }
    } else {
        let histogram = Histogram {
            counts: observer.histogram.clone(),
            min: observer.histogram_min,
            max: observer.histogram_max,
            clip: observer.levels.map(|(low, high, _)| (low, high)),
            tone: Tone::Observed,
        };
        match observer.levels {
            Some((_, _, qparams)) => levels_ui(ui, "Values seen", "activation", &histogram, levels(qparams)),
            None => histogram_ui(ui, "Values seen", "activation", &histogram),
        }
    }
    range_ui(ui, "Range batch by batch", &observer.batches, (observer.min, observer.max));
}

/// How far the last batch moved a range, in parts of its width.
fn moved(observer: &ObserverView) -> f64 {
    crate::session::convergence(std::slice::from_ref(observer)).batches.last().map_or(0.0, |m| m.mean)
}

/// Every observer, in the order of the graph, as it is saved.
fn whole(view: &View) -> Table {
    let rows = view.observers.iter().map(|o| {
        let (scale, zero) = match o.levels {
            Some((_, _, q)) => (q.scale.to_string(), q.zero_point.to_string()),
            None => (String::new(), String::new()),
        };
        [o.name.clone(), o.min.to_string(), o.max.to_string(), moved(o).to_string(), scale, zero]
    });
    Table::new(["node", "min", "max", "moved", "scale", "zero point"], rows)
}

fn table_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let mut rows: Vec<&ObserverView> = view.observers.iter().collect();
    match bench.calibrate.order {
        Order::Graph => {}
        Order::Least => rows.sort_by(|a, b| a.min.total_cmp(&b.min)),
        Order::Greatest => rows.sort_by(|a, b| b.max.total_cmp(&a.max)),
        Order::Moved => rows.sort_by(|a, b| moved(b).total_cmp(&moved(a))),
    }
    let mut order = bench.calibrate.order;
    ui.push_id("observers", |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        TableBuilder::new(ui)
            .cell_layout(Layout::left_to_right(Align::Center))
            .auto_shrink(false)
            .column(Column::remainder().at_most(NAME).clip(true))
            .column(Column::exact(44.0))
            .column(Column::exact(48.0))
            .column(Column::exact(44.0))
            // The bar floats over its right edge.
            .column(Column::exact(50.0 + BAR))
            .header(LINE, |mut header| {
                for (head, by) in HEADS {
                    let figure = matches!(head, "min" | "max" | "moved");
                    let align = if figure { right() } else { Layout::left_to_right(Align::Center) };
                    header.col(|ui| {
                        ui.with_layout(align, |ui| {
                            ui.add_space(if head == "moved" { BAR } else { 0.0 });
                            head_ui(ui, head, by, &mut order);
                        });
                    });
                }
            })
            .body(|body| {
                body.rows(LINE, rows.len(), |mut line| {
                    let row = rows[line.index()];
                    line.col(|ui| {
                        let chosen = bench.selection.contains(&row.name);
                        if layer_name_ui(ui, &row.name, chosen, LINE).clicked() {
                            select(bench, view, &row.name);
                        }
                    });
                    line.col(|ui| {
                        let (rect, _) = ui.allocate_exact_size(vec2(44.0, LINE), Sense::hover());
                        spark_ui(ui, Rect::from_center_size(rect.center(), vec2(44.0, LINE - 8.0)), &row.batches);
                    });
                    let figures = [number::number(row.min.into()), number::number(row.max.into()), percent(moved(row))];
                    for (i, text) in figures.into_iter().enumerate() {
                        line.col(|ui| {
                            ui.with_layout(right(), |ui| {
                                // Under the words of the heads, which are buttons.
                                ui.add_space(theme::GRID + if i == 2 { BAR } else { 0.0 });
                                ui.label(RichText::new(text).font(Type::Body.mono()));
                            });
                        });
                    }
                });
            });
    });
    bench.calibrate.order = order;
}

fn right() -> Layout {
    Layout::right_to_left(Align::Center)
}

const HEADS: [(&str, Option<(Order, &str)>); 5] = [
    ("node", Some((Order::Graph, "Sort by place in the graph"))),
    ("range", None),
    ("min", Some((Order::Least, "Sort by the smallest value"))),
    ("max", Some((Order::Greatest, "Sort by the largest value"))),
    ("moved", Some((Order::Moved, "Sort by how far the last batch moved the range"))),
];

fn head_ui(ui: &mut Ui, head: &str, by: Option<(Order, &str)>, order: &mut Order) {
    let text = RichText::new(head).font(Type::Small.font());
    let Some((by, name)) = by else {
        label_ui(ui, text.color(theme::palette(ui).weak));
        return;
    };
    ui.spacing_mut().button_padding.x = theme::GRID;
    let button = ui.selectable_label(*order == by, text);
    button.widget_info(|| WidgetInfo::labeled(Role::Button, true, name));
    let clicked = button.clicked();
    explain(ui, button.on_hover_text(name), head);
    if clicked {
        *order = by;
    }
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.0005 { "<0.1\u{2009}%".to_owned() } else { number::percent(share) }
}

fn select(bench: &mut Workbench, view: &View, name: &str) {
    let graphs = [Step::Prepare, Step::Fuse].map(|s| view.stage_of(s));
    bench.selection.select(name, graphs.into_iter().flatten().map(|s| &**s.graph()));
}
