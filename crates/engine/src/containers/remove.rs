//! `rm`: a container goes for good.

use crate::Engine;
use crate::containers::control::StateError;
use crate::containers::records;
use crate::containers::session::Wish;
use crate::containers::signal;
use crate::containers::stop::DYING;
use crate::error::Result;

/// How to remove a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// One that runs is killed first.
    pub force: bool,
    /// Its anonymous volumes go with it, unless another one has them, too.
    pub volumes: bool,
}

impl Engine {
    /// Removes a container; with `force`, a running one is killed first.
    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        self.remove_container(name, RemoveOptions { force, volumes: false })
    }

    /// Removes a container.
    pub fn remove_container(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let found = if options.force { self.find_started(name)? } else { self.find(name)? };
        let id = &found.record.id;
        if found.status.is_up() {
            if !options.force {
                return Err(StateError::Busy { name: name.to_owned(), state: found.status.as_str() }.into());
            }
            self.end(name, &found, &[(signal::KILL, DYING)], Wish::Stopped)?;
        }
        // One that has just ended may be held by its monitor for a moment still.
        let busy = || StateError::Busy { name: name.to_owned(), state: "being started" };
        let owner = self.own_to_remove(id)?.ok_or_else(busy)?;
        if !records::exists(&self.instance, id) {
            // It removed itself, or somebody else was faster: what was asked for is so.
            return Ok(());
        }
        // Its monitor may have died since we looked, and nobody have seen to that.
        self.release_held(id, &owner)?;
        if options.volumes {
            self.mark_for_removal_with_volumes(id)?;
        }
        // It may have been renamed since.
        let name = records::record(&self.instance, id)?.map_or(found.record.name.clone(), |r| r.name);
        self.remove_files(id, &name, owner)?;
        self.note_container("destroy", &found.record, &[]);
        self.sweep_removing();
        self.sweep_unused();
        Ok(())
    }
}
