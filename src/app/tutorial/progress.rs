//! What is kept of a tutorial from one start to the next: which lessons were done, what was guessed, where it was left.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Entries of a kind that are kept; more is not ours.
const MOST: usize = 200;

/// What was done and guessed so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Lessons that were done once, by their keys.
    pub done: BTreeSet<String>,
    /// Guesses, by lesson and measure: "ptq-6 shrink".
    pub guesses: BTreeMap<String, String>,
    /// What was measured on the way through a finale.
    pub figures: BTreeMap<String, f64>,
    /// The lesson that was open last.
    pub at: Option<String>,
}

impl Progress {
    /// From what was kept; what is no good is left out.
    pub fn of(value: Option<&Value>) -> Self {
        let part = |key: &str| value.and_then(|v| v.get(key));
        let done = part("done").and_then(Value::as_array).into_iter().flatten();
        let guesses = part("guesses").and_then(Value::as_object).into_iter().flatten();
        let figures = part("figures").and_then(Value::as_object).into_iter().flatten();
        Self {
            done: done.filter_map(|v| v.as_str().map(str::to_owned)).take(MOST).collect(),
            guesses: guesses.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).take(MOST).collect(),
            figures: figures.filter_map(|(k, v)| Some((k.clone(), v.as_f64()?))).take(MOST).collect(),
            at: part("at").and_then(Value::as_str).map(str::to_owned),
        }
    }

    /// As it is kept.
    pub fn value(&self) -> Value {
        json!({ "done": self.done, "guesses": self.guesses, "figures": self.figures, "at": self.at })
    }

    /// Whether there is anything to resume.
    pub fn is_begun(&self) -> bool {
        *self != Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_from_nonsense_as_nothing() {
        let progress = Progress {
            done: ["ptq-1".to_owned()].into(),
            guesses: [("ptq-6 shrink".to_owned(), "3.5".to_owned())].into(),
            figures: [("break accuracy".to_owned(), 0.25)].into(),
            at: Some("ptq-2".to_owned()),
        };
        assert_eq!(Progress::of(Some(&progress.value())), progress);
        for text in ["3", "{\"done\": 3, \"guesses\": [1], \"at\": {}}", "null"] {
            let value: Value = serde_json::from_str(text).expect("JSON");
            assert!(!Progress::of(Some(&value)).is_begun(), "{text}");
        }
        assert!(!Progress::of(None).is_begun());
    }
}
