//! `inspect` of a container, in Docker's shape.

use serde_json::Value;

use crate::Engine;
use crate::error::{Result, unbuilt};

impl Engine {
    /// All that is known of a container.
    pub fn inspect_container(&self, _name: &str) -> Result<Value> {
        Err(unbuilt("inspect"))
    }
}
