//! `-m 64m`: bytes.

use std::str::FromStr;

/// A number of bytes: `64m`, `1.5g`, `4096`, `2kb`, `1GiB`; all units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// Not a size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("want a size: a number and b, k, m, g or t, such as 64m or 1.5g")]
pub(crate) struct NotASize;

impl FromStr for Bytes {
    type Err = NotASize;
    fn from_str(text: &str) -> Result<Self, NotASize> {
        let lower = text.to_ascii_lowercase();
        let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let (number, unit) = lower.split_at(digits);
        let shift = match unit.trim_start() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(NotASize),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole
                .checked_mul(1 << shift)
                .filter(|b| i64::try_from(*b).is_ok())
                .map(Self)
                .ok_or(NotASize);
        }
        let value = number.parse::<f64>().map_err(|_| NotASize)? * (1u64 << shift) as f64;
        // 2^63 is exact as a float; cgroups take no more.
        if value < (1u64 << 63) as f64 { Ok(Self(value as u64)) } else { Err(NotASize) }
    }
}

/// Bytes, or -1 for as many as there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BytesOrAll(pub(crate) i64);

/// Neither.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("want a size, such as 64m or 1.5g, or -1 for no limit")]
pub(crate) struct NotASizeOrAll;

impl FromStr for BytesOrAll {
    type Err = NotASizeOrAll;
    fn from_str(text: &str) -> Result<Self, NotASizeOrAll> {
        if text == "-1" {
            return Ok(Self(-1));
        }
        let Bytes(bytes) = text.parse().map_err(|_| NotASizeOrAll)?;
        i64::try_from(bytes).map(Self).map_err(|_| NotASizeOrAll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        let good = [
            ("64m", 64 << 20),
            ("1.5g", 3 << 29),
            (".5k", 512),
            ("10", 10),
            ("10b", 10),
            ("2KB", 2048),
            ("2 kb", 2048),
            ("1GiB", 1 << 30),
            ("1T", 1 << 40),
            ("0", 0),
        ];
        for (text, bytes) in good {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for bad in [
            "",
            "m",
            "-1",
            "+1",
            "1x",
            "1e3",
            "1.2.3",
            ".",
            "99999999999999999999g",
            "9223372036854775808",
            "1 m m",
        ] {
            assert_eq!(bad.parse::<Bytes>(), Err(NotASize), "{bad}");
        }
    }

    #[test]
    fn minus_one_is_all() {
        assert_eq!("-1".parse(), Ok(BytesOrAll(-1)));
        assert_eq!("1g".parse(), Ok(BytesOrAll(1 << 30)));
        for bad in ["-2", "-1m", "x", ""] {
            assert_eq!(bad.parse::<BytesOrAll>(), Err(NotASizeOrAll), "{bad}");
        }
    }
}
