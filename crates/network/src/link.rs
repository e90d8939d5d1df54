//! Links and their addresses: the rtnetlink messages that we send, and the lists that we read. What the host reaches by them is
//! in [`routes`].

mod routes;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::netlink::{self, Protocol, Refusal, Request, Socket, parse};
use crate::subnet::Subnet;

pub(crate) use routes::{local_addresses, reachable, route_to};

/// The interface index of `eth0` in every container; `eth1` has the next one. Fixed, so that the child's messages can be written before
/// the interface exists. It must be free in the container's namespace, where some kernels make a few links by
/// themselves (`tunl0`, `sit0`, …), and in the host's, where the kernel looks before it heeds the namespace:
/// far above what either counts up to.
const CONTAINER_INDEX: u32 = 1_000_000_000;
const LOOPBACK_INDEX: u32 = 1;

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

const UP: u32 = 1;
const INET: u8 = 2;
const INET6: u8 = 10;

/// `ifinfomsg`: `flags` are set where `change` says so.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Attributes of a link.
mod attr {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const BELOW: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const INFO: u16 = 18;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const NAMESPACE_OF_PID: u16 = 19;
    pub(super) const NAMESPACE_OF_FD: u16 = 28;
    pub(super) const TX_QUEUES: u16 = 31;
    pub(super) const RX_QUEUES: u16 = 32;
}

/// A veth pair to be made: one end a port of a bridge, the other in a container.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    /// The host end's name.
    pub(crate) name: &'a str,
    /// The host end's index.
    pub(crate) index: u32,
    /// The bridge's index.
    pub(crate) bridge: u32,
    /// The MTU of both ends.
    pub(crate) mtu: u32,
    /// The container end's number: `eth0` is 0.
    pub(crate) number: u32,
    /// The container end's hardware address.
    pub(crate) mac: [u8; 6],
    /// Where the container's end goes.
    pub(crate) target: Target<'a>,
}

/// A network namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// That of a process.
    Process(u32),
    /// This one.
    Namespace(BorrowedFd<'a>),
}

/// Makes the pair, both ends up and in their places.
///
/// The container's end comes first, and is up before the host's end is: a bridge port whose other end is still
/// down stays closed until a worker of the kernel has noticed the change, see [`wait_until_operational`].
pub(crate) fn create_pair(pair: &Pair<'_>) -> Result<(), Refusal> {
    const PEER: u16 = 1;
    let mut request = Request::new();
    let flags = netlink::CREATE | netlink::EXCLUSIVE | netlink::ACK;
    request.message(NEWLINK, flags, &link_header(CONTAINER_INDEX + pair.number, UP, UP), |r| {
        r.string(attr::NAME, &format!("eth{}", pair.number));
        place(r, pair.target);
        r.u32(attr::MTU, pair.mtu);
        r.bytes(attr::ADDRESS, &pair.mac);
        one_queue(r);
        r.nest(attr::INFO, |r| {
            r.string(attr::INFO_KIND, "veth");
            r.nest(attr::INFO_DATA, |r| {
                // Not up: that would fail as long as the pair is not tied together.
                r.nest_after(PEER, &link_header(pair.index, 0, 0), |r| {
                    r.string(attr::NAME, pair.name);
                    r.u32(attr::MTU, pair.mtu);
                    one_queue(r);
                });
            });
        });
    });
    request.message(NEWLINK, netlink::ACK, &link_header(pair.index, UP, UP), |r| {
        r.u32(attr::MASTER, pair.bridge);
    });
    Socket::open(Protocol::Route)?.transact(&request, 2)
}

/// Makes a link on another one, up, in a container.
pub(crate) fn create_macvlan(
    parent: u32,
    mode: u32,
    mtu: u32,
    number: u32,
    mac: Option<[u8; 6]>,
    target: Target<'_>,
) -> Result<(), Refusal> {
    const MODE: u16 = 1;
    let mut request = Request::new();
    let flags = netlink::CREATE | netlink::EXCLUSIVE | netlink::ACK;
    request.message(NEWLINK, flags, &link_header(CONTAINER_INDEX + number, UP, UP), |r| {
        r.string(attr::NAME, &format!("eth{number}"));
        place(r, target);
        r.u32(attr::BELOW, parent);
        r.u32(attr::MTU, mtu);
        if let Some(mac) = mac {
            r.bytes(attr::ADDRESS, &mac);
        }
        r.nest(attr::INFO, |r| {
            r.string(attr::INFO_KIND, "macvlan");
            r.nest(attr::INFO_DATA, |r| r.u32(MODE, mode));
        });
    });
    Socket::open(Protocol::Route)?.transact(&request, 1)
}

