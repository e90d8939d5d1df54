//! `pause` and `unpause`: a container stands still until it is let go.

use runtime::cgroup::{Group, Hierarchy};
use state::container::{Status, file};

use base::fs;

use crate::Engine;
use crate::containers::control::StateError;
use crate::containers::records::{self, Found};
use crate::error::Result;

impl Engine {
    /// Freezes every process of a container.
    pub fn pause(&self, name: &str) -> Result<()> {
        let found = self.find_running(name)?;
        let id = &found.record.id;
        // Its monitor answers when the command is executed: one that is still being started would never be, frozen.
        let not_running = || StateError::NotRunning(name.to_owned());
        let _session = self.connect(&found, false)?.ok_or_else(not_running)?;
        let marker = self.instance.live(id).join(file::PAUSED);
        // First the mark: one that is killed between leaves a container that unpause lets go.
        fs::create_new(&marker, b"", 0o600)?;
        if let Err(error) = self.group(&found).and_then(|group| Ok(group.freeze()?)) {
            fs::remove_file(&marker)?;
            return Err(error);
        }
        // It may have ended meanwhile, and be about to come back.
        let started = |found: &Found| found.live.as_ref().filter(|l| !l.restarting).map(|l| l.started);
        let now = records::load(&self.instance, id)?;
        if now.as_ref().and_then(started) != started(&found) {
            self.thaw(&found)?;
            return Err(not_running().into());
        }
        self.note_container("pause", &found.record, &[]);
        Ok(())
    }

    /// Lets a paused container go on.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let found = self.find_up(name)?;
        if found.status != Status::Paused {
            return Err(StateError::NotPaused(name.to_owned()).into());
        }
        self.thaw(&found)?;
        self.note_container("unpause", &found.record, &[]);
        Ok(())
    }

    /// Lets a container go on that stands still.
    pub(crate) fn thaw(&self, found: &Found) -> Result<()> {
        self.group(found)?.thaw()?;
        fs::remove_file(&self.instance.live(&found.record.id).join(file::PAUSED))?;
        Ok(())
    }

    fn group(&self, found: &Found) -> Result<Group> {
        Ok(Group::existing(&Hierarchy::detect()?, &self.location(&found.record)))
    }
}
