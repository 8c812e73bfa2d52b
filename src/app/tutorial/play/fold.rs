use eframe::egui::{Grid, Label, RichText, Slider, Ui, vec2};

use super::{Kept, address, exact, later_ui, normed};
use crate::app::controls::small_ui;
use crate::app::number;
use crate::app::theme::{self, Tone, Type};
use crate::app::tutorial::check::weighted;
use crate::app::workbench::Workbench;
use crate::session::{FoldExample, Folded, View, fold_example};

/// The channel that is folded, and its batch norm as moved.
#[derive(Debug, Default)]
pub(super) struct FoldPlay {
    found: Kept<(usize, String, usize), Option<FoldExample>>,
    channel: usize,
    /// As moved, with what it gives.
    moved: Option<(FoldExample, Option<Folded>)>,
}

/// One channel with its batch norm to move, unfused and fused.
pub(super) fn fold_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(before) = weighted(view) else {
        later_ui(ui, "Give the model weights first.");
        return;
    };
    let Some(node) = normed(bench, &before.graph) else {
        later_ui(ui, "This model has no batch norm.");
        return;
    };
    let (name, channels) = (node.name.clone(), node.shape.c.max(1));
    let play = &mut bench.tutorial.plays.fold;
    play.channel = play.channel.min(channels - 1);
    ui.spacing_mut().slider_width = (ui.available_width() - 150.0).clamp(60.0, 240.0);
    ui.add(Slider::new(&mut play.channel, 0..=channels - 1).text("channel"));
    let channel = play.channel;
    let (opened, graph, layer) = (before.opened.clone(), before.graph.clone(), name.clone());
    let of = (address(&before.graph), name, channel);
    let job = move || fold_example(&opened, &graph, &layer, channel).map_err(|e| e.to_string());
    let found = play.found.get(ui, of, job);
    let Some(Some(own)) = found.cloned() else {
        play.found.missing_ui(ui);
        return;
    };
    let mut example = match play.moved.take() {
        Some((moved, folded)) if (&moved.layer, moved.channel) == (&own.layer, own.channel) => {
            play.moved = Some((moved.clone(), folded));
            moved
        }
        Some(_) | None => own.clone(),
    };
    let spread = |v: f32| 2.0 * v.abs().max(0.5);
    for (name, value, at) in [
        ("\u{3b3}", &mut example.gamma, own.gamma),
        ("\u{3b2}", &mut example.beta, own.beta),
        ("\u{3bc}", &mut example.mean, own.mean),
    ] {
        ui.add(exact(Slider::new(value, at - spread(at)..=at + spread(at))).text(name));
    }
    let var = own.var.max(1e-3);
    ui.add(exact(Slider::new(&mut example.var, var * 0.01..=var * 10.0)).logarithmic(true).text("\u{3c3}\u{b2}"));
    // Run again only where something was moved.
    if play.moved.as_ref().is_none_or(|(of, _)| *of != example) {
        play.moved = Some((example.clone(), example.run().ok()));
    }
    match play.moved.as_ref().and_then(|(_, folded)| folded.clone()) {
        Some(folded) => folded_ui(ui, &example, &folded),
        None => later_ui(ui, "These numbers cannot be folded."),
    }
    if example != own && small_ui(ui, "As it was trained").clicked() {
        bench.tutorial.plays.fold.moved = None;
    }
}

fn folded_ui(ui: &mut Ui, example: &FoldExample, folded: &Folded) {
    let p = theme::palette(ui);
    let n = |v: f32| number::number(v.into());
    let largest =
        example.weights.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).map_or(0, |(i, _)| i);
    let at = |w: &[f32]| w.get(largest).map_or(String::new(), |v| n(*v));
    let rows = [
        ("largest weight", at(&example.weights), at(&folded.weights)),
        ("bias", "0".to_owned(), n(folded.bias)),
        ("convolution gives", n(folded.conv), n(folded.fused)),
        ("batch norm gives", n(folded.norm), "none left".to_owned()),
    ];
    Grid::new("fold").num_columns(3).spacing(vec2(theme::PADDING, theme::GRID)).show(ui, |ui| {
        ui.label("");
        for head in ["apart", "fused"] {
            ui.label(RichText::new(head).font(Type::Small.strong()).color(p.weak));
        }
        ui.end_row();
        for (name, a, b) in rows {
            ui.label(RichText::new(name).color(p.weak));
            ui.label(RichText::new(a).font(Type::Body.mono()).color(p.text));
            ui.label(RichText::new(b).font(Type::Body.mono()).color(p.text));
            ui.end_row();
        }
    });
    let off = (folded.norm - folded.fused).abs();
    let text = match off == 0.0 {
        true => format!("Both end at {}, to the last bit.", n(folded.fused)),
        false => format!("Both end at {}; they differ by {}: rounding.", n(folded.fused), n(off)),
    };
    ui.add(Label::new(RichText::new(text).color(Tone::Int8.ink(p.dark))).wrap());
}
