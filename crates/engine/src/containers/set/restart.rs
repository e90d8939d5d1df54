//! What cannot change while a container runs: it is stopped, its record replaced, and it is started again.
//!
//! All that can be refused is refused before it is stopped. What fails later is taken back: the old record, and a start
//! with it. Whoever kills the command in the middle finds a container that has ended, with its old settings or the new.

use std::time::Duration;

use base::{Failure, Id, Kind};
use state::container::Record;
use state::options::PortMapping;

use super::{Changes, Refused, Way, publishes, way_of};
use crate::containers::control::StateError;
use crate::containers::records::{self, Found};
use crate::containers::session::Wish;
use crate::containers::signal;
use crate::containers::start::published;
use crate::containers::stop::DYING;
use crate::containers::undo::Undo;
use crate::error::{Error, Result};
use crate::{Engine, StartHow};

/// A container that does not start as it was told to.
#[derive(Debug, thiserror::Error)]
#[error("container {name} does not start with its new settings: {error}")]
struct NotStarted {
    name: String,
    error: Error,
    runs_again: bool,
}

impl Failure for NotStarted {
    fn kind(&self) -> Kind {
        self.error.kind()
    }

    fn hints(&self) -> Vec<String> {
        let state = if self.runs_again {
            format!("nothing is lost: {} runs again with its old settings", self.name)
        } else {
            format!("its old settings are back, but it does not run: dhow start {}", self.name)
        };
        let mut hints = vec![state];
        hints.extend(self.error.hints());
        hints
    }
}

impl Engine {
    pub(super) fn set_by_restart(
        &self,
        id: &Id,
        changes: &Changes,
        timeout: Option<u64>,
    ) -> Result<Vec<String>> {
        let found = self.find(id.as_str())?;
        let name = found.record.name.clone();
        let next = self.next(&found.record, changes)?;
        if way_of(&found, &next) != Way::Restart {
            return Err(Refused::Moved(name).into());
        }
        check_ports(&found, &next.record)?;
        let images_stay = self.keep_images(&next)?;
        let mut undo = Undo::new();
        let volumes_stay = match self.provide(&next, &mut undo) {
            Ok(held) => held,
            Err(error) => return Err(undo.run(error)),
        };
        // From here on it may stand still: whatever happens, it is to run again.
        undo.push(|| self.start_existing(id.as_str(), StartHow::default()).map(drop));
        let restarted = (|| {
            // Let go of before anything is taken back: whoever removes a volume waits for those that hold it.
            let held = (images_stay, volumes_stay);
            let resolved = &found.record.resolved;
            let patience = Duration::from_secs(timeout.unwrap_or(resolved.stop_timeout));
            // Not the user's wish: should we be killed now, it comes back with the machine.
            self.end(
                &name,
                &found,
                &[(resolved.stop_signal, patience), (signal::KILL, DYING)],
                Wish::ShutDown,
            )?;
            let busy = || StateError::Busy { name: name.clone(), state: "being started" };
            let owner = self.own(id)?.ok_or_else(busy)?;
            records::change::<Error>(&self.instance, id, |record| {
                // It was checked for a container that is no more this one.
                if record.options != found.record.options {
                    return Err(Refused::Moved(name.clone()).into());
                }
                take_over(record, &next.record);
                Ok(())
            })?;
            drop(held);
            undo.push(|| {
                records::change::<Error>(&self.instance, id, |record| {
                    // Somebody may have changed it since, who does not know of us: then that counts.
                    if record.options == next.record.options {
                        take_over(record, &found.record);
                    }
                    Ok(())
                })
                .map(drop)
            });
            let session = self.start_owned(&name, id.clone(), owner, StartHow::default());
            session.map(|session| session.warnings().to_vec())
        })();
        match restarted {
            Ok(warnings) => {
                undo.disarm();
                Ok(warnings)
            }
            Err(error) => {
                let error = undo.run(error);
                let now = records::load(&self.instance, id)?;
                let runs_again = now.is_some_and(|now| now.status.is_up());
                Err(NotStarted { name: name.clone(), error, runs_again }.into())
            }
        }
    }
}

/// All that is set; the name, which somebody may change at any time, is not.
fn take_over(record: &mut Record, from: &Record) {
    record.options = from.options.clone();
    record.args.clone_from(&from.args);
    record.resolved = from.resolved.clone();
}

/// Looks whether new ports can be had, as long as the container still runs.
fn check_ports(found: &Found, next: &Record) -> Result<()> {
    if !publishes(next) {
        return Ok(());
    }
    let held = found.live.as_ref().map_or(&[][..], |live| &live.ports);
    let is_its_own = |port: &PortMapping| {
        held.iter().any(|own| (own.host_port, own.protocol) == (port.host_port, port.protocol))
    };
    let new: Vec<PortMapping> = published(next).into_iter().filter(|port| !is_its_own(port)).collect();
    Ok(network::are_free(&new)?)
}
