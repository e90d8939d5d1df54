//! AppArmor: our default profile, and loading it.

use std::path::Path;

use base::{Failure, Kind};

/// The name of our default profile.
pub const DEFAULT_PROFILE: &str = "dhow-default";

/// True where the running kernel confines with AppArmor.
pub fn is_enabled() -> bool {
    todo!()
}

/// Makes sure that our default profile is loaded. `Ok(None)`: the name to confine with is in force;
/// see [`Outcome`]. After the first success in this boot it costs one `stat` in `run` (the instance's
/// run root).
pub fn ensure_loaded(_run: &Path) -> Result<Outcome, Error> {
    todo!()
}

/// What came of [`ensure_loaded`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Confine with [`DEFAULT_PROFILE`].
    Loaded,
    /// This kernel has no AppArmor: nothing to do, nothing to say.
    Disabled,
    /// It has, but the profile cannot be loaded: run without, and show this warning.
    Degraded(String),
}

/// What to write to `/proc/thread-self/attr/apparmor/exec` (or `attr/exec`) before the exec.
pub fn exec_attribute(profile: &str) -> String {
    format!("exec {profile}")
}

/// A failure to load.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error(transparent)]
    File(#[from] base::fs::Error),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
        }
    }
}
