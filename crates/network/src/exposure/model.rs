//! The host once more, in a network namespace that goes when it has been tried: its links and others' rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use state::Instance;
use state::options::{PortMapping, Protocol as Transport};

use crate::bridge::Bridge;
use crate::error::Attempt;
use crate::exposure::probes::{self, Arrived, Sender};
use crate::exposure::rules::Others;
use crate::link::{self, Listed};
use crate::netlink::{Protocol, Refusal, Socket};
use crate::nft::table::{self, Firewall};
use crate::store::Store;
use crate::{Result, exposure, warden};

/// A link by which packets come in from outside.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) name: String,
    mac: [u8; 6],
    pub(super) addresses: Vec<(IpAddr, u8)>,
    /// A default route leads there: of IPv4, of IPv6.
    default_routes: [bool; 2],
    /// What `rp_filter` says.
    strictness: String,
}

/// The other ends of the links.
const OTHER_END: &str = "dhowprobe";
/// Nothing more is to come when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(20);
/// The most links that are tried.
const MOST: usize = 32;

/// The host's links that are up and have addresses, but for loopback and our own bridges.
pub(super) fn links(instance: &Instance) -> Result<Vec<Link>> {
    let mut ours: BTreeSet<String> = BTreeSet::from([Bridge::of(instance).name]);
    for definition in Store::open(instance).list()? {
        ours.insert(Bridge::of_network(instance, &definition).name);
    }
    let listed = link::list().link(|| "list the host's links".to_owned())?;
    let usable =
        |link: &Listed| link.up && !link.loopback && !link.addresses.is_empty() && !ours.contains(&link.name);
    Ok(listed.into_iter().filter(usable).take(MOST).map(Link::of).collect())
}

impl Link {
    fn of(listed: Listed) -> Self {
        // What has no hardware address of six bytes (a tunnel) is tried as if it had.
        let mac = <[u8; 6]>::try_from(&listed.mac[..]).ok().filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6]);
        Self {
            mac: mac.unwrap_or([2, 0, 0, 0, 0, 1]),
            strictness: std::fs::read_to_string(strictness(&listed.name)).unwrap_or_default(),
            name: listed.name,
            addresses: listed.addresses,
            default_routes: listed.default_routes,
        }
    }
}

fn strictness(link: &str) -> std::path::PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(link).join("rp_filter")
}

/// Tries all senders at all ports, by all links. What has come through.
pub(super) fn inside(
    table: &str,
    links: &[Link],
    others: &Others,
    targets: &[PortMapping],
    senders: &[Sender],
) -> std::result::Result<BTreeSet<Arrived>, String> {
    let all = std::fs::read_to_string(strictness("all")).unwrap_or_default();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            const NEW_NETWORK: u32 = 0x4000_0000;
            sys::process::unshare(NEW_NETWORK)
                .map_err(|e| format!("no network namespace can be made: {e}"))?;
            std::fs::write(strictness("all"), &all).ok();
            let failed = |refusal: Refusal| format!("the host's links cannot be made once more: {refusal}");
            let model = Model::new(links).map_err(failed)?;
            others.load()?;
            model
                .listen(table, targets)
                .map_err(|refusal| format!("the ports cannot be tried: {refusal}"))?;
            model.try_all(targets, senders).map_err(|errno| format!("the ports cannot be tried: {errno}"))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct Model<'a> {
    links: &'a [Link],
    /// By which link what arrives came.
    by_index: BTreeMap<u32, &'a Link>,
    /// The other ends' indexes, in the links' order.
    ends: Vec<u32>,
    handed: Socket,
    frames: rustix::fd::OwnedFd,
}

impl<'a> Model<'a> {
    fn new(links: &'a [Link]) -> std::result::Result<Self, Refusal> {
        let (mut by_index, mut ends) = (BTreeMap::new(), Vec::with_capacity(links.len()));
        link::up_by_name("lo")?;
        for (n, link) in links.iter().enumerate() {
            let end = format!("{OTHER_END}{n}");
            link::create_wire(&link.name, link.mac, &end)?;
            std::fs::write(strictness(&link.name), &link.strictness).ok();
            let index = link::index_of(&link.name)?.ok_or(Errno::NODEV)?;
            link::addresses_and_up(index, &link.addresses, link.default_routes)?;
            link::up_by_name(&end)?;
            by_index.insert(index, link);
            ends.push(link::index_of(&end)?.ok_or(Errno::NODEV)?);
        }
        let handed = Socket::open(Protocol::Netfilter)?;
        let frames = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { links, by_index, ends, handed, frames })
    }

    /// Puts our own chain behind the others', and hears what comes to it.
    fn listen(&self, table: &str, targets: &[PortMapping]) -> std::result::Result<(), Refusal> {
        table::create(table, &[], &exposure::elements(targets), Firewall::ObeyHostFirewall)?;
        warden::hear(&self.handed, table::group(table))
    }

    fn try_all(
        &self,
        targets: &[PortMapping],
        senders: &[Sender],
    ) -> std::result::Result<BTreeSet<Arrived>, Errno> {
        let mut arrived = BTreeSet::new();
        for port in targets.iter().filter(|port| port.protocol != Transport::Sctp) {
            for (link, end) in self.links.iter().zip(&self.ends) {
                for sender in senders {
                    let Some(target) = probes::target(port, link, sender.address.is_ipv6()) else { continue };
                    let packet = probes::packet(sender.address, target, port.host_port, port.protocol);
                    let frame = framed(link, &packet, target.is_ipv6());
                    sys::socket::send_frame(&self.frames, *end, &frame)?;
                }
                self.collect(&mut arrived)?;
            }
        }
        loop {
            std::thread::sleep(QUIET);
            if !self.collect(&mut arrived)? {
                return Ok(arrived);
            }
        }
    }

    /// Takes what has come through. Whether there was something.
    fn collect(&self, arrived: &mut BTreeSet<Arrived>) -> std::result::Result<bool, Errno> {
        let mut buffer = [0; 8192];
        let mut some = false;
        loop {
            match self.handed.receive_now(&mut buffer) {
                Ok(length) => {
                    some = true;
                    for (index, bytes) in warden::handed_over(&buffer[..length]) {
                        let link = index.and_then(|index| self.by_index.get(&index));
                        arrived.extend(link.and_then(|link| Arrived::read(link, bytes)));
                    }
                }
                Err(Errno::AGAIN) => return Ok(some),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// A packet as it comes by a link, from somebody's router.
fn framed(link: &Link, packet: &[u8], six: bool) -> Vec<u8> {
    const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
    let kind: [u8; 2] = if six { [0x86, 0xdd] } else { [8, 0] };
    [&link.mac[..], &ROUTER, &kind, packet].concat()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn frames_have_a_header() {
        let link = Link {
            name: "lan".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec![(Ipv4Addr::LOCALHOST.into(), 8), (Ipv6Addr::LOCALHOST.into(), 128)],
            default_routes: [false; 2],
            strictness: String::new(),
        };
        assert_eq!(framed(&link, &[0x45], false), [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x77, 8, 0, 0x45]);
    }
}
