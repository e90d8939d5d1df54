//! Which entries are shown, and what of them.

use base::{Failure, Kind};
use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;

use super::join::line;
use super::{JsonField, LogSearch};

/// What a compiled expression may take. Its matching takes time in proportion to the text, whatever it is.
const LARGEST: usize = 4 << 20;

/// What is asked of an entry.
#[derive(Debug)]
pub(super) struct Selection {
    grep: Option<Regex>,
    invert: bool,
    wanted: Vec<(String, String)>,
    shown: Vec<String>,
}

/// An expression that none can be made of.
#[derive(Debug, thiserror::Error)]
#[error("{option} is no regular expression: {reason}")]
pub(super) struct BadExpression {
    option: &'static str,
    reason: String,
}

impl Failure for BadExpression {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Compiles an expression.
pub(super) fn expression(option: &'static str, text: &str) -> Result<Regex, BadExpression> {
    RegexBuilder::new(text)
        .size_limit(LARGEST)
        .multi_line(true)
        .build()
        .map_err(|error| BadExpression { option, reason: in_one_line(&error) })
}

/// Without the drawing that shows where.
fn in_one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl Selection {
    pub(super) fn new(search: &LogSearch) -> Result<Self, BadExpression> {
        let (mut wanted, mut shown) = (Vec::new(), Vec::new());
        for JsonField { name, value } in search.json_fields.iter().cloned() {
            match value {
                Some(value) => wanted.push((name, value)),
                None => shown.push(name),
            }
        }
        let grep = search.grep.as_deref().map(|text| expression("--grep", text)).transpose()?;
        Ok(Self { grep, invert: search.invert, wanted, shown })
    }

    /// What is shown of an entry; none where it is left out.
    pub(super) fn apply(&self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let text = line(&bytes);
        if self.grep.as_ref().is_some_and(|grep| grep.is_match(text) == self.invert) {
            return None;
        }
        if self.wanted.is_empty() && self.shown.is_empty() {
            return Some(bytes);
        }
        let json: Value = serde_json::from_slice(text).ok().filter(Value::is_object)?;
        let fits = |(name, value): &(String, String)| field(&json, name).is_some_and(|f| words(f) == *value);
        if !self.wanted.iter().all(fits) {
            return None;
        }
        if self.shown.is_empty() {
            return Some(bytes);
        }
        let found: Vec<_> = self.shown.iter().map(|name| field(&json, name).map(words)).collect();
        if found.iter().all(Option::is_none) {
            return None;
        }
        let mut text = found.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join("\t");
        text.push('\n');
        Some(text.into_bytes())
    }
}

/// The field of this name; else the one that a path of this name leads to.
fn field<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    json.get(name).or_else(|| {
        name.split('.').try_fold(json, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            value => value.get(part),
        })
    })
}

/// Texts as they are, anything else as JSON.
fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(search: LogSearch, text: &str) -> Option<String> {
        let shown = Selection::new(&search).unwrap().apply(text.as_bytes().to_vec());
        shown.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn fields(fields: &[&str]) -> LogSearch {
        let json_fields = fields.iter().map(|text| match text.split_once('=') {
            Some((name, value)) => JsonField { name: name.into(), value: Some(value.into()) },
            None => JsonField { name: (*text).into(), value: None },
        });
        LogSearch { json_fields: json_fields.collect(), ..LogSearch::default() }
    }

    #[test]
    fn expressions_choose_lines() {
        let grep = |text: &str| LogSearch { grep: Some(text.into()), ..LogSearch::default() };
        assert_eq!(apply(grep("^b.d$"), "bad\n").unwrap(), "bad\n");
        assert_eq!(apply(grep("(?i)BAD"), "so bad\r\n").unwrap(), "so bad\r\n");
        assert_eq!(apply(grep("x"), "bad\n"), None);
        assert_eq!(apply(grep("^  at b$"), "one\n  at b\n  at c\n").unwrap(), "one\n  at b\n  at c\n");
        assert_eq!(apply(LogSearch { invert: true, ..grep("bad") }, "bad\n"), None);
        assert!(Selection::new(&grep("(")).is_err());
        // Nothing grows without bound.
        assert!(Selection::new(&grep(r"((\w{1000}){1000}){1000}")).is_err());
    }

    #[test]
    fn fields_choose_lines_and_what_is_shown() {
        let text = r#"{"level":"error","n":7,"a":{"b":[{"c":"deep"}]},"x.y":null}"#;
        assert_eq!(apply(fields(&["level"]), text).unwrap(), "error\n");
        assert_eq!(apply(fields(&["n", "nosuch", "a.b.0.c"]), text).unwrap(), "7\t\tdeep\n");
        assert_eq!(apply(fields(&["a"]), text).unwrap(), "{\"b\":[{\"c\":\"deep\"}]}\n");
        assert_eq!(apply(fields(&["x.y"]), text).unwrap(), "null\n");
        assert_eq!(apply(fields(&["nosuch"]), text), None);
        assert_eq!(apply(fields(&["level=error", "n=7"]), text).unwrap(), text);
        assert_eq!(apply(fields(&["level=error", "n"]), text).unwrap(), "7\n");
        assert_eq!(apply(fields(&["level=err"]), text), None);
        for no_object in ["plain\n", "[1]\n", "\"level\"\n", "{\"level\"\n"] {
            assert_eq!(apply(fields(&["level"]), no_object), None);
        }
    }
}
