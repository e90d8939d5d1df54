//! `start`: a created container is handed to a monitor, which launches it.

use crate::error::{Result, unbuilt};
use crate::{Created, Engine, Session};

/// How to start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartHow {
    /// The caller wants the container's streams.
    pub attach: bool,
}

impl Engine {
    /// Starts a created container. Returns once its command is executed, or has failed to be.
    pub fn start(&self, _created: Created, _how: StartHow) -> Result<Session> {
        Err(unbuilt("start"))
    }
}
