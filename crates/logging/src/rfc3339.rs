//! Times as Go's `RFC3339Nano` writes them, without allocation: `2026-11-21T01:02:03.5Z`, the fraction's
//! trailing zeros left out. The calendar is Howard Hinnant's `civil_from_days`, exact for every `i64` of
//! nanoseconds (years 1677 to 2262).

use base::Timestamp;

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Appends `time`, in UTC.
pub fn format(time: Timestamp, to: &mut Vec<u8>) {
    let seconds = time.0.div_euclid(NANOS);
    let (day, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, date) = civil_from_days(day);
    digits(year as u32, 4, to);
    to.push(b'-');
    digits(month, 2, to);
    to.push(b'-');
    digits(date, 2, to);
    to.push(b'T');
    digits((second / 3600) as u32, 2, to);
    to.push(b':');
    digits((second / 60 % 60) as u32, 2, to);
    to.push(b':');
    digits((second % 60) as u32, 2, to);
    let mut fraction = time.0.rem_euclid(NANOS) as u32;
    if fraction > 0 {
        let mut width = 9;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        to.push(b'.');
        digits(fraction, width, to);
    }
    to.push(b'Z');
}

/// Reads an RFC 3339 time; any offset, any number of digits of fraction (those past nanoseconds are cut).
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let (head, mut rest) = bytes.split_at_checked(19)?;
    let fixed = |at: usize, byte: &[u8]| byte.contains(&head[at]);
    if !(fixed(4, b"-") && fixed(7, b"-") && fixed(10, b"Tt ") && fixed(13, b":") && fixed(16, b":")) {
        return None;
    }
    let (year, month, date) = (number(&head[..4])?, number(&head[5..7])?, number(&head[8..10])?);
    let (hour, minute, second) = (number(&head[11..13])?, number(&head[14..16])?, number(&head[17..19])?);
    // Second 60 is a leap second; it counts as the first of the next minute.
    if !(1..=12).contains(&month) || !(1..=31).contains(&date) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut nanos = 0;
    if let Some(after) = rest.strip_prefix(b".") {
        let count = after.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        let kept = count.min(9);
        nanos = number(&after[..kept])? * 10i64.pow(9 - kept as u32);
        rest = &after[count..];
    }
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let minutes = number(&[*h1, *h2])? * 60 + number(&[*m1, *m2])?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, date) * DAY + hour * 3600 + minute * 60 + second - offset * 60;
    seconds.checked_mul(NANOS)?.checked_add(nanos).map(Timestamp)
}

fn number(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn digits(mut n: u32, width: usize, to: &mut Vec<u8>) {
    let mut text = [b'0'; 10];
    for place in text[..width].iter_mut().rev() {
        *place = b'0' + (n % 10) as u8;
        n /= 10;
    }
    to.extend_from_slice(&text[..width]);
}

/// Days since 1970-01-01 → year, month, day. <https://howardhinnant.github.io/date_algorithms.html>
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month as u32, (doy - (153 * mp + 2) / 5 + 1) as u32)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(nanos: i64) -> String {
        let mut to = Vec::new();
        format(Timestamp(nanos), &mut to);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn known_times() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(1_709_210_096_500_000_000), "2024-02-29T12:34:56.5Z");
        assert_eq!(text(951_782_399_000_000_001), "2000-02-28T23:59:59.000000001Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn offsets_and_bad_times() {
        assert_eq!(parse("2024-02-29T12:34:56+01:30"), Some(Timestamp(1_709_204_696_000_000_000)));
        for bad in [
            "",
            "2024",
            "2024-13-01T00:00:00Z",
            "2024-02-29T12:34:56",
            "2024-02-29T12:34:56.Z",
            "é".repeat(20).as_str(),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(nanos in any::<i64>()) {
            prop_assert_eq!(parse(&text(nanos)), Some(Timestamp(nanos)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
