//! The container's link: a veth pair on a bridge of ours, asked of the kernel in hand-made netlink messages,
//! so that nothing is measured but the kernel.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const BRIDGE: &str = "dhow-floor";
/// 10.89.0.1, the bridge's address; a container's follows it by its number.
const GATEWAY: u32 = 0x0a59_0001;

// From `linux/rtnetlink.h`, `linux/if_link.h`, `linux/netlink.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;
const REQUEST_ACK: u16 = 1 | 4;
const CREATE: u16 = 0x400;
const CREATE_EXCLUSIVE: u16 = 0x400 | 0x200;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

/// The bridge, removed when dropped.
pub(crate) struct Bridge {
    socket: OwnedFd,
    index: u32,
}

impl Bridge {
    /// Makes it, with its address, and up.
    pub(crate) fn create() -> io::Result<Self> {
        let socket = socket()?;
        let mut link = Message::new(RTM_NEWLINK, CREATE_EXCLUSIVE, &link_header(0, true));
        link.attribute(IFLA_IFNAME, &name_bytes(BRIDGE));
        link.nested(IFLA_LINKINFO, |info| info.attribute(IFLA_INFO_KIND, b"bridge"));
        link.request(&socket)?;
        let index = rustix::net::netdevice::name_to_index(&socket, BRIDGE)?;
        add_address(&socket, index, GATEWAY)?;
        Ok(Self { socket, index })
    }

    /// One message: a pair, its near end on the bridge, its far end `eth0` in the namespace of `pid`.
    pub(crate) fn attach(&self, run: u32, pid: u32) -> io::Result<()> {
        let mut link = Message::new(RTM_NEWLINK, CREATE_EXCLUSIVE, &link_header(0, true));
        link.attribute(IFLA_IFNAME, &name_bytes(&format!("dhowfl{run}")));
        link.attribute(IFLA_MASTER, &self.index.to_ne_bytes());
        link.nested(IFLA_LINKINFO, |info| {
            info.attribute(IFLA_INFO_KIND, b"veth");
            info.nested(IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |peer| {
                    peer.bytes.extend_from_slice(&link_header(0, false));
                    peer.attribute(IFLA_IFNAME, b"eth0\0");
                    peer.attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes());
                });
            });
        });
        link.request(&self.socket)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Message::new(RTM_DELLINK, 0, &link_header(self.index, false)).request(&self.socket);
    }
}

/// Inside the container: loopback up, the address, the link up, the way out.
pub(crate) fn configure(run: u32) -> io::Result<()> {
    let socket = socket()?;
    let index = rustix::net::netdevice::name_to_index(&socket, "eth0")?;
    Message::new(RTM_NEWLINK, 0, &link_header(1, true)).request(&socket)?;
    add_address(&socket, index, GATEWAY + 1 + run)?;
    Message::new(RTM_NEWLINK, 0, &link_header(index, true)).request(&socket)?;
    // rtmsg: IPv4, to everywhere (prefix 0), main table, made at boot, universe, unicast
    let mut route = Message::new(RTM_NEWROUTE, CREATE, &[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
    route.attribute(RTA_GATEWAY, &GATEWAY.to_be_bytes());
    route.attribute(RTA_OIF, &index.to_ne_bytes());
    route.request(&socket)
}

fn add_address(socket: &OwnedFd, index: u32, address: u32) -> io::Result<()> {
    // ifaddrmsg: IPv4, prefix 16, no flags, universe
    let mut header = vec![2, 16, 0, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(RTM_NEWADDR, CREATE_EXCLUSIVE, &header);
    message.attribute(IFA_LOCAL, &address.to_be_bytes());
    message.attribute(IFA_ADDRESS, &address.to_be_bytes());
    message.request(socket)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}

fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// `struct ifinfomsg`.
fn link_header(index: u32, up: bool) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    let flags = if up { IFF_UP } else { 0 };
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

/// A netlink request, built in place.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(REQUEST_ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        Self { bytes }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |message| message.bytes.extend_from_slice(value));
    }

    fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        content(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn request(mut self, socket: &OwnedFd) -> io::Result<()> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        rustix::net::send(socket, &self.bytes, SendFlags::empty())?;
        let mut reply = [0; 4096];
        let (_, length) = rustix::net::recv(socket, &mut reply[..], RecvFlags::empty())?;
        // nlmsghdr, then (in an error or acknowledgement) a negative errno
        if length >= 20 && reply[4..6] == NLMSG_ERROR.to_ne_bytes() {
            let code = i32::from_ne_bytes([reply[16], reply[17], reply[18], reply[19]]);
            if code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
        }
        Ok(())
    }
}
