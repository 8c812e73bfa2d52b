use eframe::egui::{
    Align2, Color32, CornerRadius, FontId, Painter, Pos2, Rect, Shape, Stroke, StrokeKind, pos2,
    text::{LayoutJob, TextWrapping},
    vec2,
};

use super::{Camera, Card, Layout, Lens, Route, tone};
use crate::app::fonts;
use crate::app::theme::{self, Palette, Tone, Type};
use crate::graph::{Graph, Node};

/// Names fade out below the first and are whole above the second.
const NAMES: (f32, f32) = (0.32, 0.5);
/// The same of captions.
const CAPTIONS: (f32, f32) = (0.5, 0.68);

/// What the cards are drawn with.
pub(super) struct Brush {
    pub painter: Painter,
    pub palette: &'static Palette,
    pub camera: Camera,
    pub pane: Rect,
}

/// How a card stands to the selection.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Standing {
    Selected,
    Near,
    Far,
}

/// How a card looks in this frame.
pub(super) struct Look {
    pub standing: Standing,
    /// Whether the pointer is over it, or it has the keyboard.
    pub lively: bool,
    pub tone: Tone,
    /// What a lens reads there, and how hot that is.
    pub read: Option<(String, f32)>,
}

impl Brush {
    /// Draws the edges that are seen, those of the selection last.
    pub fn edges(&self, layout: &Layout, standing: &[Standing]) {
        let seen = self.camera.seen(self.pane);
        let near =
            |edge: &(usize, usize)| standing[edge.0] == Standing::Selected || standing[edge.1] == Standing::Selected;
        let width = (1.25 * self.camera.zoom).clamp(0.75, 1.5);
        let dimmed = if standing.contains(&Standing::Selected) { 0.45 } else { 1.0 };
        for pass in [false, true] {
            for (route, ends) in layout.edges.iter().zip(&layout.folded.edges) {
                if near(ends) != pass || !seen.intersects(route.bounds()) {
                    continue;
                }
                let stroke = if pass {
                    Stroke::new(width + 0.75, self.palette.accent_ink)
                } else {
                    Stroke::new(width, self.palette.edge.gamma_multiply(dimmed))
                };
                self.edge(route, stroke);
            }
        }
    }

    fn edge(&self, route: &Route, stroke: Stroke) {
        let points = route.points().into_iter().map(|p| self.camera.to_screen(self.pane, p)).collect();
        self.painter.add(Shape::line(points, stroke));
        if self.camera.zoom > NAMES.0 {
            let tip = self.camera.to_screen(self.pane, route.to);
            let size = 4.0 * self.camera.zoom.min(1.0);
            let arrow = vec![tip, tip + vec2(-size, -1.6 * size), tip + vec2(size, -1.6 * size)];
            self.painter.add(Shape::convex_polygon(arrow, stroke.color, Stroke::NONE));
        }
    }

    /// Draws one card.
    pub fn card(&self, card: &Card, rect: Rect, look: &Look) {
        let (standing, hovered) = (look.standing, look.lively);
        let rect = self.camera.rect_to_screen(self.pane, rect);
        let zoom = self.camera.zoom;
        let fade = if standing == Standing::Far { 0.5 } else { 1.0 };
        let p = self.palette;
        let radius = CornerRadius::same((f32::from(theme::RADIUS) * zoom).min(255.0) as u8);
        let surface = if hovered { p.hover } else { p.raised };
        let line = match standing {
            Standing::Selected => Stroke::new(2.0, p.accent_ink),
            Standing::Near | Standing::Far if hovered => Stroke::new(1.0, p.accent_ink),
            Standing::Near | Standing::Far => Stroke::new(1.0, p.hairline),
        };
        if card.module {
            // A second sheet below: there is more inside.
            let below = rect.translate(vec2(3.0, 3.0) * zoom);
            self.painter.rect(below, radius, p.raised, Stroke::new(1.0, p.edge), StrokeKind::Inside);
        }
        let line = if card.module && standing != Standing::Selected { Stroke::new(1.0, p.edge) } else { line };
        self.painter.rect(rect, radius, surface, line, StrokeKind::Inside);
        let bar = Rect::from_min_max(rect.min, pos2(rect.left() + (5.0 * zoom).max(2.0), rect.bottom()));
        let bar_radius = CornerRadius { ne: 0, se: 0, ..radius };
        self.painter.rect_filled(bar, bar_radius, look.tone.fill().gamma_multiply(fade));
        if let Some((_, heat)) = &look.read {
            let low = (4.0 * zoom).max(2.0);
            let track = Rect::from_min_max(pos2(bar.right(), rect.bottom() - low), rect.max - vec2(2.0 * zoom, 0.0));
            let hot = Rect::from_min_size(track.min, vec2(track.width() * heat.max(0.02), low));
            self.painter.rect_filled(track, CornerRadius::ZERO, p.hover);
            self.painter.rect_filled(hot, CornerRadius::ZERO, theme::heat(0.25 + 0.75 * heat, p.dark));
        }
        self.words(card, rect, look, fade);
    }

