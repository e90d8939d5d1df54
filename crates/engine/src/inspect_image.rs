//! `inspect` of an image, in Docker's shape.

use serde_json::Value;

use crate::Engine;
use crate::error::{Result, unbuilt};

impl Engine {
    /// All that is known of an image.
    pub fn inspect_image(&self, _name: &str) -> Result<Value> {
        Err(unbuilt("inspect"))
    }
}
