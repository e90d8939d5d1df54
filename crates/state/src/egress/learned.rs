//! What a container needed that was watched: rules, in a file of the container's name.

use std::path::PathBuf;

use base::Id;
use base::fs::{self, Durability};
use serde::{Deserialize, Serialize};

use super::{Rule, journal};
use crate::Instance;

/// So many containers' rules are kept; then the oldest go.
const MOST_FILES: usize = 256;

/// What a run has needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// The container.
    pub container: Id,
    /// Where it went.
    pub rules: Vec<Rule>,
}

fn path(instance: &Instance, name: &str) -> PathBuf {
    journal::dir(instance).join("learned").join(name)
}

/// What the container that is, or was, called so has needed; none where none was watched.
pub fn read(instance: &Instance, name: &str) -> fs::Result<Option<Learned>> {
    // A container's name has no slash, and does not begin with a dot.
    if name.contains('/') || name.starts_with('.') {
        return Ok(None);
    }
    let bytes = fs::read_if_exists(&path(instance, name))?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Writes down what a container has needed so far.
pub fn write(instance: &Instance, name: &str, learned: &Learned) -> fs::Result<()> {
    let path = path(instance, name);
    let bytes = serde_json::to_vec(learned).unwrap_or_default();
    let write = || fs::write_atomic(&path, &bytes, Durability::Volatile);
    match write() {
        Err(error) if error.is_not_found() => {
            fs::create_dir_all(&journal::dir(instance).join("learned"), 0o700)?;
            write()?;
        }
        other => other?,
    }
    let names = fs::names(&journal::dir(instance).join("learned"))?;
    if names.len() > MOST_FILES {
        let aged = |name: &String| {
            let of = path.with_file_name(name);
            (std::fs::metadata(&of).and_then(|m| m.modified()).ok(), of)
        };
        if let Some((_, oldest)) = names.iter().map(aged).min() {
            fs::remove_file(&oldest)?;
        }
    }
    Ok(())
}
