//! The warden's eyes and hands: what comes to published ports from outside, and what others do to our tables.
//!
//! **Why a warden.** A packet that is translated in `prerouting` is forwarded, and what is forwarded never meets the rules about
//! what may come in to this host: ufw, firewalld and the like say "deny", and the port is open all the same. So what comes from
//! outside is not translated there. It goes its way to this host, past everybody's input chains. The last of them is ours: what
//! has come so far was let in. If it begins a connection to a published port, the kernel hands it to the warden and drops it.
//! The warden tells the kernel of a connection from that client to the container (`entry`), and sends the packet again from
//! this host, where it is of that connection and is translated like all that follow.
//!
//! ```text
//!   client ──▶ prerouting ──▶ input: ufw, firewalld, … ──▶ our input ──┐ the first packet
//!                                                                      ▼
//!   container ◀── output (translated) ◀── sent again ◀── connection ◀── warden
//!   client ──▶ prerouting (translated) ──▶ forward: established ──▶ container           all that follow, and all answers
//! ```
//!
//! - Who decides is asked: the packet itself meets the rules, with its own source, port and interface, whoever wrote them in
//!   whatever way.
//! - It is no proxy: only the first packet comes by here, and containers see their clients' addresses.
//! - Others' forward chains let pass what belongs to a connection; so nothing has to be opened there.
//! - Where there is no firewall, only a packet in a tenth of a second goes that way: see `direct`.
//! - While no warden lives, connections go on; new ones wait until their first packet is sent once more.
//! - What is sent again leaves by `output`, so it cannot come to our input chain a second time, but through the loopback
//!   interface where it was not translated after all; there it is let pass, to the socket that holds the port and discards all.

pub(crate) mod changes;
mod direct;
mod entry;
mod packet;

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use state::Instance;

use crate::Result;
use crate::bridge::Bridge;
use crate::error::Attempt;
use crate::nft;

use changes::{Change, Changes};
use direct::Direct;
use entry::Entry;
pub(crate) use entry::{handed_over, hear};
pub(crate) use packet::{Packet, sum};

/// The warden of an instance's networks.
#[derive(Debug)]
pub struct Warden {
    bridge: Bridge,
    entry: Entry,
    changes: Changes,
    direct: Direct,
}

impl Warden {
    /// Opens all that it needs, in the network namespace of the calling thread. Afterwards `CAP_NET_ADMIN` suffices.
    ///
    /// # Errors
    /// Where the kernel refuses, or another process hears what would be handed to us.
    pub fn open(instance: &Instance) -> Result<Self> {
        let bridge = Bridge::of(instance);
        let changes = Changes::open().firewall(|| "listen to changes of the firewall".to_owned())?;
        let entry = Entry::open(&bridge.table, nft::table::group(&bridge.table))
            .firewall(|| "listen to what comes to published ports".to_owned())?;
        let direct = Direct::of(&bridge.table);
        Ok(Self { bridge, entry, changes, direct })
    }

    /// What is ready when something comes to a published port.
    pub fn entry(&self) -> BorrowedFd<'_> {
        self.entry.as_fd()
    }

    /// What is ready when somebody has changed a rule.
    pub fn changes(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }

    /// Lets in what has come. Also whether somebody else has had his hands in our tables, as [`Warden::is_spoilt`].
    ///
    /// # Errors
    /// Where the socket is of no use any more.
    pub fn let_in(&mut self) -> io::Result<bool> {
        // Where ports lead may have changed before what has come came.
        let mut spoilt = self.is_spoilt()?;
        if self.entry.serve()? {
            // What is known of others' rules is to be known now, not from before all these packets.
            spoilt |= self.is_spoilt()?;
            if !spoilt {
                self.direct.allow();
            }
        }
        Ok(spoilt)
    }

    /// Reads what has changed. Whether somebody else has had his hands in our tables.
    ///
    /// # Errors
    /// Where the socket is of no use any more.
    pub fn is_spoilt(&mut self) -> io::Result<bool> {
        let change = self.changes.read(&self.bridge.table)?;
        if matches!(change, Change::Ours | Change::Others) {
            self.entry.forget();
        }
        if matches!(change, Change::Elsewhere | Change::Others) {
            self.direct.forbid();
        }
        Ok(change == Change::Others)
    }

    /// Whether our tables stand.
    pub fn stands(&self) -> Result<bool> {
        self.bridge.tables_stand()
    }

    /// Makes our tables anew from what is written down, if a network stands.
    pub fn mend(&self) -> Result<()> {
        self.bridge.remake_tables().map(drop)
    }
}

/// A netlink socket has lost messages because nobody read them in time: it goes on with those that come.
fn has_lost(errno: Errno) -> bool {
    errno == Errno::NOBUFS
}
