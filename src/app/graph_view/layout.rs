use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use eframe::egui::{Color32, Pos2, Rect, Stroke, Vec2, epaint::CubicBezierShape, pos2, vec2};
use rust_sugiyama::configure::{Config, CrossingMinimization, RankingType};

use super::fold::Folded;
use crate::app::theme;

/// Between neighbours of one rank.
const ACROSS: f32 = 28.0;
/// Between ranks: room for the edges' curves.
const BETWEEN: f32 = 32.0;
/// How far an edge that passes other cards keeps from them.
const CLEAR: f32 = 14.0;
/// Pictures of at most this many cards are laid out at once, without a frame of emptiness; they take under 2 ms.
const AT_ONCE: usize = 48;

/// Where everything is, in points at zoom 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// What was laid out.
    pub folded: Arc<Folded>,
    /// One rectangle a card.
    pub cards: Vec<Rect>,
    /// One path an edge, as corner points to be joined by a smooth line.
    pub edges: Vec<Route>,
    /// Around all of it.
    pub bounds: Rect,
}

/// The way of an edge: from under one card to above another, past those between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Route {
    /// Bottom of the card it leaves.
    pub from: Pos2,
    /// Top of the card it enters.
    pub to: Pos2,
    /// Where it runs straight down beside other cards, if it must.
    pub lane: Option<f32>,
}

impl Route {
    /// Points along it; curves end vertically, so they stay in the gaps between ranks.
    pub fn points(&self) -> Vec<Pos2> {
        match self.lane {
            None => curve(self.from, self.to),
            Some(x) => {
                let mut points = curve(self.from, pos2(x, self.from.y + BETWEEN));
                points.extend(curve(pos2(x, self.to.y - BETWEEN), self.to));
                points
            }
        }
    }

    /// What it covers.
    pub fn bounds(&self) -> Rect {
        let rect = Rect::from_two_pos(self.from, self.to);
        match self.lane {
            Some(x) => rect.union(Rect::from_two_pos(pos2(x, self.from.y), pos2(x, self.to.y))),
            None => rect,
        }
    }
}

fn curve(from: Pos2, to: Pos2) -> Vec<Pos2> {
    if (from.x - to.x).abs() < 0.5 {
        return vec![from, to];
    }
    const STEPS: u8 = 10;
    let bend = (to.y - from.y) / 2.0;
    let bezier = CubicBezierShape::from_points_stroke(
        [from, from + vec2(0.0, bend), to - vec2(0.0, bend), to],
        false,
        Color32::TRANSPARENT,
        Stroke::NONE,
    );
    (0..=STEPS).map(|i| bezier.sample(f32::from(i) / f32::from(STEPS))).collect()
}

/// A layout in the making on a thread of its own, or already made.
#[derive(Debug)]
pub enum Task {
    /// Being computed.
    Waiting(Receiver<Layout>),
    /// Computed.
    Ready(Arc<Layout>),
    /// The thread ended without a result.
    Lost,
}

impl Task {
    /// Asks for a layout; `wake` is called when it is ready.
    pub fn start(folded: Folded, wake: impl FnOnce() + Send + 'static) -> Self {
        if folded.cards.len() <= AT_ONCE {
            return Self::Ready(Arc::new(lay_out(Arc::new(folded))));
        }
        let (sender, receiver) = channel();
        let spawned = std::thread::Builder::new().name("octet-layout".to_owned()).spawn(move || {
            // Nobody waits any more where the graph was changed meanwhile.
            if sender.send(lay_out(Arc::new(folded))).is_ok() {
                wake();
            }
        });
        match spawned {
            Ok(_) => Self::Waiting(receiver),
            Err(_) => Self::Lost,
        }
    }

    /// The layout, if it is ready; never waits.
    pub fn poll(&mut self) -> Option<&Arc<Layout>> {
        if let Self::Waiting(receiver) = self {
            match receiver.try_recv() {
                Ok(layout) => *self = Self::Ready(Arc::new(layout)),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => *self = Self::Lost,
            }
        }
        match self {
            Self::Ready(layout) => Some(layout),
            Self::Waiting(_) | Self::Lost => None,
        }
    }
}

/// Ranks from top to bottom as in Sugiyama 1981, the crossings minimized by barycenters.
pub fn lay_out(folded: Arc<Folded>) -> Layout {
    let size = theme::CARD;
    let vertices: Vec<(u32, (f64, f64))> =
        (0..folded.cards.len() as u32).map(|i| (i, (f64::from(size.x), f64::from(size.y)))).collect();
    let edges: Vec<(u32, u32)> = folded.edges.iter().map(|(a, b)| (*a as u32, *b as u32)).collect();
    let config = Config {
        minimum_length: 1,
        vertex_spacing: f64::from(ACROSS),
        dummy_vertices: true,
        dummy_size: 0.5,
        ranking_type: RankingType::Up,
        c_minimization: CrossingMinimization::Barycenter,
        transpose: folded.cards.len() < 200,
    };
    let mut centres = vec![Pos2::ZERO; folded.cards.len()];
    let mut left = 0.0;
    // Parts that no edge joins stand beside each other.
    for (part, width, _) in rust_sugiyama::from_vertices_and_edges(&vertices, &edges, &config) {
        let start = part.iter().map(|(_, (x, _))| *x).fold(f64::INFINITY, f64::min);
        for (i, (x, y)) in part {
            centres[i] = pos2((x - start) as f32 + left, y as f32);
        }
        left += width as f32 + size.x + ACROSS;
    }
    respace(&mut centres, size);
    let cards: Vec<Rect> = centres.iter().map(|c| Rect::from_center_size(*c, size)).collect();
    let edges = folded.edges.iter().map(|(a, b)| route(&cards, *a, *b)).collect::<Vec<_>>();
    let bounds = cards
        .iter()
        .copied()
        .chain(edges.iter().map(Route::bounds))
        .reduce(Rect::union)
        .unwrap_or(Rect::from_min_size(Pos2::ZERO, Vec2::ZERO));
    Layout { folded, cards, edges, bounds }
}

