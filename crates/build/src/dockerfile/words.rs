//! How an instruction's text is cut: at blanks, in quotes, as JSON.

use super::Word;
use crate::error::{Checked, Fault, Text};

/// What is between blanks, with their places.
pub(super) fn blanks(text: &Text, from: usize) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut start = None;
    let rest = text.get(from..text.text.len());
    for (at, c) in rest.char_indices().chain([(rest.len(), ' ')]) {
        match (c.is_whitespace(), start) {
            (false, None) => start = Some(at),
            (true, Some(begin)) => {
                words.push(Word { text: rest[begin..at].to_owned(), at: from + begin..from + at });
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// Words whose quotes and escapes stay: a blank in quotes, or escaped, is part of one.
pub(super) fn quoted(text: &Text, from: usize, escape: char) -> Vec<Word> {
    let rest = text.get(from..text.text.len());
    let mut words = Vec::new();
    let (mut word, mut start, mut quote) = (String::new(), None, None);
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if let Some(begin) = start.take() {
                words.push(Word { text: std::mem::take(&mut word), at: from + begin..from + at });
            }
            continue;
        }
        start.get_or_insert(at);
        if c == escape && quote != Some('\'') {
            // At the very end there is nothing that it could escape.
            if let Some((_, next)) = chars.next() {
                word.extend([c, next]);
            }
            continue;
        }
        match quote {
            Some(open) if open == c => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            _ => {}
        }
        word.push(c);
    }
    if let Some(begin) = start.filter(|_| !word.is_empty()) {
        words.push(Word { text: word, at: from + begin..from + rest.trim_end().len() });
    }
    words
}

/// The words of `["a", "b"]`; `None`, if the text is no JSON array, and so for a shell.
pub(super) fn json(text: &Text, from: usize) -> Checked<Option<Vec<Word>>> {
    let rest = text.get(from..text.text.len()).trim();
    if !rest.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest) else { return Ok(None) };
    let mut words = Vec::new();
    for value in values {
        let serde_json::Value::String(word) = value else {
            let message = "in the JSON form all words have to be strings";
            return Err(Fault::new(text.place(from..from + rest.len()), message)
                .help("write [\"program\", \"argument\"], with double quotes"));
        };
        words.push(Word { text: word, at: from..from + rest.len() });
    }
    Ok(Some(words))
}
