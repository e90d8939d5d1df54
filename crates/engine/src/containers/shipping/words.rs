//! The options that each log driver has, and the values of those that all have which go to collectors.

use std::collections::BTreeMap;

use state::options::{LogDriver, LogOptions};

use super::error::BadOption;
use crate::config::parse_size;

/// What is said of files, and which driver does not take it.
const FILES: &[&str] = &["max-size", "max-file"];
/// What is said of the container with each line.
const ATTRIBUTES: &[&str] = &["tag", "labels", "labels-regex", "env", "env-regex"];
/// Docker's, which changes nothing: see [`check_common`].
const BLOCKING: &[&str] = &["mode", "max-buffer-size"];
const COMPRESSED: &[&str] = &["compress"];
const SYSLOG: &[&str] = &[
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];
const JOURNALD: &[&str] = &["journald-socket"];
const FLUENTD: &[&str] = &[
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-connect",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-tls-ca-cert",
];

fn known(driver: LogDriver) -> Vec<&'static str> {
    let lists: &[&[&str]] = match driver {
        LogDriver::JsonFile => &[FILES, ATTRIBUTES, BLOCKING],
        LogDriver::Local => &[FILES, BLOCKING, COMPRESSED],
        LogDriver::None => &[],
        LogDriver::Syslog => &[SYSLOG, FILES, ATTRIBUTES, BLOCKING, COMPRESSED],
        LogDriver::Journald => &[JOURNALD, FILES, ATTRIBUTES, BLOCKING, COMPRESSED],
        LogDriver::Fluentd => &[FLUENTD, FILES, ATTRIBUTES, BLOCKING, COMPRESSED],
    };
    lists.concat()
}

/// Refuses what the driver does not have.
pub(super) fn check_names(driver: LogDriver, options: &LogOptions) -> Result<(), BadOption> {
    let known = known(driver);
    match options.more.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(BadOption::Unknown { driver, name: name.clone(), known }),
    }
}

/// What is accepted because Docker has it, and changes nothing: ours never block, and never give up.
pub(super) fn check_common(options: &BTreeMap<String, String>) -> Result<(), BadOption> {
    for (name, value) in options {
        let bad = |want: &str| Err(BadOption::value(name, value, want));
        match name.as_str() {
            "mode" if !["blocking", "non-blocking"].contains(&value.as_str()) => {
                return bad("blocking or non-blocking");
            }
            "max-buffer-size" | "fluentd-buffer-limit" if parse_size(value).is_none() => {
                return bad("a size, such as 4m");
            }
            "fluentd-max-retries" if value.parse::<u32>().is_err() => return bad("a number"),
            "fluentd-async" | "fluentd-async-connect" | "fluentd-request-ack" => {
                boolean(options, name)?;
            }
            "fluentd-async-reconnect-interval" if milliseconds(value).is_none() => {
                return bad("a time, such as 1s");
            }
            _ => {}
        }
    }
    Ok(())
}

/// An option that is true or false; false where it is not given.
pub(super) fn boolean(options: &BTreeMap<String, String>, name: &str) -> Result<bool, BadOption> {
    match options.get(name).map(String::as_str) {
        // Go's strconv.ParseBool.
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(BadOption::value(name, other, "true or false")),
    }
}

/// A time as Go writes it, in milliseconds: `500ms`, `1.5s`, `2m`.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return None,
    };
    let value = number.parse::<f64>().ok()? * unit;
    (0.0..=f64::from(u32::MAX)).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_driver_has_its_own() {
        let options = |name: &str| LogOptions {
            more: BTreeMap::from([(name.to_owned(), "x".to_owned())]),
            ..LogOptions::default()
        };
        assert!(check_names(LogDriver::Syslog, &options("syslog-address")).is_ok());
        assert!(check_names(LogDriver::Fluentd, &options("tag")).is_ok());
        let error = check_names(LogDriver::Journald, &options("syslog-address")).unwrap_err();
        assert_eq!(error.to_string(), "the log driver journald has no option `syslog-address`");
        assert!(check_names(LogDriver::JsonFile, &options("tag")).is_ok());
        assert!(check_names(LogDriver::Local, &options("tag")).is_err());
        assert!(check_names(LogDriver::None, &options("tag")).is_err());
    }

    #[test]
    fn values_are_gos() {
        assert_eq!(milliseconds("500ms"), Some(500));
        assert_eq!(milliseconds("1.5s"), Some(1500));
        assert_eq!(milliseconds("2m"), Some(120_000));
        for bad in ["", "5", "s", "1x", "-1s", "1e400s"] {
            assert_eq!(milliseconds(bad), None, "{bad}");
        }
        let of = |value: &str| boolean(&BTreeMap::from([("a".to_owned(), value.to_owned())]), "a");
        assert!(of("T").unwrap() && !of("0").unwrap() && of("yes").is_err());
    }
}
