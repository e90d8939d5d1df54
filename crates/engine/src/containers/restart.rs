//! `start` of containers that are here already, and `restart`.

use std::time::{Duration, Instant};

use base::{Failure, Id, Kind, fs};
use state::container::{Status, file};
use state::options::RestartPolicy;
use state::protocol::{CHANGES, VERSION};

use crate::containers::control::StateError;
use crate::containers::create::Created;
use crate::containers::ownership::{Held, Owner, held_at};
use crate::containers::records::{self, Found};
use crate::containers::session::{Session, Wish};
use crate::containers::signal;
use crate::containers::spec::Invalid;
use crate::containers::stop::DYING;
use crate::error::Result;
use crate::{Engine, StartHow};

/// How long a monitor may take from the end of one run to the start of the next.
const RETURNING: Duration = Duration::from_secs(30);
/// How long the monitor of the last run may take to clear up.
const CLEARING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(1);

/// A container that was stopped and did not come back.
#[derive(Debug, thiserror::Error)]
#[error("container {name} does not start again{}{}", if reason.is_empty() { "" } else { ": " }, reason)]
struct NotBack {
    name: String,
    reason: String,
}

impl Failure for NotBack {
    fn kind(&self) -> Kind {
        Kind::Internal
    }

    fn hints(&self) -> Vec<String> {
        let mut hints = vec![format!("look at what it has said: dhow logs {}", self.name)];
        // Its monitor has left us no more than the words.
        if self.reason.contains("No space left on device") {
            hints.push(base::space::NEXT.to_owned());
        }
        hints
    }
}

/// A container that would be gone: with `--rm` it cannot be without a monitor for a moment, and those of the first version
/// could not always mount it again.
#[derive(Debug, thiserror::Error)]
#[error(
    "container {0} is removed when it ends (--rm), and its monitor is of an earlier version, and could lose it in a restart"
)]
struct CouldLose(String);

impl Failure for CouldLose {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }

    fn hints(&self) -> Vec<String> {
        vec!["stop it, and run another one".to_owned()]
    }
}

/// Whether a restart gives it a new monitor, because its own is of an earlier version.
fn renews(found: &Found) -> Result<bool> {
    let protocol = found.live.as_ref().map_or(VERSION, |live| live.protocol);
    match found.record.options.auto_remove {
        true if protocol < CHANGES => Err(CouldLose(found.record.name.clone()).into()),
        removes_itself => Ok(protocol < VERSION && !removes_itself),
    }
}

impl Engine {
    /// Starts a container that was created before, or has ended. `None`: it runs already.
    pub fn start_existing(&self, name: &str, how: StartHow) -> Result<Option<Session>> {
        // Who is started by somebody else right now runs soon.
        let (found, owner) = self.up_or_held(name)?;
        match owner {
            Some(owner) => self.start_owned(name, found.record.id, owner, how).map(Some),
            None if found.status == Status::Paused => {
                Err(StateError::Busy { name: name.to_owned(), state: "paused" }.into())
            }
            None => Ok(None),
        }
    }

    /// Starts a container that has ended, or was never started, and is ours.
    pub(crate) fn start_owned(&self, name: &str, id: Id, owner: Owner, how: StartHow) -> Result<Session> {
        self.await_cleared(&id)?;
        // Its monitor may have died since we looked, and nobody have seen to that.
        self.release_held(&id, &owner)?;
        state::exit::settle(&self.instance, &id)?;
        let gone = || records::Error::NotFound(name.to_owned());
        let record = records::record(&self.instance, &id)?.ok_or_else(gone)?;
        let overlay = self.layer_store().overlay(&record.image.layers, &self.instance.container(&id))?;
        // How the last run ended is not how this one does, should the power go.
        fs::remove_file(&self.instance.container(&id).join(file::EXIT))?;
        let created = Created { id, name: record.name.clone(), warnings: Vec::new(), record, overlay, owner };
        self.start(created, how)
    }

    /// Waits until the monitor of the last run, which has told everybody of its end and let go of the container, has also
    /// taken down what the next run makes under the same names: its mounts and its groups.
    fn await_cleared(&self, id: &Id) -> Result<()> {
        let released = self.instance.live_containers().join(format!(".{id}"));
        let until = Instant::now() + CLEARING;
        while held_at(&released)? == Held::Owned && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        self.sweep_released()
    }

