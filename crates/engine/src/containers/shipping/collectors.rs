//! Where collectors are, as Docker's options say it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use state::options::LogDriver;
use state::shipping::{Address, Destination, Fluentd, Host, Journald, Syslog, SyslogMessage, Tls};

use super::error::BadOption;
use super::socket_is_missing;
use super::words::{boolean, milliseconds};

type Options = BTreeMap<String, String>;

/// Where a local syslog server listens.
const DEV_LOG: &str = "/dev/log";
/// The journal's socket.
const JOURNAL: &str = "/run/systemd/journal/socket";
const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];
const DAEMON: u8 = 3;

/// What the options of a driver say.
pub(super) fn destination(driver: LogDriver, options: &Options) -> Result<Destination, BadOption> {
    match driver {
        LogDriver::Journald => {
            let socket = options.get("journald-socket").map_or(JOURNAL, String::as_str);
            let socket = absolute("journald-socket", socket)?;
            Ok(Destination::Journald(Journald { socket }))
        }
        LogDriver::Fluentd => fluentd(options).map(Destination::Fluentd),
        _ => syslog(options).map(Destination::Syslog),
    }
}

fn syslog(options: &Options) -> Result<Syslog, BadOption> {
    let name = "syslog-address";
    let text = options.get(name).map_or("", String::as_str);
    let want = "udp://HOST:PORT, tcp://HOST:PORT, tcp+tls://HOST:PORT, unix:///PATH or unixgram:///PATH";
    let bad = || BadOption::value(name, text, want);
    let address = match text.split_once("://") {
        None if text.is_empty() => Address::Unixgram(DEV_LOG.into()),
        Some(("udp", rest)) => Address::Udp(host(rest, Some(514)).ok_or_else(bad)?),
        Some(("tcp", rest)) => Address::Tcp(host(rest, Some(514)).ok_or_else(bad)?),
        Some(("tcp+tls", rest)) => Address::Tls(host(rest, Some(6514)).ok_or_else(bad)?, tls(options)?),
        Some(("unix", path)) => Address::Unix(absolute(name, path)?),
        Some(("unixgram", path)) => Address::Unixgram(absolute(name, path)?),
        _ => return Err(bad()),
    };
    if !matches!(address, Address::Tls(..)) && options.keys().any(|key| key.starts_with("syslog-tls-")) {
        return Err(BadOption::Together("syslog-tls-… is for a syslog-address that begins with tcp+tls://"));
    }
    let message = match options.get("syslog-format").map_or("", String::as_str) {
        // What a server on this host expects from programs on this host; over a network, the standard.
        "" if matches!(address, Address::Unix(_) | Address::Unixgram(_)) => SyslogMessage::Local,
        "" | "rfc5424" => SyslogMessage::Rfc5424,
        "rfc5424micro" => SyslogMessage::Rfc5424Micro,
        "rfc3164" => SyslogMessage::Rfc3164,
        other => {
            return Err(BadOption::value("syslog-format", other, "rfc5424, rfc5424micro or rfc3164"));
        }
    };
    let facility = match options.get("syslog-facility") {
        None => DAEMON,
        Some(text) => facility(text).ok_or_else(|| {
            let want = format!("0 to 23, or one of {}", FACILITIES.join(", "));
            BadOption::value("syslog-facility", text, want)
        })?,
    };
    Ok(Syslog { address, facility, message })
}

fn facility(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (number < 24).then_some(number);
    }
    FACILITIES.iter().position(|name| *name == text).map(|at| at as u8)
}

fn tls(options: &Options) -> Result<Tls, BadOption> {
    let file = |name: &str| options.get(name).map(|path| absolute(name, path)).transpose();
    let tls = Tls {
        ca: file("syslog-tls-ca-cert")?,
        certificate: file("syslog-tls-cert")?,
        key: file("syslog-tls-key")?,
        skip_verify: boolean(options, "syslog-tls-skip-verify")?,
    };
    if tls.certificate.is_some() != tls.key.is_some() {
        return Err(BadOption::Together(
            "syslog-tls-cert goes with syslog-tls-key, and the other way around",
        ));
    }
    for (name, path) in
        [("syslog-tls-ca-cert", &tls.ca), ("syslog-tls-cert", &tls.certificate), ("syslog-tls-key", &tls.key)]
    {
        if let Some(path) = path
            && !path.is_file()
        {
            return Err(BadOption::value(name, &path.display().to_string(), "a file that is there"));
        }
    }
    Ok(tls)
}

fn fluentd(options: &Options) -> Result<Fluentd, BadOption> {
    let name = "fluentd-address";
    let text = options.get(name).map_or("localhost", String::as_str);
    let bad = || BadOption::value(name, text, "HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH");
    let address = match text.split_once("://") {
        None | Some(("tcp", _)) => {
            let rest = text.strip_prefix("tcp://").unwrap_or(text);
            Address::Tcp(host(rest, Some(24224)).ok_or_else(bad)?)
        }
        Some(("tls", rest)) => {
            let name = "fluentd-tls-ca-cert";
            let ca = options.get(name).map(|path| absolute(name, path)).transpose()?;
            Address::Tls(host(rest, Some(24224)).ok_or_else(bad)?, Tls { ca, ..Tls::default() })
        }
        Some(("unix", path)) => Address::Unix(absolute(name, path)?),
        _ => return Err(bad()),
    };
    let wait = "fluentd-retry-wait";
    let retry_wait = match options.get(wait) {
        None => None,
        Some(text) => {
            Some(milliseconds(text).ok_or_else(|| BadOption::value(wait, text, "a time, such as 1s"))?)
        }
    };
    Ok(Fluentd { address, sub_second: boolean(options, "fluentd-sub-second-precision")?, retry_wait })
}

