use std::f32::consts::TAU;
use std::sync::Arc;

use eframe::egui::epaint::TextShape;
use eframe::egui::text::{LayoutJob, TextWrapping};
use eframe::egui::{Align2, Color32, Galley, Pos2, Rect, Sense, Stroke, StrokeKind, Ui, Vec2, pos2, vec2};

use super::{Table, chart_ui};
use crate::app::number;
use crate::app::theme::{self, Type};

/// Below this side a cell has no room for its count.
const READABLE: f32 = 20.0;
/// Side from which each class has room for its name; below, every second one or fewer have it, and what is pointed at.
const NAMED: f32 = 13.0;
/// Side of the largest cell.
const LARGEST: f32 = 34.0;
/// Most room of a class's name.
const NAMES: f32 = 88.0;
/// Between a name and the cells.
const APART: f32 = 6.0;
/// Room of what an axis is.
const AXIS: f32 = 18.0;

/// Counts of rows by columns: what things are, what they were named.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix<'a> {
    /// Names of rows and columns.
    pub labels: &'a [String],
    /// Row-major.
    pub counts: &'a [u32],
}

impl Matrix<'_> {
    fn count(&self, row: usize, column: usize) -> u32 {
        self.counts.get(row * self.labels.len() + column).copied().unwrap_or(0)
    }

    fn table(&self) -> Table {
        let n = self.labels.len();
        let row = |r: usize| {
            let cells = (0..n).map(|c| number::count(self.count(r, c) as usize));
            std::iter::once(self.labels[r].clone()).chain(cells).collect()
        };
        let head = std::iter::once("true, predicted".to_owned()).chain(self.labels.iter().cloned()).collect();
        Table { head, rows: (0..n).map(row).collect() }
    }

    /// What a cell says.
    fn said(&self, row: usize, column: usize) -> String {
        let (is, named, count) = (&self.labels[row], &self.labels[column], self.count(row, column));
        match row == column {
            true => format!("{count} images of {is} are named so"),
            false => format!("{count} images of {is} are named {named}"),
        }
    }
}

/// Room from which a matrix of so many classes is told beside another: a few with their counts, many with their names.
pub fn matrix_room(classes: usize) -> f32 {
    const FEW: usize = 16;
    AXIS + NAMES + APART + classes as f32 * if classes <= FEW { READABLE } else { NAMED }
}

/// A square of cells, each as strong as its share of its row, with the classes' names on both sides; over a cell, in words
/// what it says.
pub fn matrix_ui(ui: &mut Ui, title: &str, matrix: &Matrix<'_>, summary: &str) {
    chart_ui(ui, title, summary, || matrix.table(), |ui| draw_ui(ui, matrix));
}

/// Where the cells are.
#[derive(Clone, Copy)]
struct Cells {
    origin: Pos2,
    side: f32,
    count: usize,
}

impl Cells {
    fn at(&self, row: usize, column: usize) -> Rect {
        Rect::from_min_size(self.origin + vec2(column as f32, row as f32) * self.side, Vec2::splat(self.side))
    }

    /// Row and column under the pointer.
    fn under(&self, pointer: Pos2) -> Option<(usize, usize)> {
        let at = (pointer - self.origin) / self.side;
        let within = |v: f32| (v >= 0.0 && v < self.count as f32).then_some(v as usize);
        Some((within(at.y)?, within(at.x)?))
    }
}

