//! Names of hosts in rules: one name, or all below one.

use std::fmt;
use std::str::FromStr;

use super::rule::NotARule;

/// `example.org`, or `*.example.org`: every name below it, however deep, but not itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Names {
    below: bool,
    /// In lower case, without a dot at the end.
    name: String,
}

/// The longest name in text.
const LONGEST: usize = 253;
/// The longest label.
const LONGEST_LABEL: usize = 63;

/// A name as names are compared: in lower case, without the dot at its end. None where it is none that a rule can be about:
/// what is not letters, digits, hyphens and underscores is nobody's host.
pub fn normal(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let good = |label: &str| {
        !label.is_empty()
            && label.len() <= LONGEST_LABEL
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // What ends in digits is an address to whoever reads it (WHATWG URL, 3.5), and addresses have rules of their own.
    let numeric = |label: &str| {
        label.bytes().all(|b| b.is_ascii_digit()) || label.starts_with("0x") || label.starts_with("0X")
    };
    (name.len() <= LONGEST && name.split('.').all(good) && !name.rsplit('.').next().is_some_and(numeric))
        .then(|| name.to_ascii_lowercase())
}

impl Names {
    /// Whether it is about this name, which is [normal].
    pub fn matches(&self, name: &str) -> bool {
        if !self.below {
            return name == self.name;
        }
        name.strip_suffix(self.name.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }

    /// What both are about.
    pub fn and(&self, other: &Self) -> Option<Self> {
        if self == other || (other.below && self.is_below(other)) {
            return Some(self.clone());
        }
        (self.below && other.is_below(self)).then(|| other.clone())
    }

    /// Whether every name of it is one of that, which has a wildcard.
    fn is_below(&self, other: &Self) -> bool {
        other.matches(&self.name) || (self.below && self.name == other.name)
    }
}

impl FromStr for Names {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let (below, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        if !rest.is_ascii() {
            return Err(NotARule::Foreign(text.to_owned()));
        }
        let name = normal(rest).ok_or_else(|| NotARule::Name(text.to_owned()))?;
        Ok(Self { below, name })
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Names {
        text.parse().unwrap()
    }

    #[test]
    fn a_wildcard_is_about_what_is_below_and_nothing_that_only_looks_so() {
        let below = names("*.Example.org.");
        for (name, yes) in [
            ("a.example.org", true),
            ("a.b.example.org", true),
            ("example.org", false),
            ("notexample.org", false),
            (".example.org", false),
            ("example.org.evil", false),
            ("a.example.org.evil", false),
        ] {
            assert_eq!(below.matches(name), yes, "{name}");
        }
        assert!(
            names("example.org").matches("example.org") && !names("example.org").matches("a.example.org")
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            ".",
            "*",
            "*.",
            "a..b",
            "a b",
            "a/b",
            "*.*.a",
            "b*.a",
            "1.2.3.4",
            "0x7f.1",
            "a\0b",
            "münchen.de",
        ] {
            assert!(bad.parse::<Names>().is_err(), "{bad}");
        }
        assert_eq!(normal("EXAMPLE.org."), Some("example.org".to_owned()));
        assert_eq!(normal("example.org\0.evil"), None);
        assert_eq!(normal("example.org.."), None);
    }

    #[test]
    fn two_patterns_have_in_common_the_narrower_or_nothing() {
        let both = |a: &str, b: &str| {
            let (ab, ba) = (names(a).and(&names(b)), names(b).and(&names(a)));
            assert_eq!(ab, ba);
            ab.map(|names| names.to_string())
        };
        assert_eq!(both("a.b", "a.b").as_deref(), Some("a.b"));
        assert_eq!(both("x.a.b", "*.a.b").as_deref(), Some("x.a.b"));
        assert_eq!(both("*.x.a.b", "*.a.b").as_deref(), Some("*.x.a.b"));
        assert_eq!(both("*.a.b", "*.a.b").as_deref(), Some("*.a.b"));
        assert_eq!(both("a.b", "*.a.b"), None);
        assert_eq!(both("*.xa.b", "*.a.b"), None);
    }
}
