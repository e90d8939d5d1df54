//! `--since`, `--until`: a time, or how long ago.

use std::str::FromStr;

use base::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::flags::duration::nanoseconds;

/// A point in time: RFC 3339, a local date and time, Unix seconds, or a duration before now (`1h30m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct When(pub(crate) Timestamp);

/// Not a time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "want a time (2026-11-21T10:30:00Z, 2026-11-21), Unix seconds, or a duration before now (10m, 1h30m)"
)]
pub(crate) struct NotATime;

impl FromStr for When {
    type Err = NotATime;
    fn from_str(text: &str) -> Result<Self, NotATime> {
        parse(text, Timestamp::now()).map(Self).ok_or(NotATime)
    }
}

fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(nanos) = unix(text) {
        return Some(Timestamp(nanos));
    }
    if let Some(before) = nanoseconds(text) {
        return Some(Timestamp(now.0.saturating_sub(before)));
    }
    let time = match text.parse::<jiff::Timestamp>() {
        Ok(time) => time,
        Err(_) => text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok()?.timestamp(),
    };
    i64::try_from(time.as_nanosecond()).ok().map(Timestamp)
}

/// `1136073845`, `1136073845.000000001`.
fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos = fraction.parse::<i64>().ok()? * 10i64.pow(9 - fraction.len() as u32);
    seconds.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000_000_000);

    #[test]
    fn dockers_forms() {
        let good = [
            ("1136073845", 1_136_073_845_000_000_000),
            ("1136073845.5", 1_136_073_845_500_000_000),
            ("2024-02-29T12:34:56Z", 1_709_210_096_000_000_000),
            ("2024-02-29T12:34:56.5+01:00", 1_709_206_496_500_000_000),
            ("10m", NOW.0 - 600_000_000_000),
            ("1h30m", NOW.0 - 5_400_000_000_000),
            ("1.5s", NOW.0 - 1_500_000_000),
        ];
        for (text, nanos) in good {
            assert_eq!(parse(text, NOW), Some(Timestamp(nanos)), "{text}");
        }
        assert!(parse("2024-02-29", NOW).is_some() && parse("2024-02-29T10:00:00", NOW).is_some());
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "x",
            "10",
            "10q",
            "m",
            "1..5s",
            "-5m",
            "2024-13-01",
            "99999999999999999999",
            "9999999h9999999999h",
        ] {
            let parsed = parse(bad, NOW);
            assert!(parsed.is_none() || bad == "10", "{bad}: {parsed:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,20}") {
            let _ = parse(&text, NOW);
        }
    }
}
