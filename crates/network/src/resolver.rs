//! The sockets at which a container asks for names: at 127.0.0.11, in its own network namespace.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use base::fs::At;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};
use state::netd::ADDRESS;

use crate::error::Attempt;
use crate::netlink::{Protocol, Refusal, Request, Socket};
use crate::{Result, link, nft};

/// As many questions wait as a container asks while a killed server is replaced: a kilobyte of the kernel's memory each,
/// while they wait.
const WAITING: usize = 2 << 20;
/// So many connections.
const BACKLOG: i32 = 128;

/// A container's sockets. As long as somebody has them open, what is asked waits there; and so long its network namespace
/// lives.
#[derive(Debug)]
pub struct Resolver {
    /// For UDP.
    pub datagrams: OwnedFd,
    /// Listening, for TCP.
    pub door: OwnedFd,
    /// The namespace.
    pub space: OwnedFd,
}

impl Resolver {
    /// Makes the sockets in the network namespace of the process `pid`, and leads to them what goes to port 53. The calling
    /// thread is in there for an instant.
    pub fn open(pid: u32) -> Result<Self> {
        let space = namespace(&format!("/proc/{pid}/ns/net"))?;
        let home = namespace("/proc/thread-self/ns/net")?;
        let there = Path::new("/proc/self/ns/net");
        sys::namespace::join(space.as_fd()).map_err(errno).at("enter", there)?;
        let made = sockets();
        // First of all we go back.
        sys::namespace::join(home.as_fd()).map_err(errno).at("leave", there)?;
        let (datagrams, door) = made.link(|| format!("make the container's sockets at {ADDRESS}"))?;
        Ok(Self { datagrams, door, space })
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn namespace(path: &str) -> Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", Path::new(path))?)
}

fn sockets() -> std::result::Result<(OwnedFd, OwnedFd), Refusal> {
    // The child does the same, later. Before that a new namespace has no address at all, and a socket that is bound to one
    // nevertheless (`IP_FREEBIND`) takes it for a broadcast address: it would answer from another one.
    let mut request = Request::new();
    link::loopback_up(&mut request);
    Socket::open(Protocol::Route)?.transact(&request, request.len())?;
    let datagrams = bound(SocketType::DGRAM)?;
    set_socket_recv_buffer_size_force(&datagrams, WAITING)?;
    let door = bound(SocketType::STREAM)?;
    listen(&door, BACKLOG)?;
    nft::resolver::lead(ADDRESS, port(&datagrams)?, port(&door)?)?;
    Ok((datagrams, door))
}

fn bound(kind: SocketType) -> std::result::Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    bind(&socket, &SocketAddrV4::new(ADDRESS, 0))?;
    Ok(socket)
}

fn port(socket: &OwnedFd) -> std::result::Result<u16, Errno> {
    let address = SocketAddr::try_from(getsockname(socket)?)?;
    Ok(address.port())
}
