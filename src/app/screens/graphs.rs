use std::sync::Arc;

use eframe::egui::{RichText, Ui};

use super::prose;
use crate::app::graph_view::{pane_ui, tone};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::graph::Graph;
use crate::session::View;

/// The graph before and after the step, side by side, one selection in both.
pub(super) fn graphs_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let before = view.stage_before(bench.step).map(|s| s.graph().clone());
    let after = view.stage_of(bench.step).map(|s| s.graph().clone());
    match (before, after) {
        (None, _) => prose(ui, "The graph is drawn here when the steps before are done."),
        (Some(before), None) => {
            legend_ui(ui, "Before", &before);
            let chosen = pane_ui(ui, "Graph before", &mut bench.panes[0], &before, &bench.selection);
            choose(bench, chosen, [&before, &before]);
        }
        (Some(before), Some(after)) => pair_ui(ui, bench, &before, &after),
    }
}

/// Two graphs in the room there is.
pub(super) fn pair_ui(ui: &mut Ui, bench: &mut Workbench, before: &Arc<Graph>, after: &Arc<Graph>) {
    let size = ui.available_size();
    let mut chosen: [Option<String>; 2] = [None, None];
    ui.columns_const(|columns: &mut [Ui; 2]| {
        for (i, (ui, (name, graph))) in columns.iter_mut().zip([("before", before), ("after", after)]).enumerate() {
            ui.set_max_height(size.y);
            let title = if i == 0 { "Before" } else { "After" };
            legend_ui(ui, title, graph);
            chosen[i] = pane_ui(ui, &format!("Graph {name}"), &mut bench.panes[i], graph, &bench.selection);
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

/// The states that occur, with their colours and glyphs.
fn legend_ui(ui: &mut Ui, title: &str, graph: &Graph) {
    let p = theme::palette(ui);
    ui.horizontal(|ui| {
        ui.label(RichText::new(title).font(Type::Body.strong()).color(p.strong));
        for state in Tone::ALL {
            let count = graph.nodes.iter().filter(|n| tone(&n.numeric) == state).count();
            if count > 0 {
                let text = format!("{}  {count} {}", state.glyph(), state.name());
                ui.label(RichText::new(text).font(Type::Small.font()).color(state.ink(p.dark)));
            }
        }
    });
}
