//! The server: one thread, all the sockets.
//!
//! - `allowed`: monitors are told where those are that their containers may speak to.
//! - `clients`: monitors connect, register their containers, hang up.
//! - `questions`: what a container asks is answered, or asked outside.
//! - `outside`: the questions that are asked outside, until they are answered; `exchange`: one of them by TCP.
//! - `gate`: addresses are opened for those whose ways are limited, before they hear of them.
//! - `streams`: containers that ask by TCP.
//! - `settling`: the first moment after another server's end.
//! - `spaces`, `poller`, `chance`: network namespaces, `epoll`, random numbers.

mod allowed;
mod chance;
mod clients;
mod exchange;
mod gate;
mod outside;
mod poller;
mod questions;
mod settling;
mod spaces;
mod streams;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use state::Instance;
use state::netd::Upstream;
use sys::datagrams::Datagrams;

use crate::cache::{Budget, Cache, Question};
use crate::names::Names;
use crate::slab::{Key, Slab};
use chance::Chance;
use clients::Client;
use gate::Gate;
use outside::Ask;
use poller::{Poller, READ, Source};
use questions::Parking;
use settling::Settling;
use spaces::Spaces;
use streams::Stream;

/// Without a container, the server ends after so long. A little less than the monitors wait before they remove what all
/// shared (`monitor::release`), our cgroup among it.
const IDLE: Duration = Duration::from_millis(1500);
/// When it is clear that the server stays, what nobody should wait for is done.
const STAYED: Duration = Duration::from_millis(100);
/// The longest question by UDP that is read whole: what is longer than 512 bytes is options of EDNS.
const LONGEST_QUESTION: usize = 2048;

/// The server.
pub struct Server {
    poller: Poller,
    listener: OwnedFd,
    clients: Slab<Client>,
    streams: Slab<Stream>,
    asked: Slab<Ask>,
    /// Who asks the same once more waits for the same answer.
    asking: HashMap<(Key, Question), Key>,
    names: Names,
    /// Since monitors were told.
    names_changed: bool,
    /// The caches of those whose questions go out from the host.
    shared: HashMap<Box<[Upstream]>, Rc<RefCell<Cache>>>,
    budget: Budget,
    spaces: Spaces,
    chance: Chance,
    settling: Option<Settling>,
    gate: Gate,
    parked: Parking,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// Streams that have got answers, or room for more.
    stirred: Vec<Key>,
    /// Taken out while it is worked on.
    inbox: Option<Datagrams>,
    found: Vec<IpAddr>,
    scratch: Box<[u8]>,
}

/// What is due at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A question outside is asked again, or given up.
    Ask(Key),
    /// A stream has been silent for long.
    Stream(Key),
}

impl Server {
    /// A server that takes connections from this listening socket.
    pub fn new(instance: &Instance, listener: OwnedFd) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&listener, Source::Listener, READ)?;
        Ok(Self {
            poller,
            listener,
            clients: Slab::default(),
            streams: Slab::default(),
            asked: Slab::default(),
            asking: HashMap::new(),
            names: Names::default(),
            names_changed: false,
            shared: HashMap::new(),
            budget: Budget::default(),
            spaces: Spaces::new()?,
            chance: Chance::new(),
            settling: Settling::look(instance, Instant::now()),
            gate: Gate::new(instance),
            parked: Parking::default(),
            timers: BinaryHeap::new(),
            stirred: Vec::new(),
            inbox: Some(Datagrams::new(LONGEST_QUESTION)),
            found: Vec::new(),
            scratch: vec![0; 8 << 10].into(),
        })
    }

    /// Serves until no container has been there for a while. `stayed` is called once, soon after the start: work that no
    /// question should wait for.
    ///
    /// # Errors
    /// Where `epoll` fails, or the way home is barred: the process must end then, and the next one begins anew.
    pub fn run(&mut self, stayed: impl FnOnce()) -> io::Result<()> {
        let mut stayed = Some((stayed, Instant::now() + STAYED));
        let mut idle = Some(Instant::now() + IDLE);
        let mut ready = Vec::new();
        loop {
            let due = [
                stayed.as_ref().map(|(_, when)| *when),
                idle,
                self.settling.as_ref().map(|settling| settling.until),
                self.timers.peek().map(|Reverse((when, _))| *when),
            ];
            let due = due.into_iter().flatten().min();
            let wait = due.map(|when| when.saturating_duration_since(Instant::now()));
            self.poller.wait(wait, &mut ready)?;
            self.serve(&ready);
            self.spaces.go_home()?;
            let now = Instant::now();
            if stayed.as_ref().is_some_and(|(_, when)| *when <= now)
                && let Some((work, _)) = stayed.take()
            {
                work();
            }
            idle = if self.clients.is_empty() { idle.or(Some(now + IDLE)) } else { None };
            if idle.is_some_and(|when| when <= now) {
                return Ok(());
            }
        }
    }

    fn serve(&mut self, ready: &[Source]) {
        // Registrations first: who asks for a container that was just started finds it.
        for source in ready {
            match source {
                Source::Listener => self.accept(),
                Source::Monitor(key) => self.hear(*key),
                _ => {}
            }
        }
        for source in ready {
            match source {
                Source::Listener | Source::Monitor(_) => {}
                Source::Datagrams(key) => self.read_datagrams(*key),
                Source::Knock(key) => self.open_door(*key),
                Source::Stream(key) => self.stirred.push(*key),
                Source::Outside(key) => self.read_outside(*key),
                Source::Gate => self.hear_gate(),
            }
        }
        let now = Instant::now();
        self.tell_allowed();
        if self.settling.as_ref().is_some_and(|settling| settling.until <= now) {
            self.settled();
        }
        while self.timers.peek().is_some_and(|Reverse((when, _))| *when <= now) {
            match self.timers.pop() {
                Some(Reverse((_, Timer::Ask(key)))) => self.ask_is_due(key, now),
                Some(Reverse((_, Timer::Stream(key)))) => self.stream_is_due(key, now),
                None => {}
            }
        }
        while let Some(key) = self.stirred.pop() {
            self.serve_stream(key);
        }
    }

    fn remind(&mut self, when: Instant, of: Timer) {
        self.timers.push(Reverse((when, of)));
    }
}

/// No descriptor is free. What wants one stays ready, and would be asked for again and again without a pause.
fn breathe() {
    std::thread::sleep(Duration::from_millis(1));
}