/// Makes the link of a VLAN, up.
pub(crate) fn create_vlan(name: &str, below: u32, id: u16) -> Result<(), Refusal> {
    const ID: u16 = 1;
    create(name, "vlan", |r| r.u32(attr::BELOW, below), |r| r.bytes(ID, &id.to_ne_bytes()))
}

/// Makes a link that leads nowhere, up.
pub(crate) fn create_dummy(name: &str) -> Result<(), Refusal> {
    create(name, "dummy", |_| {}, |_| {})
}

fn create(
    name: &str,
    kind: &str,
    attributes: impl FnOnce(&mut Request),
    data: impl FnOnce(&mut Request),
) -> Result<(), Refusal> {
    let mut request = Request::new();
    let flags = netlink::CREATE | netlink::EXCLUSIVE | netlink::ACK;
    request.message(NEWLINK, flags, &link_header(0, UP, UP), |r| {
        r.string(attr::NAME, name);
        attributes(r);
        r.nest(attr::INFO, |r| {
            r.string(attr::INFO_KIND, kind);
            r.nest(attr::INFO_DATA, data);
        });
    });
    Socket::open(Protocol::Route)?.transact(&request, 1)
}

fn place(r: &mut Request, target: Target<'_>) {
    match target {
        Target::Process(pid) => r.u32(attr::NAMESPACE_OF_PID, pid),
        Target::Namespace(fd) => r.u32(attr::NAMESPACE_OF_FD, fd.as_raw_fd().cast_unsigned()),
    }
}

/// Waits until a pair and its bridge can carry packets.
///
/// That a link's other end came up is noticed by a worker, in some ten microseconds or, on a busy machine, much
/// later. Until then the end that was up first has no queue, a bridge port may be closed, and a bridge that had
/// no port sends nothing: the container's first packet would be lost, and asked again only after a second.
///
/// Since Linux 6.9 to ask for a link's state does the worker's work for it, so each is asked once. Before, the
/// answer waits for the worker's lock, and is asked for again. Either way the child mounts meanwhile, and mostly
/// has longer to do.
pub(crate) fn wait_until_operational(pair: &Pair<'_>) -> Result<(), Refusal> {
    /// Then the container starts all the same: its packets are late, not lost for ever.
    const PATIENCE: Duration = Duration::from_millis(100);
    const PAUSE: Duration = Duration::from_micros(20);
    let socket = Socket::open(Protocol::Route)?;
    let start = Instant::now();
    let wait = |link, namespace| loop {
        let state = state(&socket, link, namespace)?;
        if state.operational || start.elapsed() > PATIENCE {
            return Ok::<_, Refusal>(state);
        }
        std::thread::sleep(PAUSE);
    };
    let host_end = wait(pair.index, None)?;
    if host_end.other_namespace.is_some() {
        wait(CONTAINER_INDEX + pair.number, host_end.other_namespace)?;
    }
    // Last: it has its first port only now.
    wait(pair.bridge, None)?;
    Ok(())
}

struct State {
    operational: bool,
    /// The id that the kernel gave the namespace of the link's other end.
    other_namespace: Option<u32>,
}

/// The state of a link, in the namespace of this id, or ours.
fn state(socket: &Socket, link: u32, namespace: Option<u32>) -> Result<State, Refusal> {
    const STATE: u16 = 16;
    const OPERATIONAL: u8 = 6;
    const DETAIL: u16 = 29;
    const WITHOUT_STATISTICS: u32 = 8;
    const OTHER_NAMESPACE: u16 = 37;
    const IN_NAMESPACE: u16 = 46;
    let mut request = Request::new();
    request.message(GETLINK, 0, &link_header(link, 0, 0), |r| {
        r.u32(DETAIL, WITHOUT_STATISTICS);
        if let Some(id) = namespace {
            r.u32(IN_NAMESPACE, id);
        }
    });
    socket.ask(&request, |payload| {
        let attributes = payload.get(16..).unwrap_or_default();
        State {
            operational: parse::attribute(attributes, STATE) == Some(&[OPERATIONAL]),
            other_namespace: parse::attribute(attributes, OTHER_NAMESPACE)
                .and_then(|id| parse::u32_at(id, 0)),
        }
    })
}

