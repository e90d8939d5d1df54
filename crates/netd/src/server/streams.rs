//! Containers that ask by TCP: several questions on a connection, answered in whatever order their answers come.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use super::poller::{READ, Source, WRITE};
use super::questions::{Origin, Reply};
use super::{Server, Timer};
use crate::slab::Key;

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// How many a container may have at once; the next one takes the place of none, but is closed.
const MOST: usize = 64;
/// How many questions on a connection may wait for answers before more are read.
const MOST_WAITING: usize = 32;
/// How many bytes of answers may wait to be read before more questions are.
const MOST_UNREAD: usize = 128 << 10;

/// A connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) client: Key,
    socket: OwnedFd,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Questions whose answers will come later.
    waiting: usize,
    /// Nothing more will be asked.
    ended: bool,
    until: Instant,
    waits_for: EventFlags,
}

impl Stream {
    fn may_ask(&self) -> bool {
        self.waiting < MOST_WAITING && self.output.len() < MOST_UNREAD
    }

    fn has_question(&self) -> bool {
        let length = self.input.first_chunk().map(|bytes| usize::from(u16::from_be_bytes(*bytes)));
        length.is_some_and(|length| self.input.len() >= 2 + length)
    }

    /// The next question that has come whole.
    fn next(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes(*self.input.first_chunk()?));
        let message = self.input.get(2..2 + length)?.to_vec();
        self.input.drain(..2 + length);
        Some(message)
    }
}

impl Server {
    /// Takes the connections that a container has made.
    pub(super) fn open_door(&mut self, client: Key) {
        loop {
            let Some(served) = self.clients.get_mut(client).and_then(|client| client.served.as_mut()) else {
                return;
            };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match accept_with(&served.door, flags) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => return super::breathe(),
            };
            if served.streams >= MOST {
                continue;
            }
            served.streams += 1;
            rustix::net::sockopt::set_tcp_nodelay(&socket, true).ok(); // it only makes it faster
            let until = Instant::now() + SILENCE;
            let key = self.streams.insert(Stream {
                client,
                socket,
                input: Vec::new(),
                output: Vec::new(),
                waiting: 0,
                ended: false,
                until,
                waits_for: READ,
            });
            let Some(stream) = self.streams.get(key) else { continue };
            if self.poller.add(&stream.socket, Source::Stream(key), READ).is_err() {
                self.close_stream(key);
                continue;
            }
            self.remind(until, Timer::Stream(key));
        }
    }

    /// Reads, answers and writes as much as can be by now.
    pub(super) fn serve_stream(&mut self, key: Key) {
        if self.read_stream(key).is_none() {
            return self.close_stream(key);
        }
        loop {
            let Some(stream) = self.streams.get_mut(key) else { return };
            if let Some(message) = if stream.may_ask() { stream.next() } else { None } {
                let client = stream.client;
                stream.waiting += 1;
                let mut out = Vec::new();
                match self.question(client, Origin::Stream(key), &message, &mut out) {
                    Reply::Later => {}
                    Reply::Now => self.put_on_stream(key, &out),
                    // Who says such a thing has nothing to ask.
                    Reply::Never => return self.close_stream(key),
                }
                continue;
            }
            if self.write_stream(key).is_none() {
                return self.close_stream(key);
            }
            // What was written may have made room for a question that had come before.
            if !self.streams.get(key).is_some_and(|stream| stream.may_ask() && stream.has_question()) {
                return;
            }
        }
    }

    /// None where it is over.
    fn read_stream(&mut self, key: Key) -> Option<()> {
        let stream = self.streams.get_mut(key)?;
        // A whole question is never longer than this, and more is not read before that was taken.
        while !stream.ended && stream.may_ask() && stream.input.len() < 2 + usize::from(u16::MAX) {
            match recv(&stream.socket, &mut *self.scratch, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => stream.ended = true,
                Ok((_, length)) => {
                    stream.input.extend_from_slice(&self.scratch[..length]);
                    stream.until = Instant::now() + SILENCE;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    /// Writes what can be written. None where it is over.
    fn write_stream(&mut self, key: Key) -> Option<()> {
        let stream = self.streams.get_mut(key)?;
        while !stream.output.is_empty() {
            match send(&stream.socket, &stream.output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    stream.output.drain(..sent);
                    stream.until = Instant::now() + SILENCE;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        if stream.ended && stream.waiting == 0 && stream.output.is_empty() {
            return None;
        }
        let mut flags = EventFlags::empty();
        if stream.may_ask() && !stream.ended {
            flags |= READ;
        }
        if !stream.output.is_empty() {
            flags |= WRITE;
        }
        if flags != stream.waits_for {
            stream.waits_for = flags;
            self.poller.change(&stream.socket, Source::Stream(key), flags).ok()?;
        }
        Some(())
    }

    /// Puts an answer behind those that are to be written.
    pub(super) fn put_on_stream(&mut self, key: Key, answer: &[u8]) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.output.extend_from_slice(&(answer.len() as u16).to_be_bytes());
        stream.output.extend_from_slice(answer);
        stream.waiting = stream.waiting.saturating_sub(1);
    }

    pub(super) fn stream_is_due(&mut self, key: Key, now: Instant) {
        let Some(stream) = self.streams.get(key) else { return };
        let until = if stream.waiting > 0 { now + SILENCE } else { stream.until };
        if until > now {
            self.remind(until, Timer::Stream(key));
        } else {
            self.close_stream(key);
        }
    }

    pub(super) fn close_stream(&mut self, key: Key) {
        let Some(stream) = self.streams.remove(key) else { return };
        if let Some(served) = self.clients.get_mut(stream.client).and_then(|client| client.served.as_mut()) {
            served.streams = served.streams.saturating_sub(1);
        }
    }
}
