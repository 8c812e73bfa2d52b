//! Small pictures of the data, decoded beside the frame: what is seen is loaded, and the newest wish first.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use eframe::egui::{
    Color32, ColorImage, Context, Rect, Sense, StrokeKind, TextureHandle, TextureOptions, Ui, Vec2, WidgetInfo, pos2,
    vec2,
};

use super::theme::{self, Tone, Type};
use crate::session::{Dataset, Image, Probe, held_out_thumbnail, thumbnail};

/// Side of a thumbnail in points, and in pixels on a screen of double density.
pub(super) const SIDE: f32 = 52.0;
const PIXELS: usize = 104;
/// Thumbnails that are kept; what is out of sight goes first.
const KEPT: usize = 2000;

/// An image on the graphics card.
pub(super) struct Picture {
    texture: TextureHandle,
    size: Vec2,
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({} x {})", self.size.x, self.size.y)
    }
}

impl Picture {
    /// Uploads an image; one that is enlarged shows its pixels.
    pub fn new(ctx: &Context, name: &str, image: &Image) -> Self {
        let pixels = ColorImage::from_rgb([image.width, image.height], &image.rgb);
        let options = TextureOptions { magnification: eframe::egui::TextureFilter::Nearest, ..TextureOptions::LINEAR };
        let texture = ctx.load_texture(name, pixels, options);
        Self { texture, size: vec2(image.width as f32, image.height as f32) }
    }

    /// Paints it as large as `room` allows, in its middle.
    pub fn paint(&self, ui: &Ui, room: Rect) {
        let scale = (room.width() / self.size.x).min(room.height() / self.size.y);
        let rect = Rect::from_center_size(room.center(), self.size * scale);
        let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        ui.painter().image(self.texture.id(), rect, whole, Color32::WHITE);
    }
}

type Answer = (usize, Result<Image, String>);

/// Thumbnails of training images, or of those held out, by the image's number.
#[derive(Debug, Default)]
pub(super) struct Thumbnails {
    held_out: bool,
    loaded: BTreeMap<usize, Result<Picture, String>>,
    loading: Option<(Vec<usize>, Probe<Answer>)>,
}

impl Thumbnails {
    /// Of held-out images.
    pub fn held_out() -> Self {
        Self { held_out: true, ..Self::default() }
    }

    /// Takes what was decoded, and has decoded what is seen and not there yet.
    pub fn load(&mut self, ctx: &Context, dataset: &Arc<Dataset>, seen: &[usize]) {
        let Self { held_out, loaded, loading } = self;
        let decode = if *held_out { held_out_thumbnail } else { thumbnail };
        let more = loading.as_ref().is_some_and(|(_, probe)| {
            probe.drain(|(image, decoded)| {
                let picture = decoded.map(|decoded| Picture::new(ctx, &format!("thumbnail {image}"), &decoded));
                loaded.insert(image, picture);
            })
        });
        if !more {
            *loading = None;
        }
        let missing: Vec<usize> = seen.iter().copied().filter(|i| !loaded.contains_key(i)).collect();
        let under_way = |first: &usize| loading.as_ref().is_some_and(|(list, _)| list.contains(first));
        if missing.first().is_none_or(under_way) {
            return;
        }
        if loaded.len() > KEPT {
            loaded.retain(|image, _| seen.contains(image));
        }
        let (wake, data, list) = (ctx.clone(), dataset.clone(), missing.clone());
        let job = move |emit: &mut dyn FnMut(Answer) -> ControlFlow<()>| {
            for image in list {
                if emit((image, decode(&data, image, PIXELS))).is_break() {
                    return;
                }
            }
        };
        // Without a thread there are no pictures; the names and counts stand.
        *loading = Probe::start(move || wake.request_repaint(), job).ok().map(|probe| (missing, probe));
    }

    /// One thumbnail, its place where it is not there yet, or a sign that the file is no image.
    pub fn thumbnail_ui(&self, ui: &mut Ui, image: usize, name: &str) {
        let (rect, response) = ui.allocate_exact_size(Vec2::splat(SIDE), Sense::hover());
        let p = theme::palette(ui);
        let said = match self.loaded.get(&image) {
            Some(Ok(picture)) => {
                picture.paint(ui, rect);
                // A black picture on a dark ground is still seen to be there.
                ui.painter().rect_stroke(rect, 0.0, theme::hairline(ui), StrokeKind::Inside);
                name.to_owned()
            }
            Some(Err(why)) => {
                ui.painter().rect_filled(rect, theme::RADIUS, Tone::Trouble.wash(p.dark));
                let ink = Tone::Trouble.ink(p.dark);
                let middle = eframe::egui::Align2::CENTER_CENTER;
                ui.painter().text(rect.center(), middle, Tone::Trouble.glyph(), Type::Title.strong(), ink);
                why.clone()
            }
            None => {
                ui.painter().rect_filled(rect, theme::RADIUS, p.raised);
                name.to_owned()
            }
        };
        response.widget_info(|| WidgetInfo::labeled(eframe::egui::Role::Image, true, &said));
        response.on_hover_text(said);
    }
}