/// Lets a bridge port send a frame back to where it came from.
///
/// Where `br_netfilter` is loaded, the kernel translates and bridges a packet without routing it: a container
/// that uses a port that it publishes itself would never see its own packet again.
pub(crate) fn reflect(port: u32) -> Result<(), Refusal> {
    const BRIDGE_FAMILY: u8 = 7;
    const SETLINK: u16 = 19;
    const PORT_INFO: u16 = 12;
    const REFLECT: u16 = 4;
    let mut header = link_header(port, 0, 0);
    header[0] = BRIDGE_FAMILY;
    let mut request = Request::new();
    request.message(SETLINK, netlink::ACK, &header, |r| {
        r.nest(PORT_INFO, |r| r.bytes(REFLECT, &[1]));
    });
    Socket::open(Protocol::Route)?.transact(&request, 1)
}

/// The kernel would allocate a queue for each processor and use one of them.
fn one_queue(r: &mut Request) {
    r.u32(attr::TX_QUEUES, 1);
    r.u32(attr::RX_QUEUES, 1);
}

/// Loopback up: all that a namespace without a link needs.
pub(crate) fn loopback_up(request: &mut Request) {
    up(request, LOOPBACK_INDEX);
}

fn up(request: &mut Request, index: u32) {
    request.message(NEWLINK, netlink::ACK, &link_header(index, UP, UP), |_| {});
}

/// An address in a container: of which interface, with which prefix.
pub(crate) fn container_address(request: &mut Request, number: u32, ip: IpAddr, prefix: u8) {
    add_address(request, CONTAINER_INDEX + number, ip, prefix);
}

