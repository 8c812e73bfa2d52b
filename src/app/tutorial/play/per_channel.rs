use eframe::egui::{Slider, Ui};

use super::{
    super::formula::{channel, folded},
    later_ui, layer, layer_ui,
};
use crate::app::number;
use crate::app::plot::{Histogram, Levels, levels_ui};
use crate::app::screens::{decibels, figures_small_ui};
use crate::app::theme::Tone;
use crate::app::workbench::Workbench;
use crate::session::{ObserverKind, View, WeightLoss, WeightSpec, weight_loss};

/// Bins of a channel's weights.
const BINS: usize = 48;

/// One channel's weights over levels with a scale of its own, and over those of the whole layer.
pub(super) fn per_channel_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(graph) = folded(view) else {
        later_ui(ui, "Fuse the model first: it is the fused weights that become int8.");
        return;
    };
    let Some((node, weight)) = layer(bench, &graph) else { return };
    layer_ui(ui, &node.name);
    let channels = weight.shape[0].max(1);
    let mut at = bench.tutorial.plays.channel.min(channels - 1);
    ui.spacing_mut().slider_width = (ui.available_width() - 130.0).clamp(60.0, 240.0);
    ui.add(Slider::new(&mut at, 0..=channels - 1).text("channel"));
    bench.tutorial.plays.channel = at;
    let Some(own) = channel(weight, at) else { return };
    let Some(histogram) = Histogram::of(own.data.iter().copied(), BINS, Tone::Float) else { return };
    for (observer, title) in
        [(ObserverKind::PerChannelMinMax, "A scale of its own"), (ObserverKind::MinMax, "The layer's scale")]
    {
        let loss = match weight_loss(&node.name, weight, at, WeightSpec::new(observer)) {
            Ok(loss) => loss,
            Err(why) => {
                later_ui(ui, &why.to_string());
                return;
            }
        };
        levels_ui(ui, title, "weight", &histogram, levels(&loss, &histogram));
        let used = format!("{} \u{2026} {}", loss.used.0, loss.used.1).replace('-', &number::MINUS.to_string());
        let count = (i16::from(loss.used.1) - i16::from(loss.used.0) + 1).to_string();
        let scale = number::number(loss.scale.into());
        figures_small_ui(
            ui,
            &[("scale", &scale), ("from, to", &used), ("levels", &count), ("SQNR", &decibels(loss.sqnr_db))],
        );
    }
}

/// Those near the weights: 256 levels of a wide scale would leave the weights a dot.
fn levels(loss: &WeightLoss, histogram: &Histogram) -> Levels {
    let scale = f64::from(loss.scale);
    let first = ((f64::from(histogram.min) / scale).floor() - 1.0).max(-128.0);
    let last = ((f64::from(histogram.max) / scale).ceil() + 1.0).min(127.0);
    let count = (last - first) as usize + 1;
    Levels { first: first * scale, last: last * scale, count, all: false, tone: Tone::Int8 }
}
