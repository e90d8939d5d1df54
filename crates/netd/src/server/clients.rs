//! Monitors: they connect, say what their container is called, hand over its sockets, and hang up when it is gone.

use std::cell::RefCell;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, accept_with, recvmsg};
use state::netd::{Allowed, MAX_MESSAGE, Registration, VERSION};

use super::Server;
use super::poller::{READ, Source};
use crate::cache::{Budget, Cache, Limits};
use crate::slab::Key;

/// What one container may keep of what it was told.
const OWN: Limits = Limits { entries: 512, bytes: 256 << 10 };
/// What all those keep together whose questions go out from the host.
const SHARED: Limits = Limits { entries: 8192, bytes: 4 << 20 };

/// A monitor's connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) connection: OwnedFd,
    /// None until it has registered its container.
    pub(super) served: Option<Served>,
}

/// A container.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) registration: Registration,
    pub(super) leads_out: bool,
    pub(super) datagrams: OwnedFd,
    pub(super) door: OwnedFd,
    /// Its network namespace.
    pub(super) space: OwnedFd,
    pub(super) cache: Rc<RefCell<Cache>>,
    /// How many of its questions are being asked outside.
    pub(super) asked: usize,
    /// How many streams it has.
    pub(super) streams: usize,
    /// What its monitor was told last of those whom it may speak to.
    pub(super) told: Vec<Allowed>,
    /// The server outside that answers, where another one that should be asked before it does not; and until when that is
    /// believed.
    pub(super) preferred: Option<(usize, Instant)>,
}

impl Server {
    /// Takes all that wait.
    pub(super) fn accept(&mut self) {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let connection = match accept_with(&self.listener, flags) {
                Ok(connection) => connection,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => return super::breathe(),
            };
            let key = self.clients.insert(Client { connection, served: None });
            let Some(client) = self.clients.get(key) else { continue };
            if self.poller.add(&client.connection, Source::Monitor(key), READ).is_err() {
                self.forget(key);
                continue;
            }
            // It has mostly spoken by now.
            self.hear(key);
        }
    }

    /// Reads what a monitor says, to its last word.
    pub(super) fn hear(&mut self, key: Key) {
        loop {
            let Some(client) = self.clients.get(key) else { return };
            match receive(&client.connection) {
                Ok(Some((registration, descriptors))) => {
                    if self.register(key, registration, descriptors).is_none() {
                        return self.forget(key);
                    }
                }
                Ok(None) => return,
                Err(_) => return self.forget(key),
            }
        }
    }

    /// None where it says what cannot be.
    fn register(&mut self, key: Key, registration: Registration, descriptors: Vec<OwnedFd>) -> Option<()> {
        if registration.version > VERSION {
            return None;
        }
        let leads_out = registration.leads_out();
        let upstreams = &registration.upstreams;
        // What is told to who is limited is opened for that one.
        let limited = !registration.egress.is_allow();
        let from_host =
            leads_out && !limited && !upstreams.is_empty() && upstreams.iter().all(|server| server.from_host);
        let cache = if from_host {
            let key = upstreams.as_slice().into();
            let new = || Rc::new(RefCell::new(Cache::new(SHARED, &self.budget)));
            self.shared.entry(key).or_insert_with(new).clone()
        } else {
            Rc::new(RefCell::new(own_cache(&self.budget)))
        };
        self.names.set(key, &registration);
        self.names_changed = true;
        let id = registration.container.clone();
        let client = self.clients.get_mut(key)?;
        if let Some(served) = &mut client.served {
            if served.registration.upstreams != registration.upstreams
                || served.registration.egress != registration.egress
                || served.leads_out != leads_out
            {
                served.cache = cache;
                served.preferred = None;
            }
            served.leads_out = leads_out;
            served.registration = registration;
        } else {
            let [datagrams, door, space] = <[OwnedFd; 3]>::try_from(descriptors).ok()?;
            let served = client.served.insert(Served {
                registration,
                leads_out,
                datagrams,
                door,
                space,
                cache,
                asked: 0,
                streams: 0,
                told: Vec::new(),
                preferred: None,
            });
            // Where this fails it is forgotten, as one that is known.
            self.poller.add(&served.datagrams, Source::Datagrams(key), READ).ok()?;
            self.poller.add(&served.door, Source::Knock(key), READ).ok()?;
        }
        if self.settling.as_mut().is_some_and(|settling| settling.heard_of(&id)) {
            self.settled();
        }
        Some(())
    }

    /// A container is gone, with all that it has asked.
    pub(super) fn forget(&mut self, key: Key) {
        self.names.remove(key);
        self.names_changed = true;
        let of_it: Vec<Key> =
            self.asked.iter().filter(|(_, ask)| ask.client == key).map(|(ask, _)| ask).collect();
        for ask in of_it {
            self.drop_ask(ask);
        }
        let streams: Vec<Key> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.client == key)
            .map(|(stream, _)| stream)
            .collect();
        for stream in streams {
            self.close_stream(stream);
        }
        // The monitor keeps the sockets open, but what is not in the table cannot be ready.
        if let Some(served) = self.clients.remove(key).and_then(|client| client.served) {
            self.poller.remove(served.datagrams.as_fd());
            self.poller.remove(served.door.as_fd());
        }
        self.shared.retain(|_, cache| Rc::strong_count(cache) > 1);
    }
}

/// A cache of one container alone.
pub(super) fn own_cache(budget: &Budget) -> Cache {
    Cache::new(OWN, budget)
}

/// The next message of a monitor; none if there is none yet.
///
/// # Errors
/// Where it has hung up, or says what is no registration.
fn receive(connection: &OwnedFd) -> Result<Option<(Registration, Vec<OwnedFd>)>, Errno> {
    // How long it is, first: a place for the longest that is allowed would be touched for each.
    let mut nothing = [0; 1];
    let peek = RecvFlags::PEEK | RecvFlags::TRUNC;
    let length = match rustix::net::recv(connection, &mut nothing, peek) {
        Ok((_, 0)) => return Err(Errno::PIPE),
        Ok((_, length)) => length,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MAX_MESSAGE {
        return Err(Errno::MSGSIZE);
    }
    let mut bytes = vec![0; length];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(connection, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    bytes.truncate(received.bytes);
    let registration = serde_json::from_slice(&bytes).map_err(|_| Errno::BADMSG)?;
    Ok(Some((registration, descriptors)))
}
