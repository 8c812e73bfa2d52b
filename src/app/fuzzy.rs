//! How well what is typed fits a name.

/// A letter that fits.
const LETTER: i32 = 4;
/// More where it begins a word.
const WORD: i32 = 8;
/// More where it follows the letter before it.
const RUN: i32 = 6;
/// Less for each letter of the name: of two that fit alike the shorter comes first.
const LENGTH: i32 = 1;

/// Whether every word of `query` occurs in `text` letter by letter in order, and how well: more is better. Letters that
/// begin a word or follow each other count more. Nothing typed fits everything.
pub fn fit(query: &str, text: &str) -> Option<i32> {
    let text: Vec<char> = text.chars().collect();
    let lower: Vec<char> = text.iter().map(|c| c.to_lowercase().next().unwrap_or(*c)).collect();
    let words: Option<Vec<i32>> =
        query.to_lowercase().split_whitespace().map(|word| word_fit(word, &text, &lower)).collect();
    words.map(|words| words.into_iter().sum::<i32>() * 16 - LENGTH * text.len() as i32)
}

/// The best way to find the letters of `word`, by dynamic programming: `best[j]` with its last letter at `j`.
fn word_fit(word: &str, text: &[char], lower: &[char]) -> Option<i32> {
    let mut best: Vec<Option<i32>> = Vec::new();
    for (i, letter) in word.chars().enumerate() {
        let mut next = vec![None; lower.len()];
        let mut before: Option<i32> = None;
        for (j, c) in lower.iter().enumerate() {
            let run = if i > 0 && j > 0 { best[j - 1].map(|b| b + RUN) } else { None };
            // `before` is the best end of the letters so far that lies left of `j`.
            let from = if i == 0 { Some(0) } else { before.max(run) };
            if *c == letter {
                next[j] = from.map(|f| f + LETTER + if begins(text, j) { WORD } else { 0 });
            }
            if i > 0 {
                before = before.max(best[j]);
            }
        }
        best = next;
    }
    best.into_iter().flatten().max()
}

fn begins(text: &[char], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|i| text[i]) else { return true };
    !before.is_alphanumeric()
        || (before.is_lowercase() && text[at].is_uppercase())
        || (before.is_alphabetic() && text[at].is_numeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first<'a>(query: &str, among: &[&'a str]) -> Option<&'a str> {
        among.iter().copied().filter_map(|t| Some((fit(query, t)?, t))).max_by_key(|(s, _)| *s).map(|(_, t)| t)
    }

    #[test]
    fn letters_in_order_fit_and_no_others() {
        assert!(fit("fc", "Fuse again").is_none());
        assert!(fit("l1c", "layer1.0.conv1").is_some());
        assert!(fit("1l", "layer1").is_none());
        assert!(fit("", "anything").is_some() && fit("a", "").is_none());
        assert!(fit("all run", "Run all").is_some(), "words in any order");
    }

    #[test]
    fn what_is_meant_comes_first() {
        let nodes = ["layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer4.1.conv2", "conv1"];
        assert_eq!(first("conv1", &nodes), Some("conv1"));
        assert_eq!(first("l1.0.c2", &nodes), Some("layer1.0.conv2"));
        assert_eq!(first("l41c", &nodes), Some("layer4.1.conv2"));
        assert_eq!(first("ra", &["Search layers", "Run all", "Repair"]), Some("Run all"));
        assert_eq!(first("cal", &["Cancel", "Calibrate", "Chart as table"]), Some("Calibrate"));
    }
}
