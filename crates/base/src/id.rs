//! Container ids: 64 hexadecimal digits of randomness, as Docker's, so that tools which match them work.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::hex;

/// The id of a container.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// Why a text is not an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a container id: want 64 lower-case hexadecimal digits")]
pub struct ParseIdError(String);

impl Id {
    /// A new random id.
    ///
    /// # Errors
    /// Only if the kernel gives no randomness.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        // The system call itself: a library that looks for libc's wrapper finds none in a static program, and opens
        // /dev/random instead. So few bytes never come in part once the kernel's pool is seeded.
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        if filled != bytes.len() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self(hex(&bytes)))
    }

    /// The id that belongs to a text, the same for ever.
    pub fn of(text: &str) -> Self {
        Self(crate::Digest::of(text.as_bytes()).hex())
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, as tables and host names show it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl FromStr for Id {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let good = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(text.to_owned())) } else { Err(ParseIdError(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for Id {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_hex_digits_and_nothing_else() {
        let id = Id::random().unwrap();
        assert_eq!(id.as_str().parse::<Id>().unwrap(), id);
        assert_eq!(id.short().len(), 12);
        for bad in ["", "abc", &"g".repeat(64), &"A".repeat(64), "../x"] {
            assert!(bad.parse::<Id>().is_err());
        }
    }
}
