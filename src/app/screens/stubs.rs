use std::sync::Arc;

use eframe::egui::text::{LayoutJob, TextWrapping};
use eframe::egui::{Align2, Label, Rect, RichText, ScrollArea, Sense, Shape, Stroke, StrokeKind, Ui, pos2, vec2};

use super::{graphs, halves_ui, prose};
use crate::app::graph_view::{Lens, pane_ui};
use crate::app::number;
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::graph::Graph;
use crate::session::{Crossing, Step, View, crossings};

/// One box of the strip.
struct Part {
    title: String,
    caption: String,
    tone: Tone,
    stub: bool,
}

/// What the screen keeps: which graph the borders were found in.
#[derive(Debug, Default)]
pub(crate) struct StubsScreen {
    found: Option<(Arc<Graph>, Vec<Crossing>, Arc<Lens>)>,
}

impl StubsScreen {
    fn update(&mut self, graph: &Arc<Graph>) {
        if self.found.as_ref().is_some_and(|(of, _, _)| Arc::ptr_eq(of, graph)) {
            return;
        }
        let (found, int8) = crossings(graph);
        let tone = |int8: bool| if int8 { Tone::Int8 } else { Tone::Float };
        let tones = graph.nodes.iter().zip(int8).map(|(node, int8)| (node.name.clone(), tone(int8))).collect();
        self.found = Some((graph.clone(), found, Arc::new(Lens::of_tones(tones))));
    }
}

/// The way of an image through the model, where its values change between float and int8, and the model itself in the
/// colours that its values will have.
pub(super) fn stubs_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(opened) = view.stages[0].as_ref() else { return };
    way_ui(ui, opened.graph(), view);
    if view.stage_of(Step::Stubs).is_none() {
        prose(
            ui,
            "Everything is float32 now. Two stubs will mark what becomes int8: one behind the image, one behind the logits.",
        );
        bench.panes[0].look_through(None);
        graphs::graphs_ui(ui, bench, view);
        return;
    }
    // Layers that a later step leaves in float have stubs of their own.
    let graph = match view.stage_of(Step::Prepare) {
        Some(prepared) => prepared.graph().clone(),
        None => view.stage().map_or_else(|| opened.graph().clone(), |s| s.graph().clone()),
    };
    bench.stubs.update(&graph);
    let Some((_, found, lens)) = bench.stubs.found.clone() else { return };
    let (to_int8, to_float) = (found.iter().filter(|c| c.to_int8).count(), found.iter().filter(|c| !c.to_int8).count());
    prose(
        ui,
        &format!(
            "Values become int8 at {to_int8} {} and float again at {to_float}. The stubs compute nothing yet: the last step turns them into the only places where values change, and everything between them into int8.",
            if to_int8 == 1 { "place" } else { "places" }
        ),
    );
    let wide = ui.available_width() >= 600.0;
    let height = ui.available_height().max(240.0);
    let mut chosen = None;
    let mut graph_ui = |ui: &mut Ui, bench: &mut Workbench| {
        bench.panes[1].look_through(Some(lens.clone()));
        chosen = pane_ui(ui, "Model", &mut bench.panes[1], &graph, &bench.selection);
    };
    let mut picked = None;
    if wide {
        halves_ui(ui, |left, right| {
            left.set_max_height(height);
            right.set_max_height(height);
            graph_ui(left, bench);
            picked = crossings_ui(right, bench, &found);
        });
    } else {
        picked = crossings_ui(ui, bench, &found);
        ui.allocate_ui(vec2(ui.available_width(), 320.0), |ui| graph_ui(ui, bench));
    }
    if let Some(name) = picked {
        bench.panes[1].reveal(&name);
        chosen = Some(name);
    }
    if let Some(name) = chosen {
        bench.selection.select(&name, [&*graph]);
    }
}

/// Each crossing: what crosses, and how many bytes it has on either side. Returns the stub that was clicked.
fn crossings_ui(ui: &mut Ui, bench: &Workbench, found: &[Crossing]) -> Option<String> {
    let mut picked = None;
    ScrollArea::vertical().id_salt("crossings").auto_shrink(false).show(ui, |ui| {
        for crossing in found {
            let (from, to) = match crossing.to_int8 {
                true => (Tone::Float, Tone::Int8),
                false => (Tone::Int8, Tone::Float),
            };
            let p = theme::palette(ui);
            let selected = bench.selection.contains(&crossing.node);
            let line = if selected { Stroke::new(1.0, p.accent_ink) } else { theme::hairline(ui) };
            theme::card_frame(ui).stroke(line).show(ui, |ui| {
                ui.set_width(ui.available_width());
                ui.horizontal(|ui| {
                    let name = RichText::new(&crossing.node).font(Type::Body.strong());
                    // Its letters stand above those below it.
                    ui.spacing_mut().button_padding.x = 0.0;
                    // And as far below the card's edge as those at its foot above it.
                    ui.spacing_mut().interact_size.y = theme::SMALL;
                    if ui.selectable_label(selected, name).on_hover_text("Show it in the graph").clicked() {
                        picked = Some(crossing.node.clone());
                    }
                    let text = format!("{} {}  \u{2192}  {} {}", from.glyph(), from.name(), to.glyph(), to.name());
                    ui.label(RichText::new(text).font(Type::Small.strong()).color(to.ink(p.dark)));
                });
                let shape = crossing.shape.to_string().replace('x', "\u{d7}");
                let (float, int8) = (4 * crossing.shape.len(), crossing.shape.len());
                let bytes = |int8_side: bool| number::bytes(if int8_side { int8 } else { float } as u64);
                let text = format!(
                    "{} \u{b7} {shape} \u{b7} {} \u{2192} {} an image",
                    crossing.from,
                    bytes(from == Tone::Int8),
                    bytes(to == Tone::Int8)
                );
                ui.add(Label::new(RichText::new(text).color(p.text)).wrap());
                if !crossing.readers.is_empty() {
                    let text = format!("read by {}", crossing.readers.join(", "));
                    ui.add(Label::new(RichText::new(text).font(Type::Small.font()).color(p.weak)).wrap());
                }
            });
        }
    });
    picked
}

