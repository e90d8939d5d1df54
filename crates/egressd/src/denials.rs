//! Refusals: what is alike is put together, and written down a few times a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::{Id, Timestamp};
use network::egress::Packet;
use state::Instance;
use state::egress::journal::{self, Denial, What};

use crate::containers::{Container, lock};

/// So many lines of one container are written in a burst, and then so many in a second; what is beyond is one line, with a
/// count.
const BURST: f64 = 250.0;
const EACH_SECOND: f64 = 5.0;
/// How much of what a container wrote is repeated in a line.
const LONGEST: usize = 300;

/// Refusals that are not written down yet. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Denials(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    denied: HashMap<What, (Timestamp, u64)>,
    /// How many lines a container may have now, and since when.
    allowances: HashMap<Id, (f64, Instant)>,
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
            let now = Instant::now();
            let (left, since) = waiting.allowances.entry(what.container.clone()).or_insert((BURST, now));
            *left = (*left + now.duration_since(*since).as_secs_f64() * EACH_SECOND).min(BURST);
            *since = now;
            if *left >= 1.0 {
                *left -= 1.0;
            } else {
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
        let mut waiting = lock(&self.0);
        let denied = std::mem::take(&mut waiting.denied);
        // Who has been still for long enough may have as many again.
        let long = Duration::from_secs_f64(BURST / EACH_SECOND);
        waiting.allowances.retain(|_, (_, since)| since.elapsed() < long);
        drop(waiting);
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
        for n in 0..3000_u32 {
            let packet = Packet { to: (n % 1000).to_be_bytes().into(), protocol: 17, port: Some(53) };
            denials.packet(&container, &packet);
        }
        denials.write(&instance);
        assert!(!denials.wait());
        let mut bytes = std::fs::read(journal::dir(&instance).join(journal::JOURNAL)).unwrap();
        let lines = journal::take_lines(&mut bytes);
        assert!((251..260).contains(&lines.len()), "{}", lines.len());
        assert_eq!(lines.iter().map(|line| line.count).sum::<u64>(), 3000, "and all are counted");
    }
}
