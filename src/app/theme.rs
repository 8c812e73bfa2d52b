//! The look: the only place with colours, sizes and spacing. Everything is on a grid of 4 points.
//!
//! Two themes, one accent, and five colours that mean the same wherever they stand (Okabe and Ito's, which colour-blind
//! eyes tell apart), each with a glyph of its own so that nothing is said by colour alone.

use eframe::egui::{
    self, Color32, CornerRadius, FontFamily, FontId, Margin, Shadow, Stroke, Style, TextStyle, Theme, Vec2, Visuals,
    style::{Selection, WidgetVisuals, Widgets},
};

use super::fonts;

/// One step of the grid.
pub const GRID: f32 = 4.0;
/// Between things that belong together.
pub const GAP: f32 = 8.0;
/// Inside a panel's edges.
pub const PADDING: f32 = 16.0;
/// Height of a row with a control in it.
pub const ROW: f32 = 28.0;
/// Height of a button beside something larger.
pub const SMALL: f32 = 22.0;
/// Height of a choice among a few, with the frame around it.
pub const CHOICE: f32 = 32.0;
/// Of every rounded corner.
pub const RADIUS: u8 = 6;
/// Width of the rail with words.
pub const RAIL: f32 = 200.0;
/// Width of the rail with icons alone.
pub const RAIL_NARROW: f32 = 56.0;
/// Width of a lesson of the tutorial.
pub const LESSON: f32 = 352.0;
/// Below this width the rail has no words beside a lesson.
pub const ROOMY: f32 = 1240.0;
/// From this width the inspector stands beside a lesson too.
pub const WIDE: f32 = 1560.0;
/// Width of the inspector.
pub const INSPECTOR: f32 = 288.0;
/// Below this width the rail is icons and the inspector a drawer.
pub const NARROW: f32 = 1000.0;
/// Below this height the log hides.
pub const LOW: f32 = 700.0;
/// How much of a stale result shows.
pub const STALE: f32 = 0.55;
/// Height of a small chart.
pub const CHART: f32 = 160.0;
/// Width of a card of the graph, before zoom.
pub const CARD: Vec2 = Vec2::new(184.0, 44.0);

/// The four sizes of type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Captions, axis labels, table heads.
    Small,
    /// Everything else.
    Body,
    /// A panel's title.
    Title,
    /// A screen's title, and the figures of the result.
    Display,
}

impl Type {
    /// In points.
    pub fn size(self) -> f32 {
        match self {
            Self::Small => 11.5,
            Self::Body => 13.0,
            Self::Title => 16.0,
            Self::Display => 22.0,
        }
    }

    /// In the face for words.
    pub fn font(self) -> FontId {
        FontId::new(self.size(), FontFamily::Proportional)
    }

    /// In the face for headings.
    pub fn strong(self) -> FontId {
        FontId::new(self.size(), fonts::semibold())
    }

    /// In the face for code and figures in columns.
    pub fn mono(self) -> FontId {
        FontId::new(self.size() - 0.5, FontFamily::Monospace)
    }
}

/// What a node, a bar or a line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tone {
    /// float32.
    Float,
    /// float32 with an observer.
    Observed,
    /// float32 rounded as int8 will be.
    FakeQuantized,
    /// int8.
    Int8,
    /// Something is wrong.
    Trouble,
}

impl Tone {
    /// All, in the order of the legend.
    pub const ALL: [Self; 5] = [Self::Float, Self::Observed, Self::FakeQuantized, Self::Int8, Self::Trouble];

