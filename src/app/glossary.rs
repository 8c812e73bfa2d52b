//! What the words mean: text in which every term of the glossary explains itself under the pointer.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use eframe::egui::text::LayoutJob;
use eframe::egui::{
    Color32, CursorIcon, FontId, Galley, Label, Response, RichText, Role, Stroke, TextFormat, Ui, Widget, WidgetInfo,
};

use super::theme::{self, Type};

/// A word and what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// As it is said, the main form first.
    pub names: Vec<String>,
    /// In a sentence or two.
    pub text: String,
}

/// Every term, in the order of the file.
pub fn terms() -> &'static [Term] {
    static TERMS: LazyLock<Vec<Term>> = LazyLock::new(|| parse(include_str!("../../assets/tutorial/glossary.md")));
    &TERMS
}

/// A heading with the names, and below it the text.
fn parse(text: &str) -> Vec<Term> {
    let sections = text.split("## ").skip(1).filter_map(|section| section.split_once('\n'));
    let names = |line: &str| line.split(',').map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect();
    sections.map(|(line, text)| Term { names: names(line), text: text.trim().replace('\n', " ") }).collect()
}

/// The terms in `text`, as ranges of bytes, in order and apart; the longest name wins where several begin.
pub fn find(text: &str) -> Vec<(Range<usize>, &'static Term)> {
    let lower = text.to_lowercase();
    // What lower case makes longer or shorter cannot be pointed at.
    if lower.len() != text.len() {
        return Vec::new();
    }
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut at) = (Vec::new(), 0);
    while at < lower.len() {
        let begins = !lower[..at].chars().next_back().is_some_and(part);
        let longest = names().iter().filter(|(name, _)| begins && lower[at..].starts_with(name.as_str()));
        let longest = longest.filter(|(name, _)| !lower[at + name.len()..].chars().next().is_some_and(part));
        match longest.max_by_key(|(name, _)| name.len()) {
            Some((name, term)) => {
                found.push((at..at + name.len(), *term));
                at += name.len();
            }
            None => at += lower[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    found
}

/// Every name in lower case with its term.
fn names() -> &'static [(String, &'static Term)] {
    static NAMES: LazyLock<Vec<(String, &'static Term)>> = LazyLock::new(|| {
        terms().iter().flat_map(|term| term.names.iter().map(move |name| (name.to_lowercase(), term))).collect()
    });
    &NAMES
}

/// Wrapped text whose terms explain themselves.
pub fn words_ui(ui: &mut Ui, text: &str, font: FontId, color: Color32) -> Response {
    let mut job = LayoutJob::default();
    job.append(text, 0.0, TextFormat::simple(font, color));
    job_ui(ui, job, false)
}

/// The same of a paragraph that was laid out already; `marked` underlines the terms.
pub fn job_ui(ui: &mut Ui, mut job: LayoutJob, marked: bool) -> Response {
    let found = find(&job.text);
    if marked {
        // The first time that each is said is enough.
        let first = |i: usize| found[..i].iter().all(|(_, earlier)| !std::ptr::eq(*earlier, found[i].1));
        let firsts: Vec<_> = (0..found.len()).filter(|i| first(*i)).map(|i| found[i].clone()).collect();
        mark(&mut job, &firsts, theme::palette(ui).edge);
    }
    let (at, galley, response) = Label::new(job).wrap().selectable(false).layout_in_ui(ui);
    response.widget_info(|| WidgetInfo::labeled(Role::Label, ui.is_enabled(), galley.text()));
    if ui.is_rect_visible(response.rect) {
        ui.painter().galley(at, galley.clone(), theme::palette(ui).text);
    }
    let pointed = response.hover_pos().and_then(|pointer| under(&galley, pointer - at, &found));
    match pointed {
        Some(term) => tell(ui, response, &[term]),
        None => response,
    }
}

/// Underlines what is found, keeping the rest of each section's look.
fn mark(job: &mut LayoutJob, found: &[(Range<usize>, &Term)], line: Color32) {
    let mut sections = Vec::new();
    for section in std::mem::take(&mut job.sections) {
        let whole = section.byte_range.start.0..section.byte_range.end.0;
        let mut at = whole.start;
        let inside = found.iter().map(|(range, _)| range.start.max(whole.start)..range.end.min(whole.end));
        for term in inside.filter(|r| r.start < r.end) {
            for (range, marked) in [(at..term.start, false), (term.clone(), true)] {
                let mut part = section.clone();
                part.byte_range = range.start.into()..range.end.into();
                if marked {
                    part.format.underline = Stroke::new(1.0, line);
                }
                if range.start < range.end {
                    sections.push(part);
                }
            }
            at = term.end;
        }
        let mut part = section.clone();
        part.byte_range = at.into()..whole.end.into();
        if at < whole.end {
            sections.push(part);
        }
    }
    job.sections = sections;
}

/// The term at a place of the text.
fn under(
    galley: &Arc<Galley>,
    at: eframe::egui::Vec2,
    found: &[(Range<usize>, &'static Term)],
) -> Option<&'static Term> {
    let index = galley.cursor_from_pos(at).index;
    let text = galley.text();
    // A cursor stands between two characters: either may be the one that is pointed at.
    let byte = text.char_indices().nth(index.into()).map_or(text.len(), |(byte, _)| byte);
    found.iter().find(|(range, _)| (range.start..=range.end).contains(&byte)).map(|(_, term)| *term)
}

/// A label of a few words, all of whose terms are explained where it is pointed at.
pub fn explain(ui: &Ui, response: Response, text: &str) -> Response {
    if !response.hovered() {
        return response;
    }
    let mut found: Vec<&Term> = Vec::new();
    for (_, term) in find(text) {
        if !found.contains(&term) {
            found.push(term);
        }
    }
    if found.is_empty() { response } else { tell(ui, response, &found) }
}

/// A label that explains its terms.
pub fn label_ui(ui: &mut Ui, text: RichText) -> Response {
    let words = text.text().to_owned();
    let response = Label::new(text).ui(ui);
    explain(ui, response, &words)
}

fn tell(ui: &Ui, response: Response, found: &[&Term]) -> Response {
    ui.ctx().set_cursor_icon(CursorIcon::Help);
    response.on_hover_ui_at_pointer(|ui| {
        ui.set_max_width(320.0);
        let p = theme::palette(ui);
        for term in found {
            let name = term.names.first().map_or("", String::as_str);
            // Not to be selected: what lies under the tooltip can be clicked.
            let name = RichText::new(name).font(Type::Body.strong()).color(p.strong);
            ui.add(Label::new(name).selectable(false));
            ui.add(Label::new(RichText::new(&term.text).color(p.text)).wrap().selectable(false));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_term_is_said_shortly_and_once() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(terms().len() >= 45, "{}", terms().len());
        for term in terms() {
            let words = term.text.split_whitespace().count();
            assert!((5..=40).contains(&words), "{:?} has {words} words", term.names);
            for name in &term.names {
                assert!(seen.insert(name.to_lowercase()), "{name} stands twice");
            }
        }
    }

    #[test]
    fn terms_are_found_as_whole_words_the_longest_first() {
        let found = |text: &'static str| -> Vec<&str> { find(text).into_iter().map(|(r, _)| &text[r]).collect() };
        assert_eq!(found("Its zero point and scale."), ["zero point", "scale"]);
        assert_eq!(found("Fake quantization of weights"), ["Fake quantization", "weights"]);
        assert_eq!(found("scaled, uint8x, rescale"), Vec::<&str>::new());
        assert_eq!(found("per-channel \u{3b3} SQNR"), ["channel", "SQNR"]);
    }
}
