//! `--bandwidth-in 10mbit`: bytes per second.

use std::str::FromStr;

/// How much passes in a second, in bytes: `10mbit` counts bits, `5MB` bytes; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) u64);

/// Not a rate.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotARate {
    #[error(
        "want a number and a unit: kbit, mbit or gbit (bits per second), or kB, MB or GB (bytes per second)"
    )]
    Form,
    #[error("`{0}` is megabits to some and megabytes to others: say {1} or {2}")]
    Ambiguous(&'static str, &'static str, &'static str),
    #[error("the least is 8kbit (1kB) per second")]
    Little,
    #[error("the most is 1000gbit (125GB) per second")]
    Much,
}

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        /// Below, a packet would take longer than a connection waits.
        const LEAST: f64 = 1000.0;
        const MOST: f64 = 125e9;
        if text == "0" {
            return Ok(Self(0));
        }
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix("/s").unwrap_or(&lower);
        let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let (number, unit) = lower.split_at(digits);
        let bytes = match unit {
            "bit" => 1.0 / 8.0,
            "kbit" => 1e3 / 8.0,
            "mbit" => 1e6 / 8.0,
            "gbit" => 1e9 / 8.0,
            "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            "kbps" => return Err(NotARate::Ambiguous("kbps", "kbit", "kB")),
            "mbps" => return Err(NotARate::Ambiguous("mbps", "mbit", "MB")),
            "gbps" => return Err(NotARate::Ambiguous("gbps", "gbit", "GB")),
            _ => return Err(NotARate::Form),
        };
        let rate = number.parse::<f64>().map_err(|_| NotARate::Form)? * bytes;
        if rate < LEAST {
            return Err(if rate == 0.0 { NotARate::Form } else { NotARate::Little });
        }
        if rate > MOST { Err(NotARate::Much) } else { Ok(Self(rate as u64)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_bytes_are_told_apart() {
        for (text, bytes) in [
            ("10mbit", 1_250_000),
            ("1Gbit", 125_000_000),
            ("8kbit", 1000),
            ("1.5mbit/s", 187_500),
            ("5MB", 5_000_000),
            ("5mb/s", 5_000_000),
            ("1MiB", 1 << 20),
            ("1000gbit", 125_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(Rate(bytes)), "{text}");
        }
        for bad in
            ["", "10", "mbit", "10 mbit", "-1mbit", "1e3mbit", "1.2.3mbit", "10m", "0mbit", "10/s", "ß"]
        {
            assert_eq!(bad.parse::<Rate>(), Err(NotARate::Form), "{bad}");
        }
        assert_eq!("7kbit".parse::<Rate>(), Err(NotARate::Little));
        assert_eq!("2000gbit".parse::<Rate>(), Err(NotARate::Much));
        assert!(matches!("10mbps".parse::<Rate>(), Err(NotARate::Ambiguous(..))));
    }
}
