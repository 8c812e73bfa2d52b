//! Below: how far the running command is, how long it still takes, and the log.

use eframe::egui::{
    self, Align, Align2, Id, Layout, Response, RichText, Role, ScrollArea, Ui, UiBuilder, WidgetInfo, vec2,
};

use super::controls::{choice_ui, progress_ui, transfer_ui};
use super::number;
use super::theme::{self, Tone, Type};
use super::workbench::{Request, Workbench};
use crate::session::{LogLine, Severity, View};

/// Whether the log is open, and what is sought in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    open: bool,
    filter: String,
    least: Least,
    clock: Clock,
}

/// Which lines the log shows, by how much they matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Least {
    #[default]
    All,
    Warnings,
    Errors,
}

impl Least {
    fn shows(self, line: &LogLine) -> bool {
        match (self, line.severity) {
            (Self::All, _) | (_, Severity::Error) => true,
            (Self::Warnings, severity) => severity == Severity::Warning,
            (Self::Errors, Severity::Info | Severity::Warning) => false,
        }
    }
}

/// When the current part of the work began, for the time left.
#[derive(Clone, Debug, Default)]
struct Clock {
    what: &'static str,
    began: f64,
}

impl Log {
    /// Opens or closes it.
    pub fn toggle(&mut self) {
        self.open = !self.open;
    }
}

pub(super) fn status_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, low: bool) {
    let line = vec2(ui.available_width(), theme::ROW);
    // The button first: what is said has the room that it leaves.
    ui.allocate_ui_with_layout(line, Layout::right_to_left(Align::Center), |ui| {
        if !low {
            let word = if bench.log.open { "Hide log" } else { "Log" };
            if ui.button(word).clicked() {
                bench.log.open = !bench.log.open;
            }
        }
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| match view.running {
            Some(kind) => running_ui(ui, bench, view, kind.verb()),
            None => {
                bench.log.clock = Clock::default();
                last_line_ui(ui, bench, view);
            }
        });
    });
    if bench.log.open && !low {
        log_ui(ui, &mut bench.log, view);
    }
}

fn running_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, verb: &str) {
    let p = theme::palette(ui);
    if let Some(transfer) = &view.transfer {
        ui.label(RichText::new("Downloading").font(Type::Body.strong()).color(p.strong));
        let width = (ui.available_width() * 0.35).clamp(60.0, 360.0);
        // No pause: cancelling keeps what has arrived.
        transfer_ui(ui, "Downloading", transfer, width, |ui| cancel_ui(ui, bench));
        return;
    }
    let Some(progress) = &view.progress else {
        ui.label(RichText::new(format!("Working: {verb}\u{2026}")).color(p.strong));
        buttons_ui(ui, bench);
        return;
    };
    let now = ui.input(|i| i.time);
    if bench.log.clock.what != progress.what {
        bench.log.clock = Clock { what: progress.what, began: now };
    }
    ui.label(RichText::new(progress.what).font(Type::Body.strong()).color(p.strong));
    let share = progress.done as f32 / progress.total.max(1) as f32;
    progress_ui(ui, progress.what, share, (ui.available_width() * 0.35).clamp(60.0, 360.0));
    // The words change their width all the time, so the buttons stand before them, where they keep their place.
    buttons_ui(ui, bench);
    let counts = format!("{} / {}", number::count(progress.done), number::count(progress.total));
    ui.label(RichText::new(counts).font(Type::Body.mono()).color(p.text));
    let elapsed = now - bench.log.clock.began;
    if share > 0.0 && elapsed > 0.5 && !bench.paused {
        let left = elapsed * f64::from((1.0 - share) / share);
        ui.label(RichText::new(format!("{} left", number::seconds(left))).color(p.weak));
    }
}

fn buttons_ui(ui: &mut Ui, bench: &mut Workbench) {
    let (word, request) = if bench.paused { ("Resume", Request::Resume) } else { ("Pause", Request::Pause) };
    if named_ui(ui, "pause or resume", word).clicked() {
        bench.request(request);
    }
    cancel_ui(ui, bench);
}

