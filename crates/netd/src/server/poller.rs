//! `epoll(7)`, and what each descriptor is.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::slab::{Key, TURN_BITS};

/// What can be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A monitor wants to connect.
    Listener,
    /// A monitor speaks, or hangs up.
    Monitor(Key),
    /// A container asks by UDP.
    Datagrams(Key),
    /// A container connects by TCP.
    Knock(Key),
    /// It speaks on such a connection, or can be spoken to.
    Stream(Key),
    /// A server outside answers.
    Outside(Key),
    /// Who opens addresses answers.
    Gate,
}

pub(super) const READ: epoll::EventFlags = epoll::EventFlags::IN;
pub(super) const WRITE: epoll::EventFlags = epoll::EventFlags::OUT;

impl Source {
    /// As the number that the kernel keeps for us: kind, turn, place.
    fn to_number(self) -> u64 {
        let (kind, key) = match self {
            Self::Listener => (0, Key { index: 0, turn: 0 }),
            Self::Monitor(key) => (1, key),
            Self::Datagrams(key) => (2, key),
            Self::Knock(key) => (3, key),
            Self::Stream(key) => (4, key),
            Self::Outside(key) => (5, key),
            Self::Gate => (6, Key { index: 0, turn: 0 }),
        };
        (kind << (32 + TURN_BITS)) | (u64::from(key.turn) << 32) | u64::from(key.index)
    }

    fn from_number(number: u64) -> Self {
        let key = Key { index: number as u32, turn: (number >> 32) as u32 & ((1 << TURN_BITS) - 1) };
        match number >> (32 + TURN_BITS) {
            0 => Self::Listener,
            1 => Self::Monitor(key),
            2 => Self::Datagrams(key),
            3 => Self::Knock(key),
            4 => Self::Stream(key),
            5 => Self::Outside(key),
            _ => Self::Gate,
        }
    }
}

/// All descriptors that we wait for.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        /// So many are served before we look again.
        const AT_ONCE: usize = 128;
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(AT_ONCE) })
    }

    /// Waits for a further descriptor, until it is closed.
    pub(super) fn add(&self, fd: impl AsFd, source: Source, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(source.to_number()), flags)?)
    }

    /// Waits for something else of it.
    pub(super) fn change(&self, fd: impl AsFd, source: Source, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(source.to_number()), flags)?)
    }

    /// Waits no longer for one that somebody else keeps open: closing it would not do.
    pub(super) fn remove(&self, fd: impl AsFd) {
        // It may not have been added.
        epoll::delete(&self.epoll, fd).ok();
    }

    /// What is ready, in the order in which it became so.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Source>) -> io::Result<()> {
        let timeout = timeout.map(|wait| {
            // Rounded up: to wake too early would mean to turn round and round.
            let wait = wait + Duration::from_micros(100);
            Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
        });
        self.events.clear();
        ready.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.extend(self.events.iter().map(|event| {
            let data = event.data;
            Source::from_number(data.u64())
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_descriptor_is_survives_the_kernel() {
        let key = Key { index: u32::MAX, turn: (1 << TURN_BITS) - 1 };
        for source in [
            Source::Listener,
            Source::Monitor(key),
            Source::Datagrams(key),
            Source::Knock(Key { index: 7, turn: 0 }),
            Source::Stream(Key { index: 0, turn: 9 }),
            Source::Outside(key),
            Source::Gate,
        ] {
            assert_eq!(Source::from_number(source.to_number()), source);
        }
    }
}
