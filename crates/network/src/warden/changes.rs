//! What is changed in the firewall, and by whom, as the kernel tells everybody who listens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::netlink::{Protocol, Refusal, Socket, parse};
use crate::nft::pairs;
use crate::warden::has_lost;

const SUBSYSTEM: u16 = 10;
const NEW_GENERATION: u16 = 15;
/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << 6;
const INET: u8 = 1;
const BRIDGE: u8 = 7;
/// More than a large rule set takes when it is flushed.
const ROOM: usize = 2 << 20;

/// What has been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// What we do ourselves to our tables.
    Ours,
    /// Somebody else has changed tables of his own.
    Elsewhere,
    /// Somebody else has had his hands in ours.
    Others,
}

/// Hears every transaction.
#[derive(Debug)]
pub(crate) struct Changes {
    socket: Socket,
    buffer: Box<[u8]>,
    reader: Reader,
}

impl Changes {
    pub(crate) fn open() -> Result<Self, Refusal> {
        let socket = Socket::open(Protocol::Netfilter)?;
        socket.listen(GROUP, ROOM)?;
        Ok(Self { socket, buffer: vec![0; 64 << 10].into(), reader: Reader::default() })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads all there is, and says what has been done to the tables of this name.
    pub(crate) fn read(&mut self, table: &str) -> io::Result<Change> {
        let mut change = Change::None;
        loop {
            match self.socket.receive_now(&mut self.buffer) {
                Ok(length) => change = change.max(self.reader.read(&self.buffer[..length], table)),
                Err(Errno::AGAIN) => return Ok(change),
                // Who knows what it was.
                Err(errno) if has_lost(errno) || errno == Errno::MSGSIZE => change = Change::Others,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Reads transactions, which may be spread over several datagrams: each ends with the number of the new generation, and who made
/// it.
#[derive(Debug, Default)]
struct Reader {
    /// The transaction that is being read is about our tables.
    ours: bool,
}

impl Reader {
    fn read(&mut self, datagram: &[u8], table: &str) -> Change {
        const TABLE: u16 = 1;
        const PROCESS: u16 = 3;
        let mut change = Change::None;
        for message in parse::messages(datagram) {
            if message.kind >> 8 != SUBSYSTEM {
                continue;
            }
            let family = message.payload.first().copied().unwrap_or_default();
            let attributes = message.payload.get(4..).unwrap_or_default();
            if message.kind & 0xff == NEW_GENERATION {
                let by = parse::attribute(attributes, PROCESS).map(parse::string).unwrap_or_default();
                let what = match (std::mem::take(&mut self.ours), is_ours(by)) {
                    (true, true) => Change::Ours,
                    (true, false) => Change::Others,
                    (false, true) => Change::None,
                    (false, false) => Change::Elsewhere,
                };
                change = change.max(what);
            } else if matches!(family, INET | BRIDGE) {
                self.ours |= parse::attribute(attributes, TABLE).is_some_and(|name| {
                    let name = parse::string(name);
                    name == table || name == pairs::name(table)
                });
            }
        }
        change
    }
}

/// Whether a process is one of Dhow's: `dhow`, `dhow-monitor`, …
fn is_ours(process: &str) -> bool {
    process == "dhow" || process.starts_with("dhow-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::Request;

    fn transaction(table: &str, by: &str) -> Vec<u8> {
        const DELETE_TABLE: u16 = 2;
        let mut request = Request::new();
        request.message((SUBSYSTEM << 8) | DELETE_TABLE, 0, &[INET, 0, 0, 0], |r| r.string(1, table));
        request.message((SUBSYSTEM << 8) | NEW_GENERATION, 0, &[0; 4], |r| {
            r.be32(1, 7);
            r.be32(2, 4711);
            r.string(3, by);
        });
        request.into_bytes()
    }

    #[test]
    fn others_hands_in_our_table_are_seen() {
        let mut reader = Reader::default();
        assert_eq!(reader.read(&transaction("dhow", "nft"), "dhow"), Change::Others);
        assert_eq!(reader.read(&transaction("dhow", "dhow-monitor"), "dhow"), Change::Ours);
        assert_eq!(reader.read(&transaction("filter", "nft"), "dhow"), Change::Elsewhere);
        assert_eq!(reader.read(&transaction("dhow2", "dhow-monitor"), "dhow"), Change::None);
        // In two datagrams.
        let whole = transaction("dhow", "iptables");
        let first = parse::u32_at(&whole, 0).unwrap() as usize;
        assert_eq!(reader.read(&whole[..first], "dhow"), Change::None);
        assert_eq!(reader.read(&whole[first..], "dhow"), Change::Others);
        assert_eq!(reader.read(&transaction("dhow_pairs", "nft"), "dhow"), Change::Others);
        assert!(!is_ours("dhowl") && is_ours("dhow") && is_ours("dhow-netd"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Reader::default().read(&bytes, "dhow");
        }
    }
}
