use eframe::egui::{Align2, Rect, Sense, Stroke, StrokeKind, Ui, pos2, vec2};

use super::{Table, chart_ui};
use crate::app::number;
use crate::app::theme::{self, Type};

/// Below this side a cell has no room for its count.
const READABLE: f32 = 20.0;
/// Room for the classes' names.
const NAMES: f32 = 84.0;

/// Counts of rows by columns: what things are, what they were named.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix<'a> {
    /// Names of rows and columns.
    pub labels: &'a [String],
    /// Row-major.
    pub counts: &'a [u32],
}

/// A square of cells, each as strong as its share of its row; over a cell, in words what it says.
pub fn matrix_ui(ui: &mut Ui, title: &str, matrix: &Matrix<'_>, summary: &str) {
    let n = matrix.labels.len();
    let count = |row: usize, column: usize| matrix.counts.get(row * n + column).copied().unwrap_or(0);
    let table = || Table {
        head: std::iter::once("is, named".to_owned()).chain(matrix.labels.iter().cloned()).collect(),
        rows: (0..n)
            .map(|r| {
                let cells = (0..n).map(|c| number::count(count(r, c) as usize));
                std::iter::once(matrix.labels[r].clone()).chain(cells).collect()
            })
            .collect(),
    };
    chart_ui(ui, title, summary, table, |ui| {
        let p = theme::palette(ui);
        let names = if ui.available_width() > 260.0 { NAMES } else { 0.0 };
        let side = ((ui.available_width() - names) / n.max(1) as f32).min(34.0);
        let (rect, response) = ui.allocate_exact_size(vec2(names + side * n as f32, side * n as f32), Sense::hover());
        let painter = ui.painter_at(rect.expand(1.0));
        let origin = rect.min + vec2(names, 0.0);
        for row in 0..n {
            let total: u32 = (0..n).map(|c| count(row, c)).sum();
            let middle = origin.y + side * (row as f32 + 0.5);
            if names > 0.0 && side >= 11.0 {
                let room = Rect::from_min_max(pos2(rect.left(), middle - 8.0), pos2(origin.x - 6.0, middle + 8.0));
                let clipped = ui.painter_at(room);
                let at = pos2(origin.x - 6.0, middle);
                clipped.text(at, Align2::RIGHT_CENTER, &matrix.labels[row], Type::Small.font(), p.weak);
            }
            for column in 0..n {
                let found = count(row, column);
                let cell = Rect::from_min_size(origin + vec2(column as f32, row as f32) * side, vec2(side, side));
                // Errors are few: the root keeps them in sight.
                let share = if total > 0 { (found as f32 / total as f32).sqrt() } else { 0.0 };
                let fill = theme::heat(share, p.dark);
                painter.rect_filled(cell.shrink(0.5), 2.0, fill);
                if row == column {
                    painter.rect_stroke(cell.shrink(0.5), 2.0, Stroke::new(1.0, p.edge), StrokeKind::Inside);
                }
                if side >= READABLE && found > 0 {
                    let ink = theme::on(fill);
                    painter.text(cell.center(), Align2::CENTER_CENTER, found.to_string(), Type::Small.font(), ink);
                }
            }
        }
        let over = response.hover_pos().map(|at| (at - origin) / side).filter(|at| at.x >= 0.0 && at.y >= 0.0);
        if let Some((row, column)) = over.map(|at| (at.y as usize, at.x as usize)).filter(|(r, c)| *r < n && *c < n) {
            let (is, named) = (&matrix.labels[row], &matrix.labels[column]);
            let text = match row == column {
                true => format!("{} images of {is} are named so", count(row, column)),
                false => format!("{} images of {is} are named {named}", count(row, column)),
            };
            response.on_hover_text_at_pointer(text);
        }
    });
}
