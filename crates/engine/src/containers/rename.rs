//! `rename`: a container gets another name, running or not.

use base::fs::{self, Durability};
use state::claim;
use state::container::file;

use crate::Engine;
use crate::containers::create::NameInUse;
use crate::containers::{names, records};
use crate::error::Result;

impl Engine {
    /// Gives a container another name. A kill in the middle leaves it with one of the two: see `reconcile_name`.
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        let new = new.strip_prefix('/').unwrap_or(new);
        names::check(new)?;
        let found = self.find(name)?;
        let id = &found.record.id;
        let claims = self.instance.container_names();
        let taken = claim::take(&claims, new, id.as_str())?
            || self.reconcile_name(new)? && claim::take(&claims, new, id.as_str())?;
        if !taken {
            let owner = claim::owner(&claims, new)?.unwrap_or_default();
            return Err(NameInUse { name: new.to_owned(), owner }.into());
        }
        let mut old = String::new();
        let changed = records::change::<crate::Error>(&self.instance, id, |record| {
            old = std::mem::replace(&mut record.name, new.to_owned());
            // Its monitor, where it has one or is about to, gives the name back that it finds here. Who starts it later
            // reads the record.
            let path = self.instance.live(id).join(file::RENAMED);
            match fs::write_atomic(&path, new.as_bytes(), Durability::Volatile) {
                Err(e) if e.is_not_found() => Ok(()),
                other => Ok(other?),
            }
        });
        let record = match changed {
            Ok(record) => record,
            Err(error) => {
                claim::release(&claims, new, id.as_str())?;
                return Err(error);
            }
        };
        claim::release(&claims, &old, id.as_str())?;
        self.tell_names(&record)?;
        self.note_container("rename", &record, &[("oldName", format!("/{old}"))]);
        Ok(())
    }
}
