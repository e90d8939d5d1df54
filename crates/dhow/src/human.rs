//! Sizes and durations as Docker words them (docker/go-units).

use std::time::Duration;

use base::Timestamp;
use jiff::tz::TimeZone;

/// `About a minute`, `3 seconds`, `2 weeks`.
pub(crate) fn duration(d: Duration) -> String {
    let seconds = d.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded, all else is cut, as in Docker.
    let hours = (d.as_secs_f64() / 3600.0).round() as u64;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., ..48) => format!("{hours} hours"),
        (.., ..336) => format!("{} days", hours / 24),
        (.., ..1440) => format!("{} weeks", hours / 24 / 7),
        (.., ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 86_400 / 365),
    }
}

/// `3 minutes ago`.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago", duration(now.since(time)))
}

/// Powers of 1000, so many significant digits: `7.8MB`, `124MB`, `1.3GB`.
pub(crate) fn size(bytes: u64, digits: usize) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], digits)
}

/// Powers of 1024: `1.944GiB`.
pub(crate) fn binary_size(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(mut value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let mut text = significant(value, digits);
    // 999.96 kB would be "1000kB" in four digits: say 1MB.
    if text.parse::<f64>().is_ok_and(|v| v >= base) && unit + 1 < units.len() {
        unit += 1;
        text = significant(value / base, digits);
    }
    text + units[unit]
}

/// C's `%.<digits>g`, without its exponents.
fn significant(value: f64, digits: usize) -> String {
    let before = if value < 1.0 { 1 } else { value.log10().floor() as usize + 1 };
    let text = format!("{value:.*}", digits.saturating_sub(before));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `2026-11-21 01:02:03 +0000 UTC`, in the local time zone, as Docker prints creation times.
pub(crate) fn local_time(time: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time.0)) {
        Ok(t) => t.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        Err(_) => String::new(),
    }
}

/// RFC 3339 with nine digits behind the second, in local time, as Docker's events have it.
pub(crate) fn local_rfc3339(time: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time.0)) {
        Ok(t) => t.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string(),
        Err(_) => String::new(),
    }
}

/// At most `most` characters, the last an ellipsis where something is cut.
pub(crate) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86_400, "13 days"),
            (14 * 86_400, "2 weeks"),
            (59 * 86_400, "8 weeks"),
            (60 * 86_400, "2 months"),
            (729 * 86_400, "24 months"),
            (730 * 86_400, "2 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn sizes_are_dockers() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (7_800_000, "7.8MB"),
            (124_400_000, "124MB"),
            (1_239_000_000, "1.24GB"),
            (999_960_000, "1GB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes, 3), text);
        }
        assert_eq!(size(124_400_000, 4), "124.4MB");
        assert_eq!(binary_size(2_087_000_000), "1.944GiB");
        assert_eq!(binary_size(64 << 20), "64MiB");
    }

    #[test]
    fn ellipses_count_characters() {
        assert_eq!(ellipsis("sleep 1", 20), "sleep 1");
        assert_eq!(ellipsis("äöüäöüäöüä", 4), "äöü…");
    }
}
