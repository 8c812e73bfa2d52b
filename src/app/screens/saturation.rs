use eframe::egui::{Frame, Label, RichText, Ui};

use super::{heading, prose};
use crate::app::controls::banner_ui;
use crate::app::number;
use crate::app::plot::{Table, table_ui};
use crate::app::theme::{self, Tone};
use crate::session::{LayerSaturation, Neighbours, Saturation};

/// Whether the model is safe on engines that add two products in 16 bits, and which layers are not. `reduced` says that
/// activations are laid out for half the levels already.
pub(super) fn saturation_ui(ui: &mut Ui, found: &Saturation, reduced: bool) {
    heading(ui, "16 bits on other engines");
    match verdict(found, reduced) {
        (Tone::Trouble, text) => banner_ui(ui, Tone::Trouble, &text),
        // No glyph: an 8 would read as a number here.
        (tone, text) => {
            let p = theme::palette(ui);
            Frame::new().fill(tone.wash(p.dark)).corner_radius(theme::RADIUS).inner_margin(12).show(ui, |ui| {
                ui.add(Label::new(RichText::new(text).color(p.strong)).wrap());
            });
        }
    }
    let mut layers: Vec<&LayerSaturation> = found.overflowing().collect();
    if layers.is_empty() {
        return;
    }
    layers.sort_by(|a, b| share(b).total_cmp(&share(a)));
    prose(
        ui,
        "On CPUs without VNNI these engines add the products of two neighbouring values with vpmaddubsw, which clips the sum to 16 bits without a word. Octet adds in 32.",
    );
    let rows = layers.into_iter().map(row);
    let head = ["layer", "neighbours", "sums outside", "of all", "outputs hit", "farthest sum"];
    table_ui(ui, "saturation", &Table::new(head, rows));
}

fn verdict(found: &Saturation, reduced: bool) -> (Tone, String) {
    let (layers, safe) = (found.layers.len(), found.safe());
    match found.overflowing().count() {
        0 if safe == layers => (Tone::Int8, "Safe on every engine: no image can make a sum leave 16 bits.".to_owned()),
        0 => {
            let text = format!(
                "Nothing left 16 bits on {} images. {} of {layers} layers could on others, under engines that add in 16 bits.",
                number::count(found.images),
                layers - safe
            );
            (Tone::Int8, text)
        }
        n => {
            let depthwise = found.overflowing().any(|l| l.layer.neighbours == Neighbours::Taps);
            let also = if depthwise { "; fbgemm's depthwise layers on every CPU" } else { "" };
            let remedy = if reduced {
                "leave these layers in float"
            } else {
                "prepare with qconfig x86, which uses half the levels, or leave these layers in float"
            };
            let text = format!(
                "{n} of {layers} layers would overflow 16 bits on CPUs without VNNI under fbgemm, oneDNN or ONNX Runtime{also}. \
                 Before exporting to them, {remedy}. Here nothing overflows."
            );
            (Tone::Trouble, text)
        }
    }
}

fn share(l: &LayerSaturation) -> f64 {
    l.saturated as f64 / l.pairs.max(1) as f64
}

fn row(l: &LayerSaturation) -> [String; 6] {
    [
        l.layer.name.clone(),
        l.layer.neighbours.title().to_owned(),
        number::prefixed(l.saturated),
        percent(share(l)),
        percent(l.saturated_outputs as f64 / l.outputs.max(1) as f64),
        l.worst.map_or(number::NONE.to_owned(), signed),
    ]
}

/// In three digits: shares are small, and a few in a million still change outputs.
fn percent(fraction: f64) -> String {
    format!("{}{}%", number::number(fraction * 100.0), number::THIN)
}

fn signed(sum: i32) -> String {
    let size = number::count(sum.unsigned_abs() as usize);
    if sum < 0 { format!("{}{size}", number::MINUS) } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{LayerBound, PairBound};

    fn layer(high: i32, saturated: u64) -> LayerSaturation {
        let layer = LayerBound {
            node: crate::graph::NodeId(2),
            name: "conv".to_owned(),
            op: "Conv2d",
            neighbours: Neighbours::Taps,
            bound: PairBound { low: 0, high },
        };
        let worst = (saturated > 0).then_some(high);
        LayerSaturation { layer, pairs: 1000, saturated, outputs: 100, saturated_outputs: saturated, worst }
    }

    #[test]
    fn the_banner_says_what_was_found_and_what_helps() {
        let of = |layers: Vec<LayerSaturation>, reduced| verdict(&Saturation { images: 32, layers }, reduced);
        let (tone, text) = of(vec![layer(32_767, 0)], false);
        assert!(tone == Tone::Int8 && text.contains("no image"), "{text}");
        let (tone, text) = of(vec![layer(40_000, 0), layer(5, 0)], false);
        assert!(tone == Tone::Int8 && text.contains("1 of 2") && text.contains("32 images"), "{text}");
        let (tone, text) = of(vec![layer(40_000, 7), layer(5, 0)], false);
        assert!(tone == Tone::Trouble && text.contains("1 of 2") && text.contains("qconfig x86"), "{text}");
        assert!(text.contains("depthwise"), "{text}");
        let (_, text) = of(vec![layer(40_000, 7)], true);
        assert!(!text.contains("qconfig x86") && text.contains("in float"), "{text}");
    }
}
