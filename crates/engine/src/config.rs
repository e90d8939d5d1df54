//! `config.toml`: the defaults of this machine.

use std::path::Path;

use crate::error::Result;

/// The configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {}

impl Config {
    /// Reads the file at `path`, or the default one if it exists.
    pub fn load(_path: Option<&Path>) -> Result<Self> {
        Ok(Self::default())
    }
}
