use eframe::egui::{Label, RichText, Ui};

use super::by_layer::waiting_ui;
use super::{halves_ui, heading, prose};
use crate::app::controls::banner_ui;
use crate::app::number;
use crate::app::plot::{Matrix, matrix_room, matrix_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{Confusion, Flip, Guess, Step, View};

/// Flipped images that are shown: the surest of float first.
const SHOWN: usize = 60;
/// Room of one of them.
const TILE: f32 = 232.0;

/// What float and int8 name the held-out images, and those that only float names rightly.
pub(super) fn flips_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(opened) = view.stage_of(Step::Convert).map(|s| s.opened().clone()) else { return };
    if let Some(why) = opened.why_no_accuracy() {
        prose(ui, &why);
        return;
    }
    bench.result.ask_verdicts(ui, view);
    if let Some(why) = bench.result.verdicts.failure() {
        banner_ui(ui, Tone::Trouble, why);
    }
    let Some(so_far) = bench.result.verdicts.answer().cloned() else {
        prose(ui, "Float and int8 name every held-out image.");
        return;
    };
    if bench.result.verdicts.is_busy() {
        waiting_ui(ui, "Naming images", so_far.seen, so_far.of);
    }
    let (found, labels) = (&so_far.found, &opened.dataset.labels);
    let classes = most_confused(&found.int8);
    let some: Vec<String> = classes.iter().map(|c| labels.get(*c).cloned().unwrap_or_default()).collect();
    let matrix = |ui: &mut Ui, title: &str, c: &Confusion| {
        let summary = format!("{} of {} right", c.right(), c.total());
        let counts = classes.iter().flat_map(|row| classes.iter().map(|column| c.count(*row, *column)));
        let counts: Vec<u32> = counts.collect();
        matrix_ui(ui, title, &Matrix { labels: &some, counts: &counts }, &summary);
    };
    // Side by side where every class keeps its name.
    if ui.available_width() >= 2.0 * matrix_room(classes.len()) + 1.5 * theme::PADDING {
        halves_ui(ui, |left, right| {
            matrix(left, "Float: what each class is named", &found.float);
            matrix(right, "int8: what each class is named", &found.int8);
        });
    } else {
        matrix(ui, "Float: what each class is named", &found.float);
        matrix(ui, "int8: what each class is named", &found.int8);
    }
    if classes.len() < labels.len() {
        prose(ui, &format!("The {} of {} classes that int8 gets wrong most often.", classes.len(), labels.len()));
    }
    prose(
        ui,
        "A row is a true class, a column what its images are predicted to be; the stronger a cell, the larger its share of the row.",
    );
    heading(ui, &format!("{} images flipped: right in float, wrong in int8", number::count(found.flipped.len())));
    prose(ui, &format!("{} went the other way.", number::count(found.gained)));
    if found.flipped.is_empty() {
        return;
    }
    let shown: Vec<Flip> = found.flipped.iter().take(SHOWN).copied().collect();
    let images: Vec<usize> = shown.iter().map(|f| f.image).collect();
    bench.result.thumbnails.load(ui.ctx(), &opened.dataset, &images);
    let columns = ((ui.available_width() / (TILE + theme::GAP)) as usize).max(1);
    for line in shown.chunks(columns) {
        ui.horizontal_top(|ui| {
            for flip in line {
                tile_ui(ui, bench, flip, labels);
            }
        });
    }
    if found.flipped.len() > SHOWN {
        prose(ui, &format!("The {SHOWN} that float was surest of."));
    }
}

/// All classes where they are few; else those with most errors, in their order.
fn most_confused(found: &Confusion) -> Vec<usize> {
    const FEW: usize = 33;
    let mut classes: Vec<usize> = (0..found.classes).collect();
    if classes.len() > FEW {
        classes.sort_by_key(|c| std::cmp::Reverse(found.of_class(*c) - found.count(*c, *c)));
        classes.truncate(FEW);
        classes.sort_unstable();
    }
    classes
}

fn tile_ui(ui: &mut Ui, bench: &Workbench, flip: &Flip, labels: &[String]) {
    let name = |class: usize| labels.get(class).map_or(number::NONE, String::as_str);
    theme::card_frame(ui).inner_margin(8).show(ui, |ui| {
        ui.set_width(TILE - 18.0);
        ui.horizontal_top(|ui| {
            let said = format!(
                "{}: float {} {}, int8 {} {}",
                name(flip.label),
                name(flip.float.class),
                number::percent(flip.float.probability.into()),
                name(flip.int8.class),
                number::percent(flip.int8.probability.into())
            );
            bench.result.thumbnails.thumbnail_ui(ui, flip.image, &said);
            ui.vertical(|ui| {
                // Both lines stand within the picture's height.
                ui.spacing_mut().item_spacing.y = 2.0;
                ui.spacing_mut().interact_size.y = theme::SMALL;
                guess_ui(ui, Tone::Float, &flip.float, name(flip.float.class));
                guess_ui(ui, Tone::Int8, &flip.int8, name(flip.int8.class));
            });
        });
    });
}

fn guess_ui(ui: &mut Ui, tone: Tone, guess: &Guess, name: &str) {
    let p = theme::palette(ui);
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = theme::GRID;
        ui.label(RichText::new(tone.glyph()).font(Type::Small.strong()).color(tone.ink(p.dark)));
        let percent = number::percent(guess.probability.into());
        ui.label(RichText::new(percent).font(Type::Body.mono()).color(p.strong));
        ui.add(Label::new(RichText::new(name).color(p.text)).truncate()).on_hover_text(name);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_classes_the_most_confused_are_shown() {
        let mut found = Confusion::new(100);
        for c in [3, 99, 50] {
            found.counts[c * 100 + 1] = 7;
        }
        let shown = most_confused(&found);
        assert!(shown.len() == 33 && shown.is_sorted() && [3, 50, 99].iter().all(|c| shown.contains(c)), "{shown:?}");
        assert_eq!(most_confused(&Confusion::new(10)), (0..10).collect::<Vec<_>>());
    }
}
