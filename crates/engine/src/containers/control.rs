//! Talking to the monitor of a container that runs, for the verbs that do: attach, stop, kill, wait, rm.

use std::time::{Duration, Instant};

use base::{Failure, Id, Kind};
use state::container::Status;
use state::protocol::{Hello, Tag, VERSION, write_frame};

use crate::Engine;
use crate::containers::ownership::{Held, Owner, held};
use crate::containers::reconcile::Encode;
use crate::containers::records::{self, Found};
use crate::containers::session::Session;
use crate::containers::start::{MonitorError, first_word};
use crate::error::Result;

/// How long a monitor that has said `Exited` may take to release everything and let go.
const RELEASING: Duration = Duration::from_secs(10);

/// How long a start may take until something is seen of it, and how often that is looked at.
const STARTING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// How long a monitor may take to answer: it starts the container's next run meanwhile, at most.
const ANSWERING: Duration = Duration::from_secs(20);

/// A verb that does not fit the state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("container {0} is not running")]
    NotRunning(String),
    #[error("container {name} is {state}")]
    Busy { name: String, state: &'static str },
    #[error("container {0} is not paused")]
    NotPaused(String),
    #[error("container {0} does not end, although it was killed")]
    Undead(String),
}

impl Failure for StateError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotRunning(_) | Self::NotPaused(_) | Self::Busy { .. } => Kind::Conflict,
            Self::Undead(_) => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Busy { name, state: "running" } => {
                vec![format!("stop it first (dhow stop {name}), or force it (dhow rm -f {name})")]
            }
            Self::Busy { name, state: "paused" } => {
                vec![format!("let it go on first: dhow unpause {name}")]
            }
            Self::Busy { name, state: "restarting" } => {
                vec![format!("wait until it runs, or stop it: dhow stop {name}")]
            }
            Self::Undead(_) => {
                vec!["look for a process in uninterruptible sleep (state D in ps)".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

impl Engine {
    /// The container of this name, put right if its owner died.
    pub(crate) fn find(&self, name: &str) -> Result<Found> {
        let gone = || records::Error::NotFound(name.to_owned());
        let id = records::find(&self.instance, name)?;
        self.reconcile_one(&id)?;
        Ok(records::load(&self.instance, &id)?.ok_or_else(gone)?)
    }

    /// The same, but of one that is just being started (by a command that may be dead by now) what has become of it: it
    /// runs, or does not.
    pub(crate) fn find_started(&self, name: &str) -> Result<Found> {
        let deadline = Instant::now() + STARTING;
        loop {
            let found = self.find(name)?;
            let settled = found.status.is_up() || held(&self.instance, &found.record.id)? != Held::Owned;
            if settled || Instant::now() >= deadline {
                return Ok(found);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The container of this name, which must run.
    pub(crate) fn find_running(&self, name: &str) -> Result<Found> {
        let found = self.find_up(name)?;
        match found.status {
            Status::Running => Ok(found),
            other => Err(StateError::Busy { name: name.to_owned(), state: other.as_str() }.into()),
        }
    }

    /// The container of this name, which must run, stand still, or be about to come back.
    pub(crate) fn find_up(&self, name: &str) -> Result<Found> {
        let found = self.find(name)?;
        if found.status.is_up() { Ok(found) } else { Err(StateError::NotRunning(name.to_owned()).into()) }
    }

    /// A conversation with the container's monitor; `None` if there is none any more.
    pub(crate) fn connect(&self, found: &Found, attach: bool) -> Result<Option<Session>> {
        let id = &found.record.id;
        let mut stream = match monitor::client::connect_to(&self.instance, id) {
            Ok(stream) => stream,
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(source) => return Err(MonitorError::Talk { id: id.clone(), source }.into()),
        };
        let hello = serde_json::to_vec(&Hello { version: VERSION, attach }).map_err(Encode)?;
        match write_frame(&mut stream, Tag::Hello, &hello) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(None),
            other => other.map_err(|source| MonitorError::Talk { id: id.clone(), source })?,
        }
        stream.set_read_timeout(Some(ANSWERING)).ok();
        match first_word(stream, id, found.record.options.tty) {
            Ok(session) => {
                session.be_patient().map_err(|source| MonitorError::Talk { id: id.clone(), source })?;
                Ok(Some(session))
            }
            // It hung up: it has died, or ended, and is just letting go.
            Err(error) => {
                self.await_release(id)?;
                if held(&self.instance, id)? == Held::Owned { Err(error) } else { Ok(None) }
            }
        }
    }

    /// Waits until the owner lets go, or is dead; not for ever.
    pub(crate) fn await_release(&self, id: &Id) -> Result<()> {
        let deadline = Instant::now() + RELEASING;
        let mut pause = Duration::from_micros(200);
        while held(&self.instance, id)? == Held::Owned && Instant::now() < deadline {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The ownership, as soon as its owner lets go.
    pub(crate) fn own(&self, id: &Id) -> Result<Option<Owner>> {
        Ok(Owner::wait(&self.instance, id, RELEASING)?)
    }

    /// The same for one who removes it, even where there is no room.
    pub(crate) fn own_to_remove(&self, id: &Id) -> Result<Option<Owner>> {
        Ok(Owner::wait_to_remove(&self.instance, id, RELEASING)?)
    }
}
