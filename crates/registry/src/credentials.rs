//! Who we are to which registry: the `auths` of Docker's `config.json`.

use std::path::Path;

/// User names and passwords by registry.
#[derive(Clone, Default)]
pub struct Credentials {}

impl Credentials {
    /// Reads `auths` of Docker's `config.json`; none if the file does not exist.
    pub fn from_docker_config(_path: &Path) -> crate::Result<Self> {
        todo!()
    }
}
