//! `port`: what a container publishes.

use state::options::PortMapping;

use crate::Engine;
use crate::error::Result;

impl Engine {
    /// The ports that a running container publishes, none of the host's 0; none where it does not run.
    pub fn published_ports(&self, name: &str) -> Result<Vec<PortMapping>> {
        Ok(self.find(name)?.live.map(|live| live.shown_ports()).unwrap_or_default())
    }
}