    fn words(&self, card: &Card, rect: Rect, look: &Look, fade: f32) {
        let standing = look.standing;
        let zoom = self.camera.zoom;
        let p = self.palette;
        let names = opacity(zoom, NAMES) * fade.max(0.7);
        if names == 0.0 {
            return;
        }
        let left = rect.left() + 14.0 * zoom;
        let right = rect.right() - 10.0 * zoom;
        let glyph_room = 22.0 * zoom;
        let captions = opacity(zoom, CAPTIONS) * fade.max(0.7);
        let middle = if captions > 0.0 { rect.top() + 15.0 * zoom } else { rect.center().y };
        let strong = card.module || standing == Standing::Selected;
        let family = if strong { fonts::semibold() } else { Type::Body.font().family };
        let name_font = FontId::new(stepped(Type::Body.size() * zoom), family);
        self.line(&card.name, pos2(left, middle), right - left - glyph_room, name_font, p.strong.gamma_multiply(names));
        let glyph_font = FontId::new(stepped(Type::Small.size() * zoom), fonts::semibold());
        let ink = look.tone.ink(p.dark).gamma_multiply(names);
        self.painter.text(pos2(right, middle), Align2::RIGHT_CENTER, look.tone.glyph(), glyph_font.clone(), ink);
        if captions > 0.0 {
            let font = FontId::new(stepped(Type::Small.size() * zoom), Type::Small.font().family);
            let at = pos2(left, rect.top() + 31.0 * zoom);
            let mut room = right - left;
            if let Some((said, _)) = &look.read {
                let ink = p.strong.gamma_multiply(captions);
                let at = pos2(right, rect.top() + 31.0 * zoom);
                room -= self.painter.text(at, Align2::RIGHT_CENTER, said, glyph_font, ink).width() + 6.0 * zoom;
            }
            self.line(&card.caption, at, room, font, p.weak.gamma_multiply(captions));
        }
    }

    fn line(&self, text: &str, left_centre: Pos2, width: f32, font: FontId, color: Color32) {
        let mut job = LayoutJob::simple_singleline(text.to_owned(), font, color);
        job.wrap = TextWrapping::truncate_at_width(width.max(1.0));
        let galley = self.painter.layout_job(job);
        let at = left_centre - vec2(0.0, galley.size().y / 2.0);
        self.painter.galley(at, galley, color);
    }

    /// The picture in small, with what is seen of it; drawn where it helps: when not all is seen, and where it does not
    /// lie on the cards.
    pub fn minimap(&self, layout: &Layout, standing: &[Standing], tone: impl Fn(&Card) -> Tone) {
        const LEAST: f32 = 280.0;
        let seen = self.camera.seen(self.pane);
        if seen.contains_rect(layout.bounds) || self.pane.width() < LEAST {
            return;
        }
        let room = vec2(96.0, self.pane.height() - 32.0);
        let scale = (room.x / layout.bounds.width()).min(room.y / layout.bounds.height()).min(0.12);
        let size = layout.bounds.size() * scale;
        let map = Rect::from_min_size(self.pane.right_top() + vec2(-size.x - 20.0, 16.0), size);
        let place = |rect: Rect| {
            let at = |p: Pos2| map.min + (p - layout.bounds.min) * scale;
            Rect::from_min_max(at(rect.min), at(rect.max))
        };
        let frame = map.expand(6.0);
        let radius = CornerRadius::same(theme::RADIUS);
        let line = Stroke::new(1.0, self.palette.hairline);
        self.painter.rect(frame, radius, self.palette.panel, line, StrokeKind::Inside);
        for ((card, rect), standing) in layout.folded.cards.iter().zip(&layout.cards).zip(standing) {
            let fill = if *standing == Standing::Selected { self.palette.accent_ink } else { tone(card).fill() };
            self.painter.rect_filled(place(*rect), CornerRadius::ZERO, fill);
        }
        let window = place(seen.intersect(layout.bounds.expand(8.0 / scale))).intersect(frame);
        let line = Stroke::new(1.0, self.palette.accent_ink);
        self.painter.rect(window, radius, self.palette.accent.gamma_multiply(0.12), line, StrokeKind::Inside);
    }
}

impl Brush {
    /// The states that occur, with their glyphs and how many nodes have each, in a line.
    pub fn legend(&self, graph: &Graph, lens: Option<&Lens>) {
        let of = |n: &Node| lens.and_then(|l| l.tone_of(&n.name)).unwrap_or(tone(&n.numeric));
        let count = |state| graph.nodes.iter().filter(|n| of(n) == state).count();
        let mut at = self.pane.left_center() + vec2(8.0, 2.0);
        for state in Tone::ALL.into_iter().filter(|s| count(*s) > 0) {
            let text = format!("{}  {} {}", state.glyph(), count(state), state.name());
            let ink = state.ink(self.palette.dark);
            let galley = self.painter.layout_no_wrap(text, Type::Small.strong(), ink);
            let rect = Rect::from_min_size(at - vec2(0.0, galley.size().y / 2.0), galley.size());
            self.painter.galley(rect.min, galley, ink);
            at.x = rect.right() + theme::PADDING;
        }
    }
}

/// From 0 at the first zoom to 1 at the second.
fn opacity(zoom: f32, (from, to): (f32, f32)) -> f32 {
    ((zoom - from) / (to - from)).clamp(0.0, 1.0)
}

/// Type grows in steps of half a point, so that zooming does not fill the glyph atlas.
fn stepped(size: f32) -> f32 {
    (size * 2.0).round() / 2.0
}
