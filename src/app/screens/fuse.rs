use eframe::egui::{Align, Label, Layout, RichText, Sense, Ui};
use egui_extras::{Column, TableBuilder};

use super::site::site_ui;
use super::{graphs, halves_ui, prose, titled_ui, warnings_ui};
use crate::app::glossary::label_ui;
use crate::app::layer_name::{layer_name_ui, width_of};
use crate::app::number;
use crate::app::plot::{Table, save_table_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{FuseReport, FusionProof, Stage, Step, View};

const LINE: f32 = 24.0;
/// Widths of the table's columns: the switch, a pattern at least, how far its output moved.
const SWITCH: f32 = 28.0;
const PATTERN: f32 = 120.0;
const MOVED: f32 = 76.0;
/// Width from which the selected site stands beside the table.
const SIDE_BY_SIDE: f32 = 600.0;

/// A row of the table: a site that fused, or a node that did not.
struct Row {
    name: String,
    what: String,
    /// How far its output moved, over its largest value, and whether that is rounding; of a site.
    moved: Option<(f32, f32, bool)>,
    fused: bool,
}

/// Before and after side by side, and under them every site with its switch.
pub(super) fn fuse_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(Stage::Fused { before, graph, report, proof, warnings }) = view.stage_of(Step::Fuse).map(AsRef::as_ref)
    else {
        prose(
            ui,
            "A convolution, its batch norm and its ReLU compute one thing. Fused, they are one layer, with the same output and one rounding instead of three. The patterns are found in the graph; nothing is listed by hand.",
        );
        if view.stage_before(Step::Fuse).is_some() {
            graphs::graphs_ui(ui, bench, view);
        }
        return;
    };
    let rows = rows(report, proof);
    proof_ui(ui, report.sites.len(), proof, warnings.is_empty());
    warnings_ui(ui, warnings);
    let room = ui.available_height();
    let table_room = (room * 0.5).clamp(96.0, 380.0);
    let (left, right) = (before.graph.clone(), graph.clone());
    ui.allocate_ui(eframe::egui::vec2(ui.available_width(), (room - table_room - theme::GAP).max(0.0)), |ui| {
        bench.panes.iter_mut().for_each(|pane| pane.look_through(None));
        graphs::pair_ui(ui, bench, &left, &right);
    });
    let mut clicked = None;
    if ui.available_width() < SIDE_BY_SIDE {
        clicked = table_ui(ui, bench, &rows);
    } else {
        let height = ui.available_height();
        halves_ui(ui, |table, site| {
            table.set_max_height(height);
            site.set_max_height(height);
            clicked = table_ui(table, bench, &rows);
            site_ui(site, bench, &left, report, proof);
        });
    }
    if let Some(name) = clicked {
        bench.selection.select(&name, [&*left, &*right]);
        for (pane, graph) in bench.panes.iter_mut().zip([&left, &right]) {
            if let Some(node) = bench.selection.within(graph) {
                pane.reveal(&node.name.clone());
            }
        }
    }
}

/// Every site, then every node that stays on its own with the reason.
fn rows(report: &FuseReport, proof: &FusionProof) -> Vec<Row> {
    let sites = report.sites.iter().map(|s| Row {
        name: s.name.clone(),
        what: s.pattern.title().to_owned(),
        moved: proof.sites.iter().find(|p| p.name == s.name).map(|p| (p.max_abs, p.relative, p.is_rounding())),
        fused: true,
    });
    let refusals = report.refusals.iter().map(|r| Row {
        name: r.node.clone(),
        what: r.reason.to_string(),
        moved: None,
        fused: false,
    });
    sites.chain(refusals).collect()
}

fn proof_ui(ui: &mut Ui, sites: usize, proof: &FusionProof, proved: bool) {
    let p = theme::palette(ui);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(format!("{sites} sites fused")).font(Type::Body.strong()).color(p.strong));
        if proof.relative.is_nan() {
            let text = "The output is not a number, before fusing or after it: nothing is proved.";
            ui.label(RichText::new(text).color(Tone::Trouble.ink(p.dark)));
            return;
        }
        let text = format!(
            "On {} images no logit moved by more than {}, {} of the largest{}",
            proof.images,
            number::number(f64::from(proof.max_abs)),
            number::number(f64::from(proof.relative)),
            if proved { ": rounding, nothing else." } else { "." },
        );
        ui.label(RichText::new(text).color(p.weak));
    });
}

/// The sites and refusals as they are saved.
fn whole(rows: &[Row]) -> Table {
    let all = rows.iter().map(|row| {
        let [most, relative] = match row.moved {
            Some((most, relative, _)) => [most, relative].map(|v| v.to_string()),
            None => Default::default(),
        };
        let fused = if row.fused { "fused" } else { "not fused" };
        [row.name.clone(), fused.to_owned(), row.what.clone(), most, relative]
    });
    Table::new(["layer", "", "pattern, or why not", "largest |\u{394}|", "of the largest value"], all)
}

