//! `kill`: a signal for a container's init.

use crate::Engine;
use crate::containers::control::StateError;
use crate::containers::signal;
use crate::containers::stop::DYING;
use crate::error::Result;

impl Engine {
    /// Sends `signal` (`KILL`, `SIGHUP`, `9`). After SIGKILL it returns when the container has ended.
    pub fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let signal = signal::parse(signal)?;
        let found = self.find_running(name)?;
        if signal == signal::KILL {
            return self.end(name, &found, &[(signal, DYING)]);
        }
        let not_running = || StateError::NotRunning(name.to_owned());
        let session = self.connect(&found, false)?.ok_or_else(not_running)?;
        session.signal(signal).map_err(|_| not_running())?;
        Ok(())
    }
}