fn cancel_ui(ui: &mut Ui, bench: &mut Workbench) {
    if named_ui(ui, "cancel", "Cancel").on_hover_text("Stop; what existed before stays (Esc)").clicked() {
        bench.request(Request::Cancel);
    }
}

/// A button that stays the same one whatever comes and goes before it. Counted ids would be those of the button beside it once
/// a progress bar appears: a click on Cancel, through a screen reader or begun a frame earlier, would then pause.
fn named_ui(ui: &mut Ui, id: &str, word: &str) -> Response {
    ui.scope_builder(UiBuilder::new().scope_id(Id::unique(("status", id))), |ui| ui.button(word)).inner
}

/// What was just saved, for a while; else the newest line of the log.
fn last_line_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    const SHOWN: f64 = 8.0;
    let p = theme::palette(ui);
    let (weak, now) = (p.weak, ui.input(|i| i.time));
    bench.said = bench.said.take().filter(|(_, when)| now - when < SHOWN);
    if let Some((said, when)) = &bench.said {
        ui.add(egui::Label::new(RichText::new(said).color(Tone::Int8.ink(p.dark))).truncate());
        ui.ctx().request_repaint_after_secs((when + SHOWN - now) as f32);
        return;
    }
    let text = view.log.last().map_or("Nothing is running.".to_owned(), |l| begun(&l.text));
    ui.add(egui::Label::new(RichText::new(text).color(weak)).truncate());
}

/// A line of the log as a sentence begins.
fn begun(line: &str) -> String {
    let mut rest = line.chars();
    rest.next().map_or(String::new(), |first| first.to_uppercase().chain(rest).collect())
}

fn log_ui(ui: &mut Ui, log: &mut Log, view: &View) {
    let sought = log.filter.to_lowercase();
    let lines: Vec<&LogLine> =
        view.log.iter().filter(|l| log.least.shows(l) && l.text.to_lowercase().contains(&sought)).collect();
    ui.horizontal(|ui| {
        let options = [(Least::All, "All"), (Least::Warnings, "Warnings"), (Least::Errors, "Errors")];
        choice_ui(ui, "Log", &options, &mut log.least);
        let field = egui::TextEdit::singleline(&mut log.filter).hint_text("Filter the log").desired_width(200.0);
        let field = ui.add(field.align(Align2::LEFT_CENTER));
        field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Filter the log"));
        if ui.button("Copy log").clicked() {
            let all: Vec<&str> = lines.iter().map(|l| l.text.as_str()).collect();
            ui.ctx().copy_text(all.join("\n"));
        }
    });
    if lines.is_empty() {
        let text = if view.log.is_empty() { "Nothing was logged yet." } else { "No line of the log is like this." };
        ui.label(RichText::new(text).color(theme::palette(ui).weak));
    }
    const LINE: f32 = 20.0;
    const HIGH: f32 = 140.0;
    let area = ScrollArea::vertical().id_salt("log").max_height(HIGH).min_scrolled_height(HIGH);
    area.auto_shrink(false).stick_to_bottom(true).show_rows(ui, LINE, lines.len(), |ui, rows| {
        for line in &lines[rows] {
            line_ui(ui, line);
        }
    });
}

fn line_ui(ui: &mut Ui, line: &LogLine) {
    let p = theme::palette(ui);
    let (mark, ink) = match line.severity {
        Severity::Info => ("", p.text),
        Severity::Warning => ("!  ", Tone::Observed.ink(p.dark)),
        Severity::Error => ("!  ", Tone::Trouble.ink(p.dark)),
    };
    ui.add(
        egui::Label::new(RichText::new(format!("{mark}{}", line.text)).font(Type::Body.mono()).color(ink)).truncate(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_button_is_the_same_one_whatever_stands_before_it() {
        let ids = [0, 1, 3].map(|before| {
            let (ctx, mut found) = (egui::Context::default(), None);
            let _ = ctx.run_ui(egui::RawInput::default(), |ui| {
                (0..before).for_each(|i| drop(ui.label(i.to_string())));
                found = Some([named_ui(ui, "pause or resume", "Pause").id, named_ui(ui, "cancel", "Cancel").id]);
            });
            found.expect("it was drawn")
        });
        assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[0][0] != ids[0][1], "{ids:?}");
    }
}
