//! What is guessed before it is measured, and how far off it was.

use eframe::egui::{ComboBox, DragValue, RichText, Role, Slider, Ui, WidgetInfo};

use super::check::weighted;
use super::lessons::{Lesson, Predict};
use super::measure::{Found, Measure};
use super::panel::heading_ui;
use super::prose::prose_ui;
use crate::app::controls::{primary_ui, small_ui};
use crate::app::lead::Lead;
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::View;

/// What is guessed, and beside it what was measured, once the lesson's own work is `done`: what was measured before is of
/// something else. Whether nothing is left to guess.
pub(super) fn predictions_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, lesson: &Lesson, done: bool) -> bool {
    let mut guessed = true;
    // One of several leads on.
    let first = lesson.unguessed(&bench.memory.tutorial).filter(|_| bench.lead == Lead::Guess);
    for predict in &lesson.predict {
        let key = lesson.guess_key(predict.measure);
        let kept = bench.memory.tutorial.guesses.get(&key).cloned();
        guessed &= kept.is_some();
        heading_ui(
            ui,
            match kept.as_deref() {
                None => "Guess first",
                Some("") => "Not guessed",
                Some(_) => "Your guess",
            },
        );
        prose_ui(ui, &predict.ask);
        let found = done.then(|| predict.measure.found(view)).flatten();
        match kept {
            Some(text) => guess_ui(ui, bench, predict.measure, (&key, &text), found),
            None => ask_ui(ui, bench, view, predict, &key, first == Some(predict)),
        }
    }
    guessed
}

fn ask_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, predict: &Predict, key: &str, leads: bool) {
    let measure = predict.measure;
    let mut settled = None;
    ui.horizontal_wrapped(|ui| {
        let name = format!("Your guess: {}", measure.key());
        let draft = bench.tutorial.drafts.entry(key.to_owned()).or_insert_with(|| first_draft(measure, view));
        match draft {
            Found::Number(value) => {
                if let Some((range, _, speed)) = measure.scale() {
                    let field =
                        DragValue::new(value).range(range.clone()).speed(speed).max_decimals(measure.decimals());
                    let field = ui.add(field.suffix(measure.unit()));
                    field.widget_info(|| WidgetInfo::labeled(Role::SpinButton, true, &name));
                    // Both buttons stand beside it.
                    let room = (ui.available_size_before_wrap().x - 136.0).clamp(40.0, 160.0);
                    ui.spacing_mut().slider_width = room;
                    if *range.end() <= 100.0 {
                        let slider = ui.add(Slider::new(value, range).show_value(false));
                        slider.widget_info(|| WidgetInfo::slider(true, *value, format!("{name}, on a line")));
                    }
                }
            }
            Found::Layer(layer) => {
                let combo = ComboBox::from_id_salt(&name).selected_text(layer.as_str()).width(180.0);
                let combo = combo.show_ui(ui, |ui| {
                    for other in layers(view) {
                        ui.selectable_value(layer, other.clone(), &other);
                    }
                });
                combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, &name));
            }
        }
        let text = draft.text();
        let guess = primary_ui(ui, leads, true, "Guess");
        guess.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Guess {}", measure.key())));
        if guess.clicked() {
            settled = Some(text);
        }
        let skip = small_ui(ui, "Skip");
        skip.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Skip guessing {}", measure.key())));
        if skip.clicked() {
            settled = Some(String::new());
        }
    });
    if let Some(text) = settled {
        bench.memory.tutorial.guesses.insert(key.to_owned(), text);
    }
}

fn first_draft(measure: Measure, view: &View) -> Found {
    match measure.scale() {
        Some((_, first, _)) => Found::Number(first),
        None => Found::Layer(layers(view).into_iter().next().unwrap_or_default()),
    }
}

/// Layers with weights.
fn layers(view: &View) -> Vec<String> {
    let Some(before) = weighted(view) else { return Vec::new() };
    before.graph.nodes.iter().filter(|n| n.op.weight().is_some()).map(|n| n.name.clone()).collect()
}

fn guess_ui(ui: &mut Ui, bench: &mut Workbench, measure: Measure, (key, text): (&str, &str), found: Option<Found>) {
    let p = theme::palette(ui);
    let guess = measure.parse(text);
    ui.horizontal_wrapped(|ui| {
        let mut figure = |name: &str, value: &str, ink| {
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                ui.label(RichText::new(name).font(Type::Small.font()).color(p.weak));
                ui.label(RichText::new(value).font(Type::Title.strong()).color(ink));
            });
            ui.add_space(theme::GAP);
        };
        if let Some(guess) = &guess {
            figure("guessed", &measure.say(guess), p.strong);
        }
        match &found {
            Some(found) => figure("measured", &measure.say(found), Tone::Int8.ink(p.dark)),
            None => figure("measured", "not yet", p.weak),
        }
    });
    if let (Some(guess), Some(found)) = (&guess, &found) {
        ui.label(RichText::new(measure.compare(guess, found)).color(p.text));
    } else if found.is_none() {
        let again = small_ui(ui, "Guess again");
        if again.clicked() {
            bench.memory.tutorial.guesses.remove(key);
        }
    }
}
