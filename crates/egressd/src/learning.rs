//! What containers need that may go everywhere while it is watched: as rules, which they can be started with next time.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use base::Id;
use network::egress::Packet;
use state::Instance;
use state::egress::Rule;
use state::egress::learned::{self, Learned};

use crate::containers::Container;
use crate::public::is_public;

/// So many rules are learned of one container: who goes to more places has no use for a list.
const MOST: usize = 500;

/// What was learned of each.
#[derive(Debug, Default)]
pub struct Learning {
    of: HashMap<Id, Lesson>,
}

#[derive(Debug, Default)]
struct Lesson {
    name: String,
    rules: BTreeSet<Rule>,
    changed: bool,
}

impl Learning {
    /// A watched container is there: it is written down even if it needs nothing.
    pub fn begin(&mut self, instance: &Instance, container: &Container) {
        let registration = &container.registration;
        self.of.entry(registration.container.clone()).or_insert_with(|| {
            // Ours, if we were started again.
            let before = learned::read(instance, &registration.name).ok().flatten();
            let before = before.filter(|before| before.container == registration.container);
            let rules = before.map(|before| before.rules.into_iter().collect()).unwrap_or_default();
            Lesson { name: registration.name.clone(), rules, changed: true }
        });
    }

    /// A watched container has gone somewhere.
    pub fn note(&mut self, container: &Container, packet: &Packet) {
        let Some(lesson) = self.of.get_mut(&container.registration.container) else { return };
        let name = container.name_of(packet.to);
        let by_name = rule_for(name.as_deref(), packet);
        // Of a name that leads into the neighbourhood the address must be allowed as well.
        let by_address = (name.is_some() && !is_public(packet.to)).then(|| rule_for(None, packet)).flatten();
        for rule in by_name.into_iter().chain(by_address) {
            if lesson.rules.len() < MOST {
                lesson.changed |= lesson.rules.insert(rule);
            }
        }
    }

    /// Writes down what is new. What cannot be written is tried again with the next.
    pub fn write(&mut self, instance: &Instance) {
        for (id, lesson) in self.of.iter_mut().filter(|(_, lesson)| lesson.changed) {
            let learned = Learned { container: id.clone(), rules: lesson.rules.iter().cloned().collect() };
            lesson.changed = learned::write(instance, &lesson.name, &learned).is_err();
        }
    }

    /// Whether something is not written down yet.
    pub fn waits(&self) -> bool {
        self.of.values().any(|lesson| lesson.changed)
    }

    /// A container is gone.
    pub fn end(&mut self, instance: &Instance, id: &Id) {
        self.write(instance);
        self.of.remove(id);
    }
}

/// The rule that would have let a packet pass. None where nothing could.
fn rule_for(name: Option<&str>, packet: &Packet) -> Option<Rule> {
    let transport = match packet.protocol {
        6 => Some("tcp"),
        17 => Some("udp"),
        _ => None,
    };
    let text = match (name, packet.port, transport) {
        (Some(name), Some(80 | 443), Some("tcp")) => name.to_owned(),
        // QUIC: it is done by TCP where it is refused.
        (Some(_), Some(443), Some("udp")) => return None,
        (Some(name), Some(port), Some(transport)) => format!("{name}:{port}/{transport}"),
        (_, Some(port), Some(transport)) => match packet.to {
            IpAddr::V4(ip) => format!("{ip}:{port}/{transport}"),
            IpAddr::V6(ip) => format!("[{ip}]:{port}/{transport}"),
        },
        _ => packet.to.to_string(),
    };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_is_a_rule() {
        let rule = |name: Option<&str>, to: &str, protocol, port| {
            let packet = Packet { to: to.parse().unwrap(), protocol, port };
            rule_for(name, &packet).map(|rule| rule.to_string())
        };
        assert_eq!(rule(Some("a.b"), "192.0.2.1", 6, Some(443)).as_deref(), Some("a.b"));
        assert_eq!(rule(Some("a.b"), "192.0.2.1", 6, Some(22)).as_deref(), Some("a.b:22/tcp"));
        assert_eq!(rule(Some("a.b"), "192.0.2.1", 17, Some(443)), None);
        assert_eq!(rule(None, "192.0.2.1", 17, Some(123)).as_deref(), Some("192.0.2.1/32:123/udp"));
        assert_eq!(rule(None, "2001:db8::1", 6, Some(443)).as_deref(), Some("[2001:db8::1/128]:443/tcp"));
        assert_eq!(rule(None, "192.0.2.1", 1, None).as_deref(), Some("192.0.2.1/32"));
    }
}
