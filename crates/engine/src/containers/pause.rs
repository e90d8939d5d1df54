//! `pause` and `unpause`: a container stands still until it is let go.

use runtime::cgroup::{Group, Hierarchy};
use state::container::{Status, file};

use base::fs;

use crate::Engine;
use crate::containers::control::StateError;
use crate::containers::records::Found;
use crate::error::Result;

impl Engine {
    /// Freezes every process of a container.
    pub fn pause(&self, name: &str) -> Result<()> {
        let found = self.find_running(name)?;
        let marker = self.instance.live(&found.record.id).join(file::PAUSED);
        // First the mark: one that is killed between leaves a container that unpause lets go.
        fs::create_new(&marker, b"", 0o600)?;
        if let Err(error) = self.group(&found).and_then(|group| Ok(group.freeze()?)) {
            fs::remove_file(&marker)?;
            return Err(error);
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
