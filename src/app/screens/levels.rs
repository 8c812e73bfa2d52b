use eframe::egui::{Align, Label, Layout, RichText, ScrollArea, Ui};
use egui_extras::{Column, TableBuilder};

use super::by_layer::select;
use super::clip::{decibels, figures_small_ui};
use super::{halves_ui, heading, prose, stacked, titled_ui};
use crate::app::glossary::label_ui;
use crate::app::layer_name::layer_name_ui;
use crate::app::number;
use crate::app::plot::{Histogram, Levels, Row, Table, histogram_ui, levels_ui, row_ui, save_table_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::graph::{Graph, Weight};
use crate::session::{ConvertReport, Step, View};

const LINE: f32 = 28.0;
/// Bins of a channel's weights: several levels each, so that the shape is seen.
const BINS: usize = 64;
/// Width from which the layer stands beside the table.
const SIDE_BY_SIDE: f32 = 600.0;

/// A row of the table.
struct Layer<'a> {
    name: &'a str,
    float: usize,
    int8: usize,
    sqnr_db: Option<f64>,
}

/// Every layer's weights: bytes before and after, what rounding lost; of the selected one the float weights over the
/// levels that they are rounded to.
pub(super) fn weights_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, report: &ConvertReport) {
    let int8 = report.layers.iter().map(|l| Layer {
        name: &l.name,
        float: l.float_bytes,
        int8: l.int8_bytes,
        sqnr_db: Some(l.weight_sqnr_db),
    });
    // Left in float: as many bytes as before.
    let float = report.float.iter().map(|l| Layer { name: &l.name, float: l.bytes, int8: l.bytes, sqnr_db: None });
    let layers: Vec<Layer<'_>> = int8.chain(float).collect();
    titled_ui(ui, "Weights by layer", |ui| save_table_ui(ui, "Weights by layer", || whole(&layers)));
    if ui.available_width() < SIDE_BY_SIDE {
        table_ui(ui, bench, view, &layers, 320.0);
        layer_ui(ui, bench, view, &layers);
        return;
    }
    let height = ui.available_height().max(280.0);
    halves_ui(ui, |left, right| {
        left.set_max_height(height);
        right.set_max_height(height);
        table_ui(left, bench, view, &layers, height);
        ScrollArea::vertical().id_salt("layer").auto_shrink(false).show(right, |ui| {
            ui.set_max_width(ui.available_width() - theme::PADDING);
            stacked(ui, |ui| layer_ui(ui, bench, view, &layers));
        });
    });
}

/// Every layer as it is saved.
fn whole(layers: &[Layer<'_>]) -> Table {
    let rows = layers.iter().map(|l| {
        let sqnr = l.sqnr_db.map_or(String::new(), |v| v.to_string());
        [l.name.to_owned(), l.float.to_string(), l.int8.to_string(), sqnr]
    });
    Table::new(["layer", "float32, bytes", "int8, bytes", "SQNR, dB"], rows)
}

fn table_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, layers: &[Layer<'_>], height: f32) {
    let p = theme::palette(ui);
    ui.push_id("weights", |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        TableBuilder::new(ui)
            .cell_layout(Layout::left_to_right(Align::Center))
            .auto_shrink([false, true])
            .max_scroll_height(height - LINE)
            .column(Column::remainder().clip(true))
            .columns(Column::exact(64.0), 2)
            // The bar floats over its right edge.
            .column(Column::exact(76.0))
            .header(LINE, |mut header| {
                for (i, head) in ["layer", "float32", "int8", "SQNR"].into_iter().enumerate() {
                    header.col(|ui| {
                        let align = if i == 0 { Layout::left_to_right(Align::Center) } else { right() };
                        ui.with_layout(align, |ui| {
                            ui.add_space(if i == 3 { 12.0 } else { 0.0 });
                            label_ui(ui, RichText::new(head).font(Type::Small.font()).color(p.weak))
                        });
                    });
                }
            })
            .body(|body| {
                body.rows(LINE, layers.len(), |mut line| {
                    let layer = &layers[line.index()];
                    line.col(|ui| {
                        let chosen = bench.selection.name() == Some(layer.name);
                        if layer_name_ui(ui, layer.name, chosen, LINE).clicked() {
                            select(bench, view, layer.name);
                        }
                    });
                    let sqnr = layer.sqnr_db.map_or("float32".to_owned(), decibels);
                    for (i, text) in [number::bytes(layer.float as u64), number::bytes(layer.int8 as u64), sqnr]
                        .into_iter()
                        .enumerate()
                    {
                        line.col(|ui| {
                            ui.with_layout(right(), |ui| {
                                ui.add_space(if i == 2 { 12.0 } else { 0.0 });
                                ui.add(Label::new(RichText::new(text).font(Type::Body.mono())).extend());
                            });
                        });
                    }
                });
            });
    });
}