    /// As the legend names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Observed => "observed",
            Self::FakeQuantized => "fake-quantized",
            Self::Int8 => "int8",
            Self::Trouble => "trouble",
        }
    }

    /// The glyph beside the colour.
    pub fn glyph(self) -> &'static str {
        match self {
            Self::Float => "32",
            Self::Observed => "\u{25ce}",
            Self::FakeQuantized => "~8",
            Self::Int8 => "8",
            Self::Trouble => "!",
        }
    }

    /// The colour of areas: the same in both themes.
    pub fn fill(self) -> Color32 {
        match self {
            Self::Float => Color32::from_rgb(0x00, 0x72, 0xb2),
            Self::Observed => Color32::from_rgb(0xe6, 0x9f, 0x00),
            Self::FakeQuantized => Color32::from_rgb(0xcc, 0x79, 0xa7),
            Self::Int8 => Color32::from_rgb(0x00, 0x9e, 0x73),
            Self::Trouble => Color32::from_rgb(0xd5, 0x5e, 0x00),
        }
    }

    /// Text on [`Tone::fill`].
    pub fn on_fill(self) -> Color32 {
        match self {
            Self::Float => Color32::WHITE,
            Self::Observed | Self::FakeQuantized | Self::Int8 | Self::Trouble => Color32::from_rgb(0x0c, 0x0e, 0x12),
        }
    }

    /// The same hue for text and thin lines on the theme's surfaces.
    pub fn ink(self, dark: bool) -> Color32 {
        match (self, dark) {
            (Self::Float, true) => Color32::from_rgb(0x5a, 0xb2, 0xe6),
            (Self::Float, false) => Color32::from_rgb(0x00, 0x67, 0xa3),
            (Self::Observed, true) => Color32::from_rgb(0xe6, 0x9f, 0x00),
            (Self::Observed, false) => Color32::from_rgb(0x8a, 0x5c, 0x00),
            (Self::FakeQuantized, true) => Color32::from_rgb(0xdc, 0x93, 0xbb),
            (Self::FakeQuantized, false) => Color32::from_rgb(0x9a, 0x42, 0x73),
            (Self::Int8, true) => Color32::from_rgb(0x2c, 0xb8, 0x8d),
            (Self::Int8, false) => Color32::from_rgb(0x00, 0x73, 0x53),
            (Self::Trouble, true) => Color32::from_rgb(0xf0, 0x86, 0x3c),
            (Self::Trouble, false) => Color32::from_rgb(0xa8, 0x49, 0x00),
        }
    }

    /// A wash of the hue behind text.
    pub fn wash(self, dark: bool) -> Color32 {
        self.fill().gamma_multiply(if dark { 0.22 } else { 0.12 })
    }
}

/// The neutral colours of one theme and its accent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Palette {
    /// Whether it is the dark one.
    pub dark: bool,
    /// Behind everything.
    pub ground: Color32,
    /// Of side panels.
    pub panel: Color32,
    /// Of cards and fields.
    pub raised: Color32,
    /// Of what the pointer is over.
    pub hover: Color32,
    /// One-point lines.
    pub hairline: Color32,
    /// Edges of the graph, handles, unselected marks: 3:1 on the ground.
    pub edge: Color32,
    /// Text.
    pub text: Color32,
    /// Secondary text.
    pub weak: Color32,
    /// Headings.
    pub strong: Color32,
    /// The one accent, for areas: the primary button, progress.
    pub accent: Color32,
    /// Text on the accent.
    pub on_accent: Color32,
    /// The accent as text or line.
    pub accent_ink: Color32,
    /// Behind what is selected.
    pub accent_wash: Color32,
}

const DARK: Palette = Palette {
    dark: true,
    ground: Color32::from_rgb(0x0f, 0x11, 0x15),
    panel: Color32::from_rgb(0x15, 0x18, 0x1d),
    raised: Color32::from_rgb(0x1d, 0x21, 0x28),
    hover: Color32::from_rgb(0x28, 0x2d, 0x36),
    hairline: Color32::from_rgb(0x2a, 0x2f, 0x38),
    edge: Color32::from_rgb(0x68, 0x70, 0x7e),
    text: Color32::from_rgb(0xd6, 0xda, 0xe1),
    weak: Color32::from_rgb(0x98, 0xa0, 0xae),
    strong: Color32::from_rgb(0xf4, 0xf6, 0xf9),
    accent: Color32::from_rgb(0x5b, 0x5b, 0xd6),
    on_accent: Color32::WHITE,
    accent_ink: Color32::from_rgb(0xa9, 0xab, 0xff),
    accent_wash: Color32::from_rgb(0x26, 0x27, 0x45),
};

const LIGHT: Palette = Palette {
    dark: false,
    ground: Color32::from_rgb(0xff, 0xff, 0xff),
    panel: Color32::from_rgb(0xf7, 0xf8, 0xfa),
    raised: Color32::from_rgb(0xf0, 0xf1, 0xf4),
    hover: Color32::from_rgb(0xe4, 0xe6, 0xeb),
    hairline: Color32::from_rgb(0xdd, 0xe0, 0xe6),
    edge: Color32::from_rgb(0x87, 0x8e, 0x9b),
    text: Color32::from_rgb(0x25, 0x29, 0x31),
    weak: Color32::from_rgb(0x5a, 0x62, 0x70),
    strong: Color32::from_rgb(0x0c, 0x0e, 0x12),
    accent: Color32::from_rgb(0x5b, 0x5b, 0xd6),
    on_accent: Color32::WHITE,
    accent_ink: Color32::from_rgb(0x4a, 0x49, 0xc2),
    accent_wash: Color32::from_rgb(0xe8, 0xe8, 0xfc),
};

