//! `--label key=value` and `--label-file`.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::error::{Error, Result as Outcome};
use crate::flags::file;

/// A label; without `=` its value is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) String, pub(crate) String);

/// Not a label.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("want KEY or KEY=VALUE")]
pub(crate) struct NotALabel;

impl FromStr for Label {
    type Err = NotALabel;
    fn from_str(text: &str) -> Result<Self, NotALabel> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.trim().is_empty() { Err(NotALabel) } else { Ok(Self(key.to_owned(), value.to_owned())) }
    }
}

/// The labels of files: one a line; `#` begins a comment line. Of two of a name the later counts.
pub(crate) fn read_files(paths: &[String]) -> Outcome<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for path in paths {
        let content = file::read(path)?;
        parse_file(path, &content, &mut all)?;
    }
    Ok(all)
}

fn parse_file(path: &str, content: &[u8], all: &mut BTreeMap<String, String>) -> Outcome<()> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let text = std::str::from_utf8(content)
        .map_err(|_| Error::flag(format!("the label file {path} is not UTF-8")))?;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| {
            Error::flag(format!("invalid value `{line}` for line {} of {path}: {what}", number + 1))
        };
        let Label(key, value) = line.parse().map_err(|e: NotALabel| wrong(&e.to_string()))?;
        if key.contains(char::is_whitespace) {
            return Err(wrong("the key contains white space"));
        }
        all.insert(key, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_a_label_a_line() {
        let parse = |text: &[u8]| {
            let mut all = BTreeMap::new();
            parse_file("f", text, &mut all).map(|()| all)
        };
        let all = parse(b"# comment\n\n  a=1\nb\na=2=3\n").unwrap();
        assert_eq!(all, [("a", "2=3"), ("b", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(parse(b"a=1\n=x\n").unwrap_err().to_string().contains("line 2 of f"));
        assert!(parse(b"a b=1").unwrap_err().to_string().contains("white space"));
        assert!(parse(b"\xff=1").is_err());
        assert_eq!(read_files(&["/nope/labels".to_owned()]).unwrap_err().exit_code(), 125);
    }

    #[test]
    fn values_may_hold_equals_signs_and_be_empty() {
        assert_eq!("a=b=c".parse(), Ok(Label("a".into(), "b=c".into())));
        assert_eq!("a".parse(), Ok(Label("a".into(), String::new())));
        assert_eq!("=b".parse::<Label>(), Err(NotALabel));
    }
}
