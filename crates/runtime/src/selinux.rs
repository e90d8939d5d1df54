//! SELinux: whether the running kernel has it, and how a process gets its label.
//!
//! A label for a host without SELinux is an error, as a profile is without AppArmor: whoever asks for confinement must
//! not run without it unawares. An empty label is none.

use rustix::fs::statfs;

use crate::plan::PlanError;

/// `SELINUX_MAGIC`.
const MAGIC: i64 = 0xf97c_ff8c;

/// True where SELinux is switched on: its file system is there.
pub fn is_enabled() -> bool {
    statfs("/sys/fs/selinux").is_ok_and(|found| found.f_type == MAGIC)
}

/// A label that is asked for and can be had.
pub(crate) fn label(asked: Option<&str>) -> Result<Option<&str>, PlanError> {
    match asked.filter(|label| !label.is_empty()) {
        Some(_) if !is_enabled() => Err(PlanError::NoSelinux),
        label => Ok(label),
    }
}

/// What is written to `/proc/thread-self/attr/exec`, and for keys to `attr/keycreate`.
pub(crate) fn attribute(asked: Option<&str>) -> Result<Option<Vec<u8>>, PlanError> {
    Ok(label(asked)?.map(|label| label.as_bytes().to_vec()))
}
