//! Syslog over a stream: TCP, TLS, Unix. It has no acknowledgement, so one is made: at times we say that no more comes,
//! and the server, when it has read all, closes the connection; then all has arrived, and the next message goes over a
//! new one.
//!
//! ```text
//! we     ── message ─ message ─ message ─▶ end ─▶
//! server                                          reads to the end … ◀─ end     all has arrived
//!        ◀─ end, while messages come               what was acknowledged by then was read (see wire)
//!        ◀─ reset                                  all since the last time is sent again: some may come twice
//! ```

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::link::{Link, Lost};
use crate::message::Message;
use crate::stream::Stream;
use crate::syslog::Encoder;

/// How long after the first message it is made sure that they have arrived.
const DOUBT: Duration = Duration::from_secs(1);
/// Messages are written so many bytes at once.
const GROUP: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct SyslogStream {
    stream: Stream,
    encoder: Encoder,
    /// What has been written: bytes on the wire, and the number after the last message in them.
    sent: VecDeque<(u64, u64)>,
    arrived: Option<u64>,
    since: Option<Instant>,
    text: Vec<u8>,
    group: Vec<u8>,
}

impl SyslogStream {
    pub(crate) fn new(stream: Stream, encoder: Encoder) -> Self {
        let (text, group) = (Vec::new(), Vec::new());
        Self { stream, encoder, sent: VecDeque::new(), arrived: None, since: None, text, group }
    }

    fn lost(&mut self, source: io::Error) -> Lost {
        let taken = self.stream.taken().unwrap_or(0);
        while let Some((bytes, end)) = self.sent.front()
            && *bytes <= taken
        {
            self.arrived = Some(*end);
            self.sent.pop_front();
        }
        Lost { arrived: self.arrived, source }
    }

    fn flush(&mut self, end: u64) -> io::Result<()> {
        let sent = self.stream.send(&self.group);
        self.group.clear();
        sent?;
        self.sent.push_back((self.stream.written(), end));
        Ok(())
    }

    fn try_send(&mut self, batch: &[Message]) -> io::Result<()> {
        if self.stream.is_closed()? {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server has closed the connection",
            ));
        }
        for message in batch {
            self.text.clear();
            self.encoder.encode(message, &mut self.text);
            if self.encoder.counts_octets() {
                self.group.extend_from_slice(format!("{} ", self.text.len()).as_bytes());
                self.group.extend_from_slice(&self.text);
            } else {
                self.group.extend_from_slice(&self.text);
                self.group.push(b'\n');
            }
            if self.group.len() >= GROUP {
                self.flush(message.end())?;
            }
        }
        match batch.last() {
            Some(last) if !self.group.is_empty() => self.flush(last.end()),
            _ => Ok(()),
        }
    }
}

impl Link for SyslogStream {
    fn send(&mut self, batch: &[Message]) -> Result<(), Lost> {
        self.since.get_or_insert_with(Instant::now);
        self.group.clear();
        self.try_send(batch).map_err(|error| self.lost(error))
    }

    fn arrived(&self) -> Option<u64> {
        self.arrived
    }

    fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + DOUBT)
    }

    fn confirm(&mut self) -> Result<bool, Lost> {
        if self.sent.is_empty() {
            return Ok(true);
        }
        self.stream.finish().map_err(|error| self.lost(error))?;
        self.arrived = self.sent.back().map(|(_, end)| *end);
        self.sent.clear();
        self.since = None;
        Ok(false)
    }
}
