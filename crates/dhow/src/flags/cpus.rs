//! `--cpus 1.5`: a share of processors.

use std::str::FromStr;

/// Billionths of one processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NanoCpus(pub(crate) u64);

/// Not a number of processors.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotCpus {
    /// Not a number at all.
    #[error("want a number of processors, such as 0.5 or 2")]
    Number,
    /// Below a billionth.
    #[error("want at most nine digits behind the point")]
    Precision,
}

impl FromStr for NanoCpus {
    type Err = NotCpus;
    fn from_str(text: &str) -> Result<Self, NotCpus> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
            return Err(NotCpus::Number);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 9 {
            return Err(NotCpus::Precision);
        }
        let number = |part: &str| if part.is_empty() { Ok(0) } else { part.parse::<u64>() };
        let nanos = number(fraction).map_err(|_| NotCpus::Number)? * 10u64.pow(9 - fraction.len() as u32);
        let whole = number(whole).ok().and_then(|w| w.checked_mul(1_000_000_000));
        whole.and_then(|w| w.checked_add(nanos)).map(Self).ok_or(NotCpus::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_decimal() {
        let good = [
            ("1.5", 1_500_000_000),
            (".5", 500_000_000),
            ("2", 2_000_000_000),
            ("2.", 2_000_000_000),
            ("0.0000000010", 1),
            ("0", 0),
        ];
        for (text, nanos) in good {
            assert_eq!(text.parse(), Ok(NanoCpus(nanos)), "{text}");
        }
        for bad in ["", ".", "x", "-1", "1e3", "1,5", "99999999999999"] {
            assert_eq!(bad.parse::<NanoCpus>(), Err(NotCpus::Number), "{bad}");
        }
        assert_eq!("0.0000000001".parse::<NanoCpus>(), Err(NotCpus::Precision));
    }
}