/// The palette of one of the two themes.
pub fn palette_of(theme: Theme) -> &'static Palette {
    match theme {
        Theme::Dark => &DARK,
        Theme::Light => &LIGHT,
    }
}

/// The palette of what is being drawn.
pub fn palette(ui: &egui::Ui) -> &'static Palette {
    if ui.visuals().dark_mode { &DARK } else { &LIGHT }
}

/// A hairline of the current theme.
pub fn hairline(ui: &egui::Ui) -> Stroke {
    Stroke::new(1.0, palette(ui).hairline)
}

/// Colours of several lines in one plot, in order: the accent's neighbours, none of them a [`Tone`]'s.
pub fn series(index: usize, dark: bool) -> Color32 {
    let p = if dark { &DARK } else { &LIGHT };
    if index.is_multiple_of(2) { p.accent_ink } else { p.weak }
}

/// A sequential scale of heat, from nothing (0) to the most (1), in the manner of viridis; it starts at the theme's own
/// ground, so that nothing looks like nothing.
pub fn heat(share: f32, dark: bool) -> Color32 {
    const DARK: [[f32; 3]; 5] =
        [[29.0, 33.0, 40.0], [59.0, 62.0, 120.0], [38.0, 118.0, 142.0], [61.0, 178.0, 122.0], [240.0, 225.0, 60.0]];
    const LIGHT: [[f32; 3]; 5] =
        [[240.0, 241.0, 244.0], [167.0, 214.0, 170.0], [53.0, 160.0, 140.0], [50.0, 96.0, 140.0], [62.0, 30.0, 100.0]];
    let stops = if dark { &DARK } else { &LIGHT };
    let at = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 } * (stops.len() - 1) as f32;
    let i = (at as usize).min(stops.len() - 2);
    let mix = |c: usize| (stops[i][c] + (stops[i + 1][c] - stops[i][c]) * (at - i as f32)).round() as u8;
    Color32::from_rgb(mix(0), mix(1), mix(2))
}

/// Black or white, whichever is read on `fill`.
pub fn on(fill: Color32) -> Color32 {
    let linear = |v: u8| {
        let v = f32::from(v) / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    };
    let light = 0.2126 * linear(fill.r()) + 0.7152 * linear(fill.g()) + 0.0722 * linear(fill.b());
    // Where both have the same contrast, 4.58.
    if light > 0.179 { Color32::BLACK } else { Color32::WHITE }
}

/// Gives both themes their look. Fonts are set apart, see [`fonts`].
pub fn install(ctx: &egui::Context) {
    for theme in [Theme::Dark, Theme::Light] {
        ctx.set_style_of(theme, style(palette_of(theme)));
    }
}

fn style(p: &Palette) -> Style {
    let mut style = Style { visuals: visuals(p), ..Style::default() };
    style.text_styles = [
        (TextStyle::Small, Type::Small.font()),
        (TextStyle::Body, Type::Body.font()),
        (TextStyle::Button, Type::Body.font()),
        (TextStyle::Heading, Type::Title.strong()),
        (TextStyle::Monospace, Type::Body.mono()),
    ]
    .into();
    style.animation_time = 0.15;
    let s = &mut style.spacing;
    s.item_spacing = Vec2::splat(GAP);
    s.button_padding = Vec2::new(12.0, GRID);
    s.interact_size = Vec2::new(ROW, ROW);
    s.window_margin = Margin::same(PADDING as i8);
    s.menu_margin = Margin::same(GRID as i8);
    s.combo_width = 96.0;
    s.icon_width = 16.0;
    s.icon_width_inner = 8.0;
    s.tooltip_width = 360.0;
    style
}

fn visuals(p: &Palette) -> Visuals {
    let base = if p.dark { Visuals::dark() } else { Visuals::light() };
    let shadow =
        Shadow { offset: [0, 4], blur: 16, spread: 0, color: Color32::from_black_alpha(if p.dark { 96 } else { 32 }) };
    Visuals {
        widgets: widgets(p),
        selection: Selection { bg_fill: p.accent_wash, stroke: Stroke::new(1.0, p.accent_ink) },
        weak_text_color: Some(p.weak),
        hyperlink_color: p.accent_ink,
        faint_bg_color: p.panel,
        extreme_bg_color: p.raised,
        code_bg_color: p.raised,
        warn_fg_color: Tone::Observed.ink(p.dark),
        error_fg_color: Tone::Trouble.ink(p.dark),
        window_corner_radius: CornerRadius::same(RADIUS),
        menu_corner_radius: CornerRadius::same(RADIUS),
        window_fill: p.panel,
        window_stroke: Stroke::new(1.0, p.hairline),
        window_shadow: shadow,
        popup_shadow: shadow,
        panel_fill: p.ground,
        indent_has_left_vline: false,
        ..base
    }
}

