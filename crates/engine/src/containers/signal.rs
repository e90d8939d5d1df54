//! Signals by name, as Docker's `--stop-signal` and `kill -s` take them.

use base::{Failure, Kind};

/// Linux' numbers on x86_64, arm64 and riscv64 (signal(7)); 32 and 33 belong to the C library.
const NAMES: [(&str, i32); 36] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", MIN_REALTIME),
    ("RTMAX", MAX),
];
const MIN_REALTIME: i32 = 34;
const MAX: i32 = 64;

/// SIGTERM: what asks a container to stop, unless it or its image says otherwise.
pub(crate) const TERM: i32 = 15;
/// SIGKILL.
pub(crate) const KILL: i32 = 9;

/// `SIGTERM`; the number, where it has no name.
pub(crate) fn name(signal: i32) -> String {
    let name = NAMES.iter().find(|(_, number)| *number == signal);
    name.map_or_else(|| signal.to_string(), |(name, _)| format!("SIG{name}"))
}

/// A text that is no signal.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid signal `{0}`: want a name (SIGTERM, TERM, SIGRTMIN+3) or a number from 1 to 64")]
pub(crate) struct UnknownSignal(String);

impl Failure for UnknownSignal {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// The number of a signal: `SIGTERM`, `term`, `15`, `RTMIN+3`, `SIGRTMAX-1`.
pub(crate) fn parse(text: &str) -> Result<i32, UnknownSignal> {
    let unknown = || UnknownSignal(text.chars().take(40).collect());
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (1..=MAX).contains(number)).ok_or_else(unknown);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |digits: &str| digits.parse::<i32>().ok().filter(|_| !digits.starts_with(['+', '-']));
    let number = match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
        (Some(digits), _) => offset(digits).and_then(|n| MIN_REALTIME.checked_add(n)),
        (_, Some(digits)) => offset(digits).and_then(|n| MAX.checked_sub(n)),
        _ => None,
    };
    number.filter(|n| (MIN_REALTIME..=MAX).contains(n)).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!([name(15), name(6), name(37)], ["SIGTERM", "SIGABRT", "37"]);
        let cases =
            [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("rtmax-1", 63), ("RTMIN", 34)];
        for (text, number) in cases {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for bad in ["", "0", "65", "SIG", "SIGNOPE", "-9", "RTMIN+31", "RTMIN+-1", "RTMAX-+1", "99999999999"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
