use std::sync::Arc;

use eframe::egui::{Align2, Rect, RichText, ScrollArea, Sense, Ui, Vec2, WidgetInfo, vec2};

use super::{heading, prose};
use crate::app::controls::{banner_ui, primary_ui};
use crate::app::gallery::{Picture, SIDE, Thumbnails};
use crate::app::lead::Lead;
use crate::app::number;
use crate::app::plot::{Table, table_ui};
use crate::app::preprocessing::preprocess_ui;
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{ClassRow, Dataset, Opened, Preprocess, Preview, Probe, Skipped, View, class_rows, preview};

/// Width of the column with the preprocessing.
const LEFT: f32 = 336.0;
/// Side of each of the preview's two pictures.
const PREVIEW: f32 = 148.0;

/// What is known of the open data's images.
#[derive(Debug, Default)]
pub struct ImagesScreen {
    dataset: Option<Arc<Dataset>>,
    rows: Vec<ClassRow>,
    counting: Option<Probe<Vec<ClassRow>>>,
    thumbnails: Thumbnails,
    /// Which training image the preview shows.
    image: usize,
    shown: Option<Shown>,
    previewing: Option<Probe<Result<Preview, String>>>,
    asked: Option<(usize, Preprocess)>,
    skipped: Vec<Skipped>,
}

/// A preview that has arrived.
#[derive(Debug)]
enum Shown {
    Pictures { preview: Box<Preview>, whole: Picture, seen: Picture },
    Failure(String),
}

impl ImagesScreen {
    /// The classes, once they are counted.
    pub fn rows(&self) -> &[ClassRow] {
        &self.rows
    }

    /// Forgets what was of other data, and takes what the probes found.
    fn update(&mut self, ui: &Ui, opened: &Opened, preprocess: Preprocess) {
        if self.dataset.as_ref().is_none_or(|d| !Arc::ptr_eq(d, &opened.dataset)) {
            *self = Self { dataset: Some(opened.dataset.clone()), ..Self::default() };
            let (ctx, data) = (ui.ctx().clone(), opened.dataset.clone());
            let job = move |emit: &mut dyn FnMut(Vec<ClassRow>) -> std::ops::ControlFlow<()>| {
                // A screen that is gone wants no rows.
                let _ = emit(class_rows(&data));
            };
            self.counting = Probe::start(move || ctx.request_repaint(), job).ok();
        }
        let Self { rows, counting, previewing, shown, .. } = self;
        if counting.as_ref().is_some_and(|p| !p.drain(|found| *rows = found)) {
            *counting = None;
        }
        if previewing.as_ref().is_some_and(|p| !p.drain(|found| *shown = Some(Shown::new(ui, found))))
            && let Some(why) = previewing.take().and_then(|p| p.failure().map(str::to_owned))
        {
            *shown = Some(Shown::Failure(why));
        }
        if self.skipped.len() != opened.skipped_count() {
            self.skipped = opened.skipped();
        }
        if !opened.dataset.train.is_empty() && self.asked != Some((self.image, preprocess)) {
            self.preview(ui, opened, preprocess);
        }
    }

    fn preview(&mut self, ui: &Ui, opened: &Opened, preprocess: Preprocess) {
        self.asked = Some((self.image, preprocess));
        let (ctx, data, image) = (ui.ctx().clone(), opened.dataset.clone(), self.image);
        let job = move |emit: &mut dyn FnMut(Result<Preview, String>) -> std::ops::ControlFlow<()>| {
            // A newer wish has replaced this one where nobody takes it.
            let _ = emit(preview(&data, image, &preprocess).map_err(|e| e.to_string()));
        };
        self.previewing = Probe::start(move || ctx.request_repaint(), job).ok();
    }
}

impl Shown {
    fn new(ui: &Ui, found: Result<Preview, String>) -> Self {
        match found {
            Ok(preview) => {
                let whole = Picture::new(ui.ctx(), "preview, whole", &preview.whole);
                let seen = Picture::new(ui.ctx(), "preview, seen", &preview.seen);
                Self::Pictures { preview: Box::new(preview), whole, seen }
            }
            Err(why) => Self::Failure(why),
        }
    }
}