fn right() -> Layout {
    Layout::right_to_left(Align::Center)
}

fn layer_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, layers: &[Layer<'_>]) {
    let chosen = layers.iter().find(|l| bench.selection.contains(l.name)).or(layers.first());
    let Some(layer) = chosen else {
        prose(ui, "No layer has weights.");
        return;
    };
    heading(ui, layer.name);
    let [before, after] = [layer.float, layer.int8].map(|b| number::bytes(b as u64));
    let smaller = number::times(layer.float as f64 / layer.int8.max(1) as f64);
    let bytes = format!("{before} \u{2192} {after}");
    figures_small_ui(ui, &[("bytes", &bytes), ("smaller", &smaller)]);
    let weight = |step: Step| {
        let graph: &Graph = view.stage_of(step)?.graph();
        graph.node(graph.find(layer.name)?).op.weight()
    };
    let Some(float) = weight(Step::Fuse).and_then(Weight::float) else { return };
    let channels = float.shape[0].max(1);
    let per = (float.len() / channels).max(1);
    let int8 = weight(Step::Convert).and_then(Weight::int8);
    let Some(int8) = int8 else {
        prose(ui, "This layer is left in float: its weights are as they were.");
        if let Some(histogram) = Histogram::of(float.data.iter().copied(), BINS, Tone::Float) {
            histogram_ui(ui, "Weights", "weight", &histogram);
        }
        return;
    };
    let channel = bench.result.channel.min(channels - 1);
    if int8.scales.len() > 1 {
        let row = Row::of_channels(int8.scales.iter().copied(), "scale", Tone::Int8);
        if let Some(picked) = row_ui(ui, "Scale of each channel", &row, Some(channel)) {
            bench.result.channel = picked;
        }
    } else {
        prose(ui, &format!("One scale for all channels: {}.", number::number(int8.scale(0).into())));
        let largest = float.data.chunks(per).map(|c| c.iter().fold(0.0_f32, |m, w| m.max(w.abs())));
        let row = Row::of_channels(largest, "largest |w|", Tone::Float);
        if let Some(picked) = row_ui(ui, "Largest weight of each channel", &row, Some(channel)) {
            bench.result.channel = picked;
        }
    }
    let scale = f64::from(int8.scale(channel));
    let weights = &float.data[channel * per..(channel + 1) * per];
    let Some(histogram) = Histogram::of(weights.iter().copied(), BINS, Tone::Float) else { return };
    let (least, most) =
        int8.data[channel * per..(channel + 1) * per].iter().fold((0, 0), |(a, b), q| (a.min(*q), b.max(*q)));
    // As many levels as the bits of this layer have; what the weights reach says how many.
    let half =
        (4..=8).map(|bits| 1_i16 << (bits - 1)).find(|half| i16::from(least) >= -half && i16::from(most) < *half);
    let half = f64::from(bits_half(view, layer.name).or(half).unwrap_or(128));
    let (first, last, count) = (-half * scale, (half - 1.0) * scale, 2 * half as usize);
    let levels = Levels { first, last, count, all: true, tone: Tone::Int8 };
    let title = format!("Channel {channel} over int8's levels");
    levels_ui(ui, &title, "weight", &histogram, levels);
    let (signal, noise) = weights.iter().zip(&int8.data[channel * per..]).fold((0.0, 0.0), |(s, n), (w, q)| {
        let lost = f64::from(*w) - f64::from(*q) * scale;
        (s + f64::from(*w).powi(2), n + lost * lost)
    });
    let sqnr = if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() };
    let (scale, sqnr) = (number::number(scale), decibels(sqnr));
    let reach = format!("{least} \u{2026} {most}").replace('-', &number::MINUS.to_string());
    figures_small_ui(ui, &[("scale", &scale), ("zero point", "0"), ("levels used", &reach), ("SQNR", &sqnr)]);
}

/// Half of the levels that the recipe gives this layer's weight.
fn bits_half(view: &View, name: &str) -> Option<i16> {
    let spec = view.recipe.as_ref()?.qconfig.weight_of(name)?;
    Some(1_i16 << (spec.bits - 1))
}
