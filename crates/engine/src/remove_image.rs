//! `rmi`: a name goes, and with the last one the image.

use base::Digest;

use crate::Engine;
use crate::error::{Result, unbuilt};

/// One thing that went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// This name.
    Untagged(String),
    /// This image or layer.
    Deleted(Digest),
}

impl Engine {
    /// Removes a name, or an image by its id.
    pub fn remove_image(&self, _name: &str, _force: bool) -> Result<Vec<Removed>> {
        Err(unbuilt("rmi"))
    }
}
