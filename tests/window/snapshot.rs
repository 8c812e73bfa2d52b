//! Pictures kept in `tests/snapshots/`, compared with a little tolerance. `UPDATE_SNAPSHOTS=1` writes them anew.

use std::path::PathBuf;

use egui_kittest::Harness;
use image::RgbaImage;

use crate::raster::Textures;

/// A channel may differ by this much: the last bit of another CPU's arithmetic, enlarged by blending.
const CHANNEL: u8 = 8;
/// And this share of the pixels may differ more.
const PIXELS: f64 = 0.001;

/// Compares the last frame with the picture of this name.
pub fn matches<S>(harness: &Harness<'_, S>, textures: &Textures, name: &str) {
    compare(textures.picture(harness), name);
}

/// The same of a part of it, `[x, y, width, height]`: what stands beside it says how long something took.
pub fn part<S>(harness: &Harness<'_, S>, textures: &Textures, name: &str, [x, y, width, height]: [u32; 4]) {
    compare(image::imageops::crop_imm(&textures.picture(harness), x, y, width, height).to_image(), name);
}

fn compare(found: RgbaImage, name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.png"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|v| v != "0") {
        found.save(&path).expect("the snapshot is written");
        return;
    }
    let beside = path.with_extension("new.png");
    let expected = image::open(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; UPDATE_SNAPSHOTS=1 writes it", path.display()))
        .to_rgba8();
    let differing = differing(&expected, &found);
    let allowed = PIXELS * f64::from(found.width() * found.height());
    if expected.dimensions() != found.dimensions() || differing as f64 > allowed {
        found.save(&beside).expect("the picture is written beside the snapshot");
        panic!(
            "{name}: {differing} pixels differ, {allowed:.0} may; compare {} with {}, or set UPDATE_SNAPSHOTS=1",
            beside.display(),
            path.display()
        );
    }
}

fn differing(a: &RgbaImage, b: &RgbaImage) -> usize {
    a.pixels().zip(b.pixels()).filter(|(a, b)| a.0.iter().zip(b.0).any(|(x, y)| x.abs_diff(y) > CHANNEL)).count()
}
