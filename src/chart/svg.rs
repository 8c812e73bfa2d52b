use std::fmt::Write;
use std::sync::Arc;

use resvg::{tiny_skia, usvg};

use super::{Anchor, Inks, Mark, Picture, Rgb};

/// Around a picture that stands alone.
const MARGIN: f32 = 24.0;

/// Why a chart did not become a picture.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ChartError {
    #[error("the chart cannot be painted: {0}; save it as SVG instead")]
    Paint(String),
}

/// A picture as SVG, on its own ground. Text stays text, in Inter where the reader has it.
pub fn svg(picture: &Picture, inks: &Inks) -> String {
    let [width, height] = picture.size.map(|s| s + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"Inter, Helvetica, Arial, sans-serif\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"{}\"/>\n\
         <g transform=\"translate({MARGIN} {MARGIN})\">\n",
        hex(inks.ground)
    );
    for mark in &picture.marks {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{}", element(mark));
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn element(mark: &Mark) -> String {
    match mark {
        Mark::Rect { at: [x, y], size: [w, h], ink, outlined } => {
            let ink = hex(*ink);
            let look = if *outlined {
                format!("fill=\"{ink}\" fill-opacity=\"0.15\" stroke=\"{ink}\"")
            } else {
                format!("fill=\"{ink}\"")
            };
            format!("<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"2\" {look}/>")
        }
        Mark::Line { from: [x1, y1], to: [x2, y2], width, ink } => {
            let ink = hex(*ink);
            format!("<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{ink}\" stroke-width=\"{width}\"/>")
        }
        Mark::Dot { at: [x, y], outlined, ink } => {
            let ink = hex(*ink);
            let fill = if *outlined { "none" } else { &ink };
            format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"4\" fill=\"{fill}\" stroke=\"{ink}\" stroke-width=\"1.5\"/>")
        }
        Mark::Text { at: [x, y], anchor, size, strong, ink, text } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let weight = if *strong { 600 } else { 400 };
            // The baseline lies a third of the size below the middle.
            let y = y + size * 0.35;
            format!(
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" font-size=\"{size}\" font-weight=\"{weight}\" \
                 fill=\"{}\">{}</text>",
                hex(*ink),
                escaped(text)
            )
        }
    }
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Without what XML reserves, and without control characters, which it forbids.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// An SVG as PNG at `scale` pixels a point, its text in these faces.
///
/// # Errors
/// [`ChartError::Paint`]
pub fn png(svg: &str, scale: f32, faces: &[&[u8]]) -> Result<Vec<u8>, ChartError> {
    let wrong = |e: String| ChartError::Paint(e);
    let mut options = usvg::Options::default();
    let fonts = Arc::make_mut(&mut options.fontdb);
    for face in faces {
        fonts.load_font_data(face.to_vec());
    }
    fonts.set_sans_serif_family("Inter");
    let tree = usvg::Tree::from_str(svg, &options).map_err(|e| wrong(e.to_string()))?;
    let size = tree.size();
    let [width, height] = [size.width(), size.height()].map(|s| (s * scale).ceil() as u32);
    let mut pixels = tiny_skia::Pixmap::new(width, height)
        .ok_or_else(|| wrong(format!("{width} x {height} pixels are too many")))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| wrong(e.to_string()))
}
