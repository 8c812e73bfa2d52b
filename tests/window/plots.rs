use std::sync::Arc;

use eframe::egui::{Rect, Shape, Theme, Ui};
use egui_kittest::kittest::Queryable;
use octet::app::graph_view::Selection;
use octet::app::inspector::{Inspector, inspector_ui};
use octet::app::number;
use octet::app::plot::{
    BarItem, Curve, Histogram, Mark, Matrix, bars_ui, curves_marked_ui, curves_ui, histogram_ui, matrix_ui, range_ui,
};
use octet::app::theme::{self, Tone};
use octet::zoo::{self, ModelConfig, ModelId};

use crate::{harness, snapshot};

fn draw(ui: &mut Ui, _: &mut ()) {
    theme::ground_frame(ui).show(ui, |ui| {
        let bar = |name: &str, bytes: u64, tone| BarItem {
            name: name.to_owned(),
            value: bytes as f64,
            text: number::bytes(bytes),
            tone,
        };
        bars_ui(ui, "Size", &[bar("float32", 44_800_000, Tone::Float), bar("int8", 11_300_000, Tone::Int8)]);
        let batches: Vec<(f32, f32)> =
            (0..32).map(|i| ((i as f32 * 0.7).sin() - 2.0, 3.0 + (i as f32).cos())).collect();
        range_ui(ui, "Range of layer1.0.conv1", &batches, (-2.9, 3.9));
        let bell = (0..4000).map(|i| ((i % 63) as f32 / 31.0 - 1.0) * ((i % 40) as f32 / 40.0));
        let histogram = Histogram::of(bell, 64, Tone::Observed).expect("values");
        histogram_ui(ui, "Histogram", "activation", &Histogram { clip: Some((-0.8, 0.85)), ..histogram });
        let curve = |name: &str, rate: f64, i| Curve {
            name: name.to_owned(),
            points: (0..200).map(|x| [f64::from(x) / 20.0, 2.3 * (-rate * f64::from(x) / 20.0).exp()]).collect(),
            color: theme::series(i, ui.visuals().dark_mode),
            dashed: i == 1,
        };
        let curves = [curve("train", 0.4, 0), curve("test", 0.25, 1)];
        curves_ui(ui, "Loss", "epoch", "loss", &curves, number::number);
    });
}

#[test]
fn charts_have_names_and_tables() {
    let (mut harness, textures) = harness([480.0, 800.0], Theme::Dark, (), draw);
    harness.run();
    harness.get_by_label_contains("Size: float32 44.8\u{2009}MB, int8 11.3\u{2009}MB");
    harness.get_by_label_contains("Loss: train");
    snapshot::matches(&harness, &textures, "charts_dark");
    harness.get_by_label("Size: show as table").click();
    harness.get_by_label("Range of layer1.0.conv1: show as table").click();
    harness.run();
    harness.get_by_label("11.3\u{2009}MB");
    harness.get_by_label("Size: show as chart");
}

/// A chart is the same after many frames: what names a mark must not widen what is shown.
#[test]
fn a_marked_chart_stays_as_it_is() {
    let (mut harness, textures) = harness([480.0, 260.0], Theme::Dark, (), |ui: &mut Ui, _: &mut ()| {
        let points = (0..100).map(|x| [f64::from(x) / 10.0, 1.0 + f64::from(x % 7)]).collect();
        let curve = Curve { name: "train".to_owned(), points, color: theme::series(0, true), dashed: false };
        let marks = [Mark { at: 3.0, name: "batch norm freezes" }, Mark { at: 4.0, name: "ranges freeze" }];
        curves_marked_ui(ui, "Loss", ["epoch", "loss"], &[curve], &marks, number::number);
    });
    harness.run_steps(4);
    let first = textures.picture(&harness);
    harness.run_steps(40);
    assert!(textures.picture(&harness) == first, "the chart moves");
    if let Some(folder) = std::env::var_os("PICTURES") {
        first.save(std::path::Path::new(&folder).join("marks.png")).expect("a picture");
    }
}

#[test]
fn the_inspector_tells_a_layer() {
    let graph = zoo::build(ModelId::ResNet18, ModelConfig { classes: 10, size: 64 }).expect("valid");
    let graph = Arc::new(zoo::init(&graph, 0));
    let mut selection = Selection::default();
    selection.select("layer1.0.conv1", [&*graph]);
    let (mut harness, textures) = harness([288.0, 560.0], Theme::Light, Inspector::default(), move |ui, inspector| {
        theme::panel_frame(ui).show(ui, |ui| inspector_ui(ui, inspector, Some(&graph), &selection));
    });
    harness.run();
    harness.get_by_label("64\u{d7}64\u{d7}3\u{d7}3");
    snapshot::matches(&harness, &textures, "inspector_light");
}

/// Every class has its name on both sides where there is room, and no name lies on another where there is little.
#[test]
fn a_confusion_matrix_names_its_rows_and_columns() {
    // Classes, width, and whether every one has its name.
    for (classes, width, all) in [(10, 360.0, true), (33, 760.0, true), (33, 360.0, false), (100, 360.0, false)] {
        let labels: Vec<String> = (0..classes).map(|i| format!("a class of {i}")).collect();
        let counts: Vec<u32> = (0..classes * classes).map(|i| if i % (classes + 1) == 0 { 90 } else { 1 }).collect();
        let said = labels.clone();
        let (mut harness, textures) =
            harness([width, width + 60.0], Theme::Light, (), move |ui: &mut Ui, _: &mut ()| {
                theme::ground_frame(ui).show(ui, |ui| {
                    matrix_ui(ui, "Names", &Matrix { labels: &labels, counts: &counts }, "some right");
                });
            });
        harness.run();
        if let Some(folder) = std::env::var_os("PICTURES") {
            let file = format!("matrix_{classes}_{width}.png");
            textures.picture(&harness).save(std::path::Path::new(&folder).join(file)).expect("a picture");
        }
        let mut names: [Vec<Rect>; 2] = Default::default();
        let mut axes = 0;
        for shape in &harness.output().shapes {
            let Shape::Text(text) = &shape.shape else { continue };
            axes += usize::from(["true", "predicted"].contains(&text.galley.text()));
            if said.iter().any(|name| name == text.galley.text()) {
                names[usize::from(text.angle != 0.0)].push(shape.shape.visual_bounding_rect());
            }
        }
        assert_eq!(axes, 2, "{classes} classes");
        for (side, found) in names.iter().enumerate() {
            assert_eq!(found.len() == classes, all, "{classes} classes have {} names on side {side}", found.len());
            assert!(found.len() >= 2, "{classes} classes: {found:?}");
            for pair in found.windows(2) {
                assert!(!pair[0].shrink(0.5).intersects(pair[1].shrink(0.5)), "{classes} classes: {pair:?}");
            }
        }
        // Over a cell, in words what it says.
        let figure = harness.get_by_label_contains("Names: some right").rect();
        harness.hover_at(figure.left_bottom() + eframe::egui::vec2(figure.height() - 1.0, -1.0));
        harness.run_steps(8);
        let last = format!("90 images of a class of {} are named so", classes - 1);
        assert!(harness.query_by_label(&last).is_some(), "{last}");
    }
}