fn absolute(name: &str, path: &str) -> Result<PathBuf, BadOption> {
    // What sockaddr_un holds.
    const LONGEST: usize = 107;
    let is_socket = !name.contains("-tls-");
    if !path.starts_with('/') || (is_socket && path.len() > LONGEST) {
        return Err(BadOption::value(name, path, "an absolute path (of a socket: 107 bytes at most)"));
    }
    Ok(PathBuf::from(path))
}

/// `HOST:PORT`, `HOST`, `[::1]:PORT`.
fn host(text: &str, port: Option<u16>) -> Option<Host> {
    let text = text.trim_end_matches('/');
    let (name, rest) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(number) => number.parse().ok().filter(|port| *port > 0)?,
        None if rest.is_empty() => port?,
        None => return None,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    (!name.is_empty() && name.chars().all(plain)).then(|| Host { name: name.to_owned(), port })
}

/// Why a collector is surely not there now, as far as that can be told at once: nobody waits for it.
pub(super) fn absent(destination: &Destination) -> Option<String> {
    let address = match destination {
        Destination::Journald(journald) => return missing(&journald.socket),
        Destination::Syslog(syslog) => &syslog.address,
        Destination::Fluentd(fluentd) => &fluentd.address,
    };
    match address {
        Address::Unix(path) | Address::Unixgram(path) => missing(path),
        Address::Udp(_) => None,
        Address::Tcp(host) | Address::Tls(host, _) => {
            let name = if host.name == "localhost" { "127.0.0.1" } else { &host.name };
            let ip = name.parse().ok()?;
            // Only what is near answers within a moment that is no delay.
            let patience = Duration::from_millis(20);
            match TcpStream::connect_timeout(&SocketAddr::new(ip, host.port), patience) {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    Some(format!("nobody listens on {address}"))
                }
                _ => None,
            }
        }
    }
}

fn missing(path: &Path) -> Option<String> {
    if path.exists() { socket_is_missing(path) } else { Some(format!("there is no {}", path.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn of_syslog(pairs: &[(&str, &str)]) -> Result<Syslog, BadOption> {
        syslog(&options(pairs))
    }

    #[test]
    fn addresses_of_syslog_are_dockers() {
        for (text, shown, message) in [
            ("", "unixgram:///dev/log", SyslogMessage::Local),
            ("udp://10.0.0.1:1514", "udp://10.0.0.1:1514", SyslogMessage::Rfc5424),
            ("tcp://logs.example", "tcp://logs.example:514", SyslogMessage::Rfc5424),
            ("tcp+tls://[::1]", "tcp+tls://[::1]:6514", SyslogMessage::Rfc5424),
            ("unix:///run/log.sock", "unix:///run/log.sock", SyslogMessage::Local),
        ] {
            let syslog = of_syslog(&[("syslog-address", text)]).unwrap();
            assert_eq!((syslog.address.to_string(), syslog.message), (shown.to_owned(), message), "{text}");
            assert_eq!(syslog.facility, DAEMON);
        }
        for bad in
            ["x", "http://x", "tcp://", "tcp://a b", "udp://x:0", "udp://x:y", "unix://rel", "tcp://[::1"]
        {
            assert!(of_syslog(&[("syslog-address", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_rest_of_syslog_is_checked() {
        let at = ("syslog-address", "udp://h:1");
        assert_eq!(of_syslog(&[at, ("syslog-facility", "local3")]).unwrap().facility, 19);
        assert_eq!(of_syslog(&[at, ("syslog-facility", "7")]).unwrap().facility, 7);
        assert!(of_syslog(&[at, ("syslog-facility", "24")]).is_err());
        assert!(of_syslog(&[at, ("syslog-format", "rfc1")]).is_err());
        assert!(of_syslog(&[at, ("syslog-tls-skip-verify", "true")]).is_err(), "without TLS");
        let tls = ("syslog-address", "tcp+tls://h:1");
        assert!(of_syslog(&[tls, ("syslog-tls-skip-verify", "maybe")]).is_err());
        assert!(of_syslog(&[tls, ("syslog-tls-cert", "/etc/hostname")]).is_err(), "without a key");
        assert!(of_syslog(&[tls, ("syslog-tls-ca-cert", "/nope")]).is_err());
    }

    #[test]
    fn addresses_of_fluentd_are_dockers() {
        let of = |text: &str| fluentd(&options(&[("fluentd-address", text)])).map(|f| f.address.to_string());
        assert_eq!(fluentd(&options(&[])).unwrap().address.to_string(), "tcp://localhost:24224");
        assert_eq!(of("logs:1").unwrap(), "tcp://logs:1");
        assert_eq!(of("tls://logs").unwrap(), "tcp+tls://logs:24224");
        assert_eq!(of("unix:///x").unwrap(), "unix:///x");
        assert!(of("udp://x").is_err() && of(":").is_err());
        assert!(fluentd(&options(&[("fluentd-retry-wait", "5")])).is_err());
    }
}
