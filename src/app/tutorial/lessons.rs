//! The lessons as they are written: a front matter in TOML, then Markdown under a few headings.

use std::sync::LazyLock;

use serde::Deserialize;

use super::check::Check;
use super::finale::Setup;
use super::measure::Measure;
use super::progress::Progress;

/// Which way a lesson is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// The first method.
    Ptq,
    /// The second.
    Qat,
    /// A model that breaks with one scale a layer.
    Break,
    /// One layer may go back to float.
    Budget,
    /// A range that was set wrong on purpose.
    Range,
}

impl Path {
    /// All, in the order of the page.
    pub const ALL: [Self; 5] = [Self::Ptq, Self::Qat, Self::Break, Self::Budget, Self::Range];

    /// As the page names it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ptq => "First method: PTQ",
            Self::Qat => "Second method: QAT",
            Self::Break => "Finale: break it, repair it",
            Self::Budget => "Finale: one layer back to float",
            Self::Range => "Finale: the dead range",
        }
    }

    /// What it is, in a sentence.
    pub fn about(self) -> &'static str {
        match self {
            Self::Ptq => "From a trained float model to an int8 file, without training again.",
            Self::Qat => "The same by training with int8's rounding in place.",
            Self::Break => "MobileNetV3 collapses with one scale a layer; two repairs bring it back.",
            Self::Budget => "A few bytes more may be spent on one layer: find the one that is worth them.",
            Self::Range => "A range was set wrong on one layer of a good model: find it.",
        }
    }

    /// The word that keys and files begin with.
    pub fn key(self) -> &'static str {
        match self {
            Self::Ptq => "ptq",
            Self::Qat => "qat",
            Self::Break => "break",
            Self::Budget => "budget",
            Self::Range => "range",
        }
    }

    /// Its lessons, in order, with their places among [`lessons`].
    pub fn lessons(self) -> impl Iterator<Item = (usize, &'static Lesson)> {
        lessons().iter().enumerate().filter(move |(_, lesson)| lesson.path == self)
    }
}

/// A small thing to play with inside a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Play {
    /// Scale, zero point and bits on a number line.
    NumberLine,
    /// Weights of one channel, with a scale of their own or the layer's.
    PerChannel,
    /// Rounding error against clipping error.
    Clip,
    /// Batch norm folded into one channel.
    Fold,
    /// The gradient that training with fake quantization uses.
    StraightThrough,
    /// One output of one layer, product by product.
    Dot,
}

/// Something to guess before it is measured.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predict {
    /// What is measured.
    pub measure: Measure,
    /// The question.
    pub ask: String,
}

/// What stands between the `+++` lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Front {
    path: Path,
    step: usize,
    title: String,
    check: Check,
    play: Option<Play>,
    setup: Option<Setup>,
    #[serde(default)]
    predict: Vec<Predict>,
}

/// One lesson.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// On which path.
    pub path: Path,
    /// Its place there, from 1.
    pub step: usize,
    /// Its name.
    pub title: String,
    /// What ends it.
    pub check: Check,
    /// What to play with.
    pub play: Option<Play>,
    /// What it needs before it begins.
    pub setup: Option<Setup>,
    /// What to guess first.
    pub predict: Vec<Predict>,
    /// Why this is done.
    pub why: String,
    /// Lines with `{slots}` for the numbers of the learner's own layer.
    pub formula: Vec<String>,
    /// What to do.
    pub task: String,
    /// What is easily done wrong.
    pub watch_out: Option<String>,
}

