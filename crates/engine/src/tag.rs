//! `tag`: one more name for an image.

use crate::Engine;
use crate::error::{Result, unbuilt};

impl Engine {
    /// Makes `target` mean the image that `source` means.
    pub fn tag(&self, _source: &str, _target: &str) -> Result<()> {
        Err(unbuilt("tag"))
    }
}
