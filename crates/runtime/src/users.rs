//! The maps of a new user namespace are written: by us where we may, else by `newuidmap` and `newgidmap`, which may.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base::{Failure, Kind};

use crate::plan::{Map, Maps};

/// Why the ids of a user namespace could not be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which map.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program that may map the ids of a range could not be executed.
    #[error("cannot execute {}", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It refused.
    #[error("{} refused to map the ids: {said}", program.display())]
    Refused {
        /// The program.
        program: PathBuf,
        /// Its words.
        said: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Write { source, .. } | Self::Execute { source, .. } => base::failure::kind_of_io(source),
            Self::Refused { .. } => Kind::Permission,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused { .. } => {
                vec!["give the user ranges of ids in /etc/subuid and /etc/subgid".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

impl Maps {
    /// Maps the ids of that process' user namespace.
    pub(crate) fn write(&self, pid: u32) -> Result<(), Error> {
        if self.deny_groups() {
            put(&format!("/proc/{pid}/setgroups"), "deny")?;
        }
        self.uids.write(pid, "uid_map")?;
        self.gids.write(pid, "gid_map")
    }
}

impl Map {
    fn write(&self, pid: u32, name: &str) -> Result<(), Error> {
        match &self.helper {
            None => put(&format!("/proc/{pid}/{name}"), &self.text()),
            Some(program) => self.ask(program, pid),
        }
    }

    fn ask(&self, program: &Path, pid: u32) -> Result<(), Error> {
        let numbers = self.lines.iter().flat_map(|l| [l.container_id, l.host_id, l.size]);
        let output = Command::new(program)
            .arg(pid.to_string())
            .args(numbers.map(|n| n.to_string()))
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Error::Execute { program: program.to_owned(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Refused { program: program.to_owned(), said })
    }
}

/// A map is written at once, or not at all.
fn put(path: &str, text: &str) -> Result<(), Error> {
    use std::io::Write;
    let written =
        std::fs::OpenOptions::new().write(true).open(path).and_then(|mut f| f.write_all(text.as_bytes()));
    written.map_err(|source| Error::Write { path: path.into(), source })
}
