use eframe::egui::{Label, RichText, ScrollArea, Sense, Stroke, Ui, pos2, vec2};

use super::{heading, prose, stacked};
use crate::app::number;
use crate::app::plot::{Row, row_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::graph::{BatchNorm2d, Graph, Op};
use crate::session::{FuseReport, FuseSite, FusionProof};

/// What is looked at of a site.
#[derive(Debug, Default)]
pub(crate) struct FuseScreen {
    channel: usize,
}

/// The selected site: what was found, what batch norm does to each channel, and the numbers of one.
pub(super) fn site_ui(ui: &mut Ui, bench: &mut Workbench, before: &Graph, report: &FuseReport, proof: &FusionProof) {
    ScrollArea::vertical().id_salt("site").auto_shrink(false).show(ui, |ui| {
        ui.set_max_width(ui.available_width() - theme::PADDING);
        stacked(ui, |ui| looked_ui(ui, bench, before, report, proof));
    });
}

fn looked_ui(ui: &mut Ui, bench: &mut Workbench, before: &Graph, report: &FuseReport, proof: &FusionProof) {
    let site = report.sites.iter().find(|s| s.nodes.iter().any(|n| bench.selection.name() == Some(n)));
    let Some(site) = site else {
        refusal_ui(ui, bench, report);
        return;
    };
    let p = theme::palette(ui);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(&site.name).font(Type::Title.strong()).color(p.strong));
        ui.label(RichText::new(site.pattern.title()).font(Type::Small.strong()).color(p.weak));
    });
    chain_ui(ui, &site.nodes, &site.name);
    if let Some(found) = proof.sites.iter().find(|s| s.name == site.name) {
        let (tone, word) = match found.is_rounding() {
            true => (Tone::Int8, "rounding"),
            false => (Tone::Trouble, "more than rounding"),
        };
        let text = format!(
            "largest |\u{394}| {}, {} of the largest value: {word}",
            number::number(found.max_abs.into()),
            number::number(found.relative.into())
        );
        ui.label(RichText::new(text).color(tone.ink(p.dark)));
    }
    match norm(before, site) {
        Some((conv, bn)) => factors_ui(ui, bench, site, conv, bn),
        None => prose(ui, "No batch norm here: the weights stay as they are, and ReLU is done as the sum is rounded."),
    }
}

/// Of what is selected and does not fuse: why. Nothing selected: what is to see.
fn refusal_ui(ui: &mut Ui, bench: &Workbench, report: &FuseReport) {
    let refusal = report.refusals.iter().find(|r| bench.selection.name() == Some(&r.node));
    match (refusal, bench.selection.name()) {
        (Some(refusal), _) => {
            heading(ui, &refusal.node);
            ui.label(RichText::new(refusal.reason.to_string()).color(Tone::Observed.ink(theme::palette(ui).dark)));
        }
        (None, Some(name)) => {
            heading(ui, name);
            prose(ui, "No pattern starts here or runs through here: it stays as it is.");
        }
        (None, None) => {
            heading(ui, "One site");
            prose(
                ui,
                "Click a layer in either graph or in the table: its parts, its numbers and the proof stand here.",
            );
        }
    }
}

/// The nodes that became one, joined by arrows.
fn chain_ui(ui: &mut Ui, nodes: &[String], name: &str) {
    let p = theme::palette(ui);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = theme::GRID;
        for (i, node) in nodes.iter().enumerate() {
            if i > 0 {
                ui.label(RichText::new("+").color(p.weak));
            }
            chip_ui(ui, node, Tone::Float);
        }
        arrow_ui(ui);
        chip_ui(ui, name, Tone::Float);
    });
}

fn chip_ui(ui: &mut Ui, text: &str, tone: Tone) {
    // A label knows its width before it is placed, so that a row of them wraps.
    let wash = tone.wash(theme::palette(ui).dark);
    let text = RichText::new(format!("\u{2009}{text}\u{2009}")).font(Type::Body.mono()).background_color(wash);
    ui.add(Label::new(text).extend());
}

fn arrow_ui(ui: &mut Ui) {
    let (rect, _) = ui.allocate_exact_size(vec2(20.0, 16.0), Sense::hover());
    let from = pos2(rect.left() + 2.0, rect.center().y);
    ui.painter().arrow(from, vec2(rect.width() - 4.0, 0.0), Stroke::new(1.5, theme::palette(ui).edge));
}

/// The convolution and the batch norm of a site, as they were.
fn norm<'g>(before: &'g Graph, site: &FuseSite) -> Option<(&'g crate::graph::Conv2d, &'g BatchNorm2d)> {
    let op = |name: &String| before.find(name).map(|id| &before.node(id).op);
    match (site.nodes.first().and_then(op)?, site.nodes.get(1).and_then(op)?) {
        (Op::Conv2d(conv), Op::BatchNorm2d(bn)) => Some((conv, bn)),
        (_, _) => None,
    }
}

