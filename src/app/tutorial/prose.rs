//! Markdown of a paragraph or two as text, its terms explained under the pointer.

use eframe::egui::text::LayoutJob;
use eframe::egui::{TextFormat, Ui};
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use crate::app::glossary::job_ui;
use crate::app::theme::{self, Type};

/// Draws paragraphs with `code`, *emphasis* and **strong** words.
pub(super) fn prose_ui(ui: &mut Ui, text: &str) {
    let p = theme::palette(ui);
    let plain = TextFormat::simple(Type::Body.font(), p.text);
    let strong = TextFormat::simple(Type::Body.strong(), p.strong);
    let code = TextFormat { background: p.raised, ..TextFormat::simple(Type::Body.mono(), p.strong) };
    let mut job = LayoutJob::default();
    let mut loud = 0;
    for event in Parser::new(text) {
        match event {
            Event::Start(Tag::Paragraph) if !job.text.is_empty() => job.append("\n\n", 0.0, plain.clone()),
            Event::Start(Tag::Strong | Tag::Emphasis) => loud += 1,
            Event::End(TagEnd::Strong | TagEnd::Emphasis) => loud -= 1,
            Event::Text(words) => job.append(&words, 0.0, if loud > 0 { strong.clone() } else { plain.clone() }),
            Event::Code(words) => job.append(&words, 0.0, code.clone()),
            Event::SoftBreak | Event::HardBreak => job.append(" ", 0.0, plain.clone()),
            _ => {}
        }
    }
    job_ui(ui, job, true);
}
