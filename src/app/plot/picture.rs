//! What was painted as SVG: the chart that a user sees, in the theme that he sees it in, as lines and text.

use std::fmt::Write;

use eframe::egui::epaint::{ClippedShape, ColorMode, PathShape, PathStroke, Shape, TextShape};
use eframe::egui::{Color32, FontFamily, Mesh, Pos2, Rect, Stroke, TextFormat};

use crate::chart::escaped;

/// Around a picture that stands alone.
const MARGIN: f32 = 16.0;
/// Room of the title above it.
const TITLE: f32 = 28.0;

/// The shapes inside `room` on a ground of their own, under a title.
pub(super) fn svg(title: &str, shapes: &[ClippedShape], room: Rect, [ground, ink]: [Color32; 2]) -> String {
    let (width, height) = (room.width() + 2.0 * MARGIN, room.height() + 2.0 * MARGIN + TITLE);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"Inter, Helvetica, Arial, sans-serif\">\n<rect width=\"{width}\" height=\"{height}\" {}/>\n\
         <text x=\"{MARGIN}\" y=\"{}\" font-size=\"14\" font-weight=\"600\" {}>{}</text>\n",
        fill(ground),
        MARGIN + 14.0,
        fill(ink),
        escaped(title)
    );
    let moved = [MARGIN - room.left(), MARGIN + TITLE - room.top()];
    // Writing to a string does not fail.
    let _ = writeln!(out, "<g transform=\"translate({} {})\">", moved[0], moved[1]);
    for (i, shape) in shapes.iter().enumerate() {
        let mut inner = String::new();
        element(&mut inner, &shape.shape);
        if inner.is_empty() {
            continue;
        }
        if shape.clip_rect.contains_rect(room) {
            out.push_str(&inner);
            continue;
        }
        let clip = shape.clip_rect.intersect(room.expand(MARGIN));
        if clip.is_positive() {
            let _ = writeln!(out, "<clipPath id=\"c{i}\"><rect {}/></clipPath>", place(clip));
            let _ = write!(out, "<g clip-path=\"url(#c{i})\">\n{inner}</g>\n");
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn element(out: &mut String, shape: &Shape) {
    match shape {
        Shape::Vec(shapes) => shapes.iter().for_each(|s| element(out, s)),
        Shape::Circle(c) => {
            let Pos2 { x, y } = c.center;
            let look = [fill(c.fill), line(c.stroke)].join(" ");
            let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{}\" {look}/>", c.radius);
        }
        Shape::Ellipse(e) => {
            let look = [fill(e.fill), line(e.stroke)].join(" ");
            let (Pos2 { x, y }, r) = (e.center, e.radius);
            let _ = writeln!(out, "<ellipse cx=\"{x}\" cy=\"{y}\" rx=\"{}\" ry=\"{}\" {look}/>", r.x, r.y);
        }
        Shape::LineSegment { points: [a, b], stroke } => {
            let (Pos2 { x: x1, y: y1 }, Pos2 { x: x2, y: y2 }) = (a, b);
            let _ = writeln!(out, "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" {}/>", line(*stroke));
        }
        Shape::Path(path) => path_element(out, path),
        Shape::Rect(r) => {
            let look = [fill(r.fill), line(r.stroke)].join(" ");
            let _ = writeln!(out, "<rect {} rx=\"{}\" {look}/>", place(r.rect), r.corner_radius.average());
        }
        Shape::Text(text) => text_elements(out, text),
        Shape::Mesh(mesh) => mesh_elements(out, mesh),
        Shape::QuadraticBezier(curve) => {
            let points = curve.flatten(None);
            path_element(
                out,
                &PathShape { points, closed: curve.closed, fill: curve.fill, stroke: curve.stroke.clone() },
            );
        }
        Shape::CubicBezier(curve) => {
            let points = curve.flatten(None);
            path_element(
                out,
                &PathShape { points, closed: curve.closed, fill: curve.fill, stroke: curve.stroke.clone() },
            );
        }
        // No chart of ours paints these.
        Shape::Noop | Shape::Band(_) | Shape::Callback(_) => {}
    }
}

fn path_element(out: &mut String, path: &PathShape) {
    let points = points(path.points.iter().copied());
    let tag = if path.closed { "polygon" } else { "polyline" };
    let stroke = match &path.stroke {
        PathStroke { width, color: ColorMode::Solid(color), .. } => Stroke::new(*width, *color),
        // A gradient along the path: its colour in the middle.
        PathStroke { width, color: ColorMode::UV(of), .. } => {
            let room = Rect::from_points(&path.points);
            Stroke::new(*width, of(room, room.center()))
        }
    };
    let fill = if path.fill == Color32::TRANSPARENT { "fill=\"none\"".to_owned() } else { fill(path.fill) };
    let _ = writeln!(out, "<{tag} points=\"{points}\" {fill} {} stroke-linejoin=\"round\"/>", line(stroke));
}

/// Each run of one look on each row is a text of its own.
fn text_elements(out: &mut String, text: &TextShape) {
    let mut seen = 0;
    let turn = match text.angle {
        0.0 => String::new(),
        angle => format!(" transform=\"rotate({} {} {})\"", angle.to_degrees(), text.pos.x, text.pos.y),
    };
    for row in &text.galley.rows {
        let words: String = row.glyphs.iter().map(|g| g.chr).collect();
        let (Some(first), false) = (row.glyphs.first(), words.trim().is_empty()) else {
            seen += words.len();
            continue;
        };
        let section = text.galley.job.sections.iter().find(|s| {
            let range = s.byte_range.start.0..s.byte_range.end.0;
            range.contains(&seen)
        });
        seen += words.len() + usize::from(row.ends_with_newline);
        let plain = TextFormat::default();
        let format = section.map_or(&plain, |s| &s.format);
        let own = if format.color == Color32::PLACEHOLDER { text.fallback_color } else { format.color };
        let color = text.override_text_color.unwrap_or(own).gamma_multiply(text.opacity_factor);
        let (face, weight) = match &format.font_id.family {
            FontFamily::Monospace => ("JetBrains Mono, monospace", 400),
            FontFamily::Proportional => ("Inter, sans-serif", 400),
            FontFamily::Name(_) => ("Inter, sans-serif", 600),
        };
        let at = text.pos + row.pos.to_vec2() + first.pos.to_vec2();
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\" font-family=\"{face}\" font-weight=\"{weight}\" {}{turn} \
             xml:space=\"preserve\">{}</text>",
            at.x,
            at.y,
            format.font_id.size,
            fill(color),
            escaped(&words)
        );
    }
}

/// Triangles of plain colour; a picture's are left out.
fn mesh_elements(out: &mut String, mesh: &Mesh) {
    for corners in mesh.indices.chunks_exact(3) {
        let corners = [0, 1, 2].map(|i| mesh.vertices[corners[i] as usize]);
        let points = points(corners.iter().map(|c| c.pos));
        let _ = writeln!(out, "<polygon points=\"{points}\" {}/>", fill(corners[0].color));
    }
}

fn points(all: impl Iterator<Item = Pos2>) -> String {
    all.map(|p| format!("{:.2},{:.2}", p.x, p.y)).collect::<Vec<_>>().join(" ")
}

fn place(r: Rect) -> String {
    format!("x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", r.left(), r.top(), r.width(), r.height())
}

fn fill(color: Color32) -> String {
    let (ink, opacity) = ink(color);
    format!("fill=\"{ink}\" fill-opacity=\"{opacity}\"")
}

fn line(stroke: Stroke) -> String {
    if stroke.is_empty() {
        return String::new();
    }
    let (ink, opacity) = ink(stroke.color);
    format!("stroke=\"{ink}\" stroke-opacity=\"{opacity}\" stroke-width=\"{}\"", stroke.width)
}

/// Without the premultiplied alpha, which stands beside it.
fn ink(color: Color32) -> (String, f32) {
    let [r, g, b, a] = color.to_srgba_unmultiplied();
    (format!("#{r:02x}{g:02x}{b:02x}"), f32::from(a) / 255.0)
}