fn factors_ui(ui: &mut Ui, bench: &mut Workbench, site: &FuseSite, conv: &crate::graph::Conv2d, bn: &BatchNorm2d) {
    let channel = bench.fusion.channel.min(site.factors.len().saturating_sub(1));
    if let Some(numbers) = Numbers::of(conv, bn, channel) {
        let p = theme::palette(ui);
        let text = format!("Channel {channel}, its largest weight");
        ui.label(RichText::new(text).font(Type::Small.font()).color(p.weak));
        ui.scope(|ui| {
            ui.spacing_mut().item_spacing.y = 1.0;
            for line in numbers.lines() {
                ui.add(Label::new(RichText::new(line).font(Type::Body.mono()).color(p.text)).wrap());
            }
        });
    }
    let row = Row::of_channels(site.factors.iter().copied(), "factor", Tone::Float);
    if let Some(picked) = row_ui(ui, "What batch norm multiplies each channel by", &row, Some(channel)) {
        bench.fusion.channel = picked;
    }
}

/// How batch norm folds into one channel of a site: its weight farthest from zero, and its bias. `None` without batch norm.
pub(in crate::app) fn fold_of(before: &Graph, site: &FuseSite, channel: usize) -> Option<[String; 2]> {
    let (conv, bn) = norm(before, site)?;
    let [_, weight, _, bias] = Numbers::of(conv, bn, channel)?.lines();
    let behind = |line: &str| line.trim_start().trim_start_matches("= ").to_owned();
    Some([format!("W\u{2032} = {}", behind(&weight)), format!("b\u{2032} = {}", behind(&bias))])
}

/// One channel's numbers, and its weight farthest from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Numbers {
    weight: f32,
    bias: f32,
    gamma: f32,
    beta: f32,
    mean: f32,
    var: f32,
    eps: f32,
}

impl Numbers {
    fn of(conv: &crate::graph::Conv2d, bn: &BatchNorm2d, channel: usize) -> Option<Self> {
        let weight = conv.weight.float()?;
        let per = weight.len() / conv.out_channels().max(1);
        let largest = weight.data.get(channel * per..(channel + 1) * per)?.iter().copied();
        let weight = largest.reduce(|a, b| if b.abs() > a.abs() { b } else { a })?;
        let bias = conv.bias.as_ref().and_then(|b| b.data.get(channel).copied()).unwrap_or(0.0);
        let at = |t: &crate::graph::Tensor| t.data.get(channel).copied();
        let (gamma, beta) = (at(&bn.weight)?, at(&bn.bias)?);
        Some(Self { weight, bias, gamma, beta, mean: at(&bn.running_mean)?, var: at(&bn.running_var)?, eps: bn.eps })
    }

    fn factor(&self) -> f32 {
        self.gamma * (1.0 / (self.var + self.eps).sqrt())
    }

    /// The two formulas with the numbers put in, rounded as fusing rounds.
    fn lines(&self) -> [String; 4] {
        let n = |v: f32| number::number(v.into());
        // A negative number after a sign stands in brackets.
        let s = |v: f32| if v < 0.0 { format!("({})", n(v)) } else { n(v) };
        let folded = self.weight * self.factor();
        let shift = ((self.bias - self.mean) * (1.0 / (self.var + self.eps).sqrt())) * self.gamma + self.beta;
        [
            "W\u{2032} = W\u{b7}\u{3b3}/\u{221a}(\u{3c3}\u{b2}+\u{3b5})".to_owned(),
            format!(
                "   = {}\u{b7}{}/\u{221a}({}+{}) = {}\u{b7}{} = {}",
                n(self.weight),
                s(self.gamma),
                n(self.var),
                n(self.eps),
                n(self.weight),
                s(self.factor()),
                n(folded)
            ),
            "b\u{2032} = (b\u{2212}\u{3bc})\u{b7}\u{3b3}/\u{221a}(\u{3c3}\u{b2}+\u{3b5}) + \u{3b2}".to_owned(),
            format!(
                "   = ({}\u{2212}{})\u{b7}{} + {} = {}",
                n(self.bias),
                s(self.mean),
                s(self.factor()),
                s(self.beta),
                n(shift)
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, ConvSpec, Shape};

    #[test]
    fn the_numbers_are_those_of_the_channel_and_give_its_folded_weight() {
        let tensor = |shape: &[usize], data: &[f32]| crate::graph::Tensor::new(shape.to_vec(), data.to_vec());
        let (mut b, x) = Builder::new("one", Shape::new(2, 1, 1));
        let x = b.conv("conv", x, ConvSpec::new(2, 1));
        b.bn("bn", x, 0.0, 0.1);
        let values = [
            ("conv.weight", tensor(&[2, 2, 1, 1], &[0.1, 0.2, 0.3, -0.5])),
            ("bn.weight", tensor(&[2], &[1.0, 2.0])),
            ("bn.bias", tensor(&[2], &[0.0, -1.0])),
            ("bn.running_mean", tensor(&[2], &[0.0, -3.0])),
            ("bn.running_var", tensor(&[2], &[1.0, 4.0])),
        ];
        let graph = b.finish().with_params(&values.map(|(key, value)| (key.to_owned(), value)).into());
        let (_, report) = crate::quant::fuse(&graph, &crate::session::FuseOptions::default()).expect("a float graph");
        let (conv, bn) = norm(&graph, &report.sites[0]).expect("a pair");
        let numbers = Numbers::of(conv, bn, 1).expect("a channel");
        assert_eq!((numbers.weight, numbers.factor()), (-0.5, 1.0));
        let [_, weight, _, bias] = numbers.lines();
        assert!(weight.ends_with("= \u{2212}0.500") && weight.contains("\u{221a}(4.00+0)"), "{weight}");
        assert!(bias.ends_with("= 2.00"), "{bias}");
        assert_eq!(Numbers::of(conv, bn, 2), None);
    }
}
