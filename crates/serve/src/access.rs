//! The access log: a line per request on standard output, in the form that web servers have had for thirty years, with
//! the time it took behind it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// Whether and where requests are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Standard,
    Silent,
}

/// What is told of a request.
pub(crate) struct Line<'a> {
    pub(crate) client: IpAddr,
    pub(crate) user: Option<&'a str>,
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) status: u16,
    pub(crate) bytes: Option<u64>,
    pub(crate) took: Duration,
}

impl Access {
    pub(crate) fn log(self, line: &Line<'_>) {
        if self == Self::Standard {
            let text = format(line, jiff::Timestamp::now());
            std::io::stdout().write_all(text.as_bytes()).ok();
        }
    }
}

fn format(line: &Line<'_>, now: jiff::Timestamp) -> String {
    let mut text = format!("{} - ", line.client);
    escape(&mut text, line.user.unwrap_or("-"));
    let time = now.strftime("%d/%b/%Y:%H:%M:%S +0000");
    write!(text, " [{time}] \"").ok();
    escape(&mut text, line.method);
    text.push(' ');
    escape(&mut text, line.target);
    let bytes = line.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    write!(text, " HTTP/1.1\" {} {bytes} \"-\" \"", line.status).ok();
    escape(&mut text, line.agent);
    writeln!(text, "\" {:.3}", line.took.as_secs_f64()).ok();
    text
}

/// From outside, and bound for terminals and parsers: no control characters, no quotation marks, no end.
fn escape(text: &mut String, from: &str) {
    for c in from.chars().take(1000) {
        match c {
            '"' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            ' '..='~' => text.push(c),
            c => write!(text, "\\u{{{:x}}}", c as u32).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_clients_send() {
        let line = Line {
            client: "127.0.0.1".parse().unwrap(),
            user: Some("me\n"),
            method: "GET",
            target: "/v2/\"x\u{1b}[31m",
            agent: "a\\b",
            status: 200,
            bytes: Some(3),
            took: Duration::from_millis(12),
        };
        let text = format(&line, jiff::Timestamp::UNIX_EPOCH);
        let want = "127.0.0.1 - me\\u{a} [01/Jan/1970:00:00:00 +0000] \"GET /v2/\\\"x\\u{1b}[31m HTTP/1.1\" 200 3 \
                    \"-\" \"a\\\\b\" 0.012\n";
        assert_eq!(text, want);
    }
}
