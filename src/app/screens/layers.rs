use std::sync::Arc;

use eframe::egui::{Align, Align2, Label, Layout, RichText, Role, TextEdit, Ui, WidgetInfo};
use egui_extras::{Column, TableBuilder};

use super::prose;
use crate::app::controls::pick_ui;
use crate::app::glossary::label_ui;
use crate::app::layer_name::layer_name_ui;
use crate::app::number;
use crate::app::plot::{Table, save_table_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::graph::{Graph, Numeric};
use crate::session::{
    ActivationSpec, Choosable, ObserverKind, Override, QConfig, Stage, Step, View, WeightSpec, choosable,
};

const LINE: f32 = 32.0;
/// No less of the table is shown, however small the window.
const LEAST: f32 = 240.0;

/// As wide as the table must be to show what is prepared, and then the operations too.
const WIDE: f32 = 660.0;
const WIDEST: f32 = 880.0;
/// Widest that a name's column is: what is chosen for a layer stands near its name.
const NAME: f32 = 280.0;

/// Which layers the table shows.
#[derive(Debug, Default)]
pub(crate) struct PrepareScreen {
    search: String,
    /// Only those with choices of their own.
    own: bool,
    /// The layers of the fused graph, kept while it is the same.
    layers: Option<(Arc<Graph>, Vec<Layer>)>,
}

#[derive(Clone, Debug)]
struct Layer {
    name: String,
    op: &'static str,
    can: Choosable,
}

/// What a layer's output is: as the rest, or something of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Output {
    Rest,
    Float,
    Observer(ObserverKind),
    /// The range that was set by hand while calibrating.
    Fixed,
}

/// Every layer of the fused graph, with what it has of its own.
pub(super) fn layers_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, room: f32) {
    let Some(Stage::Fused { graph, .. }) = view.stage_before(Step::Prepare).map(AsRef::as_ref) else {
        prose(
            ui,
            "Once the model is fused, each of its layers can have an observer of its own here, or stay in float.",
        );
        return;
    };
    if !bench.prepare.layers.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, graph)) {
        let op = |name: &str| graph.find(name).map_or("", |id| graph.node(id).op.name());
        let layers = choosable(graph).into_iter().map(|(name, can)| Layer { op: op(&name), name, can }).collect();
        bench.prepare.layers = Some((graph.clone(), layers));
    }
    // A range that was set by hand while calibrating is in the newer graph alone.
    let calibrated = view.stage_of(Step::Calibrate).filter(|stage| matches!(***stage, Stage::Calibrated { .. }));
    let prepared = calibrated.or(view.stage_of(Step::Prepare)).map(|stage| stage.graph().clone());
    search_ui(ui, bench, prepared.as_deref());
    let PrepareScreen { search, own, layers } = &bench.prepare;
    let shown: Vec<Layer> = layers
        .iter()
        .flat_map(|(_, layers)| layers)
        .filter(|l| l.name.contains(search.trim()) || l.op.to_lowercase().contains(&search.trim().to_lowercase()))
        .filter(|l| !own || bench.choices.qconfig.overrides.contains_key(&l.name))
        .cloned()
        .collect();
    if shown.is_empty() {
        prose(ui, "No layer matches.");
        return;
    }
    table_ui(ui, bench, &shown, prepared.as_deref(), (room - theme::ROW - theme::GAP).max(LEAST));
}

fn search_ui(ui: &mut Ui, bench: &mut Workbench, prepared: Option<&Graph>) {
    ui.horizontal(|ui| {
        let field = TextEdit::singleline(&mut bench.prepare.search).hint_text("Search by name or operation");
        let field = ui.add(field.desired_width(220.0).align(Align2::LEFT_CENTER));
        field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Search layers"));
        let count = bench.choices.qconfig.overrides.len();
        ui.checkbox(&mut bench.prepare.own, format!("only those of their own ({count})"));
        if count > 0 && ui.button("Clear all").on_hover_text("Every layer as the rest").clicked() {
            bench.choices.qconfig.overrides.clear();
        }
        save_table_ui(ui, "Layers", || whole(bench, prepared));
    });
}

