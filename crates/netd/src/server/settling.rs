//! The first moment of a server that takes the place of another: monitors are still telling it what they told that one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base::{Id, fs};
use state::Instance;

/// How long at most.
const LONGEST: Duration = Duration::from_secs(1);

/// Whom we have not heard of yet.
#[derive(Debug)]
pub(super) struct Settling {
    missing: BTreeSet<Id>,
    pub(super) until: Instant,
}

impl Settling {
    /// Looks who claims an address on a network of its own. None where nobody does.
    pub(super) fn look(instance: &Instance, now: Instant) -> Option<Self> {
        let networks = instance.network("");
        let mut missing = BTreeSet::new();
        // What cannot be read names nobody to wait for.
        for network in fs::names(&networks).unwrap_or_default() {
            // The default network has no names.
            if network == "bridge" {
                continue;
            }
            let claims = networks.join(network).join("addresses");
            for claim in fs::names(&claims).unwrap_or_default() {
                let owner = std::fs::read_to_string(claims.join(claim)).unwrap_or_default();
                if let Ok(id) = owner.trim().parse::<Id>()
                    && instance.live(&id).is_dir()
                {
                    missing.insert(id);
                }
            }
        }
        (!missing.is_empty()).then_some(Self { missing, until: now + LONGEST })
    }

    /// This container has told its names. Whether it was the last.
    pub(super) fn heard_of(&mut self, id: &Id) -> bool {
        self.missing.remove(id);
        self.missing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_live_containers_on_networks_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        let now = Instant::now();
        assert!(Settling::look(&instance, now).is_none());
        let id = |digit: &str| digit.repeat(64).parse::<Id>().unwrap();
        let claim = |network: &str, ip: &str, id: &Id| {
            let claims = instance.network(network).join("addresses");
            std::fs::create_dir_all(&claims).unwrap();
            std::fs::write(claims.join(ip), id.as_str()).unwrap();
        };
        claim("n1", "10.0.0.2", &id("a"));
        claim("n1", "10.0.0.3", &id("b"));
        claim("n2", "10.0.1.3", &id("b"));
        claim("n2", "10.0.1.4", &id("c"));
        claim("bridge", "10.0.2.4", &id("d"));
        for live in ["a", "b", "d"] {
            std::fs::create_dir_all(instance.live(&id(live))).unwrap();
        }
        let mut settling = Settling::look(&instance, now).unwrap();
        assert!(!settling.heard_of(&id("d")));
        assert!(!settling.heard_of(&id("a")));
        assert!(settling.heard_of(&id("b")));
    }
}