/// A container's default route.
pub(crate) fn container_route(request: &mut Request, number: u32, gateway: IpAddr) {
    let (family, octets) = match gateway {
        IpAddr::V4(ip) => (INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (INET6, ip.octets().to_vec()),
    };
    // rtmsg: family, dst_len, src_len, tos, table main, protocol boot, scope universe, type unicast, flags.
    let route = [family, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    request.message(NEWROUTE, netlink::CREATE | netlink::EXCLUSIVE | netlink::ACK, &route, |r| {
        const GATEWAY: u16 = 5;
        const OUTGOING: u16 = 4;
        r.bytes(GATEWAY, &octets);
        r.u32(OUTGOING, CONTAINER_INDEX + number);
    });
}

fn add_address(request: &mut Request, index: u32, ip: IpAddr, prefix: u8) {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const BROADCAST: u16 = 4;
    /// Claims settle who has it; to ask the neighbours first would make it usable only a second later.
    const NO_DUPLICATE_DETECTION: u8 = 2;
    let mut header = [0; 8];
    header[1] = prefix;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let flags = netlink::CREATE | netlink::EXCLUSIVE | netlink::ACK;
    match ip {
        IpAddr::V4(ip) => {
            header[0] = INET;
            request.message(NEWADDR, flags, &header, |r| {
                r.bytes(ADDRESS, &ip.octets());
                r.bytes(LOCAL, &ip.octets());
                r.bytes(BROADCAST, &Subnet::around(ip, prefix).broadcast().octets());
            });
        }
        IpAddr::V6(ip) => {
            header[0] = INET6;
            header[2] = NO_DUPLICATE_DETECTION;
            request.message(NEWADDR, flags, &header, |r| r.bytes(ADDRESS, &ip.octets()));
        }
    }
}

/// Sets up the link of this name.
pub(crate) fn up_by_name(name: &str) -> Result<(), Refusal> {
    let index = index_of(name)?.ok_or(Errno::NODEV)?;
    let mut request = Request::new();
    up(&mut request, index);
    Socket::open(Protocol::Route)?.transact(&request, 1)
}

/// Makes a veth pair of these names, both ends in our own namespace and down.
pub(crate) fn create_wire(name: &str, mac: [u8; 6], end: &str) -> Result<(), Refusal> {
    const PEER: u16 = 1;
    let mut request = Request::new();
    let flags = netlink::CREATE | netlink::EXCLUSIVE | netlink::ACK;
    request.message(NEWLINK, flags, &link_header(0, 0, 0), |r| {
        r.string(attr::NAME, name);
        r.bytes(attr::ADDRESS, &mac);
        r.nest(attr::INFO, |r| {
            r.string(attr::INFO_KIND, "veth");
            r.nest(attr::INFO_DATA, |r| {
                r.nest_after(PEER, &link_header(0, 0, 0), |r| r.string(attr::NAME, end));
            });
        });
    });
    Socket::open(Protocol::Route)?.transact(&request, 1)
}

/// Gives a link its addresses, sets it up, and lets default routes (of IPv4, of IPv6) lead there.
pub(crate) fn addresses_and_up(
    index: u32,
    addresses: &[(IpAddr, u8)],
    default_routes: [bool; 2],
) -> Result<(), Refusal> {
    let mut request = Request::new();
    up(&mut request, index);
    for (ip, prefix) in addresses {
        add_address(&mut request, index, *ip, *prefix);
    }
    for (family, _) in [INET, INET6].into_iter().zip(default_routes).filter(|(_, leads)| *leads) {
        // rtmsg: … table main, protocol boot, scope link, type unicast.
        let route = [family, 0, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0];
        request.message(NEWROUTE, netlink::CREATE | netlink::ACK, &route, |r| {
            const OUTGOING: u16 = 4;
            r.u32(OUTGOING, index);
        });
    }
    Socket::open(Protocol::Route)?.transact(&request, request.len())
}

/// A link as it is listed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) loopback: bool,
    pub(crate) mac: Vec<u8>,
    /// Its addresses but those of IPv6 that every link has, with their prefixes.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// A default route leads there: of IPv4, of IPv6.
    pub(crate) default_routes: [bool; 2],
}

/// Lists all links.
pub(crate) fn list() -> Result<Vec<Listed>, Refusal> {
    const LOOPBACK: u32 = 8;
    let mut all: BTreeMap<u32, Listed> = BTreeMap::new();
    let socket = Socket::open(Protocol::Route)?;
    socket.dump(GETLINK, &link_header(0, 0, 0), |payload| {
        let Some(attributes) = payload.get(16..) else { return };
        let flags = parse::u32_at(payload, 8).unwrap_or(0);
        let link = Listed {
            name: parse::attribute(attributes, attr::NAME).map(parse::string).unwrap_or_default().to_owned(),
            up: flags & UP != 0,
            loopback: flags & LOOPBACK != 0,
            mac: parse::attribute(attributes, attr::ADDRESS).unwrap_or_default().to_vec(),
            ..Listed::default()
        };
        all.insert(parse::u32_at(payload, 4).unwrap_or(0), link);
    })?;
    socket.dump(GETADDR, &[0; 8], |payload| {
        const ADDRESS: u16 = 1;
        const LOCAL: u16 = 2;
        let (Some(&prefix), Some(attributes)) = (payload.get(1), payload.get(8..)) else { return };
        let own = parse::attribute(attributes, LOCAL).or_else(|| parse::attribute(attributes, ADDRESS));
        let link = parse::u32_at(payload, 4).and_then(|index| all.get_mut(&index));
        if let (Some(ip), Some(link)) = (own.and_then(ip), link)
            && !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
            && !link.addresses.contains(&(ip, prefix))
        {
            link.addresses.push((ip, prefix));
        }
    })?;
    socket.dump(GETROUTE, &[0; 12], |payload| {
        const DESTINATION: u16 = 1;
        const OUTGOING: u16 = 4;
        let (Some(&family), Some(&0), Some(attributes)) =
            (payload.first(), payload.get(1), payload.get(12..))
        else {
            return;
        };
        let index = parse::attribute(attributes, OUTGOING).and_then(|v| parse::u32_at(v, 0));
        let link = index.and_then(|index| all.get_mut(&index));
        if let (None, Some(link)) = (parse::attribute(attributes, DESTINATION), link) {
            link.default_routes[usize::from(family == INET6)] = true;
        }
    })?;
    Ok(all.into_values().collect())
}

/// Makes a bridge, still down.
pub(crate) fn create_bridge(name: &str, mac: [u8; 6], mtu: u32) -> Result<(), Refusal> {
    let mut request = Request::new();
    let flags = netlink::CREATE | netlink::EXCLUSIVE | netlink::ACK;
    request.message(NEWLINK, flags, &link_header(0, 0, 0), |r| {
        r.string(attr::NAME, name);
        r.u32(attr::MTU, mtu);
        // Its own, or it would change with every port.
        r.bytes(attr::ADDRESS, &mac);
        r.nest(attr::INFO, |r| {
            const MULTICAST_SNOOPING: u16 = 23;
            r.string(attr::INFO_KIND, "bridge");
            // Without a querier on the link, snooping makes multicast fail after a few minutes.
            r.nest(attr::INFO_DATA, |r| r.bytes(MULTICAST_SNOOPING, &[0]));
        });
    });
    Socket::open(Protocol::Route)?.transact(&request, 1)
}

/// Makes an `ifb`, up: what is sent to it comes in again where it came from, through its queue.
pub(crate) fn create_held_back(name: &str, mtu: u32) -> Result<(), Refusal> {
    let mut request = Request::new();
    let flags = netlink::CREATE | netlink::EXCLUSIVE | netlink::ACK;
    request.message(NEWLINK, flags, &link_header(0, UP, UP), |r| {
        r.string(attr::NAME, name);
        r.u32(attr::MTU, mtu);
        one_queue(r);
        r.nest(attr::INFO, |r| r.string(attr::INFO_KIND, "ifb"));
    });
    Socket::open(Protocol::Route)?.transact(&request, 1)
}

/// Gives a link its addresses and sets it up.
pub(crate) fn address_and_up(
    index: u32,
    ip: Ipv4Addr,
    prefix: u8,
    ipv6: Option<(Ipv6Addr, u8)>,
) -> Result<(), Refusal> {
    let mut request = Request::new();
    add_address(&mut request, index, ip.into(), prefix);
    if let Some((ip, prefix)) = ipv6 {
        add_address(&mut request, index, ip.into(), prefix);
    }
    up(&mut request, index);
    Socket::open(Protocol::Route)?.transact(&request, request.len())
}

/// Removes a link by its index; fine if there is none.
pub(crate) fn delete_index(index: u32) -> Result<(), Refusal> {
    let mut request = Request::new();
    request.message(DELLINK, netlink::ACK, &link_header(index, 0, 0), |_| {});
    gone(Socket::open(Protocol::Route)?.transact(&request, 1))
}

/// Removes a link by its name; fine if there is none.
pub(crate) fn delete_name(name: &str) -> Result<(), Refusal> {
    let mut request = Request::new();
    request.message(DELLINK, netlink::ACK, &link_header(0, 0, 0), |r| r.string(attr::NAME, name));
    gone(Socket::open(Protocol::Route)?.transact(&request, 1))
}

fn gone(result: Result<(), Refusal>) -> Result<(), Refusal> {
    match result {
        Err(refusal) if refusal.errno == Errno::NODEV => Ok(()),
        other => other,
    }
}

/// The index of a link, if there is one of this name.
pub(crate) fn index_of(name: &str) -> Result<Option<u32>, Refusal> {
    // The question goes to any socket of the namespace.
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match netdevice::name_to_index(&socket, name) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// All links.
pub(crate) fn all() -> Result<Vec<crate::look::Link>, Refusal> {
    let mut links: Vec<crate::look::Link> = Vec::new();
    Socket::open(Protocol::Route)?.dump(GETLINK, &link_header(0, 0, 0), |payload| {
        let attributes = payload.get(16..).unwrap_or_default();
        let number = |which| parse::attribute(attributes, which).and_then(|value| parse::u32_at(value, 0));
        let name = parse::attribute(attributes, attr::NAME).map(parse::string);
        if let (Some(index), Some(name)) = (parse::u32_at(payload, 4), name) {
            links.retain(|known| known.index != index);
            links.push(crate::look::Link {
                index,
                name: name.to_owned(),
                up: parse::u32_at(payload, 8).unwrap_or(0) & UP != 0,
                mtu: number(attr::MTU).unwrap_or(0),
                bridge: number(attr::MASTER),
            });
        }
    })?;
    Ok(links)
}

/// All links, by index, with their names.
pub(crate) fn named() -> Result<Vec<(u32, String)>, Refusal> {
    let mut links = Vec::new();
    Socket::open(Protocol::Route)?.dump(GETLINK, &link_header(0, 0, 0), |payload| {
        let name = payload.get(16..).and_then(|a| parse::attribute(a, attr::NAME));
        if let (Some(index), Some(name)) = (parse::u32_at(payload, 4), name) {
            links.push((index, parse::string(name).to_owned()));
        }
    })?;
    links.sort();
    links.dedup();
    Ok(links)
}

/// The links that are ports of a bridge.
pub(crate) fn ports_of(bridge: u32) -> Result<Vec<u32>, Refusal> {
    let mut ports = Vec::new();
    Socket::open(Protocol::Route)?.dump(GETLINK, &link_header(0, 0, 0), |payload| {
        let master = payload.get(16..).and_then(|a| parse::attribute(a, attr::MASTER));
        if master.and_then(|m| parse::u32_at(m, 0)) == Some(bridge) {
            ports.extend(parse::u32_at(payload, 4));
        }
    })?;
    Ok(ports)
}

/// The MTU of a link.
pub(crate) fn mtu_of(index: u32) -> Result<Option<u32>, Refusal> {
    let mut request = Request::new();
    request.message(GETLINK, 0, &link_header(index, 0, 0), |_| {});
    Socket::open(Protocol::Route)?.ask(&request, |payload| {
        payload.get(16..).and_then(|a| parse::attribute(a, attr::MTU)).and_then(|m| parse::u32_at(m, 0))
    })
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let six = || <[u8; 16]>::try_from(value).ok().map(IpAddr::from);
    ipv4(value).map(IpAddr::V4).or_else(six)
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}
