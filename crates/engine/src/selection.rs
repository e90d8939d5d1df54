//! Which of many: what `prune`'s filters say, whatever they are.

use std::collections::BTreeMap;

use base::Timestamp;

/// A label, and its value where that matters.
pub type LabelFilter = (String, Option<String>);

/// Those that are meant. The default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only what was made before.
    pub until: Option<Timestamp>,
    /// Only those with all these labels.
    pub labels: Vec<LabelFilter>,
    /// Only those with none of these.
    pub without_labels: Vec<LabelFilter>,
}

impl Selection {
    /// Whether one is meant that was made then and has these labels.
    pub(crate) fn wants(&self, created: Timestamp, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, value): &LabelFilter| {
            labels.get(key).is_some_and(|found| value.as_ref().is_none_or(|wanted| wanted == found))
        };
        self.until.is_none_or(|until| created < until)
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_said_must_hold() {
        let label = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        let labels = BTreeMap::from([("tier".to_owned(), "front".to_owned())]);
        let wants = |selection: &Selection| selection.wants(Timestamp(5), &labels);
        assert!(wants(&Selection::default()));
        for (until, expected) in [(6, true), (5, false)] {
            assert_eq!(wants(&Selection { until: Some(Timestamp(until)), ..Selection::default() }), expected);
        }
        for (filter, expected) in [
            (label("tier", None), true),
            (label("tier", Some("front")), true),
            (label("tier", Some("back")), false),
        ] {
            assert_eq!(wants(&Selection { labels: vec![filter.clone()], ..Selection::default() }), expected);
            assert_eq!(wants(&Selection { without_labels: vec![filter], ..Selection::default() }), !expected);
        }
    }
}
