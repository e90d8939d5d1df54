//! Where a build's files come from: contexts, Git repositories, files from the web.

pub(crate) mod context;
mod error;
pub(crate) mod git;
pub(crate) mod http;

use std::path::Path;
use std::time::Duration;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use state::lock::Lock;

pub(crate) use self::error::Error;
pub(crate) use self::git::{Places, shown as without_login};
use super::cancel::Cancel;

/// How often who waits for another build looks.
const LOOK: Duration = Duration::from_millis(20);

/// Has a directory for what is fetched from one address alone, when nobody else has it, and notes that it is used; none if the
/// build ends before. A collection may take the directory away at any time before.
fn hold(own: &Path, cancel: &Cancel) -> base::fs::Result<Option<Lock>> {
    while cancel.check().is_ok() {
        base::fs::create_dir_all(own, 0o700)?;
        match Lock::try_exclusive(own) {
            Ok(Some(lock)) if lock.is_of(own) => {
                let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
                let now = Timestamps { last_access: now, last_modification: now };
                // Only a collection asks: where it cannot be noted, it seems older than it is.
                rustix::fs::futimens(&lock, &now).ok();
                return Ok(Some(lock));
            }
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(LOOK),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
