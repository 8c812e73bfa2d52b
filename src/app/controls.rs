//! The few controls that egui does not have as we want them.

use eframe::egui::{
    self, Align2, Button, Color32, CornerRadius, Rect, Response, RichText, Role, Sense, Shape, Stroke, Ui, WidgetInfo,
    pos2, vec2,
};

use super::glossary::{label_ui, words_ui};
use super::number;
use super::theme::{self, Tone, Type};
use crate::session::{StepState, Transfer};

/// What a primary button says of itself to tests.
pub const PRIMARY: &str = "primary";

/// A button that is the window's primary one where it `leads` on, and as quiet as any other elsewhere, or disabled.
pub fn primary_ui(ui: &mut Ui, leads: bool, enabled: bool, text: &str) -> Response {
    if !(leads && enabled) {
        return ui.add_enabled(enabled, Button::new(text).min_size(vec2(0.0, theme::ROW)));
    }
    let p = theme::palette(ui);
    let label = RichText::new(text).font(Type::Body.strong()).color(p.on_accent);
    let button = Button::new(label).fill(p.accent).stroke(Stroke::NONE).min_size(vec2(0.0, theme::ROW));
    let response = ui.add(button);
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_author_id(PRIMARY));
    response
}

/// A quiet button beside something larger: a title, a field, a row of a table.
pub fn small_button(text: &str) -> Button<'_> {
    Button::new(RichText::new(text).font(Type::Small.font())).small().min_size(vec2(0.0, theme::SMALL))
}

/// Draws one.
pub fn small_ui(ui: &mut Ui, text: &str) -> Response {
    ui.add(small_button(text))
}

/// A choice among a few, side by side; closer together where a whole line has no room for them.
pub fn choice_ui<T: Copy + PartialEq>(ui: &mut Ui, name: &str, options: &[(T, &str)], chosen: &mut T) {
    let wide = |text: &str| ui.painter().layout_no_wrap(text.to_owned(), Type::Body.font(), Color32::WHITE).size().x;
    let letters: f32 = options.iter().map(|(_, text)| wide(text) + 2.0).sum();
    let room = (ui.max_rect().width() - 4.0 - letters) / (2.0 * options.len() as f32);
    egui::Frame::new().fill(theme::palette(ui).raised).corner_radius(theme::RADIUS).inner_margin(2).show(ui, |ui| {
        ui.spacing_mut().item_spacing.x = 2.0;
        ui.spacing_mut().button_padding.x = ui.spacing().button_padding.x.min(room.floor()).max(theme::GRID);
        ui.horizontal(|ui| {
            for (value, text) in options {
                let button = Button::selectable(*value == *chosen, *text).min_size(vec2(0.0, theme::ROW - 4.0));
                let response = ui.add(button);
                let selected = *value == *chosen;
                response
                    .widget_info(|| WidgetInfo::selected(Role::RadioButton, true, selected, format!("{name}: {text}")));
                if response.clicked() {
                    *chosen = *value;
                }
            }
        });
    });
}

/// A number that is dragged or typed, with its name before it.
pub fn number_ui<N: egui::emath::Numeric>(
    ui: &mut Ui,
    name: &str,
    value: &mut N,
    range: std::ops::RangeInclusive<N>,
    speed: f64,
) {
    ui.horizontal(|ui| {
        let label = label_ui(ui, RichText::new(name).color(theme::palette(ui).weak));
        ui.add(egui::DragValue::new(value).range(range).speed(speed)).labelled_by(label.id);
    });
}

/// A drop-down of named values.
pub fn pick_ui<T: Copy + PartialEq>(
    ui: &mut Ui,
    name: &str,
    chosen: &mut T,
    options: &[T],
    title: fn(T) -> &'static str,
) {
    let combo = egui::ComboBox::from_id_salt(name).selected_text(title(*chosen)).width(64.0).show_ui(ui, |ui| {
        for option in options {
            ui.selectable_value(chosen, *option, title(*option));
        }
    });
    let text = format!("{name}: {}", title(*chosen));
    combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, &text));
    combo.response.on_hover_text(name);
}

/// A path that is typed, or picked in a dialog; whether the dialog was asked for.
pub fn path_ui(ui: &mut Ui, name: &str, hint: &str, path: &mut String) -> bool {
    ui.horizontal(|ui| {
        let room = (ui.available_width() - 96.0).clamp(80.0, 420.0);
        let field = egui::TextEdit::singleline(path).hint_text(hint).desired_width(room);
        let field = ui.add(field.align(Align2::LEFT_CENTER));
        field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, name));
        let browse = ui.button("Browse\u{2026}");
        browse.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("{name}: browse")));
        browse.clicked()
    })
    .inner
}

