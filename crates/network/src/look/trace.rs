//! Which rule drops a packet: the kernel tells of packets that are marked for it (`nftrace`), whoever's rule it is.
//!
//! For as long as it takes, a table of our own marks the packets of one flow, in the families that may see it first. It ends
//! no packet, and is gone with the trace; nobody else's packets match.

use std::fs::File;
use std::net::IpAddr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::Attempt;
use crate::netlink::{Protocol, Refusal, Socket};
use crate::nft::trace as rules;
use crate::{Result, change};

/// The packets that are of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// To this address; none: to any.
    pub to: Option<IpAddr>,
    /// To this port.
    pub port: u16,
    /// By UDP, not TCP.
    pub udp: bool,
}

/// A rule, or a chain's policy, that dropped a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// `ip`, `inet`, `bridge`, …
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's number; none: it was the chain's policy.
    pub rule: Option<u64>,
}

/// A trace that has begun. Dropped, it ends.
#[derive(Debug)]
pub struct Trace<'a> {
    namespace: Option<&'a File>,
    socket: Socket,
    table: String,
}

impl<'a> Trace<'a> {
    /// Begins to trace a flow in a network namespace, or here.
    pub fn begin(namespace: Option<&'a File>, flow: Flow) -> Result<Self> {
        let table = format!("dhow_why_{}", std::process::id());
        let begin = || {
            let socket = Socket::open(Protocol::Netfilter)?;
            socket.join(rules::GROUP)?;
            rules::mark(&table, flow)?;
            Ok::<_, Refusal>(socket)
        };
        let socket = match namespace {
            Some(namespace) => change::inside_of(namespace, || Ok(begin())),
            None => Ok(begin()),
        }?
        .firewall(|| "trace packets".to_owned())?;
        Ok(Self { namespace, socket, table })
    }

    /// What has dropped packets of the flow by now.
    pub fn dropped(&self) -> Vec<Dropped> {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut found: Vec<Dropped> = Vec::new();
        let ready = || poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&NOW)).unwrap_or(0) > 0;
        while ready() {
            let received = self.socket.each(|message| found.extend(rules::read(message)));
            // It overflowed: what was lost is lost.
            if received.is_err() {
                break;
            }
        }
        found.dedup();
        found
    }

    /// How long a packet may be on its way.
    pub const PATIENCE: Duration = Duration::from_millis(1500);
}

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        let end = || rules::unmark(&self.table);
        // Where this fails, a table is left that does nothing but mark.
        match self.namespace {
            Some(namespace) => {
                change::inside_of(namespace, || Ok(end())).ok().and_then(std::result::Result::ok)
            }
            None => end().ok(),
        };
    }
}
