//! How images become numbers, as fields: in the form that opens a model, and beside the images.

use eframe::egui::{self, RichText, Ui};

use super::controls::{number_ui, pick_ui};
use super::theme;
use crate::session::{Fit, Preprocess, PreprocessChoice};

/// From the least that the zoo takes to more than any of its models was trained on.
const SIZES: std::ops::RangeInclusive<usize> = 32..=1024;

/// Fields for all of it; `default` is what counts where nothing is chosen.
pub(super) fn preprocess_ui(ui: &mut Ui, choice: &mut PreprocessChoice, default: Preprocess) {
    let mut now = choice.resolve(default);
    ui.horizontal_wrapped(|ui| {
        number_ui(ui, "Size", &mut now.size, SIZES, 1.0);
        pick_ui(ui, "Fit", &mut now.fit, &Fit::ALL, title);
    });
    triple_ui(ui, "Mean", &mut now.mean, -10.0..=10.0);
    triple_ui(ui, "Deviation", &mut now.std, 0.001..=10.0);
    ui.horizontal_wrapped(|ui| {
        if ui.button("ImageNet's").on_hover_text("As torchvision's trained weights expect").clicked() {
            (now.mean, now.std) = (Preprocess::IMAGENET_MEAN, Preprocess::IMAGENET_STD);
        }
        if ui.button("0 to 1").on_hover_text("Nothing is subtracted or divided").clicked() {
            (now.mean, now.std) = ([0.0; 3], [1.0; 3]);
        }
        if ui.button("\u{2212}1 to 1").clicked() {
            (now.mean, now.std) = ([0.5; 3], [0.5; 3]);
        }
        let own = *choice != PreprocessChoice::default();
        if ui.add_enabled(own, egui::Button::new("As the data's default")).clicked() {
            now = default;
            *choice = PreprocessChoice::default();
        }
    });
    // What is as the data's default is no choice, however it came about.
    let before = choice.resolve(default);
    if now != before {
        *choice = PreprocessChoice {
            // The shorter side before the crop belongs to the size that it was chosen for.
            resize: choice.resize.filter(|_| (now.size, now.fit) == (before.size, before.fit)),
            size: (now.size != default.size).then_some(now.size),
            fit: (now.fit != default.fit).then_some(now.fit),
            mean: (now.mean != default.mean).then_some(now.mean),
            std: (now.std != default.std).then_some(now.std),
        };
    }
}

fn triple_ui(ui: &mut Ui, name: &str, values: &mut [f32; 3], range: std::ops::RangeInclusive<f32>) {
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(name).color(theme::palette(ui).weak));
        for (value, channel) in values.iter_mut().zip(["red", "green", "blue"]) {
            let field = egui::DragValue::new(value).range(range.clone()).speed(0.005).max_decimals(3);
            let field = ui.add(field);
            field.widget_info(|| egui::WidgetInfo::labeled(egui::Role::SpinButton, true, format!("{name}, {channel}")));
        }
    });
}

fn title(fit: Fit) -> &'static str {
    match fit {
        Fit::Crop => "centre crop",
        Fit::Pad => "pad to a square",
        Fit::Squash => "squash",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fit_has_its_words() {
        let words = Fit::ALL.map(title);
        assert!(words[0] != words[1] && words[1] != words[2]);
    }
}