/// A step's state as a shape: a tick, a dot, a ring, a lock's bar.
pub fn step_mark(ui: &Ui, centre: egui::Pos2, state: StepState, current: bool) {
    let p = theme::palette(ui);
    let painter = ui.painter();
    match state {
        StepState::Done => {
            painter.circle_filled(centre, 8.0, Tone::Int8.fill());
            let tick = [pos2(-3.5, 0.2), pos2(-1.0, 2.8), pos2(3.6, -2.6)].map(|d| centre + d.to_vec2());
            painter.add(Shape::line(tick.to_vec(), Stroke::new(1.75, Tone::Int8.on_fill())));
        }
        StepState::Running => {
            painter.circle_stroke(centre, 7.5, Stroke::new(1.5, p.accent_ink));
            painter.circle_filled(centre, 4.0, p.accent_ink);
        }
        StepState::Ready => {
            let ink = if current { p.accent_ink } else { p.text };
            painter.circle_stroke(centre, 7.5, Stroke::new(1.5, ink));
        }
        StepState::Stale => {
            // A ring with a gap and an arrow: round again.
            let ink = Tone::Observed.ink(p.dark);
            let at = |turn: f32| centre + 7.0 * egui::Vec2::angled(turn * std::f32::consts::TAU);
            let ring: Vec<_> = (0..=18).map(|i| at(i as f32 / 18.0 * 0.8)).collect();
            let tip = at(0.8);
            painter.add(Shape::line(ring, Stroke::new(1.5, ink)));
            let arrow = [vec2(-4.5, -0.5), vec2(0.0, 0.0), vec2(0.5, 4.5)].map(|d| tip + d);
            painter.add(Shape::line(arrow.to_vec(), Stroke::new(1.5, ink)));
        }
        StepState::Locked => {
            painter.circle_stroke(centre, 7.5, Stroke::new(1.0, p.edge));
            painter.hline(centre.x - 3.0..=centre.x + 3.0, centre.y, Stroke::new(1.0, p.edge));
        }
    }
}

/// A figure `apart` under its name, neither of them ever broken: where the line has no room for it, it begins the next one.
pub fn figure_ui(ui: &mut Ui, name: RichText, value: RichText, apart: f32) {
    let wide = |ui: &Ui, text: &RichText| {
        let text = egui::WidgetText::from(text.clone());
        text.into_galley(ui, Some(egui::TextWrapMode::Extend), f32::INFINITY, egui::TextStyle::Body).size().x
    };
    let room = wide(ui, &name).max(wide(ui, &value));
    if ui.available_size_before_wrap().x < room {
        ui.end_row();
    }
    ui.vertical(|ui| {
        ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Extend);
        ui.spacing_mut().item_spacing.y = apart;
        label_ui(ui, name);
        ui.label(value);
    });
}

/// Two numbers that people compare and their difference, each under its name.
pub fn figures_ui(ui: &mut Ui, figures: &[(&str, &str, Option<Tone>)]) {
    let p = theme::palette(ui);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = theme::PADDING + theme::GAP;
        for (name, value, tone) in figures {
            let color = tone.map_or(p.weak, |t| t.ink(p.dark));
            let glyph = tone.map_or(String::new(), |t| format!("{}  ", t.glyph()));
            let name = RichText::new(format!("{glyph}{name}")).font(Type::Small.strong()).color(color);
            figure_ui(ui, name, RichText::new(*value).font(Type::Display.strong()).color(p.strong), 2.0);
        }
    });
}

/// A bar of progress, `share` of it done.
pub fn progress_ui(ui: &mut Ui, name: &str, share: f32, width: f32) {
    let (rect, response) = ui.allocate_exact_size(vec2(width, theme::ROW), Sense::hover());
    let p = theme::palette(ui);
    let track = Rect::from_center_size(rect.center(), vec2(rect.width(), 6.0));
    ui.painter().rect_filled(track, CornerRadius::same(3), p.raised);
    let done = Rect::from_min_size(track.min, vec2(track.width() * share.clamp(0.0, 1.0), 6.0));
    ui.painter().rect_filled(done, CornerRadius::same(3), p.accent_ink);
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, name);
        info.value = Some(f64::from(share) * 100.0);
        info
    });
}

/// A bar of a download's progress, the button that ends it, and in words: bytes, rate, time left. The words change their
/// width all the time, so the button stands before them, where it keeps its place under the pointer.
pub fn transfer_ui(ui: &mut Ui, name: &str, transfer: &Transfer, width: f32, cancel: impl FnOnce(&mut Ui)) {
    let p = theme::palette(ui);
    let share = transfer.bytes as f64 / transfer.total.max(1) as f64;
    progress_ui(ui, name, share as f32, width);
    cancel(ui);
    let bytes = format!("{} of {}", number::bytes(transfer.bytes), number::bytes(transfer.total));
    ui.label(RichText::new(bytes).font(Type::Body.mono()).color(p.text));
    if let Some(rate) = transfer.bytes_per_second {
        let left = transfer.seconds_left.map_or(String::new(), |s| format!(", {} left", number::seconds(s)));
        let text = format!("{}/s{left}", number::bytes(rate as u64));
        ui.label(RichText::new(text).color(p.weak));
    }
}

/// Something went wrong, or should be known: one sentence on a wash of the tone, with its glyph.
pub fn banner_ui(ui: &mut Ui, tone: Tone, text: &str) {
    let dark = theme::palette(ui).dark;
    egui::Frame::new().fill(tone.wash(dark)).corner_radius(theme::RADIUS).inner_margin(12).show(ui, |ui| {
        ui.horizontal_top(|ui| {
            ui.label(RichText::new(tone.glyph()).font(Type::Body.strong()).color(tone.ink(dark)));
            words_ui(ui, text, Type::Body.font(), theme::palette(ui).strong);
        });
    });
}
