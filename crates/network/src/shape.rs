//! How much a container may send and be sent, in its network's end of its links.
//!
//! ```text
//! to the container      bridge ──▶ veth: tbf ──▶ eth0
//! from the container    eth0 ──▶ veth: ingress, all ──▶ ifb: tbf ──▶ bridge
//! ```
//!
//! All of it is on the host, out of reach for the container's root. What a link receives has no queue, so that it takes a
//! device of its own (`ifb`) to hold it back; that lives beside the link and is removed with its claim.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::Attempt;
use crate::netlink::{self, Protocol, Refusal, Request, Socket};
use crate::{Result, link};

/// How much passes at most, in bytes per second, as the container sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What it receives.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub incoming: Option<u64>,
    /// What it sends.
    #[serde(default, rename = "out", skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<u64>,
}

impl Bandwidth {
    /// Whether there is no limit.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

const NEWQDISC: u16 = 36;
const DELQDISC: u16 = 37;
const NEWTFILTER: u16 = 44;
const REPLACE: u16 = 0x100;

const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const OUR_HANDLE: u32 = 0x0001_0000;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

/// The host's end of a link that is shaped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shaped<'a> {
    /// Its name.
    pub(crate) link: &'a str,
    /// Its index.
    pub(crate) index: u32,
    /// Its MTU.
    pub(crate) mtu: u32,
}

impl Shaped<'_> {
    /// Sets limits on a link that has none yet.
    pub(crate) fn limit(&self, bandwidth: Bandwidth) -> Result<()> {
        // That of the link's last life; what led there went with the link.
        link::delete_name(&self.held_back()).link(|| format!("remove the link `{}`", self.held_back()))?;
        self.incoming(bandwidth.incoming)?;
        self.outgoing(bandwidth.outgoing, false)
    }

    /// Changes the limits of a link.
    pub(crate) fn change(&self, before: Bandwidth, after: Bandwidth) -> Result<()> {
        if before.incoming != after.incoming {
            self.incoming(after.incoming)?;
        }
        if before.outgoing != after.outgoing {
            self.outgoing(after.outgoing, before.outgoing.is_some())?;
        }
        Ok(())
    }

    /// The device at which waits what the container sends.
    fn held_back(&self) -> String {
        held_back(self.link)
    }

    fn incoming(&self, rate: Option<u64>) -> Result<()> {
        let done = match rate {
            Some(rate) => transact(|r| tbf(r, self.index, rate, self.mtu)),
            None => {
                absent(transact(|r| r.message(DELQDISC, netlink::ACK, &tc(self.index, 0, ROOT, 0), |_| {})))
            }
        };
        done.link(|| format!("limit what is sent to the link `{}`", self.link))
    }

    fn outgoing(&self, rate: Option<u64>, standing: bool) -> Result<()> {
        let name = self.held_back();
        let what = || format!("limit what comes from the link `{}`", self.link);
        let Some(rate) = rate else {
            // First what leads there: no packet is to go to where nobody takes it.
            absent(transact(|r| {
                r.message(DELQDISC, netlink::ACK, &tc(self.index, INGRESS_HANDLE, INGRESS, 0), |_| {});
            }))
            .link(what)?;
            return remove(self.link);
        };
        if !standing {
            link::create_held_back(&name, self.mtu).link(what)?;
        }
        let index =
            link::index_of(&name).link(what)?.ok_or_else(|| Refusal::from(Errno::NODEV)).link(what)?;
        transact(|r| tbf(r, index, rate, self.mtu)).link(what)?;
        if standing {
            return Ok(());
        }
        transact(|r| {
            let flags = netlink::CREATE | netlink::EXCLUSIVE | netlink::ACK;
            r.message(NEWQDISC, flags, &tc(self.index, INGRESS_HANDLE, INGRESS, 0), |r| {
                r.string(KIND, "ingress");
            });
            lead(r, self.index, index);
        })
        .link(what)
    }
}

/// Removes what is beside a link; fine if there is nothing.
pub(crate) fn remove(link: &str) -> Result<()> {
    let name = held_back(link);
    link::delete_name(&name).link(|| format!("remove the link `{name}`"))
}

/// One byte more than a link's name, which leaves room for it.
fn held_back(link: &str) -> String {
    format!("{link}i")
}

fn transact(write: impl FnOnce(&mut Request)) -> std::result::Result<(), Refusal> {
    let mut request = Request::new();
    write(&mut request);
    Socket::open(Protocol::Route)?.transact(&request, request.len())
}

/// Fine if there was nothing to be removed.
fn absent(result: std::result::Result<(), Refusal>) -> std::result::Result<(), Refusal> {
    match result {
        Err(refusal) if matches!(refusal.errno, Errno::NOENT | Errno::INVAL | Errno::NODEV) => Ok(()),
        other => other,
    }
}

