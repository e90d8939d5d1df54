//! One question by TCP to a server outside: written, and the answer read, each behind its length.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// How far it has come.
#[derive(Debug)]
pub(super) struct Exchange {
    output: Vec<u8>,
    input: Vec<u8>,
    sent: Sent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    NotYet,
    Just,
    Before,
}

impl Exchange {
    pub(super) fn new(message: &[u8]) -> Self {
        let mut output = Vec::with_capacity(2 + message.len());
        output.extend_from_slice(&(message.len() as u16).to_be_bytes());
        output.extend_from_slice(message);
        Self { output, input: Vec::new(), sent: Sent::NotYet }
    }

    /// Whether all is sent, and this was not asked before.
    pub(super) fn was_just_sent(&mut self) -> bool {
        let just = self.sent == Sent::Just;
        if just {
            self.sent = Sent::Before;
        }
        just
    }

    /// Goes on as far as it can. The whole answer, once that is there.
    pub(super) fn advance(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<Vec<u8>>, Errno> {
        while !self.output.is_empty() {
            match send(socket, &self.output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(Errno::INTR) => {}
                // Not connected yet, or not read yet.
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        if self.sent == Sent::NotYet {
            self.sent = Sent::Just;
        }
        loop {
            if let Some(length) = self.input.first_chunk().map(|b| usize::from(u16::from_be_bytes(*b)))
                && let Some(message) = self.input.get(2..2 + length)
            {
                return Ok(Some(message.to_vec()));
            }
            match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(Errno::PIPE),
                Ok((_, length)) => self.input.extend_from_slice(&buffer[..length.min(buffer.len())]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}