/// Why a file is no lesson.
#[derive(Debug, thiserror::Error)]
pub enum LessonError {
    #[error("{file}: no front matter between two lines `+++`")]
    NoFront { file: String },
    #[error("{file}: its front matter is wrong: {detail}")]
    Front { file: String, detail: String },
    #[error("{file}: no heading `## {heading}` with text below it")]
    Missing { file: String, heading: &'static str },
    #[error("{file}: unknown heading `## {found}`; expected Why, Formula, Task or Watch out")]
    Heading { file: String, found: String },
    #[error("{file}: named otherwise than its path and step say, which is {expected}")]
    Name { file: String, expected: String },
}

impl Lesson {
    /// Reads the text of `file`.
    ///
    /// # Errors
    /// [`LessonError`] naming the file.
    pub fn parse(file: &str, text: &str) -> Result<Self, LessonError> {
        let no_front = || LessonError::NoFront { file: file.to_owned() };
        let rest = text.strip_prefix("+++\n").ok_or_else(no_front)?;
        let (front, body) = rest.split_once("\n+++\n").ok_or_else(no_front)?;
        let front: Front = toml::from_str(front)
            .map_err(|e| LessonError::Front { file: file.to_owned(), detail: e.message().to_owned() })?;
        let expected = format!("{}-{}.md", front.path.key(), front.step);
        if file != expected {
            return Err(LessonError::Name { file: file.to_owned(), expected });
        }
        let (mut why, mut formula, mut task, mut watch_out) = (None, None, None, None);
        for section in body.split("\n## ").skip(1) {
            let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
            let text = text.trim().to_owned();
            let place = match heading.trim() {
                "Why" => &mut why,
                "Formula" => &mut formula,
                "Task" => &mut task,
                "Watch out" => &mut watch_out,
                found => return Err(LessonError::Heading { file: file.to_owned(), found: found.to_owned() }),
            };
            *place = (!text.is_empty()).then_some(text);
        }
        let missing = |heading| LessonError::Missing { file: file.to_owned(), heading };
        let formula: String = formula.ok_or_else(|| missing("Formula"))?;
        Ok(Self {
            path: front.path,
            step: front.step,
            title: front.title,
            check: front.check,
            play: front.play,
            setup: front.setup,
            predict: front.predict,
            why: why.ok_or_else(|| missing("Why"))?,
            formula: formula.lines().filter(|l| !l.starts_with("```")).map(str::to_owned).collect(),
            task: task.ok_or_else(|| missing("Task"))?,
            watch_out,
        })
    }

    /// What is neither guessed nor skipped yet, the first of it.
    pub(in crate::app) fn unguessed(&self, progress: &Progress) -> Option<&Predict> {
        self.predict.iter().find(|predict| !progress.guesses.contains_key(&self.guess_key(predict.measure)))
    }

    /// What a guess is kept under: "ptq-6 shrink".
    pub(super) fn guess_key(&self, measure: Measure) -> String {
        format!("{} {}", self.key(), measure.key())
    }

    /// A name for what is remembered: "ptq-3".
    pub fn key(&self) -> String {
        format!("{}-{}", self.path.key(), self.step)
    }
}

/// The files, in the order of the page.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../assets/tutorial/", $name)))),*]
    };
}

const FILES: [(&str, &str); 18] = files![
    "ptq-1.md",
    "ptq-2.md",
    "ptq-3.md",
    "ptq-4.md",
    "ptq-5.md",
    "ptq-6.md",
    "qat-1.md",
    "qat-2.md",
    "qat-3.md",
    "qat-4.md",
    "qat-5.md",
    "qat-6.md",
    "break-1.md",
    "break-2.md",
    "break-3.md",
    "budget-1.md",
    "range-1.md",
    "range-2.md",
];

/// Every lesson, path by path. A file that is no lesson is left out; a test reads each.
pub fn lessons() -> &'static [Lesson] {
    static LESSONS: LazyLock<Vec<Lesson>> =
        LazyLock::new(|| FILES.iter().filter_map(|(file, text)| Lesson::parse(file, text).ok()).collect());
    &LESSONS
}

#[cfg(test)]
mod tests {
    use super::super::formula::SLOTS;
    use super::*;

