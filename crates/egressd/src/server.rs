//! The server: one thread that polls monitors, the name server, what the kernel refuses, and the proxy's door.
//!
//! Whoever is limited is also written down below `RUN/egress/containers`, so that the next process knows whose limits stand in
//! the kernel. They are taken away when the container's live directory is gone, and not before: its monitor may have been
//! killed, and what ran in it may run still.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::fs::{self, Durability};
use base::{Failure, Id};
use network::egress::{Ears, Limits, Listener, Watch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use state::Instance;
use state::egress::Egress;
use state::egress::link::{self, Answer, Lookup, MAX_MESSAGE, Place, Registration, Told, VERSION};

use crate::containers::{Container, MOST_ADDRESSES, life, lock, ways};
use crate::denials::Denials;
use crate::learning::Learning;
use crate::proxy::{Doors, Proxy};
use crate::public::{is_ours, is_public};

/// Without a container, the process ends after so long. A little less than the monitors wait before they remove what all
/// shared, our cgroup among it.
const IDLE: Duration = Duration::from_millis(1500);
/// When it is clear that the process stays, what nobody should wait for is done.
const STAYED: Duration = Duration::from_millis(100);
/// How long refusals wait for others that are alike.
const TOGETHER: Duration = Duration::from_millis(200);
/// How often it is looked whether those are gone whose monitor has hung up.
const LOOK: Duration = Duration::from_millis(500);
/// How often it is looked whether the table stands: the kernel tells of every change, and this is for what was missed.
const LOOK_AT_TABLE: Duration = Duration::from_secs(10);

/// Who is limited, by the addresses that they have. Read by the proxy's threads.
pub type ByAddress = Arc<Mutex<HashMap<IpAddr, Arc<Container>>>>;

/// The server.
pub struct Server {
    instance: Instance,
    listener: OwnedFd,
    limits: Limits,
    ears: Ears,
    refused: Listener,
    watch: Watch,
    /// When it is looked whether the table stands.
    look_at_table: Instant,
    doors: Doors,
    proxy: Proxy,
    /// Connections, and the container of those that are monitors'.
    clients: Vec<(OwnedFd, Option<Id>)>,
    /// Who is limited. Those without a client are about to go.
    limited: HashMap<Id, Arc<Container>>,
    by_address: ByAddress,
    denials: Denials,
    learning: Learning,
    buffer: Vec<u8>,
}

impl Server {
    /// A server that takes connections from this listening socket.
    pub fn new(instance: &Instance, listener: OwnedFd) -> io::Result<Self> {
        let doors = Doors::open()?;
        // So that several instances rarely try the same one.
        let first = u16::from_str_radix(instance.tag().get(..4).unwrap_or("d507"), 16).unwrap_or(0xd507);
        let refused = Listener::open(first).map_err(io::Error::other)?;
        let by_address = ByAddress::default();
        let denials = Denials::default();
        let limits = Limits::of(instance);
        // Before it is looked who is limited: what is changed from then on is heard.
        let watch = Watch::open(&limits).map_err(io::Error::other)?;
        let mut server = Self {
            instance: instance.clone(),
            listener,
            limits,
            watch,
            look_at_table: Instant::now(),
            ears: Ears { group: refused.group(), proxy: doors.port() },
            refused,
            proxy: Proxy::new(by_address.clone(), denials.clone(), doors.port()),
            doors,
            clients: Vec::new(),
            limited: HashMap::new(),
            by_address,
            denials,
            learning: Learning::default(),
            buffer: vec![0; MAX_MESSAGE],
        };
        server.find_those_before();
        Ok(server)
    }

    /// Serves until no container has been there for a while. `stayed` is called once, soon after the start.
    ///
    /// # Errors
    /// Where `poll` fails: the process must end then, and the next one begins anew.
    pub fn run(&mut self, stayed: impl FnOnce()) -> io::Result<()> {
        let mut stayed = Some((stayed, Instant::now() + STAYED));
        let mut idle = Some(Instant::now() + IDLE);
        let mut write = None;
        let mut look = Instant::now() + LOOK;
        loop {
            let now = Instant::now();
            if stayed.as_ref().is_some_and(|(_, when)| *when <= now)
                && let Some((work, _)) = stayed.take()
            {
                work();
            }
            if write.is_some_and(|when| when <= now) {
                self.write();
                write = None;
            }
            if self.denials.wait() || self.learning.waits() {
                write = write.or(Some(now + TOGETHER));
            }
            if look <= now {
                self.look();
                look = now + LOOK;
            }
            if self.look_at_table <= now {
                self.look_at_table();
            }
            // The name server is connected for as long as it likes, and has no use for us when nobody is limited.
            let busy = self.clients.iter().any(|(_, id)| id.is_some()) || !self.limited.is_empty();
            idle = if busy { None } else { idle.or(Some(now + IDLE)) };
            if idle.is_some_and(|when| when <= now) {
                self.write();
                self.limits.remove().ok();
                return Ok(());
            }
            // The proxy's threads may have refused something meanwhile, which nobody tells us: looked after with the rest.
            let due =
                [stayed.as_ref().map(|(_, when)| *when), idle, write, Some(look), Some(self.look_at_table)];
            let wait = due.into_iter().flatten().min().map_or(LOOK, |due| due.saturating_duration_since(now));
            self.wait(wait)?;
        }
    }

    fn wait(&mut self, wait: Duration) -> io::Result<()> {
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut fds = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::from_borrowed_fd(self.refused.descriptor(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.watch.descriptor(), PollFlags::IN),
        ];
        let doors = self.doors.all();
        let first = fds.len();
        fds.extend(doors.iter().map(|door| PollFd::new(door, PollFlags::IN)));
        let clients = fds.len();
        fds.extend(self.clients.iter().map(|(client, _)| PollFd::new(client, PollFlags::IN)));
        match poll(&mut fds, Some(&wait)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        // Until the table stands again nobody is limited.
        if ready[2] && self.watch.is_spoilt()? {
            self.mend();
        }
        // Then packets: a name that is told now was not known when they were sent.
        if ready[1] {
            self.hear_refused();
        }
        // Then monitors and the name server, before the proxy, which one container can keep busy: who was just admitted is known to the rest.
        if ready[0] {
            self.accept();
        }
        // From the last, so that those before keep their places when one goes.
        for at in (0..ready.len() - clients).rev().filter(|at| ready[clients + at]) {
            self.hear(at);
        }
        if ready[first..clients].contains(&true) {
            self.doors.accept(&self.proxy);
        }
        Ok(())
    }

    fn write(&mut self) {
        self.denials.write(&self.instance);
        self.learning.write(&self.instance);
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            match accept_with(&self.listener, flags) {
                Ok(client) => self.clients.push((client, None)),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                // No descriptor is free: it stays ready, and would be asked for again without a pause.
                Err(_) => return std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Reads what a client says: much, but not without end, since others wait.
    fn hear(&mut self, at: usize) {
        const AT_ONCE: usize = 256;
        for n in 0.. {
            if n == AT_ONCE {
                return;
            }
            let Some((client, _)) = self.clients.get(at) else { return };
            let length = match recv(client, &mut *self.buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => break,
                Ok((_, length)) => length.min(self.buffer.len()),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => break,
            };
            let Ok(told) = serde_json::from_slice::<Told>(&self.buffer[..length]) else { break };
            let answer = match told {
                Told::Registration(registration) if registration.version > VERSION => {
                    Some(Answer { number: 0, failed: Some("it is of a later version".to_owned()) })
                }
                Told::Registration(registration) => {
                    let id = registration.container.clone();
                    let failed = self.admit(*registration).err();
                    if let Some(client) = self.clients.get_mut(at) {
                        client.1 = Some(id);
                    }
                    Some(Answer { number: 0, failed })
                }
                Told::Gone => {
                    if let Some(id) = self.clients.get_mut(at).and_then(|client| client.1.take()) {
                        self.dismiss(&id);
                    }
                    Some(Answer { number: 0, failed: None })
                }
                Told::Lookup(lookup) => {
                    let failed = self.look_up(&lookup).err();
                    Some(Answer { number: lookup.number, failed })
                }
                Told::Unknown { container, name } => {
                    if let Some(container) = self.limited.get(&container) {
                        self.denials.add(container, &name, None, "dns", "no rule allows this name");
                    }
                    None
                }
            };
            let Some(answer) = answer else { continue };
            let answer = serde_json::to_vec(&answer).unwrap_or_default();
            if let Some((client, _)) = self.clients.get(at)
                && send(client, &answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_err()
            {
                break;
            }
        }
        self.clients.remove(at);
        // It is most likely gone by now.
        self.look();
    }

    /// Keeps a container within its limits from now on.
    fn admit(&mut self, registration: Registration) -> Result<(), String> {
        let words = |error: network::Error| base::failure::chain(&error as &dyn Failure);
        let id = registration.container.clone();
        // Who had one of its addresses before is gone, however recently.
        let others: Vec<Id> = self
            .limited
            .values()
            .filter(|other| other.registration.container != id)
            .filter(|other| other.registration.places.iter().any(|place| same(place, &registration.places)))
            .map(|other| other.registration.container.clone())
            .collect();
        for other in others {
            self.dismiss(&other);
        }
        let file = self.file(&id);
        let known = self.limited.get(&id).cloned();
        if known.is_none() {
            self.limits.forget_flows(&registration.places).map_err(words)?;
        }
        let bytes = serde_json::to_vec(&registration).unwrap_or_default();
        let written = fs::create_dir_all(&self.dir(), 0o700)
            .and_then(|()| fs::write_atomic(&file, &bytes, Durability::Volatile));
        written.map_err(|error| base::failure::chain(&error))?;
        if !self.limits.stand().map_err(words)? {
            self.make_table().map_err(words)?;
        }
        if let Some(known) = &known {
            let gone: Vec<&Place> =
                known.registration.places.iter().filter(|place| !same(place, &registration.places)).collect();
            if !gone.is_empty() {
                self.limits
                    .dismiss(&known.registration, &known.registration.places.iter().collect::<Vec<_>>())
                    .map_err(words)?;
            }
        }
        self.limits.admit(&registration, self.ears).map_err(words)?;
        let container = Arc::new(Container::new(registration, known.as_deref()));
        self.remember(container);
        Ok(())
    }

    fn remember(&mut self, container: Arc<Container>) {
        let id = container.registration.container.clone();
        if container.registration.egress == Egress::Learn {
            self.learning.begin(&self.instance, &container);
        }
        let mut by_address = lock(&self.by_address);
        by_address.retain(|_, other| other.registration.container != id);
        for address in container.registration.places.iter().flat_map(|place| &place.addresses) {
            by_address.insert(*address, container.clone());
        }
        drop(by_address);
        self.limited.insert(id, container);
    }

    /// Makes the table anew, with all who are limited.
    fn make_table(&mut self) -> network::Result<()> {
        self.limits.make()?;
        for container in self.limited.values() {
            self.limits.admit(&container.registration, self.ears)?;
        }
        Ok(())
    }

    /// A container is gone.
    fn dismiss(&mut self, id: &Id) {
        let Some(container) = self.limited.remove(id) else { return };
        lock(&self.by_address).retain(|_, other| other.registration.container != *id);
        let places: Vec<&Place> = container.registration.places.iter().collect();
        // What cannot be taken away limits whoever has the address next, until the table goes.
        self.limits.dismiss(&container.registration, &places).ok();
        fs::remove_file(&self.file(id)).ok();
        self.learning.end(&self.instance, id);
    }

    /// Looks who is gone.
    fn look(&mut self) {
        let held: Vec<&Id> = self.clients.iter().filter_map(|(_, id)| id.as_ref()).collect();
        let gone: Vec<Id> = self
            .limited
            .keys()
            .filter(|id| !held.contains(id) && !self.instance.live(id).exists())
            .cloned()
            .collect();
        for id in gone {
            self.dismiss(&id);
        }
    }

    fn look_at_table(&mut self) {
        self.look_at_table = Instant::now() + LOOK_AT_TABLE;
        if !self.limited.is_empty() && !matches!(self.limits.stand(), Ok(true)) {
            self.mend();
        }
    }

    /// Somebody has flushed the rule set, or changed what is ours in it.
    fn mend(&mut self) {
        /// Where it fails, it is tried again so soon.
        const AGAIN: Duration = Duration::from_millis(100);
        if self.limited.is_empty() {
            return;
        }
        if self.make_table().is_err() {
            self.look_at_table = Instant::now() + AGAIN;
            return;
        }
        for container in self.limited.values() {
            // What has begun meanwhile was not looked at.
            self.limits.forget_flows(&container.registration.places).ok();
            // What it was told is believed still, and not asked again.
            for (seconds, ways) in container.ways() {
                for some in ways.chunks(MOST_ADDRESSES) {
                    self.limits.open(&container.registration.container, some, seconds).ok();
                }
            }
        }
    }

    /// A container was told a name's addresses: those that rules with a port allow are opened, before it hears of them.
    fn look_up(&mut self, lookup: &Lookup) -> Result<(), String> {
        let Some(container) = self.limited.get(&lookup.container) else {
            return Err("no such container is limited".to_owned());
        };
        let life = life(lookup.life);
        let Egress::Only(rules) = &container.registration.egress else {
            container.note(&lookup.name, &lookup.addresses, Instant::now() + life);
            return Ok(());
        };
        let addresses: Vec<IpAddr> = lookup
            .addresses
            .iter()
            .copied()
            .filter(|ip| is_public(*ip) && !is_ours(*ip))
            .take(MOST_ADDRESSES)
            .collect();
        container.note(&lookup.name, &addresses, Instant::now() + life);
        let ways = ways(rules, &lookup.name, &addresses);
        if ways.is_empty() {
            return Ok(());
        }
        self.limits
            .open(&lookup.container, &ways, life.as_secs() as u32)
            .map_err(|error| base::failure::chain(&error as &dyn Failure))
    }

    fn hear_refused(&mut self) {
        let (limited, denials, learning) = (&self.limited, &self.denials, &mut self.learning);
        self.refused.hear(|heard| {
            let (watched, short) = match heard.prefix.strip_prefix('+') {
                Some(short) => (true, short),
                None => (false, heard.prefix.as_str()),
            };
            let Some(container) = limited.values().find(|one| one.registration.container.short() == short)
            else {
                return;
            };
            if watched {
                learning.note(container, &heard.packet);
            } else {
                denials.packet(container, &heard.packet);
            }
        });
    }

    fn dir(&self) -> PathBuf {
        link::dir(&self.instance).join("containers")
    }

    fn file(&self, id: &Id) -> PathBuf {
        self.dir().join(id.as_str())
    }

    /// Those whom a process before us has limited: their rules stand, and name its ears.
    fn find_those_before(&mut self) {
        for name in fs::names(&self.dir()).unwrap_or_default() {
            let bytes = fs::read_if_exists(&self.dir().join(name)).ok().flatten().unwrap_or_default();
            if let Ok(registration) = serde_json::from_slice::<Registration>(&bytes) {
                self.limits.admit(&registration, self.ears).ok();
                self.remember(Arc::new(Container::new(registration, None)));
            }
        }
    }
}

/// Whether a place is among those.
fn same(place: &Place, places: &[Place]) -> bool {
    places.iter().any(|other| (&other.bridge, other.mac) == (&place.bridge, place.mac))
}
