//! Paints egui's triangles on the CPU, so that a picture is the same on every machine and needs no GPU.
//!
//! Premultiplied colours blended in gamma space, textures sampled bilinearly, a pixel belonging to a triangle when its
//! middle does: what egui's OpenGL painter does, less its dithering.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use eframe::egui::{
    self, Color32, ColorImage, ImageData, Pos2, Rect, TextureId, TexturesDelta,
    epaint::{ClippedPrimitive, Mesh, Primitive, Vertex},
};
use egui_kittest::{Harness, TestRenderer};
use image::{Rgba, RgbaImage};

/// The textures that egui has uploaded: glyphs, mostly.
#[derive(Clone, Default)]
pub struct Textures(Rc<RefCell<HashMap<TextureId, ColorImage>>>);

impl TestRenderer for Textures {
    fn handle_delta(&mut self, delta: &mut TexturesDelta) {
        let mut textures = self.0.borrow_mut();
        for (id, changes) in delta.set.drain() {
            for change in changes {
                let ImageData::Color(image) = &change.image;
                match (change.pos, textures.get_mut(&id)) {
                    (Some(at), Some(whole)) => patch(whole, image, at),
                    (_, _) => drop(textures.insert(id, ColorImage::clone(image))),
                }
            }
        }
        delta.clear();
    }
}

fn patch(whole: &mut ColorImage, part: &ColorImage, [x, y]: [usize; 2]) {
    for row in 0..part.height() {
        let to = (y + row) * whole.width() + x;
        whole.pixels[to..to + part.width()].copy_from_slice(&part.pixels[row * part.width()..][..part.width()]);
    }
}

impl Textures {
    /// The last frame as a picture.
    pub fn picture<S>(&self, harness: &Harness<'_, S>) -> RgbaImage {
        let scale = harness.ctx.pixels_per_point();
        let size = harness.ctx.content_rect().size() * scale;
        let mut picture = RgbaImage::from_pixel(size.x as u32, size.y as u32, Rgba([0, 0, 0, 255]));
        let output = harness.output();
        let textures = self.0.borrow();
        for ClippedPrimitive { clip_rect, primitive } in harness.ctx.tessellate(output.shapes.clone(), scale) {
            if let Primitive::Mesh(mesh) = primitive
                && let Some(texture) = textures.get(&mesh.texture_id)
            {
                paint(&mut picture, &mesh, texture, clip_rect, scale);
            }
        }
        picture
    }
}

fn paint(picture: &mut RgbaImage, mesh: &Mesh, texture: &ColorImage, clip: Rect, scale: f32) {
    let whole = Rect::from_min_size(Pos2::ZERO, egui::vec2(picture.width() as f32, picture.height() as f32));
    let edge = |v: f32| (v * scale).round();
    let clip = Rect::from_min_max(
        egui::pos2(edge(clip.min.x), edge(clip.min.y)),
        egui::pos2(edge(clip.max.x), edge(clip.max.y)),
    )
    .intersect(whole);
    for corners in mesh.indices.as_chunks::<3>().0 {
        let corner = |i: usize| {
            let v = mesh.vertices[corners[i] as usize];
            Vertex { pos: (v.pos.to_vec2() * scale).to_pos2(), ..v }
        };
        triangle(picture, [corner(0), corner(1), corner(2)], texture, clip);
    }
}

fn triangle(picture: &mut RgbaImage, [a, b, c]: [Vertex; 3], texture: &ColorImage, clip: Rect) {
    let area = cross(a.pos, b.pos, c.pos);
    if area == 0.0 {
        return;
    }
    let around = Rect::from_points(&[a.pos, b.pos, c.pos]).intersect(clip);
    if !around.is_positive() {
        return;
    }
    for y in around.min.y.floor() as u32..around.max.y.ceil() as u32 {
        for x in around.min.x.floor() as u32..around.max.x.ceil() as u32 {
            let at = egui::pos2(x as f32 + 0.5, y as f32 + 0.5);
            let weights = [cross(b.pos, c.pos, at), cross(c.pos, a.pos, at), cross(a.pos, b.pos, at)].map(|w| w / area);
            let inside = weights[0] >= 0.0 && weights[1] >= 0.0 && weights[2] >= 0.0;
            if !inside || on_a_far_edge([a.pos, b.pos, c.pos], weights, area) || !clip.contains(at) {
                continue;
            }
            let mix = |f: &dyn Fn(&Vertex) -> f32| f(&a) * weights[0] + f(&b) * weights[1] + f(&c) * weights[2];
            let sample = sampled(texture, mix(&|v| v.uv.x), mix(&|v| v.uv.y));
            let color: [f32; 4] =
                std::array::from_fn(|i| mix(&|v| f32::from(v.color.to_array()[i])) * sample[i] / 255.0);
            blend(picture.get_pixel_mut(x, y), color);
        }
    }
}

/// A pixel whose middle is on an edge belongs to one of the two triangles that share it, not to both.
fn on_a_far_edge(corners: [Pos2; 3], weights: [f32; 3], area: f32) -> bool {
    (0..3).any(|i| {
        let (from, to) = (corners[(i + 1) % 3], corners[(i + 2) % 3]);
        let along = (to - from) * area.signum();
        weights[i] == 0.0 && (along.y < 0.0 || (along.y == 0.0 && along.x < 0.0))
    })
}

fn cross(a: Pos2, b: Pos2, c: Pos2) -> f32 {
    (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x)
}

fn sampled(texture: &ColorImage, u: f32, v: f32) -> [f32; 4] {
    let (x, y) = (u * texture.width() as f32 - 0.5, v * texture.height() as f32 - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let texel = |x: f32, y: f32| -> Color32 {
        let x = x.clamp(0.0, texture.width() as f32 - 1.0) as usize;
        let y = y.clamp(0.0, texture.height() as f32 - 1.0) as usize;
        texture.pixels[y * texture.width() + x]
    };
    let corners = [texel(left, top), texel(left + 1.0, top), texel(left, top + 1.0), texel(left + 1.0, top + 1.0)]
        .map(|c| c.to_array());
    let (fx, fy) = (x - left, y - top);
    std::array::from_fn(|i| {
        let [a, b, c, d] = corners.map(|c| f32::from(c[i]));
        let (upper, lower) = (a + (b - a) * fx, c + (d - c) * fx);
        upper + (lower - upper) * fy
    })
}

fn blend(pixel: &mut Rgba<u8>, color: [f32; 4]) {
    let behind = 1.0 - color[3] / 255.0;
    for (channel, over) in pixel.0.iter_mut().zip(color).take(3) {
        *channel = (over + f32::from(*channel) * behind).round().clamp(0.0, 255.0) as u8;
    }
}
