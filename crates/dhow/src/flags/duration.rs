//! Go's durations: `300ms`, `1.5h`, `2h45m10s`.

use std::str::FromStr;

/// A length of time, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nanoseconds(pub(crate) u64);

/// Not a length of time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("want a duration, such as 500ms, 30s or 1m30s")]
pub(crate) struct NotADuration;

impl FromStr for Nanoseconds {
    type Err = NotADuration;
    fn from_str(text: &str) -> Result<Self, NotADuration> {
        // Go's zero needs no unit.
        if text == "0" {
            return Ok(Self(0));
        }
        nanoseconds(text).and_then(|nanos| u64::try_from(nanos).ok()).map(Self).ok_or(NotADuration)
    }
}

/// Go's durations in nanoseconds: `300ms`, `1.5h`, `2h45m10s`.
pub(crate) fn nanoseconds(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit =
            rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |u| number + u);
        let scale = match &rest[number..unit] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += rest[..number].parse::<f64>().ok()? * scale;
        rest = &rest[unit..];
    }
    // 2^63 nanoseconds are 292 years.
    (!text.is_empty() && total < 9.2e18).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [("0", 0), ("0s", 0), ("500ms", 500_000_000), ("1m30s", 90_000_000_000)] {
            assert_eq!(text.parse(), Ok(Nanoseconds(nanos)), "{text}");
        }
        for bad in ["", "1", "s", "-1s", "1 s", "1w"] {
            assert_eq!(bad.parse::<Nanoseconds>(), Err(NotADuration), "{bad}");
        }
    }
}
