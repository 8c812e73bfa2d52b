use eframe::egui::{Align, Layout, Rect, RichText, ScrollArea, Sense, Ui, vec2};
use egui_extras::{Column, TableBuilder};

use super::{prose, warnings_ui};
use crate::app::controls::number_ui;
use crate::app::number;
use crate::app::plot::{Histogram, histogram_ui, range_ui, spark_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{ObserverView, Stage, Step, View};

const LINE: f32 = 28.0;

/// By what the table of observers is sorted, and the clip of the one that is looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct CalibrateScreen {
    order: Order,
    /// Of one observer, computed when calibration has ended: milliseconds, so kept.
    clip: Option<Clip>,
}

/// The clip of one observer after so many images.
#[derive(Clone, Debug)]
struct Clip {
    name: String,
    images: usize,
    range: Option<(f32, f32)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Order {
    #[default]
    Graph,
    Widest,
}

/// Every observer's range as it grows; the selected one's histogram.
pub(super) fn calibrate_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    ui.horizontal_wrapped(|ui| {
        number_ui(ui, "Batches", &mut bench.choices.calibration.batches, 1..=10_000, 0.5);
        number_ui(ui, "Images a batch", &mut bench.choices.calibration.batch, 1..=1024, 0.5);
        if view.observed_images > 0 {
            let text = format!("{} images seen", number::count(view.observed_images));
            ui.label(RichText::new(text).font(Type::Body.strong()).color(theme::palette(ui).strong));
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
        });
        return;
    }
    ui.columns_const(|[left, right]: &mut [Ui; 2]| {
        left.set_max_height(room.y);
        right.set_max_height(room.y);
        table_ui(left, bench, view);
        ScrollArea::vertical().id_salt("observer").auto_shrink(false).show(right, |ui| {
            plots_ui(ui, bench, view, &selected);
        });
    });
}

/// The observer of the selected node, else the first.
fn selected(bench: &Workbench, view: &View) -> ObserverView {
    let found = view.observers.iter().find(|o| bench.selection.contains(&o.name));
    found.unwrap_or(&view.observers[0]).clone()
}

fn plots_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, observer: &ObserverView) {
    let p = theme::palette(ui);
    ui.label(RichText::new(&observer.name).font(Type::Title.strong()).color(p.strong));
    range_ui(ui, "Range batch by batch", &observer.batches, (observer.min, observer.max));
    if observer.histogram.is_empty() {
        return;
    }
    let histogram = Histogram {
        counts: observer.histogram.clone(),
        min: observer.histogram_min,
        max: observer.histogram_max,
        clip: clip(bench, view, observer),
        tone: Tone::Observed,
    };
    histogram_ui(ui, "Values seen", "activation", &histogram);
    if let Some((low, high)) = histogram.clip {
        let text = format!(
            "Levels span {} \u{2026} {}; what lies outside is clipped.",
            number::number(low.into()),
            number::number(high.into())
        );
        prose(ui, &text);
    }
}

/// The clip that the levels will have, once calibration has ended.
fn clip(bench: &mut Workbench, view: &View, observer: &ObserverView) -> Option<(f32, f32)> {
    let Some(Stage::Calibrated { observers, images, .. }) = view.stage_of(Step::Calibrate).map(AsRef::as_ref) else {
        return None;
    };
    match &bench.calibrate.clip {
        Some(kept) if kept.name == observer.name && kept.images == *images => kept.range,
        Some(_) | None => {
            let range = observers.clip(observer.node).map(|r| (r.min, r.max));
            bench.calibrate.clip = Some(Clip { name: observer.name.clone(), images: *images, range });
            range
        }
    }
}

fn table_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let mut rows: Vec<&ObserverView> = view.observers.iter().collect();
    match bench.calibrate.order {
        Order::Graph => {}
        Order::Widest => rows.sort_by(|a, b| (b.max - b.min).total_cmp(&(a.max - a.min))),
    }
    let weak = theme::palette(ui).weak;
    let mut order = bench.calibrate.order;
    ui.push_id("observers", |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        TableBuilder::new(ui)
            .cell_layout(Layout::left_to_right(Align::Center))
            .auto_shrink(false)
            .column(Column::remainder().clip(true))
            .column(Column::exact(72.0))
            .column(Column::exact(56.0))
            .column(Column::exact(56.0))
            .header(LINE, |mut header| {
                for (head, by) in
                    [("node", Some(Order::Graph)), ("range", Some(Order::Widest)), ("min", None), ("max", None)]
                {
                    header.col(|ui| {
                        let text = RichText::new(head).font(Type::Small.font());
                        match by {
                            Some(by) => {
                                let button = ui.selectable_label(order == by, text);
                                let name = format!(
                                    "Sort by {}",
                                    if by == Order::Graph { "place in the graph" } else { "width of the range" }
                                );
                                button.widget_info(|| {
                                    eframe::egui::WidgetInfo::labeled(eframe::egui::Role::Button, true, &name)
                                });
                                if button.on_hover_text(name.clone()).clicked() {
                                    order = by;
                                }
                            }
                            None => {
                                ui.label(text.color(weak));
                            }
                        }
                    });
                }
            })
            .body(|body| {
                body.rows(LINE, rows.len(), |mut line| {
                    let row = rows[line.index()];
                    line.col(|ui| {
                        let chosen = bench.selection.contains(&row.name);
                        let name = RichText::new(&row.name);
                        if ui.selectable_label(chosen, name).clicked() {
                            select(bench, view, &row.name);
                        }
                    });
                    line.col(|ui| {
                        let (rect, _) = ui.allocate_exact_size(vec2(68.0, LINE), Sense::hover());
                        spark_ui(ui, Rect::from_center_size(rect.center(), vec2(68.0, LINE - 8.0)), &row.batches);
                    });
                    for value in [row.min, row.max] {
                        line.col(|ui| {
                            ui.label(RichText::new(number::number(value.into())).font(Type::Body.mono()));
                        });
                    }
                });
            });
    });
    bench.calibrate.order = order;
}

fn select(bench: &mut Workbench, view: &View, name: &str) {
    let graphs = [Step::Prepare, Step::Fuse].map(|s| view.stage_of(s));
    bench.selection.select(name, graphs.into_iter().flatten().map(|s| &**s.graph()));
}
