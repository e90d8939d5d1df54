//! Where those are that containers may speak to (`--allow`), as they come and go: their monitors are told, who have the rights
//! to change rules. We have none.

use rustix::net::{SendFlags, send};
use state::netd::{Allowed, Registration};

use super::Server;
use crate::names::Names;
use crate::slab::Key;
use crate::wire::name::Name;

impl Server {
    /// Tells each monitor whose container is allowed something else by now.
    pub(super) fn tell_allowed(&mut self) {
        // In the first moment half of the names are missing, and what exists would be taken away.
        if self.settling.is_some() || !std::mem::take(&mut self.names_changed) {
            return;
        }
        let mut lost = Vec::new();
        let mut changed: Vec<(Key, Vec<Allowed>)> = Vec::new();
        for (key, client) in self.clients.iter() {
            let Some(served) = &client.served else { continue };
            let now = allowed(&self.names, key, &served.registration);
            if now == served.told {
                continue;
            }
            let message = serde_json::to_vec(&now).unwrap_or_default();
            if send(&client.connection, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok() {
                changed.push((key, now));
            } else {
                // It connects again, and is told all.
                lost.push(key);
            }
        }
        for (key, now) in changed {
            if let Some(served) = self.clients.get_mut(key).and_then(|client| client.served.as_mut()) {
                served.told = now;
            }
        }
        for key in lost {
            self.forget(key);
        }
    }
}

/// Where all is that a container is allowed to speak to, in an order of its own.
fn allowed(names: &Names, key: Key, registration: &Registration) -> Vec<Allowed> {
    let mut found = Vec::new();
    for membership in &registration.networks {
        for rule in &membership.allow {
            let Some(name) = Name::from_text(&rule.name) else { continue };
            let mut addresses = names.on_network(key, &membership.network, &name);
            addresses.sort_unstable();
            addresses.dedup();
            found.extend(addresses.into_iter().map(|address| Allowed {
                network: membership.network.clone(),
                address,
                port: rule.port,
                protocol: rule.protocol,
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use state::options::{AllowRule, Protocol};

    use super::*;
    use crate::names::tests::{owner, registration};

    #[test]
    fn all_that_have_the_name_on_that_network_are_found_and_no_others() {
        let mut names = Names::default();
        let rule = |name: &str| AllowRule { name: name.to_owned(), port: 80, protocol: Protocol::Tcp };
        let mut asker = registration(&[("front", 1, &["app"])], 2);
        asker.networks[0].allow = vec![rule("site"), rule("nobody")];
        names.set(owner(0), &asker);
        names.set(owner(1), &registration(&[("front", 1, &["one", "site"])], 3));
        names.set(owner(2), &registration(&[("front", 1, &["two", "site"])], 4));
        names.set(owner(3), &registration(&[("back", 2, &["three", "site"])], 5));
        let four = |found: Vec<Allowed>| -> Vec<String> {
            found.iter().filter(|a| a.address.is_ipv4()).map(|a| a.address.to_string()).collect()
        };
        assert_eq!(four(allowed(&names, owner(0), &asker)), ["10.0.1.3", "10.0.1.4"]);
        names.remove(owner(1));
        assert_eq!(four(allowed(&names, owner(0), &asker)), ["10.0.1.4"]);
    }
}
