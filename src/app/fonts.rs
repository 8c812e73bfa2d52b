//! The faces: Inter for words, JetBrains Mono for code and tables, and the system's own for scripts that neither has.

use std::path::Path;
use std::sync::Arc;

use eframe::egui::{FontData, FontDefinitions, FontFamily};

/// Family of headings and primary buttons.
pub fn semibold() -> FontFamily {
    FontFamily::Name("semibold".into())
}

/// Where common systems keep a face with Chinese, Japanese and Korean; the first that exists is the last resort of every
/// family, since class names come in any script.
const FALLBACKS: [&str; 8] = [
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/System/Library/Fonts/Hiragino Sans GB.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "C:\\Windows\\Fonts\\msyh.ttc",
];

/// The faces for words, regular and semibold, for pictures outside of the window.
pub(super) const WORDS: [&[u8]; 2] =
    [include_bytes!("../../assets/fonts/Inter-Regular.otf"), include_bytes!("../../assets/fonts/Inter-SemiBold.otf")];

/// And the one for numbers in tables.
pub(super) const NUMBERS: &[u8] = include_bytes!("../../assets/fonts/JetBrainsMono-Regular.ttf");

/// The embedded faces alone: the same on every machine, so pictures in tests are too.
pub fn embedded() -> FontDefinitions {
    let mut fonts = FontDefinitions::empty();
    let faces: [(&str, &'static [u8]); 3] =
        [("inter", WORDS[0]), ("inter-semibold", WORDS[1]), ("jetbrains-mono", NUMBERS)];
    for (name, data) in faces {
        fonts.font_data.insert(name.to_owned(), Arc::new(FontData::from_static(data)));
    }
    let families = [
        (FontFamily::Proportional, ["inter", "jetbrains-mono"]),
        (FontFamily::Monospace, ["jetbrains-mono", "inter"]),
        (semibold(), ["inter-semibold", "jetbrains-mono"]),
    ];
    for (family, names) in families {
        fonts.families.insert(family, names.map(str::to_owned).to_vec());
    }
    fonts
}

/// The embedded faces, and behind them the system's face for other scripts where one is found.
pub fn with_system_fallback() -> FontDefinitions {
    let mut fonts = embedded();
    // An unreadable face costs boxes instead of glyphs, no more: try the next.
    if let Some(data) = FALLBACKS.iter().find_map(|path| std::fs::read(Path::new(path)).ok()) {
        fonts.font_data.insert("system".to_owned(), Arc::new(FontData::from_owned(data)));
        for names in fonts.families.values_mut() {
            names.push("system".to_owned());
        }
    }
    fonts
}
