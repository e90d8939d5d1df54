//! The system call filter.

use std::path::{Path, PathBuf};

use base::{Failure, Kind};
use oci::runtime::Seccomp;

use crate::capability;

/// One instruction, as the kernel's `struct sock_filter` has it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SockFilter {
    /// The operation.
    pub code: u16,
    /// Skipped where true.
    pub jt: u8,
    /// Skipped where false.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    flags: u32,
    instructions: Vec<SockFilter>,
}

impl Program {
    /// For `seccomp(SECCOMP_SET_MODE_FILTER, flags, …)`.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// For `struct sock_fprog`: at most 4096.
    pub fn instructions(&self) -> &[SockFilter] {
        &self.instructions
    }

    /// The cache file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        todo!()
    }

    /// Reads a cache file's content, verifying it wholly.
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self, Error> {
        todo!()
    }

    /// Reads and verifies a cache file.
    pub fn load(_path: &Path) -> Result<Self, Error> {
        todo!()
    }
}

/// Which filter.
#[derive(Debug, Clone, Copy)]
pub enum Profile<'a> {
    /// Ours.
    Default,
    /// The text of a profile in Docker's JSON form.
    Docker(&'a str),
}

/// Our default profile for a container with these capabilities.
pub fn default_profile(_capabilities: capability::Set) -> Seccomp {
    todo!()
}

/// A profile in Docker's JSON form, for a container with these capabilities.
pub fn parse_docker(_text: &str, _capabilities: capability::Set) -> Result<Seccomp, Error> {
    todo!()
}

/// Compiles a filter for this machine.
pub fn compile(_filter: &Seccomp) -> Result<Program, Error> {
    todo!()
}

/// The path of the compiled program in the cache, made if it is missing or wrong. A hit costs one `open` and `read`.
pub fn cached(
    _cache: &Path,
    _profile: Profile<'_>,
    _capabilities: capability::Set,
) -> Result<PathBuf, Error> {
    todo!()
}

/// A filter that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
