//! Why something was not copied.

use std::io;

use base::failure::kind_of_io;
use base::{Failure, Kind};

use crate::apply::EntryError;
use crate::archive::ArchiveError;
use crate::compression::Unsupported;
use crate::name::{BadName, shown};
use crate::pack;

/// Why something was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// What is to be copied cannot be read.
    #[error("cannot read what is to be copied")]
    Source(#[from] pack::Error),
    /// The stream that the archive comes from failed.
    #[error("cannot read the archive")]
    Input(#[source] io::Error),
    /// It is in another format.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The archive is broken.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// One file cannot be written.
    #[error("cannot write `{name}`")]
    Entry {
        /// Its name below the destination, fit to be shown.
        name: String,
        /// Why.
        source: Refusal,
    },
    /// The last touches failed.
    #[error("cannot set the times of the directories")]
    Finish(#[source] io::Error),
}

/// Why one file cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its name is refused.
    #[error("the name is refused")]
    Name(#[from] BadName),
    /// The name that it links to is refused.
    #[error("the link's target `{target}` is refused")]
    Target {
        /// The target, fit to be shown.
        target: String,
        /// Why.
        source: BadName,
    },
    /// A hard link to what is not there.
    #[error("it is a hard link to `{0}`, which is not there")]
    NoTarget(String),
    /// A directory is where something else shall be.
    #[error("cannot overwrite a directory with a non-directory")]
    OverDirectory,
    /// Something else is where a directory shall be.
    #[error("cannot overwrite a non-directory with a directory")]
    OverFile,
    /// A symlink is on the way, and who knows where it leads.
    #[error("a symbolic link is in the place of a directory above it")]
    Link,
    /// Files cannot be made there.
    #[error("it would be on a file system of the kernel's own, such as /proc")]
    Kernels,
    /// A device that Linux cannot number.
    #[error("there is no device {0}:{1}")]
    Device(u32, u32),
    /// Somebody puts something there as often as it is taken away.
    #[error("somebody else keeps putting something in its place")]
    Contended,
    /// The archive is broken.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The kernel said no.
    #[error("cannot {action}")]
    System {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// An attribute cannot be set.
    #[error("cannot set the attribute {name}")]
    Attribute {
        /// Its name, fit to be shown.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Refusal {
    pub(super) fn system(action: &'static str, source: impl Into<io::Error>) -> Self {
        Self::System { action, source: source.into() }
    }

    pub(super) fn from_entry(error: EntryError) -> Self {
        match error {
            EntryError::Archive(e) => Self::Archive(e),
            EntryError::System { action, source } => Self::System { action, source },
            other => Self::system("write the content", io::Error::other(other)),
        }
    }
}

/// Adds what was attempted to what the kernel said.
pub(super) trait Action<T> {
    fn to(self, action: &'static str) -> Result<T, Refusal>;
}

impl<T, E: Into<io::Error>> Action<T> for Result<T, E> {
    fn to(self, action: &'static str) -> Result<T, Refusal> {
        self.map_err(|e| Refusal::system(action, e))
    }
}

impl CopyError {
    pub(super) fn of_entry(name: &[u8], refusal: Refusal) -> Self {
        match refusal {
            // The archive broke off in the content: not this entry's fault.
            Refusal::Archive(e) => e.into(),
            source => Self::Entry { name: shown(name), source },
        }
    }

    /// What the kernel said, where it was the kernel.
    pub fn system(&self) -> Option<&io::Error> {
        match self {
            Self::Input(e) | Self::Finish(e) | Self::Archive(ArchiveError::Read(e)) => Some(e),
            Self::Entry {
                source: Refusal::System { source, .. } | Refusal::Attribute { source, .. },
                ..
            } => Some(source),
            _ => None,
        }
    }
}

impl Failure for CopyError {
    fn kind(&self) -> Kind {
        match self {
            Self::Source(e) => e.kind(),
            Self::Unsupported(_) => Kind::Unsupported,
            Self::Entry {
                source: Refusal::OverDirectory | Refusal::OverFile | Refusal::Contended, ..
            } => Kind::Conflict,
            Self::Entry { source: Refusal::Kernels | Refusal::Link, .. } => Kind::Invalid,
            _ => self.system().map_or(Kind::Corrupt, kind_of_io),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Source(e) => e.hints(),
            Self::Unsupported(Unsupported::Format(what)) => vec![format!("decompress it with {what} first")],
            Self::Entry { source: Refusal::OverDirectory | Refusal::OverFile, .. } => {
                vec!["remove what is there first, or copy to another place".to_owned()]
            }
            Self::Entry { source: Refusal::Link, .. } => {
                vec!["name the directory that the link leads to, and copy there".to_owned()]
            }
            _ if self.system().is_some_and(|e| e.kind() == io::ErrorKind::StorageFull) => {
                vec![
                    "make room on the file system of the destination".to_owned(),
                    base::space::NEXT.to_owned(),
                ]
            }
            _ => Vec::new(),
        }
    }
}
