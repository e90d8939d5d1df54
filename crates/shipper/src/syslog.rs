//! How a message is written for syslog.
//!
//! ```text
//! rfc5424       <PRI>1 2026-11-27T05:43:13Z HOST TAG - TAG - TEXT
//! rfc3164       <PRI>Nov 27 05:43:13 HOST TAG[PID]: TEXT          times are the host's local ones
//! local         <PRI>Nov 27 05:43:13 TAG[PID]: TEXT
//! ```
//!
//! What is said on standard error is an error (3), all else information (6), as with Docker.

use std::io::Write;

use jiff::tz::TimeZone;
use logging::Stream;
use state::shipping::{Syslog, SyslogMessage};

use crate::message::Message;

/// The lengths that RFC 5424 allows.
const LONGEST_HOST: usize = 255;
const LONGEST_APP: usize = 48;
const LONGEST_ID: usize = 32;

/// Writes messages.
#[derive(Debug)]
pub(crate) struct Encoder {
    facility: u8,
    how: SyslogMessage,
    host: String,
    tag: String,
    zone: TimeZone,
}

impl Encoder {
    pub(crate) fn new(syslog: &Syslog, tag: &str) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            facility: syslog.facility,
            how: syslog.message,
            host: word(&host, LONGEST_HOST),
            tag: tag.to_owned(),
            zone: TimeZone::system(),
        }
    }

    /// Whether a message on a stream says its length before itself (RFC 6587, 3.4.1). What is of the older kind ends
    /// with a line break, as always.
    pub(crate) fn counts_octets(&self) -> bool {
        matches!(self.how, SyslogMessage::Rfc5424 | SyslogMessage::Rfc5424Micro)
    }

    /// Appends a message without any frame.
    pub(crate) fn encode(&self, message: &Message, to: &mut Vec<u8>) {
        let severity = if message.stream == Stream::Stderr { 3 } else { 6 };
        let priority = u32::from(self.facility) * 8 + severity;
        let pid = std::process::id();
        let written = match self.how {
            SyslogMessage::Rfc5424 | SyslogMessage::Rfc5424Micro => {
                let time = self.rfc5424_time(message);
                let (app, id) = (word(&self.tag, LONGEST_APP), word(&self.tag, LONGEST_ID));
                write!(to, "<{priority}>1 {time} {} {app} - {id} - ", self.host)
            }
            SyslogMessage::Rfc3164 => {
                write!(to, "<{priority}>{} {} {}[{pid}]: ", self.local_time(message), self.host, self.tag)
            }
            SyslogMessage::Local => {
                write!(to, "<{priority}>{} {}[{pid}]: ", self.local_time(message), self.tag)
            }
        };
        debug_assert!(written.is_ok(), "a vector takes everything");
        to.extend_from_slice(&message.text);
    }

    fn rfc5424_time(&self, message: &Message) -> String {
        let mut text = Vec::new();
        logging::format_time(message.time, &mut text);
        // To the second: 2026-11-27T05:43:13
        text.truncate(19);
        let mut text = String::from_utf8_lossy(&text).into_owned();
        if self.how == SyslogMessage::Rfc5424Micro {
            let micros = message.time.0.rem_euclid(1_000_000_000) / 1000;
            return format!("{text}.{micros:06}Z");
        }
        text.push('Z');
        text
    }

    fn local_time(&self, message: &Message) -> String {
        jiff::Timestamp::from_nanosecond(message.time.0.into())
            .unwrap_or_default()
            .to_zoned(self.zone.clone())
            .strftime("%b %e %H:%M:%S")
            .to_string()
    }
}

/// What RFC 5424 takes for a word: printable ASCII without blanks, and not nothing.
fn word(text: &str, longest: usize) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let word: String = text.chars().take(longest).map(plain).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use base::Timestamp;
    use state::shipping::Address;

    use super::*;

    fn written(how: SyslogMessage, stream: Stream, tag: &str) -> String {
        let syslog = Syslog { address: Address::Unix("/x".into()), facility: 3, message: how };
        let mut encoder = Encoder::new(&syslog, tag);
        encoder.host = "host".to_owned();
        encoder.zone = TimeZone::fixed(jiff::tz::offset(2));
        let time = Timestamp(1_795_758_193_000_123_456);
        let message = Message { sequence: 0, stream, time, text: b"hello\tyou".to_vec(), piece: None };
        let mut to = Vec::new();
        encoder.encode(&message, &mut to);
        String::from_utf8(to).unwrap().replace(&format!("[{}]", std::process::id()), "[PID]")
    }

    #[test]
    fn messages_are_dockers() {
        let out = Stream::Stdout;
        assert_eq!(
            written(SyslogMessage::Rfc5424, out, "tag"),
            "<30>1 2026-11-27T05:43:13Z host tag - tag - hello\tyou"
        );
        assert_eq!(
            written(SyslogMessage::Rfc5424Micro, Stream::Stderr, "a tag"),
            "<27>1 2026-11-27T05:43:13.000123Z host a_tag - a_tag - hello\tyou"
        );
        assert_eq!(
            written(SyslogMessage::Rfc3164, out, "tag"),
            "<30>Nov 27 07:43:13 host tag[PID]: hello\tyou"
        );
        assert_eq!(written(SyslogMessage::Local, out, "tag"), "<30>Nov 27 07:43:13 tag[PID]: hello\tyou");
        let long = "x".repeat(100);
        let expected = format!("{} - {} -", &long[..48], &long[..32]);
        assert!(written(SyslogMessage::Rfc5424, out, &long).contains(&expected));
    }
}
