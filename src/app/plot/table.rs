use eframe::egui::{Align, Label, Layout, RichText, Ui};
use egui_extras::{Column, TableBuilder};

use super::save::{self, Kind};
use crate::app::glossary::explain;
use crate::app::theme::{self, Type};

/// A table of words and numbers: a column where nothing is a number has words, the others even digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Heads of the columns, with units.
    pub head: Vec<String>,
    /// As many cells a row as there are heads.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads and rows.
    pub fn new<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Self {
        Self { head: head.map(str::to_owned).to_vec(), rows: rows.into_iter().map(|r| r.to_vec()).collect() }
    }

    /// Whether no cell of a column begins as a number does, and one begins as a word.
    fn is_words(&self, column: usize) -> bool {
        let cells = || self.rows.iter().filter_map(|row| row.get(column)?.chars().next());
        cells().any(char::is_alphabetic) && !cells().any(|c| c.is_ascii_digit() || "-+<\u{2212}".contains(c))
    }
}

/// Draws a table; only the rows that are seen cost anything.
pub fn table_ui(ui: &mut Ui, name: &str, table: &Table) {
    limited_ui(ui, name, table, theme::CHART + LINE);
}

/// The same in full height, for a page that scrolls itself.
pub fn whole_table_ui(ui: &mut Ui, name: &str, table: &Table) {
    limited_ui(ui, name, table, (table.rows.len() + 2) as f32 * LINE);
}

/// The small menu that saves a table under its name: of one that is drawn elsewhere.
pub fn save_table_ui(ui: &mut Ui, name: &str, table: impl FnOnce() -> Table) {
    if save::menu_ui(ui, name, &[Kind::Csv]).is_some() {
        save::save_table(ui.ctx(), name, &table());
    }
}

const LINE: f32 = 22.0;

fn limited_ui(ui: &mut Ui, name: &str, table: &Table, high: f32) {
    ui.push_id(name, |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        let weak = theme::palette(ui).weak;
        let mut builder = TableBuilder::new(ui).max_scroll_height(high).auto_shrink([false, true]);
        for i in 0..table.head.len() {
            builder =
                builder.column(if i == 0 { Column::remainder().clip(true) } else { Column::auto().at_least(64.0) });
        }
        let words: Vec<bool> = (0..table.head.len()).map(|i| i == 0 || table.is_words(i)).collect();
        let cell = |ui: &mut Ui, i: usize, text: RichText| {
            let layout =
                if words[i] { Layout::left_to_right(Align::Center) } else { Layout::right_to_left(Align::Center) };
            let label = Label::new(text);
            ui.with_layout(layout, |ui| ui.add(if i == 0 { label.truncate() } else { label.extend() })).inner
        };
        builder
            .header(LINE, |mut row| {
                for (i, head) in table.head.iter().enumerate() {
                    row.col(|ui| {
                        let shown = cell(ui, i, RichText::new(head).font(Type::Small.font()).color(weak));
                        explain(ui, shown, head);
                    });
                }
            })
            .body(|body| {
                body.rows(LINE, table.rows.len(), |mut row| {
                    for (i, text) in table.rows[row.index()].iter().enumerate() {
                        let font = if words[i] { Type::Body.font() } else { Type::Body.mono() };
                        row.col(|ui| drop(cell(ui, i, RichText::new(text).font(font))));
                    }
                });
            });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_without_a_number_has_words() {
        let row = |cells: [&str; 5]| cells.map(str::to_owned);
        let rows =
            [row(["a", "Conv2d", "1.5", "none", "\u{2013}"]), row(["2", "Add", "exact", "\u{2212}3", "\u{2013}"])];
        let table = Table::new(["", "operation", "SQNR", "change", "empty"], rows);
        assert_eq!([0, 1, 2, 3, 4].map(|i| table.is_words(i)), [false, true, false, false, false]);
    }
}
