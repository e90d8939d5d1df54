//! `--label key=value`.

use std::str::FromStr;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_equals_signs_and_be_empty() {
        assert_eq!("a=b=c".parse(), Ok(Label("a".into(), "b=c".into())));
        assert_eq!("a".parse(), Ok(Label("a".into(), String::new())));
        assert_eq!("=b".parse::<Label>(), Err(NotALabel));
    }
}
