//! Whose a group at a path is.
//!
//! A container that has ended keeps its group until somebody deletes it. Meanwhile another may be made at the same path: the
//! group is empty, and so taken over. From then on the first one has no group any more, and whoever deletes it must not
//! end the other. So a container marks its group, with an extended attribute that goes with the directory, and whoever
//! takes over one puts another mark in place of it.

use std::path::Path;

use base::fs::At as _;
use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::group::Group;
use super::{Error, own};

/// Only the machine's root may see and set these, in every hierarchy.
const TRUSTED: &str = "trusted.dhow.container";
/// On v2 (Linux 5.7) whoever owns the directory.
const USER: &str = "user.dhow.container";

/// A container's mark on its group. No two are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(String);

impl Mark {
    /// A new one; none where it could not be set: by a user, on v1.
    pub(crate) fn new(v2: bool) -> std::io::Result<Option<Self>> {
        if !v2 && !own::is_privileged() {
            return Ok(None);
        }
        Ok(Some(Self(base::Id::random()?.to_string())))
    }

    pub(super) fn set(&self, directory: &Path) -> Result<(), Error> {
        let set = |name| setxattr(directory, name, self.0.as_bytes(), XattrFlags::empty());
        match set(TRUSTED) {
            Err(Errno::PERM) => set(USER),
            other => other,
        }
        .or_else(|error| match error {
            // A kernel without them: then none is missed, either.
            Errno::NOTSUP => Ok(()),
            other => Err(other),
        })
        .at("mark the cgroup", directory)
        .map_err(Error::File)
    }
}

impl Group {
    /// False where another container has taken its place, or something else that does not bear the mark.
    pub fn bears(&self, mark: &Mark) -> bool {
        let Some(directory) = self.whole() else { return true };
        let names = if directory.v2 { &[TRUSTED, USER][..] } else { &[TRUSTED] };
        names.iter().any(|name| {
            let mut found = [0; 128];
            match getxattr(&directory.path, *name, &mut found) {
                Ok(length) => found.get(..length) == Some(mark.0.as_bytes()),
                // It is there, without a mark or with a longer one, which is not ours.
                Err(Errno::NODATA | Errno::RANGE) => false,
                // It is gone; or this kernel has no such attributes.
                Err(_) => true,
            }
        })
    }
}
