//! `wait`: until a container has ended.

use crate::Engine;
use crate::error::{Result, unbuilt};

impl Engine {
    /// Waits for the end of a container and returns its exit code.
    pub fn wait(&self, _name: &str) -> Result<i32> {
        Err(unbuilt("wait"))
    }
}
