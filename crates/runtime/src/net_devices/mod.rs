//! Network devices of the runtime's namespace move into the container's (config-linux.md, "Network Devices").
//!
//! The parent moves them while the child mounts: name and namespace change in one request, so that a name that is taken
//! on the way is none of our business. With the move the kernel takes a device's addresses; the permanent ones that are valid
//! everywhere are given to it anew, and it is switched on. A start that fails gives all of them back.

mod rtnetlink;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use base::{Failure, Kind};
use oci::runtime::NetDevice;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use rtnetlink::{CREATE, GET_ADDRESS, GET_LINK, NEW_ADDRESS, NEW_LINK, Request, Socket, attributes, u32_at};

/// Why a device did not get into the container.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the network device {name}")]
pub struct Error {
    what: &'static str,
    name: String,
    source: io::Error,
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self.source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NODEV) => Kind::NotFound,
            _ => base::failure::kind_of_io(&self.source),
        }
    }
}

/// A device that moves: its name here, and there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    from: String,
    to: String,
}

/// Devices that have been moved.
#[derive(Debug)]
pub(crate) struct Moved {
    ours: Socket,
    theirs: Socket,
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    names: Move,
    /// Its number in the container's namespace.
    index: u32,
    /// It was switched on.
    up: bool,
    addresses: Vec<Address>,
}

#[derive(Debug)]
struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// `IFA_ADDRESS`, `IFA_LOCAL`, `IFA_BROADCAST`.
    values: Vec<(u16, Vec<u8>)>,
}

/// `IFLA_IFNAME`, `IFLA_NET_NS_FD`.
const NAME: u16 = 3;
const NAMESPACE: u16 = 28;
const UP: u32 = 1;

/// The moves that a specification asks for.
///
/// # Errors
/// With words: a name that no device can have, or one that two would have.
pub(crate) fn plan(devices: &BTreeMap<String, NetDevice>) -> Result<Vec<Move>, String> {
    let mut moves: Vec<Move> = Vec::with_capacity(devices.len());
    for (from, device) in devices {
        let to = device.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(from);
        let stem = to.strip_suffix(TEMPLATE).filter(|_| to.len() < LONGEST);
        for name in [from, stem.unwrap_or(to)] {
            if !is_name(name) {
                return Err(format!("`{}` is no name of a device", name.escape_debug()));
            }
        }
        if stem.is_none() && moves.iter().any(|m| m.to == to) {
            return Err(format!("two devices would be called `{to}`"));
        }
        moves.push(Move { from: from.clone(), to: to.to_owned() });
    }
    Ok(moves)
}

/// At the end of a new name: the kernel puts a number there, so that the name is one that is free.
const TEMPLATE: &str = "%d";
/// A name with the zero behind it (`IFNAMSIZ`).
const LONGEST: usize = 16;

/// What the kernel takes as a name (`dev_valid_name`), but for `%`, which it would replace by a number.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() < LONGEST
        && !name.contains(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | ':' | '%' | '\0'))
}

/// Moves the devices into the network namespace of that process, or into the one that it joins. If one fails, those
/// before it are given back.
pub(crate) fn move_all(
    moves: &[Move],
    pid: u32,
    joined: Option<BorrowedFd<'_>>,
) -> Result<Option<Moved>, Error> {
    let Some(first) = moves.first() else { return Ok(None) };
    let made;
    let target = if let Some(namespace) = joined {
        namespace
    } else {
        made = namespace_of(&pid.to_string()).map_err(error("find the namespace for", &first.from))?;
        made.as_fd()
    };
    let ours = Socket::open().map_err(error("ask for", &first.from))?;
    let theirs = Socket::open_in(target).map_err(error("enter the namespace for", &first.from))?;
    let mut moved = Moved { ours, theirs, devices: Vec::new() };
    for one in moves {
        if let Err(e) = moved.take(one, target) {
            moved.give_back();
            return Err(e);
        }
    }
    Ok(Some(moved))
}

