//! `wait`: until a container has ended.

use crate::Engine;
use crate::containers::records;
use crate::containers::session::Event;
use crate::error::Result;

impl Engine {
    /// Waits for the end of a container and returns its exit code. One that was never started counts as
    /// ended with 0, as Docker has it.
    pub fn wait(&self, name: &str) -> Result<i32> {
        let found = self.find(name)?;
        if !found.status.is_up() {
            return Ok(found.exit.map_or(0, |exit| exit.code));
        }
        if let Some(mut session) = self.connect(&found, false)? {
            loop {
                match session.next() {
                    Event::Exited { code, .. } => return Ok(code),
                    Event::Lost => break,
                    Event::Output(_) | Event::Errors(_) => {}
                }
            }
        }
        // It ended before we came, or its monitor died: the record knows, once that is put right.
        let id = &found.record.id;
        self.await_release(id)?;
        self.reconcile_one(id)?;
        let exit = records::exit(&self.instance, id)?;
        Ok(exit.ok_or_else(|| records::Error::NotFound(name.to_owned()))?.code)
    }
}
