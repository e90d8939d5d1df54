//! A container that stands still while it is looked at.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use base::{Failure, Kind};
use runtime::cgroup::{Group, Hierarchy};
use state::container::file;

use crate::Engine;
use crate::containers::records::{self, Found};
use crate::containers::session::Session;
use crate::error::Result;

/// Those that would end us and leave the container as it is: SIGHUP, SIGINT, SIGQUIT, SIGTERM.
const ENDING: [i32; 4] = [1, 2, 3, 15];

/// Somebody wanted us to end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

impl Failure for Interrupted {
    fn kind(&self) -> Kind {
        Kind::Unavailable
    }
}

/// A container that is frozen until this is dropped, or until we are killed: then its monitor thaws it. Signals wait
/// meanwhile: see [`Still::watched`].
#[derive(Debug)]
pub(crate) struct Still {
    group: Group,
    signals: OwnedFd,
    /// With the monitor. None: it was frozen before us, and stays so; or it has ended.
    session: Option<Session>,
    /// The mark that is there while it is paused.
    paused: PathBuf,
}

impl Engine {
    /// Freezes a container that runs.
    pub(crate) fn pause_while(&self, found: &Found) -> Result<Still> {
        let signals = sys::process::signal_fd(&ENDING).map_err(Signals)?;
        let group = Group::existing(&Hierarchy::detect()?, &self.location(&found.record));
        let session = if group.frozen() { None } else { self.connect(found, false)? };
        let id = &found.record.id;
        let paused = self.instance.live(id).join(file::PAUSED);
        let still = Still { group, signals, session, paused };
        if let Some(session) = &still.session {
            session.hold().map_err(Hold)?;
            still.group.freeze()?;
            // Its run may have ended meanwhile, and another begun: that one knows of no holder.
            let now = records::load(&self.instance, id)?.and_then(|now| now.live);
            if now.map(|l| l.started) != found.live.as_ref().map(|l| l.started) {
                return Err(Ended.into());
            }
        }
        Ok(still)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot catch signals")]
struct Signals(#[source] io::Error);

impl Failure for Signals {
    fn kind(&self) -> Kind {
        Kind::Internal
    }
}

/// The monitor that is to watch over us has gone: the container is ending.
#[derive(Debug, thiserror::Error)]
#[error("the container ended before it could be frozen")]
struct Hold(#[source] io::Error);

impl Failure for Hold {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }
}

/// The run that was to be looked at is over.
#[derive(Debug, thiserror::Error)]
#[error("the container ended, and was started again, before it could be frozen")]
struct Ended;

impl Failure for Ended {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }

    fn hints(&self) -> Vec<String> {
        vec!["try again".to_owned()]
    }
}

impl Still {
    /// A writer that fails when a signal has come that should end us.
    pub(crate) fn watched<W: Write>(&self, inner: W) -> Watched<'_, W> {
        Watched { inner, still: self }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            if self.paused.exists() {
                // Somebody paused it meanwhile, and it stays so.
                session.let_go().ok();
                return;
            }
            // A group that is gone needs no thawing. One that could not be thawed is left to the monitor.
            if self.group.thaw().is_ok() {
                session.let_go().ok();
            }
        }
    }
}

/// See [`Still::watched`].
pub(crate) struct Watched<'p, W> {
    inner: W,
    still: &'p Still,
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match sys::process::read_signal(self.still.signals.as_fd()) {
            Some(_) => Err(io::Error::other(Interrupted)),
            None => self.inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
