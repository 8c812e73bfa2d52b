//! The small menu beside a chart's title that saves it: as it is seen, as PNG or SVG, and what it says, as CSV.

use std::sync::Arc;

use eframe::egui::containers::menu::MenuButton;
use eframe::egui::{Context, Id, Rect, Role, Ui, WidgetInfo};

use super::picture;
use super::table::Table;
use crate::app::controls::small_button;
use crate::app::{number, theme};
use crate::chart;

/// Frames that a chart has to scroll into view before it is taken as it is.
const PATIENCE: u32 = 20;

/// What a file will hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum Kind {
    /// As it is seen, in pixels.
    Png,
    /// As it is seen, in lines and text.
    Svg,
    /// Its numbers.
    Csv,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Png, Self::Svg, Self::Csv];

    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Svg => "SVG",
            Self::Csv => "CSV",
        }
    }

    /// As a file's name ends.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Svg => "svg",
            Self::Csv => "csv",
        }
    }
}

/// A chart or table that is to be written.
#[derive(Clone, Debug)]
pub(in crate::app) struct Keepsake {
    /// The chart's.
    pub title: String,
    /// What of it.
    pub kind: Kind,
    /// An SVG, or rows as CSV.
    pub text: String,
}

type Queue = Arc<Vec<Keepsake>>;

fn queue() -> Id {
    Id::unique("charts to be saved")
}

/// What was asked to be saved since the last call.
pub(in crate::app) fn take_keepsakes(ctx: &Context) -> Vec<Keepsake> {
    let taken = ctx.data_mut(|d| d.remove_temp::<Queue>(queue()));
    taken.map_or(Vec::new(), Arc::unwrap_or_clone)
}

fn put(ctx: &Context, keepsake: Keepsake) {
    ctx.data_mut(|d| {
        let all = d.get_temp_mut_or_default::<Queue>(queue());
        Arc::make_mut(all).push(keepsake);
    });
    ctx.request_repaint();
}

/// The menu; what was picked in it. Of a table that stands alone there are only the numbers.
pub(super) fn menu_ui(ui: &mut Ui, title: &str, kinds: &[Kind]) -> Option<Kind> {
    let button = MenuButton::from_button(small_button("Save"));
    let (menu, inner) = button.ui(ui, |ui| {
        let mut picked = None;
        for kind in kinds {
            let item = ui.button(kind.name());
            item.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("{title}: save as {}", kind.name())));
            if item.clicked() {
                picked = Some(*kind);
                ui.close();
            }
        }
        picked
    });
    menu.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("{title}: save")));
    inner.and_then(|inner| inner.inner)
}

/// Saves a table's rows.
pub(super) fn save_table(ctx: &Context, title: &str, table: &Table) {
    let rows = table.rows.iter().map(|row| row.iter().map(|text| plain(text)).collect());
    let rows: Vec<Vec<String>> = std::iter::once(table.head.clone()).chain(rows).collect();
    let text = chart::csv(rows.iter().map(Vec::as_slice));
    put(ctx, Keepsake { title: title.to_owned(), kind: Kind::Csv, text });
}

/// A figure as a spreadsheet reads it: without the thin spaces between its digits, and with the keyboard's minus sign.
fn plain(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let kept =
        chars.iter().enumerate().filter(|(i, c)| **c != number::THIN || !(*i > 0 && digit(i - 1) && digit(i + 1)));
    let sign = |i: usize, c: char| if c == number::MINUS && digit(i + 1) { '-' } else { c };
    kept.map(|(i, c)| sign(i, *c)).collect()
}

/// Where the shapes of a chart begin in its layer.
pub(super) fn mark(ui: &Ui) -> usize {
    ui.ctx().graphics(|g| g.get(ui.layer_id()).map_or(0, |list| list.all_entries().len()))
}

/// Saves what was painted into `drawn` since `mark`, as soon as all of it is in view.
pub(super) fn save_drawn(ui: &Ui, title: &str, asked: Option<Kind>, mark: usize, drawn: Rect) {
    let id = ui.make_persistent_id(("to be saved", title));
    let waiting = ui.data(|d| d.get_temp::<(Kind, u32)>(id));
    let Some((kind, waited)) = asked.map(|kind| (kind, 0)).or(waiting) else { return };
    if !ui.clip_rect().contains_rect(drawn) && waited < PATIENCE {
        ui.scroll_to_rect(drawn, None);
        ui.data_mut(|d| d.insert_temp(id, (kind, waited + 1)));
        ui.ctx().request_repaint();
        return;
    }
    ui.data_mut(|d| d.remove::<(Kind, u32)>(id));
    let shapes: Vec<_> = ui
        .ctx()
        .graphics(|g| g.get(ui.layer_id()).map_or(Vec::new(), |list| list.all_entries().skip(mark).cloned().collect()));
    let p = theme::palette(ui);
    let text = picture::svg(title, &shapes, drawn, [p.ground, p.strong]);
    put(ui.ctx(), Keepsake { title: title.to_owned(), kind, text });
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn figures_are_plain_in_a_file() {
        for (shown, written) in [
            ("24\u{2009}152.1", "24152.1"),
            ("\u{2212}0.3\u{2009}pt", "-0.3\u{2009}pt"),
            ("1\u{2009}234\u{2009}567", "1234567"),
            ("layer \u{2212}", "layer \u{2212}"),
            ("\u{2013}", "\u{2013}"),
        ] {
            assert_eq!(plain(shown), written);
        }
    }
}