/// Every layer with what is chosen for it, as it is saved.
fn whole(bench: &Workbench, prepared: Option<&Graph>) -> Table {
    let config = &bench.choices.qconfig;
    let rows = bench.prepare.layers.iter().flat_map(|(_, layers)| layers).map(|layer| {
        let float = config.overrides.get(&layer.name) == Some(&Override::Float);
        let chosen = |can: bool, said: String| if can && !float { said } else { String::new() };
        let activation = config.activation_of(&layer.name).unwrap_or(config.activation);
        let weight = config.weight_of(&layer.name).unwrap_or(config.weight);
        let output = match (float, activation.fixed) {
            (true, _) => "float".to_owned(),
            (false, Some(_)) => "set by hand".to_owned(),
            (false, None) => chosen(layer.can.observer, activation.observer.title().to_owned()),
        };
        let per = if weight.observer == ObserverKind::MinMax { "per tensor" } else { "per channel" };
        let bits = chosen(layer.can.weight || layer.can.observer, weight.bits.to_string());
        let now = now(prepared, &layer.name).map_or(String::new(), |(_, said)| said);
        [layer.name.clone(), layer.op.to_owned(), output, chosen(layer.can.weight, per.to_owned()), bits, now]
    });
    Table::new(["layer", "operation", "output", "weight", "bits", "prepared"], rows)
}

fn table_ui(ui: &mut Ui, bench: &mut Workbench, layers: &[Layer], prepared: Option<&Graph>, height: f32) {
    let weak = theme::palette(ui).weak;
    // What is to know of a layer gives way to what is to choose for it.
    let room = ui.available_width();
    let (wide, widest) = (room >= WIDE, room >= WIDEST);
    ui.push_id("layers", |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        let mut table = TableBuilder::new(ui)
            .cell_layout(Layout::left_to_right(Align::Center))
            .auto_shrink([false, true])
            .max_scroll_height(height - LINE)
            .column(Column::remainder().at_least(104.0).at_most(NAME).clip(true));
        if widest {
            table = table.column(Column::exact(136.0).clip(true));
        }
        table = table.column(Column::exact(128.0)).column(Column::exact(124.0)).column(Column::exact(92.0));
        if wide {
            // As wide as the longest that an observer has to say, where the names leave so much.
            table = table.column(Column::exact((room - WIDE + 128.0).clamp(128.0, 184.0)).clip(true));
        }
        let heads = [("layer", true), ("operation", widest), ("output", true), ("weight", true), ("bits", true)];
        let heads = heads.into_iter().chain([("prepared", wide)]).filter(|(_, shown)| *shown);
        table
            .header(LINE, |mut header| {
                for (head, _) in heads {
                    header.col(|ui| {
                        label_ui(ui, RichText::new(head).font(Type::Small.font()).color(weak));
                    });
                }
            })
            .body(|body| {
                body.rows(LINE, layers.len(), |mut line| {
                    let layer = &layers[line.index()];
                    line.col(|ui| {
                        let chosen = bench.selection.name() == Some(&layer.name);
                        if layer_name_ui(ui, &layer.name, chosen, LINE).clicked() {
                            bench.selection.select(&layer.name, prepared);
                        }
                    });
                    if widest {
                        line.col(|ui| {
                            ui.add(Label::new(RichText::new(layer.op).color(weak)).truncate());
                        });
                    }
                    let mut own = Own::of(&bench.choices.qconfig, &layer.name);
                    let before = own;
                    line.col(|ui| output_ui(ui, layer, &mut own));
                    line.col(|ui| weight_ui(ui, layer, &mut own));
                    line.col(|ui| bits_ui(ui, layer, &mut own));
                    if own != before {
                        own.set(&mut bench.choices.qconfig, &layer.name, layer.can);
                    }
                    if wide {
                        line.col(|ui| now_ui(ui, prepared, &layer.name));
                    }
                });
            });
    });
}

