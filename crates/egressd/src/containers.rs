//! Who is limited, and what names they have looked up.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use network::egress::Way;
use state::egress::Rule;
use state::egress::link::Registration;

/// So many names of one container are remembered; then the one that ends first goes.
const MOST_NAMES: usize = 4096;
/// So many addresses of a name are looked at.
pub const MOST_ADDRESSES: usize = 64;
/// So many connections of one container are in the proxy at once.
const MOST_CONNECTIONS: usize = 512;

/// A container.
#[derive(Debug)]
pub struct Container {
    /// What its monitor says of it.
    pub registration: Registration,
    looked: Mutex<HashMap<String, HashMap<IpAddr, Instant>>>,
    connections: AtomicUsize,
}

impl Container {
    /// One that has not looked up anything yet, or what one that it takes the place of has.
    pub fn new(registration: Registration, before: Option<&Self>) -> Self {
        let looked = before.map(|before| lock(&before.looked).clone()).unwrap_or_default();
        Self { registration, looked: Mutex::new(looked), connections: AtomicUsize::new(0) }
    }

    /// It was told that a name has these addresses, until then.
    pub fn note(&self, name: &str, addresses: &[IpAddr], until: Instant) {
        let mut looked = lock(&self.looked);
        let now = Instant::now();
        if looked.len() >= MOST_NAMES && !looked.contains_key(name) {
            looked.retain(|_, of| of.values().any(|until| *until > now));
            let last = |of: &HashMap<IpAddr, Instant>| of.values().max().copied();
            if looked.len() >= MOST_NAMES
                && let Some(first) =
                    looked.iter().min_by_key(|(_, of)| last(of)).map(|(name, _)| name.clone())
            {
                looked.remove(&first);
            }
        }
        let of = looked.entry(name.to_owned()).or_default();
        of.retain(|_, until| *until > now);
        for address in addresses.iter().take(MOST_ADDRESSES) {
            let place = of.entry(*address).or_insert(until);
            *place = (*place).max(until);
        }
    }

    /// Whether it was told that this name has this address, and that is still so.
    pub fn knows(&self, name: &str, address: IpAddr) -> bool {
        lock(&self.looked)
            .get(name)
            .and_then(|of| of.get(&address))
            .is_some_and(|until| *until > Instant::now())
    }

    /// The name by which it was told an address last.
    pub fn name_of(&self, address: IpAddr) -> Option<String> {
        let looked = lock(&self.looked);
        let named = looked.iter().filter_map(|(name, of)| Some((of.get(&address)?, name)));
        named.max().map(|(_, name)| name.clone())
    }

    /// What its names have opened: ways, and for how many seconds from now.
    pub fn ways(&self) -> BTreeMap<u32, Vec<Way>> {
        let rules = self.registration.egress.rules();
        let now = Instant::now();
        let looked = lock(&self.looked);
        let mut left = BTreeMap::<u32, Vec<Way>>::new();
        for (name, of) in looked.iter() {
            for (address, until) in of {
                let seconds = until.saturating_duration_since(now).as_secs() as u32;
                let ways = ways(rules, name, &[*address]);
                if seconds > 0 && !ways.is_empty() {
                    left.entry(seconds).or_default().extend(ways);
                }
            }
        }
        left
    }

    /// A place for one connection more; none where it has too many.
    pub fn connect(self: &Arc<Self>) -> Option<Connected> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let connected = Connected(self.clone());
        (before < MOST_CONNECTIONS).then_some(connected)
    }
}

/// A connection of a container, counted until it is dropped.
#[derive(Debug)]
pub struct Connected(Arc<Container>);

impl Connected {
    /// Whose it is.
    pub fn container(&self) -> &Container {
        &self.0
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What rules with a port open where a name has these addresses.
pub fn ways(rules: &[Rule], name: &str, addresses: &[IpAddr]) -> Vec<Way> {
    let mut ways = Vec::new();
    for rule in rules {
        if let Rule::Name { host, port, transport } = rule
            && host.matches(name)
        {
            ways.extend(addresses.iter().map(|ip| (*ip, *transport, *port)));
        }
    }
    ways
}

/// For how long what was looked up is believed: as long as the answer says and a little more, since a program may take its time
/// between the answer and the connection; but no longer than the name server keeps it.
pub fn life(seconds: u32) -> Duration {
    const LEAST: u32 = 60;
    const GRACE: u32 = 60;
    const MOST: u32 = 3600;
    Duration::from_secs(u64::from(seconds.clamp(LEAST, MOST) + GRACE))
}

/// Nobody who holds one of our locks can leave half a change behind.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::egress::Egress;

    fn container() -> Arc<Container> {
        Arc::new(Container::new(
            Registration {
                version: 1,
                container: "a".repeat(64).parse().unwrap(),
                name: "web".to_owned(),
                places: Vec::new(),
                egress: Egress::Learn,
                program: std::path::PathBuf::new(),
            },
            None,
        ))
    }

    #[test]
    fn what_was_looked_up_is_known_for_its_time() {
        let container = container();
        let (one, two) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let now = Instant::now();
        container.note("a.b", &[one], now + Duration::from_mins(1));
        container.note("c.d", &[two], now);
        assert!(container.knows("a.b", one));
        assert!(!container.knows("a.b", two) && !container.knows("c.d", one));
        assert!(!container.knows("c.d", two), "its time is over");
        container.note("e.f", &[one], now + Duration::from_secs(90));
        assert_eq!(container.name_of(one).as_deref(), Some("e.f"));
        for n in 0..MOST_NAMES + 8 {
            container.note(&format!("n{n}.b"), &[two], now + Duration::from_secs(100));
        }
        assert!(lock(&container.looked).len() <= MOST_NAMES);
        assert!(!container.knows("a.b", one), "the one that ends first has gone");
    }

    #[test]
    fn connections_are_counted() {
        let container = container();
        let all: Vec<_> = (0..MOST_CONNECTIONS).map(|_| container.connect().unwrap()).collect();
        assert!(container.connect().is_none());
        drop(all);
        assert!(container.connect().is_some());
    }
}
