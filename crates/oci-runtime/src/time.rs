//! Moments as RFC 3339 has them, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, to the second: `2026-11-25T22:38:27Z`.
pub(crate) fn now_seconds() -> String {
    format(since_epoch(), false)
}

/// Now, to the nanosecond.
pub(crate) fn now() -> String {
    format(since_epoch(), true)
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn format(since: Duration, fraction: bool) -> String {
    let seconds = since.as_secs();
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Howard Hinnant's days_from_civil, backwards, for days that are not before 1970: years begin in March, eras have
    // 400 of them.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let mut text = format!(
        "{year:04}-{month:02}-{of_month:02}T{:02}:{:02}:{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    );
    if fraction {
        use std::fmt::Write as _;
        let _ = write!(text, ".{:09}", since.subsec_nanos());
    }
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        let at = |seconds| format(Duration::from_secs(seconds), false);
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_772_323_200), "2026-03-01T00:00:00Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z", "2100 has no 29th of February");
        assert_eq!(format(Duration::new(1, 20), true), "1970-01-01T00:00:01.000000020Z");
    }
}
