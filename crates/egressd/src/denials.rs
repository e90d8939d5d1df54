//! Refusals: what is alike is put together, and written down a few times a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base::{Id, Timestamp};
use network::egress::Packet;
use state::Instance;
use state::egress::journal::{self, Denial, What};

use crate::containers::{Container, lock};

/// So many lines of one container are written at once; what is beyond is one line, with a count.
const MOST_LINES: usize = 32;
/// How much of what a container wrote is repeated in a line.
const LONGEST: usize = 300;

/// Refusals that are not written down yet. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Denials(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    denied: HashMap<What, (Timestamp, u64)>,
    lines: HashMap<Id, usize>,
}

impl Denials {
    /// A packet was refused.
    pub fn packet(&self, of: &Container, packet: &Packet) {
        let protocol = match packet.protocol {
            1 | 58 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            132 => "sctp".to_owned(),
            other => other.to_string(),
        };
        self.add(of, &packet.to.to_string(), packet.port, &protocol, "no rule allows this address and port");
    }

    /// Something was refused, for this reason.
    pub fn add(&self, of: &Container, to: &str, port: Option<u16>, protocol: &str, rule: &str) {
        let mut to: String = to
            .chars()
            .take(LONGEST)
            .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
            .collect();
        let registration = &of.registration;
        let mut waiting = lock(&self.0);
        let mut what = What {
            container: registration.container.clone(),
            name: registration.name.clone(),
            to: String::new(),
            port,
            protocol: protocol.to_owned(),
            rule: rule.to_owned(),
        };
        std::mem::swap(&mut what.to, &mut to);
        if !waiting.denied.contains_key(&what) {
            let lines = waiting.lines.entry(what.container.clone()).or_default();
            *lines += 1;
            if *lines > MOST_LINES {
                what = What {
                    to: "*".to_owned(),
                    port: None,
                    protocol: "*".to_owned(),
                    rule: "many".to_owned(),
                    ..what
                };
            }
        }
        let (time, count) = waiting.denied.entry(what).or_insert((Timestamp::now(), 0));
        *time = Timestamp::now();
        *count += 1;
    }

    /// Whether something waits.
    pub fn wait(&self) -> bool {
        !lock(&self.0).denied.is_empty()
    }

    /// Writes down what waits. What cannot be written (a full disk) is lost.
    pub fn write(&self, instance: &Instance) {
        let Waiting { denied, .. } = std::mem::take(&mut *lock(&self.0));
        let mut lines: Vec<Denial> =
            denied.into_iter().map(|(what, (time, count))| Denial { time, what, count }).collect();
        lines.sort_by_key(|line| line.time);
        if !lines.is_empty() {
            journal::append(instance, &lines).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::egress::Egress;
    use state::egress::link::Registration;

    #[test]
    fn what_is_alike_is_one_line_and_who_tries_without_end_gets_a_few() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        let registration = Registration {
            version: 1,
            container: "a".repeat(64).parse().unwrap(),
            name: "web".to_owned(),
            places: Vec::new(),
            egress: Egress::Only(Vec::new()),
            program: std::path::PathBuf::new(),
        };
        let container = Container::new(registration, None);
        let denials = Denials::default();
        assert!(!denials.wait());
        for n in 0..1000_u32 {
            let packet = Packet { to: (n % 100).to_be_bytes().into(), protocol: 17, port: Some(53) };
            denials.packet(&container, &packet);
        }
        denials.write(&instance);
        assert!(!denials.wait());
        let mut bytes = std::fs::read(journal::dir(&instance).join(journal::JOURNAL)).unwrap();
        let lines = journal::take_lines(&mut bytes);
        assert_eq!(lines.len(), MOST_LINES + 1);
        assert_eq!(lines.iter().map(|line| line.count).sum::<u64>(), 1000, "and all are counted");
    }
}
