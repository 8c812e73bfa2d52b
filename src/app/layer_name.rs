//! Layers' names in tables: whole where there is room, and never so short that two are the same.

use eframe::egui::{Response, RichText, Role, Ui, WidgetInfo};

use super::theme::{self, Type};

/// A layer's name in a row of a table, to be clicked; pointed at, it is whole.
pub fn layer_name_ui(ui: &mut Ui, name: &str, chosen: bool, row: f32) -> Response {
    let spacing = ui.spacing_mut();
    (spacing.button_padding.x, spacing.interact_size.y) = (theme::GRID, row.min(theme::ROW));
    let room = ((ui.available_width() - 2.0 * theme::GRID) / letter(ui)) as usize;
    let shown = RichText::new(short(name, room.max(2))).font(Type::Body.mono());
    let response = ui.selectable_label(chosen, shown);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, chosen, name));
    response.on_hover_text(name)
}

/// The width that the longest of these names needs in a table.
pub fn width_of<'a>(ui: &Ui, names: impl Iterator<Item = &'a str>) -> f32 {
    let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
    (longest as f32 * letter(ui) + 2.0 * theme::GRID).ceil() + 1.0
}

/// All letters of the face are as wide.
fn letter(ui: &Ui) -> f32 {
    ui.painter().layout_no_wrap("0".to_owned(), Type::Body.mono(), theme::palette(ui).text).size().x
}

/// A name in at most so many letters. Words lose all but their first letter and their number, the front ones first:
/// `stage2.0.branch1.0` is `s2.0.branch1.0`, then `s2.0.b1.0`. Where even that is too long the last word is cut, and where
/// nothing would be left of it, what stands before it.
fn short(name: &str, room: usize) -> String {
    let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
    let long = |parts: &[String]| parts.iter().map(|p| p.chars().count() + 1).sum::<usize>() - 1;
    for i in 0..parts.len() - 1 {
        if long(&parts) <= room {
            break;
        }
        parts[i] = initial(&parts[i]);
    }
    let text = parts.join(".");
    let count = text.chars().count();
    if count <= room {
        return text;
    }
    let before = text.rfind('.').map_or(0, |dot| text[..=dot].chars().count());
    if before + 2 < room {
        return text.chars().take(room - 1).chain(['\u{2026}']).collect();
    }
    std::iter::once('\u{2026}').chain(text.chars().skip(count + 1 - room)).collect()
}

/// The first letter of a word and the number at its end.
fn initial(word: &str) -> String {
    let number = word.len() - word.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (letters, number) = word.split_at(word.len() - number);
    letters.chars().take(1).chain(number.chars()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::session::{ModelConfig, ModelId};

    #[test]
    fn words_are_cut_from_the_front_and_numbers_stay() {
        assert_eq!(short("stage2.0.branch1.0", 18), "stage2.0.branch1.0");
        assert_eq!(short("stage2.0.branch1.0", 17), "s2.0.branch1.0");
        assert_eq!(short("stage2.0.branch1.0", 13), "s2.0.b1.0");
        assert_eq!(short("stage2.0.branch1.0", 6), "\u{2026}.b1.0");
        assert_eq!(short("features.12.block.3.0", 16), "f.12.block.3.0");
        assert_eq!(short("features.4.10.block.2.scale_activation", 16), "f.4.10.b.2.scal\u{2026}");
        assert_eq!(short("features.4.10.block.2.scale_activation", 12), "\u{2026}_activation");
    }

    #[test]
    fn in_sixteen_letters_every_layer_of_every_model_is_told_from_the_others() {
        for model in ModelId::ALL {
            let graph = crate::zoo::build(model, ModelConfig { classes: 10, size: 64 }).expect("a model");
            let all: BTreeSet<String> = graph.nodes.iter().map(|node| short(&node.name, 16)).collect();
            assert_eq!(all.len(), graph.nodes.len(), "{}", model.title());
        }
    }
}