/// Sets the ranks a fixed distance apart, in their order, whichever way the library lets them grow.
fn respace(centres: &mut [Pos2], size: Vec2) {
    let mut ranks: Vec<f32> = centres.iter().map(|c| c.y).collect();
    ranks.sort_by(f32::total_cmp);
    ranks.dedup_by(|a, b| (*a - *b).abs() < 1.0);
    // The first card is the input: it must be on top.
    let flipped = centres.first().is_some_and(|first| ranks.last().is_some_and(|last| (first.y - last).abs() < 1.0));
    let flipped = flipped && ranks.len() > 1;
    for centre in centres {
        let rank = ranks.partition_point(|y| *y < centre.y - 0.5);
        let rank = if flipped { ranks.len() - 1 - rank } else { rank };
        centre.y = rank as f32 * (size.y + BETWEEN);
    }
}

fn route(cards: &[Rect], a: usize, b: usize) -> Route {
    let (from, to) = (cards[a].center_bottom(), cards[b].center_top());
    let between: Vec<Rect> =
        cards.iter().copied().filter(|r| r.top() > from.y - 1.0 && r.bottom() < to.y + 1.0).collect();
    let in_the_way = |column: Rect| between.iter().copied().filter(move |r| r.intersects(column));
    let straight = Rect::from_two_pos(from, to).expand2(vec2(CLEAR / 2.0, -1.0));
    if in_the_way(straight).next().is_none() {
        return Route { from, to, lane: None };
    }
    let column = |x: f32| Rect::from_two_pos(pos2(x, from.y), pos2(x, to.y)).expand2(vec2(CLEAR / 2.0, -1.0));
    // From each end outwards, to the first column that is free.
    let free = |start: f32, next: &dyn Fn(Rect) -> f32, further: fn(f32, f32) -> f32| {
        let mut x = start;
        while let Some(blocked) = in_the_way(column(x)).map(next).reduce(further) {
            x = blocked;
        }
        x
    };
    let right = free(from.x, &|r| r.right() + CLEAR, f32::max);
    let left = free(from.x, &|r| r.left() - CLEAR, f32::min);
    let detour = |x: f32| (x - from.x).abs() + (x - to.x).abs();
    Route { from, to, lane: Some(if detour(right) <= detour(left) { right } else { left }) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::app::graph_view::fold;
    use crate::zoo::{self, ModelConfig, ModelId};

    fn laid_out(model: ModelId, all: bool) -> Layout {
        let graph = zoo::build(model, ModelConfig { classes: 10, size: 64 }).expect("a valid configuration");
        let opened = if all { fold::modules(&graph).into_keys().collect() } else { BTreeSet::new() };
        lay_out(Arc::new(fold::fold(&graph, &opened)))
    }

    #[test]
    fn no_two_cards_overlap_and_edges_go_down() {
        for model in [ModelId::ResNet18, ModelId::ShuffleNetV2X05, ModelId::MobileNetV3Small] {
            let layout = laid_out(model, true);
            for (i, a) in layout.cards.iter().enumerate() {
                for b in &layout.cards[i + 1..] {
                    assert!(!a.shrink(0.5).intersects(b.shrink(0.5)), "{model}: {a:?} on {b:?}");
                }
            }
            for route in &layout.edges {
                assert!(route.from.y < route.to.y, "{model}: {route:?}");
            }
        }
    }

    #[test]
    fn no_edge_runs_through_a_card() {
        for model in [ModelId::ResNet18, ModelId::ShuffleNetV2X05, ModelId::MobileNetV3Small] {
            for all in [false, true] {
                let layout = laid_out(model, all);
                for (route, ends) in layout.edges.iter().zip(&layout.folded.edges) {
                    for (i, card) in layout.cards.iter().enumerate().filter(|(i, _)| *i != ends.0 && *i != ends.1) {
                        let through = route.points().iter().any(|p| card.contains(*p));
                        assert!(!through, "{model}: {ends:?} through {}", layout.folded.cards[i].name);
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_model_is_laid_out_in_the_end() {
        let graph = zoo::build(ModelId::EfficientNetV2S, ModelConfig { classes: 10, size: 64 }).expect("valid");
        let opened = fold::modules(&graph).into_keys().collect();
        let mut task = Task::start(fold::fold(&graph, &opened), || {});
        assert!(matches!(task, Task::Waiting(_)), "it is too large for the window's own thread");
        let start = std::time::Instant::now();
        while task.poll().is_none() {
            assert!(start.elapsed().as_secs() < 30, "no layout after 30 s");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        eprintln!("{} nodes laid out in {:?}", graph.nodes.len(), start.elapsed());
    }
}