fn widgets(p: &Palette) -> Widgets {
    let widget = |fill: Color32, line: Color32, text: Color32| WidgetVisuals {
        bg_fill: fill,
        weak_bg_fill: fill,
        bg_stroke: Stroke::new(1.0, line),
        fg_stroke: Stroke::new(1.0, text),
        corner_radius: CornerRadius::same(RADIUS),
        expansion: 0.0,
    };
    Widgets {
        noninteractive: widget(p.panel, p.hairline, p.text),
        inactive: widget(p.raised, p.hairline, p.text),
        // The same line serves the pointer and the keyboard's focus: it must be seen.
        hovered: widget(p.hover, p.accent_ink, p.strong),
        active: widget(p.hover, p.accent_ink, p.strong),
        open: widget(p.hover, p.hairline, p.strong),
    }
}

/// The frame of a panel at the window's edge.
pub fn panel_frame(ui: &egui::Ui) -> egui::Frame {
    egui::Frame::new().fill(palette(ui).panel).inner_margin(Margin::same(PADDING as i8))
}

/// The frame of the centre.
pub fn ground_frame(ui: &egui::Ui) -> egui::Frame {
    egui::Frame::new().fill(palette(ui).ground).inner_margin(Margin::same(PADDING as i8))
}

/// The frame of a card: a raised surface, no line.
pub fn card_frame(ui: &egui::Ui) -> egui::Frame {
    egui::Frame::new()
        .fill(palette(ui).panel)
        .stroke(hairline(ui))
        .corner_radius(CornerRadius::same(RADIUS))
        .inner_margin(Margin::same(12))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2's relative luminance and contrast.
    fn contrast(a: Color32, b: Color32) -> f64 {
        let luminance = |c: Color32| {
            let linear = |v: u8| {
                let v = f64::from(v) / 255.0;
                if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(c.r()) + 0.7152 * linear(c.g()) + 0.0722 * linear(c.b())
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn over(wash: Color32, ground: Color32) -> Color32 {
        ground.blend(wash)
    }

    #[test]
    fn the_formula_is_wcags() {
        assert!((contrast(Color32::BLACK, Color32::WHITE) - 21.0).abs() < 1e-9);
        assert!((contrast(Color32::from_gray(0x77), Color32::WHITE) - 4.478).abs() < 0.01);
    }

    #[test]
    fn text_is_read_on_every_surface_of_both_themes() {
        for p in [&DARK, &LIGHT] {
            for surface in [p.ground, p.panel, p.raised, p.hover, p.accent_wash] {
                for (name, ink) in [("text", p.text), ("weak", p.weak), ("strong", p.strong), ("accent", p.accent_ink)]
                {
                    let found = contrast(ink, surface);
                    assert!(found >= 4.5, "{name} on {surface:?} (dark: {}): {found:.2}", p.dark);
                }
            }
            assert!(contrast(p.on_accent, p.accent) >= 4.5);
        }
    }

    #[test]
    fn the_five_tones_are_read_in_both_themes() {
        for tone in Tone::ALL {
            assert!(contrast(tone.on_fill(), tone.fill()) >= 4.5, "{} on its fill", tone.name());
            for p in [&DARK, &LIGHT] {
                for surface in [p.ground, p.panel, p.raised, over(tone.wash(p.dark), p.ground)] {
                    let found = contrast(tone.ink(p.dark), surface);
                    assert!(found >= 4.5, "{} on {surface:?} (dark: {}): {found:.2}", tone.name(), p.dark);
                }
            }
        }
    }

    #[test]
    fn figures_are_read_on_every_heat() {
        for dark in [true, false] {
            for step in 0..=100 {
                let fill = heat(step as f32 / 100.0, dark);
                let found = contrast(on(fill), fill);
                assert!(found >= 4.5, "{step} %, dark: {dark}: {found:.2}");
            }
        }
    }

    #[test]
    fn lines_that_mean_something_stand_out() {
        for p in [&DARK, &LIGHT] {
            assert!(contrast(p.edge, p.ground) >= 3.0, "edges, dark: {}", p.dark);
        }
    }
}
