//! What changes while the container runs: its limits in the kernel, its ports and its policy by its monitor.

use base::Id;
use state::container::{Live, Record};
use state::options::{PortMapping, RestartPolicy};
use state::protocol::{CHANGES, Change};

use super::facets::Kind;
use super::{Changes, Refused, Way, publishes, way_of};
use crate::Engine;
use crate::containers::control::StateError;
use crate::containers::notes;
use crate::containers::records::{self, Found};
use crate::containers::start::{MonitorError, published};
use crate::containers::update;
use crate::error::{Error, Reported, Result};

/// How often a monitor is asked again that hung up between two runs.
const TRIES: u32 = 3;

/// What was done already.
#[derive(Default)]
struct Done {
    limits: Option<update::Done>,
    policy: Option<RestartPolicy>,
    change: Option<Change>,
}

impl Engine {
    pub(super) fn set_at_once(&self, id: &Id, changes: &Changes) -> Result<Vec<String>> {
        let mut done = Done::default();
        let mut warnings = Vec::new();
        let changed = records::change::<Error>(&self.instance, id, |record| {
            let next = self.next(record, changes)?;
            let gone = || records::Error::NotFound(record.name.clone());
            // Looked at again under the lock: it may have ended meanwhile.
            let found = records::load(&self.instance, id)?.ok_or_else(gone)?;
            if !matches!(way_of(&found, &next), Way::AtOnce | Way::Nothing) {
                return Err(Refused::Moved(record.name.clone()).into());
            }
            let differs = |kind| next.facets.iter().any(|facet| facet.kind == kind);
            if differs(Kind::Limits) {
                warnings.extend(update::forgetful(&found));
                done.limits = Some(self.update_running(&next.record, found.status, &changes.limits)?);
            }
            if differs(Kind::RestartPolicy) {
                self.tell_policy(&found, next.record.options.restart)?;
                done.policy = Some(record.options.restart);
            }
            let live = found.live.as_ref();
            if let Some((change, back)) = live.and_then(|live| {
                told(live, record, &next.record, differs(Kind::Ports), differs(Kind::Labels))
            }) {
                self.tell_change(&found, &change)?;
                done.change = Some(back);
            }
            *record = next.record;
            Ok(())
        });
        match changed {
            Ok(_) => Ok(warnings),
            Err(error) => {
                self.take_back(id, done);
                Err(error)
            }
        }
    }

    fn tell_policy(&self, found: &Found, policy: RestartPolicy) -> Result<()> {
        let gone = || StateError::NotRunning(found.record.name.clone());
        let session = self.connect(found, false)?.ok_or_else(gone)?;
        session
            .set_policy(policy)
            .map_err(|source| MonitorError::Talk { id: found.record.id.clone(), source }.into())
    }

    fn tell_change(&self, found: &Found, change: &Change) -> Result<()> {
        let id = &found.record.id;
        for _ in 0..TRIES {
            let Some(mut session) = self.connect(found, false)? else { break };
            let answer = session.change(change);
            match answer.map_err(|source| MonitorError::Talk { id: id.clone(), source })? {
                Some(Ok(())) => return Ok(()),
                Some(Err(failure)) => return Err(Reported(failure).into()),
                // The run has ended; where another follows, that monitor is still there to be asked.
                None => {}
            }
        }
        Err(StateError::NotRunning(found.record.name.clone()).into())
    }

    /// Puts it back, as far as it goes: the cause is being reported.
    fn take_back(&self, id: &Id, done: Done) {
        if let Some(limits) = done.limits {
            limits.undo();
        }
        let Ok(Some(found)) = records::load(&self.instance, id) else { return };
        if let Some(policy) = done.policy {
            self.tell_policy(&found, policy).ok();
        }
        if let Some(change) = done.change {
            self.tell_change(&found, &change).ok();
        }
    }
}

/// What the monitor is told, and what would put it back. None where that is nothing, or it would not understand.
fn told(live: &Live, old: &Record, new: &Record, ports: bool, labels: bool) -> Option<(Change, Change)> {
    let ports = ports && publishes(old);
    // To an old one the labels of its events are what they were at its start: nothing else hangs on them.
    if live.protocol < CHANGES || !(ports || labels) {
        return None;
    }
    let attributes = |record| labels.then(|| notes::attributes(record));
    let wanted = ports.then(|| settled(&published(old), &live.ports, &published(new)));
    let change = Change { ports: wanted, attributes: attributes(new) };
    let back = Change { ports: ports.then(|| live.ports.clone()), attributes: attributes(old) };
    Some((change, back))
}

/// Ports that are asked for, those that were asked for before with what they have got.
fn settled(asked: &[PortMapping], got: &[PortMapping], wanted: &[PortMapping]) -> Vec<PortMapping> {
    let mut pairs: Vec<(&PortMapping, &PortMapping)> = asked.iter().zip(got).collect();
    let settle = |port: &PortMapping| match pairs.iter().position(|(asked, _)| *asked == port) {
        Some(at) => pairs.remove(at).1.clone(),
        None => port.clone(),
    };
    wanted.iter().map(settle).collect()
}

#[cfg(test)]
mod tests {
    use state::options::Protocol;

    use super::*;

    #[test]
    fn ports_keep_what_the_kernel_chose_for_them() {
        let port = |host_port, container_port| PortMapping {
            host_ip: None,
            host_port,
            container_port,
            protocol: Protocol::Tcp,
        };
        let asked = [port(8080, 80), port(0, 80), port(0, 80)];
        let got = [port(8080, 80), port(4001, 80), port(4002, 80)];
        let wanted = [port(0, 80), port(0, 80), port(0, 80), port(9090, 90)];
        assert_eq!(
            settled(&asked, &got, &wanted),
            [port(4001, 80), port(4002, 80), port(0, 80), port(9090, 90)]
        );
        assert_eq!(settled(&asked, &got, &[]), []);
    }
}
