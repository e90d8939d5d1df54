//! What comes to published ports from outside is translated at once, for as long as it is known that nobody has a say.
//!
//! The warden shows the first packet to the host's firewall ([`crate::warden`]), and takes a hand in each connection. Where there
//! is no firewall, that is a detour. So whenever a packet has come by it, the warden looks whether a rule of anybody's could have
//! said no to it ([`super::others::may_refuse`]), and if not, lets all come directly – for a tenth of a second, after which a
//! packet takes the long way again, and the warden looks again.
//!
//! Why a time, and not a switch: where no warden lives, or it is stopped, the firewall rules again by itself. What changes in
//! nftables the kernel tells the warden, which ends the time at once; what the old iptables of the kernel (`ip_tables`) does
//! nobody is told, and is seen with the next look.

use crate::netlink::{CREATE, Refusal};

use super::set::Element;
use super::table::DIRECT;
use super::{DELSETELEM, NEWSETELEM, Transaction};

/// How long.
pub(crate) const TIME: std::time::Duration = std::time::Duration::from_millis(100);

/// TCP, UDP, SCTP.
const PROTOCOLS: [[u8; 1]; 3] = [[6], [17], [132]];

/// Begins the time anew.
pub(crate) fn open(table: &str) -> Result<(), Refusal> {
    let mut transaction = Transaction::new();
    let [first, others @ ..] = PROTOCOLS.map(Until);
    for protocol in others {
        protocol.element().replace(&mut transaction, table, DIRECT);
    }
    // One that is there already is made anew, too: see `replace`.
    first.element().add(&mut transaction, table, DIRECT);
    Element::Value(&first.0, &[]).remove(&mut transaction, table, DIRECT);
    transaction.commit(NEWSETELEM, CREATE, |r| first.element().write(r, table, DIRECT))
}

/// Ends it.
pub(crate) fn close(table: &str) -> Result<(), Refusal> {
    let mut transaction = Transaction::new();
    let [first, others @ ..] = PROTOCOLS.map(Until);
    for protocol in others {
        // Added so that there is something to be removed: it may have run out.
        protocol.element().add(&mut transaction, table, DIRECT);
        Element::Value(&protocol.0, &[]).remove(&mut transaction, table, DIRECT);
    }
    first.element().add(&mut transaction, table, DIRECT);
    transaction.commit(DELSETELEM, 0, |r| Element::Value(&first.0, &[]).write(r, table, DIRECT))
}

struct Until([u8; 1]);

impl Until {
    fn element(&self) -> Element<'_> {
        Element::Until(&self.0, TIME.as_millis() as u64)
    }
}