/// The sites and refusals; the name that was clicked.
fn table_ui(ui: &mut Ui, bench: &mut Workbench, rows: &[Row]) -> Option<String> {
    let mut clicked = None;
    let p = theme::palette(ui);
    titled_ui(ui, "Every site", |ui| save_table_ui(ui, "Fusions", || whole(rows)));
    // Names take what they need; why something did not fuse is long.
    let room = ui.available_width() - SWITCH - MOVED - 3.0 * theme::GAP;
    let longest = width_of(ui, rows.iter().map(|row| row.name.as_str()));
    let name = longest.min(room - PATTERN).max(80.0);
    let pattern = (room - name).max(PATTERN);
    ui.push_id("fusions", |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        TableBuilder::new(ui)
            .sense(Sense::hover())
            .cell_layout(Layout::left_to_right(Align::Center))
            .auto_shrink(false)
            .column(Column::exact(SWITCH))
            .column(Column::exact(name).clip(true))
            .column(Column::exact(pattern).clip(true))
            .column(Column::exact(MOVED).clip(true))
            .header(LINE, |mut header| {
                for head in ["", "layer", "pattern, or why not", "largest |\u{394}|"] {
                    header.col(|ui| {
                        label_ui(ui, RichText::new(head).font(Type::Small.font()).color(p.weak));
                    });
                }
            })
            .body(|body| {
                body.rows(LINE, rows.len(), |mut line| {
                    let row = &rows[line.index()];
                    line.col(|ui| switch_ui(ui, bench, row));
                    line.col(|ui| {
                        let selected = bench.selection.name() == Some(&row.name);
                        if layer_name_ui(ui, &row.name, selected, LINE).clicked() {
                            clicked = Some(row.name.clone());
                        }
                    });
                    line.col(|ui| {
                        let ink = if row.fused { p.text } else { Tone::Observed.ink(p.dark) };
                        ui.add(Label::new(RichText::new(&row.what).color(ink)).truncate()).on_hover_text(&row.what);
                    });
                    line.col(|ui| {
                        let Some((most, relative, rounding)) = row.moved else { return };
                        let ink = if rounding { p.text } else { Tone::Trouble.ink(p.dark) };
                        let glyph = if rounding { "" } else { "! " };
                        let text = format!("{glyph}{}", number::number(most.into()));
                        let label = Label::new(RichText::new(text).font(Type::Body.mono()).color(ink)).truncate();
                        let of_largest = format!("{} of the largest value", number::number(relative.into()));
                        ui.add(label).on_hover_text(of_largest);
                    });
                });
            });
    });
    clicked
}

/// Whether this site is to fuse the next time.
fn switch_ui(ui: &mut Ui, bench: &mut Workbench, row: &Row) {
    let off = bench.choices.unfused.contains(&row.name);
    if !row.fused && !off {
        return;
    }
    let mut on = !off;
    let name = format!("Fuse {}", row.name);
    // On the line of the words beside it.
    ui.spacing_mut().interact_size.y = LINE;
    let response = ui.checkbox(&mut on, "");
    response.widget_info(|| eframe::egui::WidgetInfo::selected(eframe::egui::Role::CheckBox, true, !off, &name));
    if response.on_hover_text("Takes effect when fusing again").changed() {
        if on {
            bench.choices.unfused.remove(&row.name);
        } else {
            bench.choices.unfused.insert(row.name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Builder;
    use crate::graph::{Activation, ConvSpec, Op, Shape};
    use crate::session::FuseOptions;

    /// A pair that fuses, and every reason why others do not.
    #[test]
    fn every_row_says_what_was_found_or_why_not() {
        let (mut b, x) = Builder::new("all", Shape::new(2, 4, 4));
        let x = b.conv("pair", x, ConvSpec::new(2, 3));
        let x = b.bn("pair_bn", x, 1e-5, 0.1);
        let shared = b.conv("shared", x, ConvSpec::new(2, 3));
        let x = b.bn("shared_bn", shared, 1e-5, 0.1);
        let x = b.push("add", Op::Add { relu: false }, &[x, shared]);
        let x = b.conv("alone", x, ConvSpec::new(2, 3).bias());
        let x = b.act("swish", x, Activation::Hardswish);
        let x = b.conv("off", x, ConvSpec::new(2, 3));
        b.bn("off_bn", x, 1e-5, 0.1);
        let options = FuseOptions { disabled: ["off".to_owned()].into() };
        let (_, report) = crate::quant::fuse(&b.finish(), &options).expect("a float graph");
        let proof = FusionProof { images: 1, max_abs: 0.0, relative: 0.0, sites: Vec::new() };
        let rows = rows(&report, &proof);
        let what = |name: &str| rows.iter().find(|r| r.name == name).map(|r| (r.fused, r.what.as_str()));
        assert_eq!(what("pair"), Some((true, "Conv + BN")));
        let (fused, why) = what("shared").expect("a row");
        assert!(!fused && why.contains("2 users") && why.contains("add"), "{why}");
        assert_eq!(what("alone"), Some((false, "followed by Hardswish, not by batch norm or ReLU")));
        let (_, why) = what("swish").expect("a row");
        assert!(why.contains("no fused kernel"), "{why}");
        assert_eq!(what("off"), Some((false, "switched off")));
    }
}
