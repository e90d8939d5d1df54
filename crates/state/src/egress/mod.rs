//! Where containers may go: rules, and what those who enforce them tell each other.
//!
//! - [`rule`]: one rule; [`pattern`] and [`net`]: the names and the addresses in it.
//! - [`link`]: what monitors and the name server tell `dhow-egressd`.
//! - [`journal`]: what was refused, written down.
//! - [`learned`]: what a container needed that was watched.

pub mod journal;
pub mod learned;
pub mod link;
pub mod net;
pub mod pattern;
pub mod rule;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use rule::{NotARule, Rule};

/// The most rules that a container may have: each is looked at for every packet that begins something.
pub const MOST_RULES: usize = 1000;

/// Where somebody may go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<String>", try_from = "Vec<String>")]
pub enum Egress {
    /// Everywhere.
    #[default]
    Allow,
    /// Everywhere, and where that was is written down.
    Learn,
    /// Where one of these leads, and nowhere else.
    Only(Vec<Rule>),
}

/// Why limits make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLimits {
    /// A rule that is none.
    #[error(transparent)]
    Rule(#[from] NotARule),
    /// A word that says all, and something beside it.
    #[error("`{0}` stands alone: nothing can be added to it")]
    Alone(String),
    /// More rules than can be looked at.
    #[error("more than {MOST_RULES} rules")]
    TooMany,
    /// What must not be everything is to be learned.
    #[error("what is needed cannot be learned where the policy, or the network, allows a part only")]
    Learn,
}

impl Egress {
    /// Out of what a user wrote: `allow`, `learn`, `deny`, or rules (to which `deny` adds nothing). Nothing is `allow`.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Self, NotLimits> {
        let mut rules = BTreeSet::new();
        for word in words.iter().map(AsRef::as_ref) {
            match word {
                "allow" | "learn" if words.len() > 1 => return Err(NotLimits::Alone(word.to_owned())),
                "allow" => return Ok(Self::Allow),
                "learn" => return Ok(Self::Learn),
                "deny" => {}
                rule => drop(rules.insert(rule.parse::<Rule>()?)),
            }
        }
        if words.is_empty() { Ok(Self::Allow) } else { Self::only(rules) }
    }

    fn only(rules: BTreeSet<Rule>) -> Result<Self, NotLimits> {
        if rules.len() > MOST_RULES {
            return Err(NotLimits::TooMany);
        }
        Ok(Self::Only(rules.into_iter().collect()))
    }

    /// What both allow: whoever comes later can take away, and never add.
    pub fn and(&self, other: &Self) -> Result<Self, NotLimits> {
        match (self, other) {
            (Self::Allow, one) | (one, Self::Allow) => Ok(one.clone()),
            (Self::Learn, Self::Learn) => Ok(Self::Learn),
            (Self::Learn, Self::Only(_)) | (Self::Only(_), Self::Learn) => Err(NotLimits::Learn),
            (Self::Only(a), Self::Only(b)) => {
                Self::only(a.iter().flat_map(|rule| b.iter().flat_map(|other| rule.and(other))).collect())
            }
        }
    }

    /// Whether there is nothing to do.
    pub fn is_allow(&self) -> bool {
        *self == Self::Allow
    }

    /// Its rules.
    pub fn rules(&self) -> &[Rule] {
        if let Self::Only(rules) = self { rules } else { &[] }
    }

    /// Whether this name, which is [normal](pattern::normal), may be looked up.
    pub fn knows(&self, name: &str) -> bool {
        match self {
            Self::Allow | Self::Learn => true,
            Self::Only(rules) => rules.iter().filter_map(Rule::names).any(|names| names.matches(name)),
        }
    }

    /// As a user writes it.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Allow => Vec::new(),
            Self::Learn => vec!["learn".to_owned()],
            Self::Only(rules) if rules.is_empty() => vec!["deny".to_owned()],
            Self::Only(rules) => rules.iter().map(Rule::to_string).collect(),
        }
    }
}

impl From<Egress> for Vec<String> {
    fn from(egress: Egress) -> Self {
        egress.words()
    }
}

impl TryFrom<Vec<String>> for Egress {
    type Error = NotLimits;

    fn try_from(words: Vec<String>) -> Result<Self, NotLimits> {
        Self::parse(&words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(words: &[&str]) -> Egress {
        Egress::parse(words).unwrap()
    }

    #[test]
    fn words_become_limits_and_words_again() {
        assert_eq!(limits(&[]), Egress::Allow);
        assert_eq!(limits(&["allow"]), Egress::Allow);
        assert_eq!(limits(&["learn"]), Egress::Learn);
        assert_eq!(limits(&["deny"]), Egress::Only(Vec::new()));
        assert_eq!(limits(&["deny", "a.b", "a.b"]).words(), ["a.b"]);
        assert_eq!(Egress::parse(&["allow", "a.b"]), Err(NotLimits::Alone("allow".into())));
        for words in [&[][..], &["learn"], &["deny"], &["a.b", "10.0.0.0/8"]] {
            let text = serde_json::to_string(&limits(words)).unwrap();
            assert_eq!(serde_json::from_str::<Egress>(&text).unwrap(), limits(words));
        }
    }

    #[test]
    fn whoever_comes_later_can_take_away_and_never_add() {
        let both = |a: &[&str], b: &[&str]| limits(a).and(&limits(b)).map(|both| both.words().join(" "));
        assert_eq!(both(&["allow"], &["a.b"]), Ok("a.b".into()));
        assert_eq!(both(&["a.b"], &["allow"]), Ok("a.b".into()));
        assert_eq!(
            both(&["*.b", "10.0.0.0/8"], &["a.b", "c.d", "10.1.0.0/16"]),
            Ok("a.b 10.1.0.0/16".into())
        );
        assert_eq!(both(&["deny"], &["a.b"]), Ok("deny".into()));
        assert_eq!(both(&["a.b"], &["learn"]), Err(NotLimits::Learn));
    }

    #[test]
    fn names_of_rules_are_known_and_no_others() {
        let limits = limits(&["a.b:22", "*.c.d", "10.0.0.0/8"]);
        assert!(limits.knows("a.b") && limits.knows("x.c.d"));
        assert!(!limits.knows("c.d") && !limits.knows("x.a.b"));
        assert!(Egress::Learn.knows("x") && !Egress::Only(Vec::new()).knows("a.b"));
    }
}