/// In one line: image, stub, model, stub, logits.
fn way_ui(ui: &mut Ui, graph: &Graph, view: &View) {
    let done = view.stage_of(Step::Stubs).is_some();
    let part = |title: &str, caption: String, tone, stub| Part { title: title.to_owned(), caption, tone, stub };
    let layers = graph.nodes.len() - 1;
    let image = graph.input_shape().to_string().replace('x', "\u{d7}");
    let inside = if done { Tone::Int8 } else { Tone::Float };
    let mut parts = vec![part("image", image, Tone::Float, false)];
    if done {
        parts.push(part("QuantStub", "float to uint8".to_owned(), Tone::Int8, true));
    }
    let name = view.recipe.as_ref().map_or(graph.name.as_str(), |r| r.model.title());
    parts.push(part(name, format!("{layers} nodes"), inside, false));
    if done {
        parts.push(part("DeQuantStub", "uint8 to float".to_owned(), Tone::Int8, true));
    }
    parts.push(part("logits", format!("{} classes", number::count(graph.classes())), Tone::Float, false));
    strip_ui(ui, &parts);
    ui.add_space(theme::GAP);
}

/// Boxes from left to right, joined by arrows; from top to bottom where there is no room.
fn strip_ui(ui: &mut Ui, parts: &[Part]) {
    const HIGH: f32 = 56.0;
    const ARROW: f32 = 20.0;
    let room = ui.available_width().min(960.0);
    let n = parts.len() as f32;
    let wide = room >= n * 116.0 + (n - 1.0) * ARROW;
    let size = if wide { vec2((room - (n - 1.0) * ARROW) / n, HIGH) } else { vec2(room.min(280.0), HIGH) };
    let total = if wide { vec2(room, HIGH) } else { vec2(size.x, n * HIGH + (n - 1.0) * ARROW) };
    let (area, response) = ui.allocate_exact_size(total, Sense::hover());
    let said = parts.iter().map(|p| p.title.as_str()).collect::<Vec<_>>().join(", then ");
    let info =
        || eframe::egui::WidgetInfo::labeled(eframe::egui::Role::Figure, true, format!("The way of an image: {said}"));
    response.widget_info(info);
    let step = if wide { vec2(size.x + ARROW, 0.0) } else { vec2(0.0, HIGH + ARROW) };
    for (i, part) in parts.iter().enumerate() {
        let rect = Rect::from_min_size(area.min + step * i as f32, size);
        part_ui(ui, rect, part);
        if i + 1 < parts.len() {
            let (from, to) = if wide {
                (rect.right_center() + vec2(2.0, 0.0), rect.right_center() + vec2(ARROW - 2.0, 0.0))
            } else {
                (rect.center_bottom() + vec2(0.0, 4.0), rect.center_bottom() + vec2(0.0, ARROW - 4.0))
            };
            ui.painter().arrow(from, to - from, Stroke::new(1.5, theme::palette(ui).edge));
        }
    }
}

fn part_ui(ui: &Ui, rect: Rect, part: &Part) {
    let p = theme::palette(ui);
    let (fill, strong, weak) = if part.stub {
        (part.tone.fill(), part.tone.on_fill(), part.tone.on_fill())
    } else {
        (p.raised, p.strong, p.weak)
    };
    let painter = ui.painter_at(rect);
    painter.rect(rect, theme::RADIUS, fill, theme::hairline(ui), StrokeKind::Inside);
    if !part.stub {
        let bar = Rect::from_min_max(rect.min, pos2(rect.left() + 5.0, rect.bottom()));
        painter.add(Shape::rect_filled(bar, theme::RADIUS, part.tone.fill()));
    }
    let left = rect.left() + 12.0;
    let mut title = LayoutJob::simple_singleline(part.title.clone(), Type::Body.strong(), strong);
    title.wrap = TextWrapping::truncate_at_width(rect.right() - left - 4.0);
    let title = painter.layout_job(title);
    painter.galley(pos2(left, rect.top() + 20.0 - title.size().y / 2.0), title, strong);
    painter.text(pos2(left, rect.top() + 38.0), Align2::LEFT_CENTER, &part.caption, Type::Small.font(), weak);
    let ink = if part.stub { part.tone.on_fill() } else { part.tone.ink(p.dark) };
    let at = rect.right_top() + vec2(-10.0, 38.0);
    painter.text(at, Align2::RIGHT_CENTER, part.tone.glyph(), Type::Small.strong(), ink);
}
