//! Where a build's files come from: contexts, Git repositories, files from the web.

pub(crate) mod context;
mod error;
pub(crate) mod git;
pub(crate) mod http;

use std::path::Path;
use std::time::Duration;

use state::lock::Lock;

pub(crate) use self::error::Error;
pub(crate) use self::git::{Places, shown as without_login};
use super::cancel::Cancel;

/// How often who waits for another build looks.
const LOOK: Duration = Duration::from_millis(20);

/// The lock of a directory, when nobody else has it; none if the build ends before.
fn locked(dir: &Path, cancel: &Cancel) -> base::fs::Result<Option<Lock>> {
    while cancel.check().is_ok() {
        if let Some(lock) = Lock::try_exclusive(dir)? {
            return Ok(Some(lock));
        }
        std::thread::sleep(LOOK);
    }
    Ok(None)
}
