//! `attach`: the streams of a running container.

use crate::containers::control::StateError;
use crate::error::Result;
use crate::{Engine, Session};

impl Engine {
    /// Attaches to a running container. `true` beside the session where it has a terminal.
    pub fn attach(&self, name: &str) -> Result<(Session, bool)> {
        let found = self.find_running(name)?;
        let tty = found.record.options.tty;
        match self.connect(&found, true)? {
            Some(session) => Ok((session, tty)),
            None => Err(StateError::NotRunning(name.to_owned()).into()),
        }
    }
}
