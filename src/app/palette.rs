//! Ctrl+P: everything that can be done, found by a few letters.

use eframe::egui::{
    self, Align2, Context, CornerRadius, Id, Key, Modal, Modifiers, Role, ScrollArea, Sense, TextEdit, Ui, WidgetInfo,
    pos2, vec2,
};

use super::actions::Action;
use super::fuzzy::fit;
use super::theme::{self, Type};
use super::workbench::Workbench;
use crate::session::View;

/// Rows that are looked for; who wants more types more.
const ROWS: usize = 50;
const LINE: f32 = theme::ROW;
const WIDTH: f32 = 520.0;

/// Whether the palette is open, what is typed, and which row is marked.
#[derive(Clone, Debug, Default)]
pub(super) struct Palette {
    open: bool,
    query: String,
    marked: usize,
    fresh: bool,
}

impl Palette {
    /// Opens it, empty.
    pub fn open(&mut self) {
        *self = Self { open: true, fresh: true, ..Self::default() };
    }

    /// Whether it is open: then it has the keyboard.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

/// Draws the palette where it is open, and does what was picked.
pub(super) fn palette_ui(ctx: &Context, bench: &mut Workbench, view: &View) {
    if !bench.palette.open {
        return;
    }
    let found = found(&bench.palette.query, bench, view);
    let steps = ctx.input_mut(|i| {
        let count = |i: &mut egui::InputState, key| i.count_and_consume_key(Modifiers::NONE, key) as isize;
        count(i, Key::ArrowDown) - count(i, Key::ArrowUp)
    });
    let last = found.len().saturating_sub(1);
    let palette = &mut bench.palette;
    palette.marked = palette.marked.saturating_add_signed(steps).min(last);
    let entered = ctx.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Enter));
    let room = ctx.content_rect();
    let width = WIDTH.min(room.width() - 2.0 * theme::PADDING).max(0.0);
    let high = (room.height() * 0.6).min(12.0 * LINE);
    let id = Id::unique("palette");
    let area = Modal::default_area(id).anchor(Align2::CENTER_TOP, vec2(0.0, (room.height() * 0.1).min(72.0)));
    let mut picked = entered.then(|| found.get(palette.marked).cloned()).flatten();
    let shown = Modal::new(id).area(area).show(ctx, |ui| {
        ui.set_width(width);
        field_ui(ui, palette);
        ui.add_space(theme::GRID);
        if found.is_empty() {
            ui.label(egui::RichText::new("Nothing of that name.").color(theme::palette(ui).weak));
        }
        let list = ScrollArea::vertical().id_salt("found").max_height(high).min_scrolled_height(high);
        list.auto_shrink([false, true]).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = 0.0;
            for (i, action) in found.iter().enumerate() {
                let marked = i == palette.marked;
                let row = row_ui(ui, action, marked);
                if marked && steps != 0 {
                    row.scroll_to_me(None);
                }
                if row.clicked() {
                    picked = Some(action.clone());
                }
            }
        });
    });
    if picked.is_some() || shown.should_close() {
        bench.palette.open = false;
    }
    if let Some(action) = picked {
        action.perform(bench, view, ctx);
    }
}

fn field_ui(ui: &mut Ui, palette: &mut Palette) {
    let field = TextEdit::singleline(&mut palette.query)
        .hint_text("A command, a step, a layer, the path of a file\u{2026}")
        .desired_width(f32::INFINITY)
        .align(Align2::LEFT_CENTER);
    let field = ui.add(field);
    field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Search commands and layers"));
    if std::mem::take(&mut palette.fresh) {
        field.request_focus();
    }
    if field.changed() {
        palette.marked = 0;
    }
}

/// What fits, the best first; with nothing typed, what can be done now in the order of the list.
fn found(query: &str, bench: &Workbench, view: &View) -> Vec<Action> {
    let able = Action::all(view).into_iter().filter(|a| *a != Action::Palette && a.can(bench, view));
    let mut found: Vec<(i32, Action)> = able.filter_map(|a| Some((fit(query, &a.title())?, a))).collect();
    if !query.trim().is_empty() {
        found.sort_by_key(|(fit, _)| std::cmp::Reverse(*fit));
    }
    let typed = Action::typed(query).filter(|a| a.can(bench, view));
    typed.into_iter().chain(found.into_iter().map(|(_, action)| action)).take(ROWS).collect()
}

fn row_ui(ui: &mut Ui, action: &Action, marked: bool) -> egui::Response {
    let p = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), LINE), Sense::click());
    let title = action.title();
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, marked, format!("{}: {title}", action.kind())));
    if marked || response.hovered() || response.has_focus() {
        let fill = if marked { p.accent_wash } else { p.hover };
        ui.painter().rect_filled(rect, CornerRadius::same(theme::RADIUS), fill);
    }
    let font = match action {
        Action::Node(_) | Action::File(_) => Type::Body.mono(),
        _ => Type::Body.font(),
    };
    let painter = ui.painter().with_clip_rect(rect.intersect(ui.clip_rect()));
    painter.text(pos2(rect.left() + 8.0, rect.center().y), Align2::LEFT_CENTER, title, font, p.strong);
    let right = pos2(rect.right() - 8.0, rect.center().y);
    let (note, font) = match action.keys() {
        Some(keys) => (keys, Type::Small.mono()),
        None => (action.kind(), Type::Small.font()),
    };
    painter.text(right, Align2::RIGHT_CENTER, note, font, p.weak);
    response
}