/// What a row chooses, each part as the rest where it is `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Own {
    output: Output,
    weight: Option<ObserverKind>,
    bits: Option<u8>,
    /// What the row does not show, so that it is not lost.
    kept: (Option<ActivationSpec>, Option<WeightSpec>),
}

impl Own {
    fn of(config: &QConfig, name: &str) -> Self {
        let (activation, weight) = match config.overrides.get(name) {
            None => (None, None),
            Some(Override::Float) => {
                return Self { output: Output::Float, weight: None, bits: None, kept: (None, None) };
            }
            Some(Override::Int8 { activation, weight }) => (*activation, *weight),
        };
        let (rest, rest_weight) = (config.activation, config.weight);
        let observer = activation.map(|a| a.observer).filter(|o| *o != rest.observer);
        let bits = activation.map(|a| a.bits).filter(|b| *b != rest.bits);
        let fixed = activation.is_some_and(|a| a.fixed.is_some());
        Self {
            output: if fixed { Output::Fixed } else { observer.map_or(Output::Rest, Output::Observer) },
            weight: weight.map(|w| w.observer).filter(|o| *o != rest_weight.observer),
            bits: bits.or(weight.map(|w| w.bits).filter(|b| *b != rest_weight.bits)),
            kept: (activation, weight),
        }
    }

    fn set(&self, config: &mut QConfig, name: &str, can: Choosable) {
        let (rest, rest_weight) = (config.activation, config.weight);
        let observer = match self.output {
            Output::Float => {
                config.overrides.insert(name.to_owned(), Override::Float);
                return;
            }
            Output::Rest => rest.observer,
            Output::Observer(observer) => observer,
            Output::Fixed => self.kept.0.unwrap_or(rest).observer,
        };
        let from = self.kept.0.unwrap_or(rest);
        let fixed = from.fixed.filter(|_| self.output == Output::Fixed);
        let bits = self.bits.unwrap_or(rest.bits);
        let levels = if bits == rest.bits { rest } else { rest.with_bits(bits) };
        let activation = ActivationSpec { observer, bits, quant_max: levels.quant_max, fixed, ..from };
        let from = self.kept.1.unwrap_or(rest_weight);
        let observer = self.weight.unwrap_or(rest_weight.observer);
        let weight = WeightSpec { observer, bits: self.bits.unwrap_or(rest_weight.bits), ..from };
        let activation = Some(activation).filter(|a| can.observer && *a != rest);
        let weight = Some(weight).filter(|w| can.weight && *w != rest_weight);
        if activation.is_none() && weight.is_none() {
            config.overrides.remove(name);
        } else {
            config.overrides.insert(name.to_owned(), Override::Int8 { activation, weight });
        }
    }
}

fn output_ui(ui: &mut Ui, layer: &Layer, own: &mut Own) {
    let mut options = vec![Output::Rest];
    if layer.can.float {
        options.push(Output::Float);
    }
    if layer.can.observer {
        options.extend(ObserverKind::OF_ACTIVATIONS.map(Output::Observer));
    }
    if own.output == Output::Fixed {
        options.push(Output::Fixed);
    }
    ui.spacing_mut().combo_width = 112.0;
    pick_ui(ui, &format!("Output of {}", layer.name), &mut own.output, &options, |output| match output {
        Output::Rest => REST,
        Output::Float => "float",
        Output::Observer(observer) => observer.title(),
        Output::Fixed => "set by hand",
    });
}

const REST: &str = "default";

fn weight_ui(ui: &mut Ui, layer: &Layer, own: &mut Own) {
    if !layer.can.weight || own.output == Output::Float {
        return;
    }
    let options = [None, Some(ObserverKind::PerChannelMinMax), Some(ObserverKind::MinMax)];
    ui.spacing_mut().combo_width = 108.0;
    pick_ui(ui, &format!("Weight of {}", layer.name), &mut own.weight, &options, |weight| match weight {
        None => REST,
        Some(ObserverKind::MinMax) => "per tensor",
        Some(_) => "per channel",
    });
}

