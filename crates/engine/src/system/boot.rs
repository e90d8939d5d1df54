//! What the machine's coming up and going down means for containers: `system start`, `system stop`.

use base::processes::helpers;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use state::container::Exit;
use state::options::RestartPolicy;

use crate::containers::records::{self, Found};
use crate::containers::session::Wish;
use crate::containers::signal;
use crate::containers::stop::DYING;
use crate::error::{Error, Result};
use crate::{Engine, StartHow};

/// More at once make nothing faster.
const MOST_THREADS: usize = 16;

/// What was done to a container, by its name.
pub type Done = (String, std::result::Result<(), Error>);

impl Engine {
    /// Starts the containers whose restart policy says so and that do not run: for when the machine has come up.
    pub fn start_all(&self) -> Result<Vec<Done>> {
        self.at_once(comes_back, |found| {
            self.start_existing(found.record.id.as_str(), StartHow::default()).map(drop)
        })
    }

    /// Stops all containers, each as it wants to be stopped: for when the machine goes down.
    pub fn stop_all(&self) -> Result<Vec<Done>> {
        self.at_once(
            |found| found.status.is_up(),
            |found| {
                let resolved = &found.record.resolved;
                let patience = Duration::from_secs(resolved.stop_timeout);
                let signals = [(resolved.stop_signal, patience), (signal::KILL, DYING)];
                match self.end(&found.record.name, found, &signals, Wish::ShutDown) {
                    // It ended before we came.
                    Err(_) if !self.is_up(found) => Ok(()),
                    other => other,
                }
            },
        )
    }

    fn is_up(&self, found: &Found) -> bool {
        records::load(&self.instance, &found.record.id)
            .is_ok_and(|now| now.is_some_and(|now| now.status.is_up()))
    }

    fn at_once(
        &self,
        wanted: impl Fn(&Found) -> bool,
        act: impl Fn(&Found) -> Result<()> + Sync,
    ) -> Result<Vec<Done>> {
        self.reconcile()?;
        let mut containers = Vec::new();
        for id in records::all(&self.instance)? {
            self.reconcile_one(&id)?;
            containers.extend(records::load(&self.instance, &id)?.filter(|found| wanted(found)));
        }
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::new());
        let work = || {
            while let Some(found) = containers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let outcome = act(found);
                let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                done.push((found.record.name.clone(), outcome));
            }
        };
        std::thread::scope(|scope| {
            helpers(scope, containers.len().min(MOST_THREADS).saturating_sub(1), work);
            work();
        });
        let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(done)
    }
}

/// Docker's rule: one that was never started stays so, and what its user has stopped does, unless it is `always`.
fn comes_back(found: &Found) -> bool {
    let Some(Exit { code, stopped, .. }) = &found.exit else { return false };
    !found.status.is_up()
        && match found.record.options.restart {
            RestartPolicy::No => false,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !stopped,
            policy @ RestartPolicy::OnFailure(_) => !stopped && policy.restarts(*code, 0),
        }
}
