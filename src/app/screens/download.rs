use eframe::egui::{Button, Grid, Label, RichText, Role, Ui, WidgetInfo};

use super::weights::source_ui;
use crate::app::choices::Choices;
use crate::app::controls::{banner_ui, choice_ui, transfer_ui};
use crate::app::number;
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::{Request, Workbench};
use crate::session::{Command, CommandKind, Download, Kept, ModelId, PublishedWeights, View};

/// What the cache folder has of the file on the card, looked up when either may have changed and not each frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct DownloadCard {
    /// The file, how many commands had ended, and what was there.
    known: Option<(String, usize, Kept)>,
}

impl DownloadCard {
    fn kept(&mut self, weights: &PublishedWeights, choices: &Choices, ended: usize) -> Kept {
        match &self.known {
            Some((file, then, kept)) if *file == weights.file && *then == ended => *kept,
            Some(_) | None => {
                let kept = choices.place.kept(&weights.remote());
                self.known = Some((weights.file.clone(), ended, kept));
                kept
            }
        }
    }
}

/// torchvision's weights: what would be fetched from where, and the button that does.
pub(super) fn download_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, model: ModelId) {
    if let Err(why) = &bench.choices.catalog {
        let why = why.clone();
        source_ui(ui, "Download", "torchvision's weights, trained on ImageNet.", |ui| {
            banner_ui(ui, Tone::Trouble, &why);
        });
        return;
    }
    let (all, picked) = bench.choices.published(model);
    let Some(weights) = picked.cloned() else { return };
    let entries: Vec<String> = all.iter().map(|row| row.entry.clone()).collect();
    let text = "torchvision's weights, trained on ImageNet. Nothing is fetched unless you press the button.";
    source_ui(ui, "Download", text, |ui| {
        if entries.len() > 1 {
            let mut chosen = weights.entry.as_str();
            let options: Vec<(&str, &str)> = entries.iter().map(|e| (e.as_str(), e.as_str())).collect();
            choice_ui(ui, "Weights", &options, &mut chosen);
            bench.choices.entry = chosen.to_owned();
        }
        facts_ui(ui, bench, &weights);
        ui.add_space(theme::GRID);
        action_ui(ui, bench, view, &weights);
    });
}

fn facts_ui(ui: &mut Ui, bench: &Workbench, weights: &PublishedWeights) {
    let weak = theme::palette(ui).weak;
    let size = format!("about {}", number::bytes(weights.bytes()));
    let accuracy = format!("{} on ImageNet, first guess", number::percent(weights.top1 / 100.0));
    let images =
        format!("shorter side {} px, centre {} px (small images stay as they are)", weights.resize, weights.size);
    let folder = bench.choices.place.folder.as_ref().map_or(number::NONE.to_owned(), |f| f.display().to_string());
    let facts = [
        ("file", weights.file.clone(), true),
        ("size", size, false),
        ("accuracy", accuracy, false),
        ("images", images, false),
        ("from", weights.address.clone(), true),
        ("kept in", folder, true),
    ];
    Grid::new("published weights").num_columns(2).spacing([theme::PADDING, theme::GRID]).show(ui, |ui| {
        for (name, value, mono) in facts {
            ui.label(RichText::new(name).color(weak));
            let font = if mono { Type::Body.mono() } else { Type::Body.font() };
            ui.add(Label::new(RichText::new(value).font(font)).wrap());
            ui.end_row();
        }
    });
}

fn action_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, weights: &PublishedWeights) {
    let downloads = view.running == Some(CommandKind::DownloadWeights);
    if let (true, Some(transfer)) = (downloads, &view.transfer) {
        ui.horizontal_wrapped(|ui| {
            let width = (ui.available_width() * 0.4).clamp(80.0, 280.0);
            transfer_ui(ui, "Download", transfer, width, |ui| {
                let cancel = ui.button("Cancel").on_hover_text("Stop; what has arrived is kept");
                cancel.widget_info(|| WidgetInfo::labeled(Role::Button, true, "Cancel the download"));
                if cancel.clicked() {
                    bench.request(Request::Cancel);
                }
            });
        });
        return;
    }
    let kept = bench.download.kept(weights, &bench.choices, view.ended);
    let total = weights.bytes();
    let (word, note) = match kept {
        Kept::Nothing => (format!("Download {}", number::bytes(total)), String::new()),
        Kept::Part(bytes) => (
            format!("Resume, {} left", number::bytes(total.saturating_sub(bytes))),
            format!("{} are here.", number::bytes(bytes)),
        ),
        Kept::Whole => ("Use the downloaded file".to_owned(), "It is in the cache folder.".to_owned()),
    };
    ui.horizontal(|ui| {
        let ready = view.allows(CommandKind::DownloadWeights);
        if ui.add_enabled(ready, Button::new(word)).clicked() {
            let download = Download { weights: weights.clone(), place: bench.choices.place.clone() };
            bench.ask(Command::DownloadWeights(Box::new(download)));
        }
        ui.label(RichText::new(note).color(theme::palette(ui).weak));
    });
}
