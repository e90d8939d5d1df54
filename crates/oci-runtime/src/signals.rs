//! Signals by name and number.

use crate::error::Error;

/// By number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The first real-time signal that libc leaves to programs, and the last.
const REAL_TIME: (i32, i32) = (34, 64);

/// `SIGTERM`.
pub(crate) const TERM: i32 = 15;
/// `SIGKILL`.
pub(crate) const KILL: i32 = 9;
/// `SIGCHLD`.
pub(crate) const CHILD: i32 = 17;
/// `SIGWINCH`.
pub(crate) const WINDOW: i32 = 28;

/// `9`, `KILL`, `SIGKILL`, `rtmin+3`.
pub(crate) fn parse(text: &str) -> Result<i32, Error> {
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=REAL_TIME.1).contains(&number) { Ok(number) } else { Err(unknown(text)) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| rest.get(1..).and_then(|n| n.parse::<i32>().ok());
    let real_time = |number: i32| (REAL_TIME.0..=REAL_TIME.1).contains(&number).then_some(number);
    let found = match name {
        "CLD" => Some(CHILD),
        "POLL" => Some(29),
        "IOT" => Some(6),
        "UNUSED" => Some(31),
        "RTMIN" => Some(REAL_TIME.0),
        "RTMAX" => Some(REAL_TIME.1),
        _ => match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) if rest.starts_with('+') => offset(rest).and_then(|n| real_time(REAL_TIME.0 + n)),
            (_, Some(rest)) if rest.starts_with('-') => offset(rest).and_then(|n| real_time(REAL_TIME.1 - n)),
            _ => NAMES.iter().position(|n| *n == name).map(|n| n as i32 + 1),
        },
    };
    found.ok_or_else(|| unknown(text))
}

fn unknown(text: &str) -> Error {
    Error::Usage(format!("unknown signal {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("0", 0),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "BOGUS", "65", "-1", "SIG", "RTMIN+40", "RTMIN-1", "RTMAX-", "9.5"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