/// The classes with examples, and what becomes of an image before the model sees it.
pub(super) fn images_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(opened) = view.stage().map(|s| s.opened().clone()) else { return };
    let default = opened.dataset.preprocess();
    let chosen = bench.choices.preprocess.resolve(default);
    bench.images.update(ui, &opened, chosen);
    if ui.available_width() < LEFT + 400.0 {
        ScrollArea::vertical().id_salt("images").auto_shrink(false).show(ui, |ui| {
            left_ui(ui, bench, view, default);
            ui.add_space(theme::PADDING);
            classes_ui(ui, &mut bench.images, &opened, 320.0);
        });
        return;
    }
    let room = ui.available_size();
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = theme::PADDING * 2.0;
        ui.allocate_ui(vec2(LEFT, room.y), |ui| {
            ui.set_width(LEFT);
            ui.spacing_mut().item_spacing.x = theme::GAP;
            ui.vertical(|ui| {
                ScrollArea::vertical().id_salt("preprocessing").auto_shrink(false).show(ui, |ui| {
                    left_ui(ui, bench, view, default);
                });
            });
        });
        ui.vertical(|ui| {
            ui.spacing_mut().item_spacing.x = theme::GAP;
            classes_ui(ui, &mut bench.images, &opened, f32::INFINITY);
        });
    });
}

fn left_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, default: Preprocess) {
    heading(ui, "On the way into the model");
    preprocess_ui(ui, &mut bench.choices.preprocess, default);
    if let Some(recipe) = view.recipe.as_ref().filter(|r| r.preprocess != bench.choices.preprocess) {
        let text = "Not in force yet: the open model still sees its images as before.";
        banner_ui(ui, Tone::Observed, text);
        let idle = view.running.is_none();
        let again = primary_ui(ui, bench.lead == Lead::Reopen, idle, "Open again with these");
        if again.on_hover_text("Starts over at step 1").clicked() {
            bench.open_chosen();
        }
        if ui.button("Keep the old ones").clicked() {
            bench.choices.preprocess = recipe.preprocess.clone();
        }
    }
    ui.add_space(theme::GAP);
    preview_ui(ui, &mut bench.images);
    skipped_ui(ui, &bench.images.skipped);
}

fn preview_ui(ui: &mut Ui, screen: &mut ImagesScreen) {
    let count = screen.dataset.as_ref().map_or(0, |d| d.train.len());
    match &screen.shown {
        Some(Shown::Pictures { preview, whole, seen }) => {
            let stored = number::dims(&preview.stored);
            let input = number::dims(&[preview.seen.width, preview.seen.height]);
            ui.horizontal(|ui| {
                picture_ui(ui, whole, &format!("as stored, {stored}"));
                ui.label(RichText::new("\u{2192}").font(Type::Title.strong()).color(theme::palette(ui).weak));
                picture_ui(ui, seen, &format!("as seen, {input}"));
            });
            let (low, high) = preview.range;
            let name = std::path::Path::new(&preview.name).file_name();
            let name = name.map_or(preview.name.clone(), |n| n.to_string_lossy().into_owned());
            let text =
                format!("Normalized to {} \u{2026} {}.", number::number(low.into()), number::number(high.into()));
            prose(ui, &text);
            ui.add(eframe::egui::Label::new(RichText::new(name).font(Type::Small.font())).truncate())
                .on_hover_text(&preview.name);
        }
        Some(Shown::Failure(why)) => banner_ui(ui, Tone::Trouble, why),
        None => {
            ui.add_space(PREVIEW);
        }
    }
    ui.horizontal(|ui| {
        // A step that is no divisor of a class's size, so that every class comes by.
        let step = (count / 10).max(1) + 1;
        if ui.add_enabled(count > 1, eframe::egui::Button::new("Another image")).clicked() {
            screen.image = (screen.image + step) % count.max(1);
        }
        ui.label(RichText::new(format!("{} of {}", screen.image + 1, number::count(count))).font(Type::Small.font()));
    });
}