fn bits_ui(ui: &mut Ui, layer: &Layer, own: &mut Own) {
    if !(layer.can.weight || layer.can.observer) || own.output == Output::Float {
        return;
    }
    let options = [None, Some(8), Some(7), Some(6), Some(5), Some(4)];
    ui.spacing_mut().combo_width = 80.0;
    pick_ui(ui, &format!("Bits of {}", layer.name), &mut own.bits, &options, |bits: Option<u8>| match bits {
        Some(8) => "8",
        Some(7) => "7",
        Some(6) => "6",
        Some(5) => "5",
        Some(_) => "4",
        None => REST,
    });
}

/// What the prepared graph has, if there is one.
fn now(prepared: Option<&Graph>, name: &str) -> Option<(Tone, String)> {
    let node = prepared.and_then(|graph| graph.find(name).map(|id| graph.node(id)))?;
    Some(match &node.numeric {
        Numeric::Observed(ActivationSpec { fixed: Some([low, high]), .. }) => {
            let ends = [low, high].map(|v| number::number(f64::from(*v)));
            (Tone::Observed, ends.join(" \u{2026} "))
        }
        Numeric::Observed(spec) => (Tone::Observed, format!("{} 0\u{2026}{}", spec.observer.title(), spec.quant_max)),
        Numeric::Learned(spec) => {
            (Tone::FakeQuantized, format!("{} 0\u{2026}{}", spec.observer.title(), spec.quant_max))
        }
        Numeric::Float | Numeric::FakeQuantized(_) | Numeric::Int8(_) => (Tone::Float, "float".to_owned()),
    })
}

fn now_ui(ui: &mut Ui, prepared: Option<&Graph>, name: &str) {
    let Some((tone, text)) = now(prepared, name) else { return };
    let p = theme::palette(ui);
    let text = RichText::new(format!("{}  {text}", tone.glyph())).color(tone.ink(p.dark));
    ui.add(Label::new(text).truncate());
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Choosable = Choosable { float: true, observer: true, weight: true };

    #[test]
    fn a_row_sets_what_it_shows_and_the_rest_is_no_override() {
        let mut config = QConfig::default();
        let mut own = Own::of(&config, "conv1");
        own.output = Output::Observer(ObserverKind::Mse);
        own.bits = Some(6);
        own.set(&mut config, "conv1", ALL);
        let activation = config.activation_of("conv1").expect("int8");
        assert_eq!((activation.observer, activation.bits, activation.quant_max), (ObserverKind::Mse, 6, 63));
        assert_eq!(config.weight_of("conv1").expect("int8").bits, 6);
        assert_eq!(Own::of(&config, "conv1").output, own.output);

        let mut own = Own::of(&config, "conv1");
        own.output = Output::Float;
        own.set(&mut config, "conv1", ALL);
        assert_eq!(config.overrides["conv1"], Override::Float);

        let mut own = Own::of(&config, "conv1");
        own.output = Output::Rest;
        own.set(&mut config, "conv1", ALL);
        assert_eq!(config, QConfig::default());
    }

    #[test]
    fn a_range_set_by_hand_is_kept_until_another_output_is_chosen() {
        let mut config = QConfig::default().with_fixed("conv1", Some([-1.0, 2.0]));
        let mut own = Own::of(&config, "conv1");
        assert_eq!(own.output, Output::Fixed);
        own.bits = Some(6);
        own.set(&mut config, "conv1", ALL);
        assert_eq!(config.activation_of("conv1").and_then(|a| a.fixed), Some([-1.0, 2.0]));
        let mut own = Own::of(&config, "conv1");
        (own.output, own.bits) = (Output::Rest, None);
        own.set(&mut config, "conv1", ALL);
        assert_eq!(config, QConfig::default());
    }

    #[test]
    fn a_layer_without_a_weight_gets_none() {
        let mut config = QConfig::default();
        let own = Own { bits: Some(4), ..Own::of(&config, "add") };
        own.set(&mut config, "add", Choosable { weight: false, ..ALL });
        assert!(matches!(config.overrides["add"], Override::Int8 { activation: Some(_), weight: None }));
    }
}