    /// Stops a container, if it runs, and starts it again: by its monitor, or, where that is of an earlier version, by a new
    /// one. `timeout` and `signal` as for [`Engine::stop`].
    pub fn restart(&self, name: &str, timeout: Option<u64>, signal: Option<&str>) -> Result<()> {
        let signal = signal.map(signal::parse).transpose()?;
        let found = self.find(name)?;
        if found.status.is_up() {
            let resolved = &found.record.resolved;
            let patience = Duration::from_secs(timeout.unwrap_or(resolved.stop_timeout));
            let signals = [(signal.unwrap_or(resolved.stop_signal), patience), (signal::KILL, DYING)];
            if renews(&found)? {
                self.end(name, &found, &signals, Wish::ShutDown)?;
            } else if self.turn_over(name, &found, &signals)? {
                self.note_container("restart", &found.record, &[]);
                return Ok(());
            }
        }
        // It had ended, or did so before its monitor could be asked.
        self.start_existing(name, StartHow::default())?;
        self.note_container("restart", &found.record, &[]);
        Ok(())
    }

    /// Has the monitor of a container end its run and begin another: address, ports and name stay its own. `false` if
    /// there is no monitor any more.
    fn turn_over(&self, name: &str, found: &Found, signals: &[(i32, Duration)]) -> Result<bool> {
        let id = &found.record.id;
        if found.status == Status::Paused {
            self.thaw(found).ok();
        }
        let Some(mut session) = self.connect(found, false)? else { return Ok(false) };
        session.want_end(Wish::Restarted).ok();
        let before = found.live.as_ref().map(|l| l.started);
        if found.status != Status::Restarting {
            self.urge(name, &mut session, found, signals)?;
        }
        let until = Instant::now() + RETURNING;
        loop {
            let now = records::load(&self.instance, id)?;
            match now {
                // Another run, or the attempt at one: its monitor answers when it knows. Whether that has ended already is
                // its own affair.
                Some(now)
                    if now.live.as_ref().is_some_and(|l| Some(l.started) != before && !l.restarting) =>
                {
                    if self.connect(&now, false)?.is_some() {
                        let again = records::load(&self.instance, id)?;
                        let waits = again.is_some_and(|now| now.status == Status::Restarting);
                        let failed = if waits {
                            records::exit(&self.instance, id)?.and_then(|e| e.error)
                        } else {
                            None
                        };
                        // It is tried again, by its policy, and has failed nevertheless.
                        return failed.map_or(Ok(true), |reason| {
                            Err(NotBack { name: name.to_owned(), reason }.into())
                        });
                    }
                }
                Some(now) if !now.status.is_up() => {
                    self.await_release(id)?;
                    let exit = records::exit(&self.instance, id)?;
                    if let Some(reason) = exit.as_ref().and_then(|e| e.error.clone()) {
                        return Err(NotBack { name: name.to_owned(), reason }.into());
                    }
                    // Either the run that we began has ended already, or there was none: the monitor ended before it heard.
                    return Ok(exit.is_some_and(|e| e.started.is_some() && e.started != before));
                }
                Some(_) => {}
                None => return Err(records::Error::NotFound(name.to_owned()).into()),
            }
            if Instant::now() >= until {
                return Err(NotBack { name: name.to_owned(), reason: String::new() }.into());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Changes what becomes of a container when it ends; at once, where it runs.
    pub fn set_restart_policy(&self, name: &str, policy: RestartPolicy) -> Result<()> {
        let found = self.find(name)?;
        records::change::<crate::Error>(&self.instance, &found.record.id, |record| {
            if record.options.auto_remove && policy != RestartPolicy::No {
                return Err(Invalid::RestartAndRemove.into());
            }
            record.options.restart = policy;
            Ok(())
        })?;
        if let Some(session) = self.connect_if_up(&found)? {
            session.set_policy(policy).ok();
        }
        Ok(())
    }

    pub(crate) fn connect_if_up(&self, found: &Found) -> Result<Option<Session>> {
        if found.status.is_up() { self.connect(found, false) } else { Ok(None) }
    }
}
