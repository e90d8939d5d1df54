//! Capabilities: names, bits, Docker's default set, and the algebra of `--cap-add` and `--cap-drop`.

use base::{Failure, Kind};

/// A set of capabilities, one bit each, as the kernel numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Set(u64);

impl Set {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// The set with exactly these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What the specification calls them: `CAP_CHOWN`, …, in the kernel's order.
    pub fn names(self) -> Vec<String> {
        todo!()
    }

    /// The set with these names, with or without `CAP_`, in any case.
    pub fn from_names<S: AsRef<str>>(_names: &[S]) -> Result<Self, Error> {
        todo!()
    }

    /// True where every capability of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Docker's default set of 14.
    pub fn default_set() -> Self {
        todo!()
    }

    /// All that the running kernel knows.
    pub fn all() -> Self {
        todo!()
    }

    /// What `--cap-add` and `--cap-drop` make of the default set.
    pub fn chosen(_add: &[String], _drop: &[String]) -> Result<Self, Error> {
        todo!()
    }
}

/// A name that is no capability.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such capability.
    #[error("there is no capability {name:?}")]
    Unknown {
        /// As it was written.
        name: String,
        /// Similar names.
        near: Vec<&'static str>,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}
