//! Emptying a log, while it may be written and followed.
//!
//! Files are removed, not cut: a follower reads the one that it has open to its end, and goes on with the next one. The
//! writer sees that its file has no name any more, and makes another.

use std::fs;
use std::io;
use std::path::Path;

use base::fs::At;

use crate::files::{MAX_FILES, rotated};
use crate::{Format, local};

/// How often files are looked for that a rotation has moved meanwhile.
const ROUNDS: u32 = 10;

/// Empties the log at `path`. The numbers of [`Format::Local`] go on.
pub fn clear(path: &Path, format: Format) -> base::fs::Result<()> {
    if format == Format::Local && [local::tail_path(path), path.to_owned()].iter().any(|file| file.exists()) {
        local::start_over(path).at("empty the log", path)?;
    }
    for _ in 0..ROUNDS {
        let count = (0..MAX_FILES).take_while(|n| *n == 0 || rotated(path, *n).exists()).count() as u32;
        // From the oldest on: what is moved meanwhile is moved to where we come by.
        for n in (0..count).rev() {
            let file = rotated(path, n);
            match fs::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at("remove", &file),
                _ => {}
            }
        }
        if !rotated(path, 1).exists() {
            break;
        }
    }
    Ok(())
}
