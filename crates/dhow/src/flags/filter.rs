//! `--filter key=value`: values of one key are alternatives, different keys must all hold; every label must.

use std::cell::OnceCell;

use regex::Regex;

use crate::error::{Error, Result};

/// The filters of a listing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(Vec<Filter>);

#[derive(Debug, Clone)]
struct Filter {
    key: String,
    value: String,
    /// The value as a regular expression, made when it is first asked for; none where it is not one.
    pattern: OnceCell<Option<Regex>>,
}

impl Filters {
    /// Takes the filters apart; only these keys are known.
    pub(crate) fn parse(texts: &[String], known: &[&str]) -> Result<Self> {
        let mut all = Vec::new();
        for text in texts {
            let pair = text.split_once('=').filter(|(key, _)| known.contains(key));
            let (key, value) = pair.ok_or_else(|| {
                Error::flag(format!(
                    "invalid value '{text}' for '--filter': want KEY=VALUE with one of the keys {}",
                    known.join(", ")
                ))
            })?;
            all.push(Filter { key: key.to_owned(), value: value.to_owned(), pattern: OnceCell::new() });
        }
        Ok(Self(all))
    }

    /// The values of one key.
    pub(crate) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.of(key).map(|filter| filter.value.as_str())
    }

    /// True where the key is not filtered by, or any of its values matches.
    pub(crate) fn any(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        let mut values = self.values(key).peekable();
        values.peek().is_none() || values.any(matches)
    }

    /// True where the key is not filtered by, or one of the texts is a value or matches it as a regular
    /// expression. As in Docker, a value that is no expression matches only itself.
    pub(crate) fn matches(&self, key: &str, texts: &[&str]) -> bool {
        let mut filters = self.of(key).peekable();
        filters.peek().is_none()
            || filters.any(|filter| {
                let pattern = filter.pattern.get_or_init(|| Regex::new(&filter.value).ok());
                texts.iter().any(|text| {
                    filter.value == *text || pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
                })
            })
    }

    fn of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Filter> {
        self.0.iter().filter(move |filter| filter.key == key)
    }

    /// True where every `label=…` is there.
    pub(crate) fn labels(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        self.values("label").all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(wanted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_within_a_key_and_all_labels() {
        let texts = ["name=a", "name=b", "label=x", "label=y=1"].map(str::to_owned);
        let filters = Filters::parse(&texts, &["name", "label", "id"]).unwrap();
        assert!(
            filters.any("name", |v| v == "b")
                && !filters.any("name", |v| v == "c")
                && filters.any("id", |_| false)
        );
        let labels =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert!(filters.labels(&labels(&[("x", ""), ("y", "1")])));
        assert!(!filters.labels(&labels(&[("x", ""), ("y", "2")])));
        assert!(Filters::parse(&["bla=1".to_owned()], &["name"]).unwrap_err().to_string().contains("name"));
    }

    #[test]
    fn names_are_regular_expressions() {
        let matches = |value: &str, texts: &[&str]| {
            Filters::parse(&[format!("name={value}")], &["name"]).unwrap().matches("name", texts)
        };
        for value in ["r1", "^r1$", "^/r1$", "r.", "1", "r1|r2", ""] {
            assert!(matches(value, &["r1", "/r1"]), "{value}");
        }
        for value in ["^r$", "r.1", "[", "R1"] {
            assert!(!matches(value, &["r1", "/r1"]), "{value}");
        }
        assert!(matches("a[", &["a["]) && Filters::default().matches("name", &["x"]));
    }
}