/// `tcmsg`.
fn tc(index: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut header = [0; 20];
    for (at, value) in [(4, index), (8, handle), (12, parent), (16, info)] {
        header[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    header
}

/// A token bucket as the queue of a link, or other numbers for the one it has.
fn tbf(request: &mut Request, index: u32, rate: u64, mtu: u32) {
    const PARAMETERS: u16 = 1;
    const RATE64: u16 = 4;
    const BURST: u16 = 6;
    let bucket = Bucket::of(rate, mtu);
    let flags = netlink::CREATE | REPLACE | netlink::ACK;
    request.message(NEWQDISC, flags, &tc(index, OUR_HANDLE, ROOT, 0), |r| {
        r.string(KIND, "tbf");
        r.nest(OPTIONS, |r| {
            // tc_tbf_qopt: rate and peak rate (12 bytes each), limit, buffer, mtu.
            const ETHERNET: u8 = 1;
            let mut parameters = [0; 36];
            // Said, so that the kernel wants no table of times from us.
            parameters[1] = ETHERNET;
            parameters[8..12].copy_from_slice(&u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
            parameters[24..28].copy_from_slice(&bucket.queue.to_ne_bytes());
            r.bytes(PARAMETERS, &parameters);
            if rate > u64::from(u32::MAX) {
                r.bytes(RATE64, &rate.to_ne_bytes());
            }
            r.u32(BURST, bucket.burst);
        });
    });
}

/// Sends all that a link receives out through another device.
fn lead(request: &mut Request, from: u32, to: u32) {
    const SELECTOR: u16 = 5;
    const ACTIONS: u16 = 7;
    const FIRST: u16 = 1;
    const ACTION_KIND: u16 = 1;
    const ACTION_OPTIONS: u16 = 2;
    const MIRRED_PARAMETERS: u16 = 2;
    /// `ETH_P_ALL`.
    const EVERY_PROTOCOL: u16 = 3;
    const PRIORITY: u32 = 1 << 16;
    let info = PRIORITY | u32::from(EVERY_PROTOCOL.to_be());
    let flags = netlink::CREATE | netlink::EXCLUSIVE | netlink::ACK;
    request.message(NEWTFILTER, flags, &tc(from, 0, INGRESS_HANDLE, info), |r| {
        r.string(KIND, "u32");
        r.nest(OPTIONS, |r| {
            // tc_u32_sel without keys: everything, also what is too short for one.
            const TERMINAL: u8 = 1;
            let mut selector = [0; 16];
            selector[0] = TERMINAL;
            r.bytes(SELECTOR, &selector);
            r.nest(ACTIONS, |r| {
                r.nest(FIRST, |r| {
                    r.string(ACTION_KIND, "mirred");
                    r.nest(ACTION_OPTIONS, |r| {
                        // tc_mirred: index, capabilities, action, two counts, what is done, to which link.
                        const STOLEN: u32 = 4;
                        const REDIRECT: u32 = 1;
                        let mut parameters = [0; 28];
                        parameters[8..12].copy_from_slice(&STOLEN.to_ne_bytes());
                        parameters[20..24].copy_from_slice(&REDIRECT.to_ne_bytes());
                        parameters[24..28].copy_from_slice(&to.to_ne_bytes());
                        r.bytes(MIRRED_PARAMETERS, &parameters);
                    });
                });
            });
        });
    });
}

/// The sizes of a token bucket.
#[derive(Debug, PartialEq, Eq)]
struct Bucket {
    /// What may pass at once.
    burst: u32,
    /// What may wait.
    queue: u32,
}

impl Bucket {
    fn of(rate: u64, mtu: u32) -> Self {
        /// The kernel cuts what is larger into packets, which is slow, so that fast links want more.
        const LEAST_BURST: u64 = 16 << 10;
        const LEAST_QUEUE: u64 = 64 << 10;
        // A packet and its header have to fit.
        let burst = (rate / 100).max(LEAST_BURST).max(u64::from(mtu) + 64);
        // Fifty milliseconds: more would be waiting for nothing.
        let queue = (rate / 20).max(LEAST_QUEUE) + burst;
        let fit = |n: u64| u32::try_from(n).unwrap_or(u32::MAX / 2);
        Self { burst: fit(burst), queue: fit(queue) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_fits_into_every_bucket_and_the_fastest_is_no_overflow() {
        for (rate, mtu) in [(1000, 1500), (1000, 65_535), (125_000_000, 1500), (u64::MAX, 1500)] {
            let bucket = Bucket::of(rate, mtu);
            assert!(bucket.burst > mtu && bucket.queue >= bucket.burst, "{rate} {mtu}: {bucket:?}");
        }
    }

    #[test]
    fn the_name_beside_a_link_is_one_that_the_kernel_takes() {
        assert_eq!(held_back("dh0123abcdef01").len(), 15);
    }
}