fn picture_ui(ui: &mut Ui, picture: &Picture, caption: &str) {
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = theme::GRID;
        let (rect, response) = ui.allocate_exact_size(Vec2::splat(PREVIEW), Sense::hover());
        ui.painter().rect_filled(rect, theme::RADIUS, theme::palette(ui).raised);
        picture.paint(ui, rect);
        response.widget_info(|| WidgetInfo::labeled(eframe::egui::Role::Image, true, format!("Image {caption}")));
        ui.scope(|ui| {
            ui.set_max_width(PREVIEW);
            let weak = theme::palette(ui).weak;
            ui.add(eframe::egui::Label::new(RichText::new(caption).font(Type::Small.font()).color(weak)).wrap());
        });
    });
}

fn skipped_ui(ui: &mut Ui, skipped: &[Skipped]) {
    if skipped.is_empty() {
        return;
    }
    ui.add_space(theme::GAP);
    let files = if skipped.len() == 1 { "file is" } else { "files are" };
    heading(ui, &format!("{} {files} left out", number::count(skipped.len())));
    let name = |s: &Skipped| {
        std::path::Path::new(&s.name).file_name().map_or(s.name.clone(), |n| n.to_string_lossy().into_owned())
    };
    // A decoder's sentence names the file again.
    let reason = |s: &Skipped| s.reason.strip_prefix(&format!("{}: ", s.name)).unwrap_or(&s.reason).to_owned();
    table_ui(ui, "left out", &Table::new(["file", "why"], skipped.iter().map(|s| [name(s), reason(s)])));
}

/// One row a class, in a list no higher than `high`; only those in sight cost anything.
fn classes_ui(ui: &mut Ui, screen: &mut ImagesScreen, opened: &Opened, high: f32) {
    const ROW: f32 = SIDE + theme::GAP;
    let dataset = &opened.dataset;
    let (train, held_out) = (number::count(dataset.train.len()), number::count(dataset.valid.len()));
    let classes = number::count(dataset.labels.len());
    heading(ui, &format!("{classes} classes, {train} images to train on, {held_out} held out"));
    if screen.rows.is_empty() {
        prose(ui, "Counting\u{2026}");
        return;
    }
    let mut seen = Vec::new();
    let high = high.min(ui.available_height());
    ScrollArea::vertical().id_salt("classes").max_height(high).auto_shrink([false, true]).show_rows(
        ui,
        ROW,
        screen.rows.len(),
        |ui, rows| {
            for row in &screen.rows[rows] {
                seen.extend(&row.examples);
                row_ui(ui, row, &screen.thumbnails);
            }
        },
    );
    screen.thumbnails.load(ui.ctx(), dataset, &seen);
}

fn row_ui(ui: &mut Ui, row: &ClassRow, thumbnails: &Thumbnails) {
    let p = theme::palette(ui);
    let counts = format!("{} train, {} held out", number::count(row.train), number::count(row.held_out));
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = theme::GRID;
        let (rect, response) = ui.allocate_exact_size(vec2(188.0, SIDE), Sense::hover());
        response
            .widget_info(|| WidgetInfo::labeled(eframe::egui::Role::Label, true, format!("{}: {counts}", row.label)));
        let middle = rect.center().y;
        let painter = ui.painter_at(rect);
        let line = |up: f32| Rect::from_x_y_ranges(rect.x_range(), middle + up..=middle + up + 18.0);
        let at = line(-18.0).left_center();
        painter.text(at, Align2::LEFT_CENTER, &row.label, Type::Body.strong(), p.strong);
        painter.text(line(0.0).left_center(), Align2::LEFT_CENTER, &counts, Type::Small.font(), p.weak);
        response.on_hover_text(&row.label);
        let fit = (ui.available_width() / (SIDE + theme::GRID)) as usize;
        for image in row.examples.iter().take(fit) {
            thumbnails.thumbnail_ui(ui, *image, &row.label);
        }
    });
}