fn namespace_of(who: &str) -> io::Result<OwnedFd> {
    let path = format!("/proc/{who}/ns/net");
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn error(what: &'static str, name: &str) -> impl Fn(io::Error) -> Error {
    let name = name.to_owned();
    move |source| Error { what, name: name.clone(), source }
}

impl Moved {
    fn take(&mut self, names: &Move, target: BorrowedFd<'_>) -> Result<(), Error> {
        let (index, up) = find(&self.ours, &names.from).map_err(error("find", &names.from))?;
        let addresses =
            addresses(&self.ours, index).map_err(error("ask for the addresses of", &names.from))?;
        // By a template's name nobody would find it again: it goes under another one, and gets its own there.
        let template = names.to.ends_with(TEMPLATE);
        let new = if template {
            format!("mv{:x}-{index:x}", rustix::process::getpid().as_raw_pid())
        } else {
            names.to.clone()
        };
        let sent = send(&self.ours, index, &new, target);
        let found = match &sent {
            Ok(()) => find(&self.theirs, &new),
            // Where the name is taken there, the kernel has moved it all the same, under the one it had.
            Err(_) if find(&self.ours, &names.from).is_err() => find(&self.theirs, &names.from),
            Err(_) => Err(io::ErrorKind::NotFound.into()),
        };
        let there = found.as_ref().map_or(index, |(index, _)| *index);
        if sent.is_ok() || found.is_ok() {
            self.devices.push(Device { names: names.clone(), index: there, up, addresses });
        }
        sent.map_err(error("move", &names.from))?;
        found.map_err(error("find in the container", &names.to))?;
        if template {
            rename(&self.theirs, there, &names.to).map_err(error("name", &names.to))?;
        }
        let Some(device) = self.devices.last() else { return Ok(()) };
        device.configure(&self.theirs, there).map_err(error("set the addresses of", &names.to))?;
        switch_on(&self.theirs, there).map_err(error("switch on", &names.to))
    }

    /// Gives all of them back. What cannot be given back goes where the kernel puts it when the namespace ends: a
    /// physical device returns by itself, a virtual one is gone.
    pub(crate) fn give_back(self) {
        let Ok(own) = namespace_of("thread-self") else { return };
        for device in self.devices.iter().rev() {
            if send(&self.theirs, device.index, &device.names.from, own.as_fd()).is_ok()
                && let Ok((index, _)) = find(&self.ours, &device.names.from)
            {
                // The cause is being reported; a device without its address is the smaller harm.
                device.configure(&self.ours, index).ok();
                if device.up {
                    switch_on(&self.ours, index).ok();
                }
            }
        }
    }
}

impl Device {
    fn configure(&self, socket: &Socket, index: u32) -> io::Result<()> {
        self.addresses.iter().try_for_each(|address| address.add(socket, index))
    }
}

/// `struct ifinfomsg`.
fn link(index: u32, flags: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn c_name(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// The number of a device, and whether it is switched on.
fn find(socket: &Socket, name: &str) -> io::Result<(u32, bool)> {
    let answer = socket.ask(Request::new(GET_LINK, &link(0, 0)).with(NAME, &c_name(name)), 0)?;
    let answer = answer.ok_or(io::ErrorKind::InvalidData)?;
    match (u32_at(&answer, 4), u32_at(&answer, 8)) {
        (Some(index), Some(flags)) => Ok((index, flags & UP != 0)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn send(from: &Socket, index: u32, name: &str, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let request = Request::new(NEW_LINK, &link(index, 0))
        .with(NAME, &c_name(name))
        .with(NAMESPACE, &namespace.as_raw_fd().to_ne_bytes());
    from.ask(request, 0).map(drop)
}

fn rename(socket: &Socket, index: u32, name: &str) -> io::Result<()> {
    socket.ask(Request::new(NEW_LINK, &link(index, 0)).with(NAME, &c_name(name)), 0).map(drop)
}

fn switch_on(socket: &Socket, index: u32) -> io::Result<()> {
    socket.ask(Request::new(NEW_LINK, &link(index, UP)), 0).map(drop)
}

/// The addresses of a device that are permanent and valid everywhere.
fn addresses(socket: &Socket, index: u32) -> io::Result<Vec<Address>> {
    let mut found = Vec::new();
    // `struct ifaddrmsg`: family, prefix, flags, scope, index.
    socket.list(Request::new(GET_ADDRESS, &[0; 8]), |payload| {
        if u32_at(payload, 4) == Some(index) {
            found.extend(Address::read(payload));
        }
    })?;
    Ok(found)
}

impl Address {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const BROADCAST: u16 = 4;
    const FLAGS: u16 = 8;
    const PERMANENT: u32 = 0x80;
    /// Of the flags those that somebody has set, not those that tell how far the kernel is: `IFA_F_NODAD`,
    /// `IFA_F_HOMEADDRESS`, `IFA_F_MANAGETEMPADDR`, `IFA_F_NOPREFIXROUTE`.
    const SET: u32 = 0x02 | 0x10 | 0x100 | 0x200;

    fn read(payload: &[u8]) -> Option<Self> {
        let &[family, prefix, flags, scope, ..] = payload else { return None };
        let (mut values, mut flags) = (Vec::new(), u32::from(flags));
        for (kind, value) in attributes(payload.get(8..)?) {
            match kind {
                Self::ADDRESS | Self::LOCAL | Self::BROADCAST => values.push((kind, value.to_vec())),
                Self::FLAGS => flags = u32_at(value, 0)?,
                _ => {}
            }
        }
        let wanted = flags & Self::PERMANENT != 0 && scope == 0;
        wanted.then_some(Self { family, prefix, flags: flags & Self::SET, values })
    }

    fn add(&self, socket: &Socket, index: u32) -> io::Result<()> {
        let mut fixed = [self.family, self.prefix, 0, 0, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&index.to_ne_bytes());
        let mut request = Request::new(NEW_ADDRESS, &fixed).with(Self::FLAGS, &self.flags.to_ne_bytes());
        for (kind, value) in &self.values {
            request = request.with(*kind, value);
        }
        socket.ask(request, CREATE).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(list: &[(&str, Option<&str>)]) -> BTreeMap<String, NetDevice> {
        let device = |(from, to): &(&str, Option<&str>)| {
            ((*from).to_owned(), NetDevice { name: to.map(str::to_owned) })
        };
        list.iter().map(device).collect()
    }

    #[test]
    fn names_are_those_that_devices_can_have() {
        let moves = plan(&devices(&[("eth0", None), ("eth1", Some("lan")), ("eth2", Some(""))])).unwrap();
        let names: Vec<_> = moves.iter().map(|m| (&*m.from, &*m.to)).collect();
        assert_eq!(names, [("eth0", "eth0"), ("eth1", "lan"), ("eth2", "eth2")]);
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "e%dth", "%d", "a%d%d", "a\0b", "sixteen-letters-"] {
            assert!(plan(&devices(&[(bad, None)])).is_err(), "{bad}");
            assert_eq!(plan(&devices(&[("eth0", Some(bad))])).is_err(), !bad.is_empty(), "{bad}");
        }
        assert!(plan(&devices(&[("eth0", Some("x")), ("eth1", Some("x"))])).unwrap_err().contains("`x`"));
        // Of a template there may be several.
        assert_eq!(plan(&devices(&[("eth0", Some("x%d")), ("eth1", Some("x%d"))])).unwrap().len(), 2);
        for bad in [("eth%d", None), ("eth0", Some("fourteen-more-%d"))] {
            assert!(plan(&devices(&[bad])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_permanent_global_addresses_are_kept() {
        let address = |flags: u8, scope: u8| {
            let mut bytes = vec![2, 24, flags, scope, 5, 0, 0, 0];
            bytes.extend([8, 0, 2, 0, 10, 0, 0, 1]);
            Address::read(&bytes)
        };
        let kept = address(0x80, 0).unwrap();
        assert_eq!((kept.family, kept.prefix, kept.flags), (2, 24, 0));
        assert_eq!(kept.values, [(Address::LOCAL, vec![10, 0, 0, 1])]);
        assert!(address(0, 0).is_none() && address(0x80, 253).is_none());
    }
}
