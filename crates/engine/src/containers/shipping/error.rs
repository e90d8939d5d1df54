//! Why the options of a log were refused.

use base::{Failure, Kind};
use state::options::LogDriver;

/// An option that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadOption {
    /// The driver has none of this name.
    #[error("the log driver {driver} has no option `{name}`", driver = driver.name())]
    Unknown {
        /// Which driver.
        driver: LogDriver,
        /// The option.
        name: String,
        /// Those that it has.
        known: Vec<&'static str>,
    },
    /// It has, but not with this value.
    #[error("the log option {name}={value} makes no sense: want {want}")]
    Value {
        /// The option.
        name: String,
        /// Its value.
        value: String,
        /// What would make sense.
        want: String,
    },
    /// Two that need each other, or exclude each other.
    #[error("the log option {0}")]
    Together(&'static str),
}

impl BadOption {
    pub(super) fn value(name: &str, value: &str, want: impl Into<String>) -> Self {
        Self::Value { name: name.to_owned(), value: value.to_owned(), want: want.into() }
    }
}

impl Failure for BadOption {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { known, .. } => vec![format!("it has {}", known.join(", "))],
            _ => Vec::new(),
        }
    }
}
