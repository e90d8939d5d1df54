//! `kill`: a signal for a container's init.

use state::container::Status;

use crate::Engine;
use crate::containers::control::StateError;
use crate::containers::session::Wish;
use crate::containers::signal;
use crate::containers::stop::DYING;
use crate::error::Result;

impl Engine {
    /// Sends `signal` (`KILL`, `SIGHUP`, `9`). After SIGKILL it returns when the container has ended.
    pub fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let signal = signal::parse(signal)?;
        let found = self.find_up(name)?;
        if signal == signal::KILL {
            return self.end(name, &found, &[(signal, DYING)], Wish::Stopped);
        }
        let not_running = || StateError::NotRunning(name.to_owned());
        let session = self.connect(&found, false)?.ok_or_else(not_running)?;
        // Docker's rule: where neither the container nor its image names another signal that stops it, any may.
        let resolved = found.record.resolved.stop_signal;
        let named = found.record.options.stop_signal.is_some() || resolved != signal::TERM;
        let stops = !named || signal == resolved;
        if stops {
            session.want_end(Wish::Stopped).map_err(|_| not_running())?;
        }
        session.signal(signal).map_err(|_| not_running())?;
        if stops && found.status == Status::Paused {
            self.thaw(&found)?;
        }
        self.note_signal(&found.record, signal);
        Ok(())
    }
}
