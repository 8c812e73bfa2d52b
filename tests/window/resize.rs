//! Every screen from a window of a stamp's size to one of 4K, at every scale.

use eframe::egui::{Event, Key, Modifiers, Shape, Theme, Vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use octet::app::Window;

use crate::frame::finished;
use crate::raster::Textures;
use crate::window::open;

/// Pixels of the window, and its scale: the smallest and the largest of both, and what lies between.
const SHAPES: [([f32; 2], f32); 8] = [
    ([200.0, 150.0], 2.0),
    ([200.0, 150.0], 0.9),
    ([320.0, 240.0], 1.5),
    ([640.0, 360.0], 1.0),
    ([1366.0, 768.0], 2.0),
    ([1920.0, 1080.0], 1.5),
    ([3840.0, 2160.0], 2.0),
    ([3840.0, 2160.0], 0.9),
];
/// The least that the window's manager is told, in points: from here on nothing may be cut off.
const LEAST: Vec2 = Vec2::new(560.0, 340.0);

/// Draws at every shape and looks at what came of it; `always` are the controls that may never be lost.
fn at_every_shape(harness: &mut Harness<'static, Window>, textures: &Textures, what: &str, always: &[&str]) {
    for (pixels, scale) in SHAPES {
        harness.ctx.set_zoom_factor(scale);
        harness.step();
        harness.set_size(Vec2::from(pixels) / scale);
        harness.run_steps(3);
        let name = format!("{what} at {}x{} pixels, scale {scale}", pixels[0], pixels[1]);
        sound(harness, &name);
        for label in always {
            let room = harness.ctx.content_rect().expand(0.5);
            let found = harness.query_all_by_label_contains(label).next();
            let rect = found.unwrap_or_else(|| panic!("{name}: `{label}` is lost")).rect();
            assert!(rect.width() >= 6.0 && rect.height() >= 6.0, "{name}: `{label}` has no room: {rect:?}");
            let whole = room.width() >= LEAST.x && room.height() >= LEAST.y;
            assert!(!whole || room.contains_rect(rect), "{name}: `{label}` at {rect:?} of {room:?}");
        }
        if let Some(folder) = std::env::var_os("PICTURES") {
            let file = format!("{what}_{}_{}.png", pixels[0], (scale * 100.0) as u32).replace(' ', "_");
            textures.picture(harness).save(std::path::Path::new(&folder).join(file)).expect("a picture");
        }
    }
    harness.ctx.set_zoom_factor(1.0);
    harness.step();
    harness.set_size([1280.0, 800.0].into());
    harness.run_steps(3);
}

/// No widget and nothing painted has a size that is no size.
fn sound(harness: &Harness<'static, Window>, name: &str) {
    for node in harness.root().children_recursive() {
        let node = node.accesskit_node();
        let Some(b) = node.raw_bounds() else { continue };
        let finite = [b.x0, b.y0, b.x1, b.y1].iter().all(|v| v.is_finite());
        assert!(finite && b.x1 >= b.x0 && b.y1 >= b.y0, "{name}: {:?} {:?} at {b:?}", node.role(), node.label());
    }
    for shape in &harness.output().shapes {
        // Nothing is nowhere: that is no fault.
        if matches!(&shape.shape, Shape::Text(text) if text.galley.text().trim().is_empty()) {
            continue;
        }
        let rect = shape.shape.visual_bounding_rect();
        assert!(!rect.any_nan() && !shape.clip_rect.any_nan(), "{name}: {:?}", shape.shape);
    }
    let unnamed = harness.unnamed_widgets();
    assert!(unnamed.is_empty(), "{name}: {unnamed:?}");
}

#[test]
fn the_first_start_at_every_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 800.0], Theme::Dark, folder.path());
    harness.run();
    at_every_shape(&mut harness, &textures, "welcome", &["Search"]);
    harness.get_by_label("Open my model: Choose").click();
    harness.run_steps(2);
    at_every_shape(&mut harness, &textures, "opening", &["Search"]);
}

#[test]
fn every_step_at_every_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = finished([1280.0, 800.0], Theme::Light, folder.path());
    let always = ["Model: ", "Run all", "Search", "1 Stubs", "2 Weights", "Picture", "Graph", "Code"];
    for key in [Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5, Key::Num6] {
        for tab in ["Picture", "Graph", "Code"] {
            harness.key_press(key);
            harness.get_by_label(tab).click_accesskit();
            harness.run_steps(2);
            let what = format!("step {:?} {tab}", harness.state().bench().step);
            at_every_shape(&mut harness, &textures, &what, &always);
        }
        harness.get_by_label("Picture").click_accesskit();
        harness.run_steps(2);
    }
}

#[test]
fn every_place_at_every_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = finished([1280.0, 800.0], Theme::Dark, folder.path());
    let always = ["Model: ", "Run all", "Search", "1 Stubs", "2 Weights"];
    harness.key_press(Key::Num6);
    harness.run_steps(2);
    for page in ["Weights", "Error by layer", "Time by layer", "Images", "Analyze"] {
        harness.get_by_label(&format!("Result: {page}")).click_accesskit();
        harness.run_steps(3);
        at_every_shape(&mut harness, &textures, &format!("result {page}"), &always);
    }
    for page in ["Repairs", "Promise", "Calibration"] {
        harness.get_by_label(&format!("Analyze: {page}")).click_accesskit();
        harness.run_steps(3);
        at_every_shape(&mut harness, &textures, &format!("analyze {page}"), &always);
    }
    harness.get_by_label("Log").click();
    for place in ["Images", "Compare", "Learn"] {
        harness.get_by_label(place).click_accesskit();
        harness.run_steps(3);
        at_every_shape(&mut harness, &textures, place, &always);
    }
    harness.get_by_label("First method: PTQ lesson 5: Calibrate, not done").click_accesskit();
    harness.run_steps(3);
    at_every_shape(&mut harness, &textures, "a lesson", &always);
    harness.key_press_modifiers(Modifiers::COMMAND, Key::P);
    harness.run_steps(3);
    at_every_shape(&mut harness, &textures, "the palette", &["Search commands and layers"]);
    harness.key_press(Key::Escape);
    harness.run_steps(2);
    harness.event(Event::Text("?".to_owned()));
    harness.run_steps(3);
    at_every_shape(&mut harness, &textures, "the keys", &["Close"]);
}

#[test]
fn the_drawer_at_every_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = finished([1280.0, 800.0], Theme::Light, folder.path());
    harness.key_press(Key::Num3);
    harness.set_size([640.0, 360.0].into());
    harness.run_steps(4);
    harness.get_by_label("Inspect").click();
    harness.run_steps(3);
    at_every_shape(&mut harness, &textures, "the drawer", &[]);
}