    /// Sentences of plain text: full stops, question and exclamation marks that end a word, outside of `code`.
    fn sentences(text: &str) -> usize {
        let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join("code");
        let ends = prose.split_whitespace().filter(|w| w.ends_with(['.', '?', '!']) && !w.ends_with("e.g."));
        ends.count()
    }

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn every_file_is_a_lesson_and_every_lesson_is_in_its_place() {
        for (file, text) in FILES {
            Lesson::parse(file, text).unwrap_or_else(|e| panic!("{e}"));
        }
        for path in Path::ALL {
            let steps: Vec<usize> = path.lessons().map(|(_, lesson)| lesson.step).collect();
            assert_eq!(steps, (1..=steps.len()).collect::<Vec<_>>(), "{path:?}");
        }
        assert_eq!((Path::Ptq.lessons().count(), Path::Qat.lessons().count()), (6, 6));
        // None is left lying in the folder.
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tutorial");
        let names = std::fs::read_dir(folder).expect("the folder").map(|e| e.expect("a file").file_name());
        for name in names.filter(|n| n != "glossary.md") {
            assert!(FILES.iter().any(|(file, _)| name == *file), "{name:?} is not among the lessons");
        }
    }

    #[test]
    fn every_text_is_short() {
        for lesson in lessons() {
            let key = lesson.key();
            assert!((1..=3).contains(&sentences(&lesson.why)), "{key}: why has {} sentences", sentences(&lesson.why));
            assert!(words(&lesson.why) <= 70, "{key}: why has {} words", words(&lesson.why));
            assert!((1..=3).contains(&sentences(&lesson.task)) && words(&lesson.task) <= 50, "{key}: task");
            assert!(lesson.title.chars().count() <= 44, "{key}: title");
            if let Some(text) = &lesson.watch_out {
                assert!(sentences(text) <= 3 && words(text) <= 50, "{key}: watch out has {} words", words(text));
            }
            for line in &lesson.formula {
                // So many letters the panel has room for in a line; a number takes about six.
                let slots = super::super::formula::slots(line);
                let shown = slots.fold(line.clone(), |l, s| l.replace(&format!("{{{s}}}"), "0.0000"));
                assert!(shown.chars().count() <= 37, "{key}: `{line}` is too long for the panel");
            }
            for predict in &lesson.predict {
                assert!(predict.ask.ends_with('?') && words(&predict.ask) <= 24, "{key}: {}", predict.ask);
            }
            for text in [&lesson.why, &lesson.task] {
                assert!(!text.contains('\u{2014}') && !text.contains("  "), "{key}: {text}");
            }
        }
    }

    #[test]
    fn every_slot_is_known_and_every_known_one_is_used() {
        let mut used = std::collections::BTreeSet::new();
        for lesson in lessons() {
            for line in &lesson.formula {
                for slot in super::super::formula::slots(line) {
                    assert!(SLOTS.contains(&slot), "{}: unknown slot {{{slot}}}", lesson.key());
                    used.insert(slot.to_owned());
                }
            }
        }
        for slot in SLOTS {
            assert!(used.contains(*slot), "no lesson uses {{{slot}}}");
        }
    }

    #[test]
    fn every_check_ends_a_lesson() {
        for check in Check::ALL {
            assert_eq!(lessons().iter().filter(|l| l.check == check).count(), 1, "{check:?}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused_by_what_is_wrong() {
        let good = FILES[0].1;
        let refused = |text: &str| Lesson::parse("ptq-1.md", text).expect_err("refused").to_string();
        assert!(refused("nothing").contains("no front matter"));
        let unknown = refused(&good.replace("check = \"stubs\"", "check = \"stubbs\""));
        assert!(unknown.contains("ptq-1.md") && unknown.contains("stubbs"), "{unknown}");
        assert!(refused(&good.replace("## Task", "## Tusk")).contains("unknown heading `## Tusk`"));
        assert!(refused(good.split("## Task").next().expect("a part")).contains("`## Task`"));
        let moved = Lesson::parse("ptq-2.md", good).expect_err("refused").to_string();
        assert!(moved.contains("ptq-1.md"), "{moved}");
        assert!(refused(&good.replace("title", "titel")).contains("titel"));
    }
}