fn draw_ui(ui: &mut Ui, matrix: &Matrix<'_>) {
    let n = matrix.labels.len().max(1);
    let p = theme::palette(ui);
    // A small chart has the cells alone, and says their names over them.
    let named = ui.available_width() > 260.0;
    let painter = ui.painter().clone();
    let layout = |text: &str, ink: Color32| {
        let mut job = LayoutJob::simple_singleline(text.to_owned(), Type::Small.font(), ink);
        job.wrap = TextWrapping::truncate_at_width(NAMES);
        painter.layout_job(job)
    };
    let longest = matrix.labels.iter().map(|label| layout(label, p.weak).size().x).fold(0.0, f32::max);
    let margin = if named { AXIS + longest.ceil() + APART } else { 0.0 };
    let side = ((ui.available_width() - margin) / n as f32).min(LARGEST);
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(margin + side * n as f32), Sense::hover());
    let cells = Cells { origin: rect.min + Vec2::splat(margin), side, count: n };
    let over = response.hover_pos().and_then(|pointer| cells.under(pointer));
    cells_ui(ui, matrix, &cells);
    if named {
        let every = (NAMED / side).ceil().max(1.0) as usize;
        for (i, label) in matrix.labels.iter().enumerate() {
            let pointed = |at: Option<usize>| at.map(|at| at == i);
            let row = names_ink(ui, i, every, pointed(over.map(|(row, _)| row)));
            let column = names_ink(ui, i, every, pointed(over.map(|(_, column)| column)));
            if let Some(ink) = row {
                let name = layout(label, ink);
                let at = cells.at(i, 0).left_center() - vec2(APART + name.size().x, name.size().y / 2.0);
                ui.painter().galley(at, name, ink);
            }
            if let Some(ink) = column {
                upright(ui, cells.at(0, i).center_top() - vec2(0.0, APART), layout(label, ink), ink);
            }
        }
        axes_ui(ui, rect, &cells);
    }
    if let Some((row, column)) = over {
        ui.painter().rect_stroke(cells.at(row, column), 2.0, Stroke::new(1.5, p.strong), StrokeKind::Inside);
        response.on_hover_text_at_pointer(matrix.said(row, column));
    }
}

fn cells_ui(ui: &Ui, matrix: &Matrix<'_>, cells: &Cells) {
    let p = theme::palette(ui);
    let n = matrix.labels.len();
    for row in 0..n {
        let total: u32 = (0..n).map(|column| matrix.count(row, column)).sum();
        for column in 0..n {
            let found = matrix.count(row, column);
            let cell = cells.at(row, column).shrink(0.5);
            // Errors are few: the root keeps them in sight.
            let share = if total > 0 { (found as f32 / total as f32).sqrt() } else { 0.0 };
            let fill = theme::heat(share, p.dark);
            ui.painter().rect_filled(cell, 2.0, fill);
            if row == column {
                ui.painter().rect_stroke(cell, 2.0, Stroke::new(1.0, p.edge), StrokeKind::Inside);
            }
            if cells.side >= READABLE && found > 0 {
                let ink = theme::on(fill);
                ui.painter().text(cell.center(), Align2::CENTER_CENTER, found.to_string(), Type::Small.font(), ink);
            }
        }
    }
}

/// The ink of one class's name, where it is shown: `pointed` says whether the pointer is on it, where it is on any.
fn names_ink(ui: &Ui, i: usize, every: usize, pointed: Option<bool>) -> Option<Color32> {
    let p = theme::palette(ui);
    match pointed {
        Some(true) => Some(p.strong),
        // Where names are few, the one that is pointed at stands alone.
        Some(false) if every > 1 => None,
        Some(false) | None => i.is_multiple_of(every).then_some(p.weak),
    }
}

/// What rows and columns are.
fn axes_ui(ui: &Ui, rect: Rect, cells: &Cells) {
    let ink = theme::palette(ui).text;
    let middle = cells.origin + Vec2::splat(cells.side * cells.count as f32 / 2.0);
    let font = Type::Small.strong();
    ui.painter().text(pos2(middle.x, rect.top()), Align2::CENTER_TOP, "predicted", font.clone(), ink);
    let text = ui.painter().layout_no_wrap("true".to_owned(), font, ink);
    upright(ui, pos2(rect.left() + text.size().y / 2.0, middle.y + text.size().x / 2.0), text, ink);
}

/// Text that is read from below, begun at `foot`.
fn upright(ui: &Ui, foot: Pos2, text: Arc<Galley>, ink: Color32) {
    let at = foot - vec2(text.size().y / 2.0, 0.0);
    ui.painter().add(TextShape::new(at, text, ink).with_angle(-TAU / 4.0));
}
