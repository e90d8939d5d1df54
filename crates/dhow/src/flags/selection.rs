//! The filters of `prune`: `until=TIME`, `label=KEY[=VALUE]`, `label!=KEY[=VALUE]`.

use engine::{LabelFilter, Selection};

use crate::error::{Error, Result};
use crate::flags::filter::Filters;
use crate::flags::time::When;

/// Their keys; `label!=x` is the key `label!`.
pub(crate) const KEYS: [&str; 3] = ["until", "label", "label!"];

/// What they say.
pub(crate) fn of(filters: &Filters) -> Result<Selection> {
    let mut selection = Selection::default();
    for text in filters.values("until") {
        let When(time) = text
            .parse()
            .map_err(|e| Error::flag(format!("invalid value 'until={text}' for '--filter': {e}")))?;
        selection.until = Some(selection.until.map_or(time, |earlier| earlier.min(time)));
    }
    let label = |text: &str| -> LabelFilter {
        match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        }
    };
    selection.labels.extend(filters.values("label").map(label));
    selection.without_labels.extend(filters.values("label!").map(label));
    Ok(selection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(filters: &[&str]) -> Result<Selection> {
        let filters: Vec<String> = filters.iter().map(|&f| f.to_owned()).collect();
        of(&Filters::parse(&filters, &KEYS)?)
    }

    #[test]
    fn filters_become_a_selection() {
        let selected = selection(&["until=100.0", "until=50.0", "label=a", "label!=b=c"]).unwrap();
        assert_eq!(selected.until.map(|t| t.0), Some(50_000_000_000));
        assert_eq!(selected.labels, [("a".to_owned(), None)]);
        assert_eq!(selected.without_labels, [("b".to_owned(), Some("c".to_owned()))]);
        for bad in ["until=x", "name=x", "label"] {
            assert_eq!(selection(&[bad]).unwrap_err().exit_code(), 125, "{bad}");
        }
    }
}
