//! The places below the steps: the images, and the sizes of every model's files.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use eframe::egui::Theme;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use octet::app::Window;
use octet::session::{ModelId, PreprocessChoice};

use crate::raster::Textures;
use crate::window::{open, until};

/// Draws until something that a probe works on is there.
fn wait(harness: &mut Harness<'_, Window>, what: &str, ready: impl Fn(&Harness<'_, Window>) -> bool) {
    let start = Instant::now();
    while !ready(harness) {
        harness.step();
        assert!(start.elapsed() < Duration::from_secs(600), "{what} is not there after ten minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
    harness.run_steps(3);
}

fn has(text: &'static str) -> impl Fn(&Harness<'_, Window>) -> bool {
    move |harness| harness.query_all_by_label_contains(text).next().is_some()
}

fn picture(harness: &Harness<'_, Window>, textures: &Textures, name: &str) {
    if let Some(folder) = std::env::var_os("PICTURES") {
        textures.picture(harness).save(Path::new(&folder).join(name)).expect("a picture");
    }
}

#[test]
fn sizes_of_every_model_stand_beside_the_published_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 1400.0], Theme::Light, folder.path());
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    harness.get_by_label("Compare").click();
    harness.run_steps(2);
    harness.get_by_label("Compare: Sizes of every model").click();
    harness.run_steps(2);
    wait(&mut harness, "the sizes", |h| h.state().bench().compare().rows().len() == ModelId::ALL.len());
    // The window never waited: it drew while files were written.
    let chart = "MobileNetV3 small: float32 6275.3, int8 1629.7  3.85\u{d7}, float32, published 6325.6, int8, published \
                 1954.3  3.24\u{d7}, int8, PyTorch fused 1851.2";
    harness.get_by_label_contains(chart);
    harness.get_by_label_contains("published as MobileNetV3 large");
    harness.get_by_label_contains("MobileNetV3 large: float32");
    // Each chart has its table, and all of them one.
    harness.get_by_label("ResNet50: show as table").click();
    harness.run_steps(3);
    assert!(harness.query_all_by_label("24\u{2009}152.1").count() >= 1, "PyTorch's fused ResNet50");
    harness.get_by_label("PyTorch fused int8");
    picture(&harness, &textures, "compare.png");
    // Back to the step that was left.
    harness.get_by_label_contains("1 Stubs").click();
    harness.run_steps(2);
    harness.get_by_label("Insert stubs");
}

/// Two classes, one of their files no picture.
fn data(root: &Path) {
    for (class, shade) in [("\u{43a}\u{43e}\u{442}", 40), ("dog", 200)] {
        let folder = root.join(class);
        fs::create_dir_all(&folder).expect("a folder");
        for i in 0..10u8 {
            let pixels = image::RgbImage::from_fn(60, 40, |x, y| image::Rgb([shade, (x * 4) as u8, (y * 6) as u8 + i]));
            pixels.save(folder.join(format!("{i}.png"))).expect("a picture");
        }
    }
    fs::write(root.join("dog/notes.txt"), "no picture").expect("a file");
}

#[test]
fn images_are_shown_as_the_model_sees_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = folder.path().join("images");
    data(&images);
    let (mut harness, textures) = open([1280.0, 800.0], Theme::Dark, folder.path());
    harness.run();
    harness.get_by_label("Open my model: Choose").click();
    harness.run_steps(2);
    harness.get_by_label("Image folder").focus();
    harness.run_steps(2);
    harness.get_by_label("Image folder").type_text(&images.display().to_string());
    harness.run_steps(2);
    harness.get_by_label("Open model").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    harness.get_by_label("Images").click();
    harness.run_steps(2);
    wait(&mut harness, "the classes", has("dog: 8 train, 2 held out"));
    harness.get_by_label_contains("\u{43a}\u{43e}\u{442}: 8 train, 2 held out");
    harness.get_by_label_contains("1 file is left out");
    harness.get_by_label_contains("notes.txt");
    wait(&mut harness, "the preview", has("as seen, 224\u{d7}224"));
    harness.get_by_label("Image as stored, 60\u{d7}40");
    picture(&harness, &textures, "images.png");

    // Other choices are previewed at once, and in force once the data is opened again.
    harness.get_by_label("\u{2212}1 to 1").click();
    harness.run_steps(2);
    wait(&mut harness, "the new range", has("Normalized to"));
    harness.get_by_label("Open again with these").click();
    let chosen = PreprocessChoice { mean: Some([0.5; 3]), std: Some([0.5; 3]), ..PreprocessChoice::default() };
    until(&mut harness, "opening again", |w| w.view().recipe.as_ref().is_some_and(|r| r.preprocess == chosen));
    assert!(harness.query_by_label("Open again with these").is_none());
    let opened = harness.state().view().stage().expect("open").opened().clone();
    assert_eq!(opened.preprocess.mean, [0.5; 3]);
}
