use std::sync::Arc;

use eframe::egui::{RichText, Ui};

use super::result::Says;
use super::{halves_ui, prose};
use crate::app::controls::choice_ui;
use crate::app::graph_view::pane_ui;
use crate::app::theme;
use crate::app::workbench::Workbench;
use crate::graph::Graph;
use crate::session::{Step, View};

/// The graph before and after the step, side by side, one selection in both.
pub(super) fn graphs_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let before = view.stage_before(bench.step).map(|s| s.graph().clone());
    let after = view.stage_of(bench.step).map(|s| s.graph().clone());
    if bench.step == Step::Convert && after.is_some() {
        says_ui(ui, bench, view);
    } else {
        bench.panes[1].look_through(None);
    }
    bench.panes[0].look_through(None);
    match (before, after) {
        (None, _) => prose(ui, "The graph is drawn here when the steps before are done."),
        (Some(before), None) => {
            let chosen = pane_ui(ui, "Before", &mut bench.panes[0], &before, &bench.selection);
            choose(bench, chosen, [&before, &before]);
        }
        (Some(before), Some(after)) => pair_ui(ui, bench, &before, &after),
    }
}

/// What the converted graph's cards say: what they are in, how far they are from float, what they cost.
fn says_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    bench.result.update(view);
    ui.horizontal(|ui| {
        let says =
            [(Says::State, "State"), (Says::Error, "Error"), (Says::Time, "Time"), (Says::Suspicion, "Suspicion")];
        choice_ui(ui, "Cards say", &says, &mut bench.result.says);
        let text = match bench.result.says {
            Says::State => "what each value is made of",
            Says::Error => "ratio of signal to noise, of a module the least",
            Says::Time => "median time of one image, of a module the sum",
            Says::Suspicion if bench.result.analyze().swept().is_none() => {
                "sweep over the layers first: Result, Analyze"
            }
            Says::Suspicion => "logit MSE of this layer alone quantized, of a module the most",
        };
        ui.label(RichText::new(text).color(theme::palette(ui).weak));
        if bench.result.errors.is_busy() || bench.result.times.is_busy() {
            ui.spinner();
        }
    });
    let lens = bench.result.lens(ui, view);
    bench.panes[1].look_through(lens);
}

/// Two graphs in the room there is.
pub(super) fn pair_ui(ui: &mut Ui, bench: &mut Workbench, before: &Arc<Graph>, after: &Arc<Graph>) {
    let size = ui.available_size();
    let mut chosen: [Option<String>; 2] = [None, None];
    halves_ui(ui, |left, right| {
        for (i, (ui, (name, graph))) in
            [left, right].into_iter().zip([("Before", before), ("After", after)]).enumerate()
        {
            ui.set_max_height(size.y);
            chosen[i] = pane_ui(ui, name, &mut bench.panes[i], graph, &bench.selection);
        }
    });
    let [left, right] = chosen;
    let side = if left.is_some() { 1 } else { 0 };
    let picked = left.or(right);
    if let Some(name) = &picked {
        bench.selection.select(name, [&**before, &**after]);
        // What is its like on the other side comes into view there.
        let other = if side == 1 { after } else { before };
        if let Some(node) = bench.selection.within(other) {
            bench.panes[side].reveal(&node.name.clone());
        }
    }
}

fn choose(bench: &mut Workbench, chosen: Option<String>, graphs: [&Arc<Graph>; 2]) {
    if let Some(name) = chosen {
        bench.selection.select(&name, graphs.map(|g| &**g));
    }
}
