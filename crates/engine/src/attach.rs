//! `attach`: the streams of a running container.

use crate::error::{Result, unbuilt};
use crate::{Engine, Session};

impl Engine {
    /// Attaches to a running container. `true` beside the session where it has a terminal.
    pub fn attach(&self, _name: &str) -> Result<(Session, bool)> {
        Err(unbuilt("attach"))
    }
}
