//! Whole numbers whose meaning the engine checks.

use std::str::FromStr;

/// 0 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u64);

/// Any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed(pub(crate) i64);

/// `--memory-swappiness`: none is as the machine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Swappiness(pub(crate) Option<u64>);

/// Not such a number.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotANumber {
    /// Of the first kind.
    #[error("want a whole number, 0 or more")]
    Number,
    /// Of the second.
    #[error("want a whole number")]
    Signed,
    /// Not in its range.
    #[error("want a percentage: 0 to 100, or -1 for what the machine has")]
    Swappiness,
}

impl Number {
    /// Docker's 0: not said.
    pub(crate) fn said(self) -> Option<u64> {
        (self.0 != 0).then_some(self.0)
    }
}

impl FromStr for Number {
    type Err = NotANumber;
    fn from_str(text: &str) -> Result<Self, NotANumber> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        // Beyond 2^63 is nothing that any file of the kernel takes.
        let number = text.parse::<i64>().ok().filter(|_| digits);
        number.and_then(|n| u64::try_from(n).ok()).map(Self).ok_or(NotANumber::Number)
    }
}

impl FromStr for Signed {
    type Err = NotANumber;
    fn from_str(text: &str) -> Result<Self, NotANumber> {
        text.parse().map(Self).map_err(|_| NotANumber::Signed)
    }
}

impl FromStr for Swappiness {
    type Err = NotANumber;
    fn from_str(text: &str) -> Result<Self, NotANumber> {
        match text.parse::<i64>() {
            Ok(-1) => Ok(Self(None)),
            Ok(percent @ 0..=100) => Ok(Self(u64::try_from(percent).ok())),
            _ => Err(NotANumber::Swappiness),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_what_is_none() {
        assert_eq!("1024".parse(), Ok(Number(1024)));
        for bad in ["", "-1", "+1", "1.5", "1k", "0x10", "9223372036854775808"] {
            assert_eq!(bad.parse::<Number>(), Err(NotANumber::Number), "{bad}");
        }
        assert_eq!("-1".parse(), Ok(Signed(-1)));
        assert_eq!("x".parse::<Signed>(), Err(NotANumber::Signed));
        assert_eq!("-1".parse(), Ok(Swappiness(None)));
        assert_eq!("0".parse(), Ok(Swappiness(Some(0))));
        for bad in ["-2", "101", "", "50%"] {
            assert_eq!(bad.parse::<Swappiness>(), Err(NotANumber::Swappiness), "{bad}");
        }
    }
}
