//! Addresses of names that are allowed: opened by `dhow-egressd`, before the container that has asked is told of them.
//!
//! What the two know of each other is a connection. When that breaks, what containers were told is forgotten, so that it is
//! asked, and told to the next process, again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};
use state::Instance;
use state::egress::link::{self, Answer, Lookup, Told};

use super::Server;
use super::clients::own_cache;
use super::poller::{READ, Source};
use crate::slab::Key;
use crate::wire::name::Name;
use crate::wire::response::Response;

/// Who opens addresses.
#[derive(Debug)]
pub(super) struct Gate {
    dir: PathBuf,
    connection: Option<OwnedFd>,
    number: u64,
    /// The questions that wait for their answers' addresses.
    opening: HashMap<u64, Key>,
}

impl Gate {
    pub(super) fn new(instance: &Instance) -> Self {
        Self { dir: link::dir(instance), connection: None, number: 0, opening: HashMap::new() }
    }

    fn connect(&self) -> Result<OwnedFd, Errno> {
        let dir = openat(CWD, &self.dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // A Unix address holds 108 bytes, and the directory may be deep.
        let path = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), link::SOCKET);
        connect(&connection, &SocketAddrUnix::new(path)?)?;
        Ok(connection)
    }
}

impl Server {
    /// Tells whoever opens addresses.
    fn tell_gate(&mut self, told: &Told) -> Result<(), Errno> {
        if self.gate.connection.is_none() {
            let connection = self.gate.connect()?;
            self.poller.add(&connection, Source::Gate, READ).map_err(|_| Errno::NOSPC)?;
            self.gate.connection = Some(connection);
        }
        let Some(connection) = &self.gate.connection else { return Err(Errno::NOTCONN) };
        let message = serde_json::to_vec(told).map_err(|_| Errno::INVAL)?;
        send(connection, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        Ok(())
    }

    /// A container has asked for what it must not know.
    pub(super) fn tell_unknown(&mut self, client: Key, name: &Name) {
        let served = self.clients.get(client).and_then(|client| client.served.as_ref());
        let Some(container) = served.map(|served| served.registration.container.clone()) else { return };
        // One of a flood may be lost.
        self.tell_gate(&Told::Unknown { container, name: name.text() }).ok();
    }

    /// Whether the addresses of an answer must be opened before it is delivered; if so, that is asked for. What cannot be
    /// asked for is not answered.
    pub(super) fn opens_first(&mut self, key: Key, response: &Response) -> bool {
        let Some(ask) = self.asked.get(key) else { return false };
        let served = self.clients.get(ask.client).and_then(|client| client.served.as_ref());
        let Some(served) = served.filter(|served| !served.registration.egress.is_allow()) else {
            return false;
        };
        let addresses = response.addresses();
        if addresses.is_empty() {
            return false;
        }
        let Some(name) = ask.name().host() else { return false };
        let container = served.registration.container.clone();
        self.gate.number += 1;
        let number = self.gate.number;
        let lookup = Lookup { number, container, name, addresses, life: response.life() };
        let told = Told::Lookup(lookup);
        // The process may have been exchanged since we spoke last.
        let said = self.tell_gate(&told).or_else(|_| {
            self.lose_gate();
            self.tell_gate(&told)
        });
        if said.is_ok() {
            self.gate.opening.insert(number, key);
        }
        if let Some(ask) = self.asked.get_mut(key) {
            ask.wait_for_gate(response.clone());
        }
        true
    }

    /// Reads what has been opened.
    pub(super) fn hear_gate(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            let Some(connection) = &self.gate.connection else { return };
            let length = match recv(connection, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return self.lose_gate(),
                Ok((_, length)) => length.min(bytes.len()),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => return self.lose_gate(),
            };
            let Ok(answer) = serde_json::from_slice::<Answer>(&bytes[..length]) else { continue };
            let Some(key) = self.gate.opening.remove(&answer.number) else { continue };
            let response = self.asked.get_mut(key).and_then(super::outside::Ask::opened);
            self.deliver_all(key, response.filter(|_| answer.failed.is_none()), Instant::now());
        }
    }

    /// Who opens addresses is gone. What waits for it is given up in its time, or asked again by who asked.
    fn lose_gate(&mut self) {
        self.gate.connection = None;
        for key in std::mem::take(&mut self.gate.opening).into_values() {
            self.deliver_all(key, None, Instant::now());
        }
        let keys: Vec<Key> = self.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(served) = self.clients.get_mut(key).and_then(|client| client.served.as_mut())
                && !served.registration.egress.is_allow()
            {
                served.cache = Rc::new(RefCell::new(own_cache(&self.budget)));
            }
        }
    }
}
