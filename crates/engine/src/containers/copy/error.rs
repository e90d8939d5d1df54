//! What stands in the way of a copy. Docker's words, where it has some.

use std::io;
use std::path::{Path, PathBuf};

use base::failure::kind_of_io;
use base::{Failure, Kind};
use rustix::io::Errno;

use super::rules::Rule;

/// A path in a container, as the user wrote both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) container: String,
    pub(super) path: PathBuf,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.container, self.path.display())
    }
}

impl Place {
    /// Why this path of the container, or one that it led to, cannot be used.
    pub(super) fn because(&self, path: &Path, error: io::Error) -> Error {
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => {
                Error::NotFound { path: path.to_owned(), container: self.container.clone() }
            }
            Some(Errno::LOOP | Errno::XDEV) => Error::Link(self.clone()),
            _ => Error::Path { place: self.clone(), source: error },
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{what} can not be empty")]
    Empty { what: &'static str },
    #[error("copying between containers is not supported")]
    TwoContainers,
    #[error("must specify at least one container source")]
    NoContainer,
    #[error("could not find the file {} in container {container}", path.display())]
    NotFound { path: PathBuf, container: String },
    #[error("cannot use {place}")]
    Path { place: Place, source: io::Error },
    #[error("cannot use {0}: a link in it leads in a circle, or out of the container")]
    Link(Place),
    #[error("cannot copy {0}: it is the kernel's, and no file")]
    Kernels(Place),
    #[error("cannot copy {0}: it is a socket")]
    Socket(String),
    #[error("cannot copy {0}: devices of a container are not made on the host")]
    DeviceOut(Place),
    #[error("destination \"{0}\" must be a directory")]
    NoDirectory(Place),
    #[error("destination \"{0}\" must be a directory or a regular file: got a device")]
    Device(Place),
    #[error("invalid output path: \"{}\" must be a directory or a regular file: got a device", .0.display())]
    LocalDevice(PathBuf),
    #[error("invalid output path: directory \"{}\" does not exist", .0.display())]
    NoLocalDirectory(PathBuf),
    #[error("cannot copy {from} to {to}")]
    Rule { from: String, to: String, source: Rule },
    #[error("cannot copy to {0}: container rootfs is marked read-only")]
    ReadOnlyRoot(Place),
    #[error("cannot copy to {0}: mounted volume is marked read-only")]
    ReadOnlyMount(Place),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } | Self::NoLocalDirectory(_) => Kind::NotFound,
            Self::Path { source, .. } => kind_of_io(source),
            Self::ReadOnlyRoot(_) | Self::ReadOnlyMount(_) => Kind::Permission,
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::TwoContainers => {
                vec!["copy by way of an archive: dhow cp ONE:/path - | dhow cp - OTHER:/path".to_owned()]
            }
            Self::NoContainer => vec!["write one side as CONTAINER:PATH".to_owned()],
            Self::Kernels(place) => vec![format!(
                "read it in the container: dhow exec {} cat {}",
                place.container,
                super::inside::absolute(&place.path).display()
            )],
            Self::DeviceOut(place) => vec![format!("get it in an archive: dhow cp {place} -")],
            Self::ReadOnlyRoot(_) => {
                vec![
                    "copy to a volume or a tmpfs of the container, or make it without --read-only".to_owned(),
                ]
            }
            Self::ReadOnlyMount(_) => vec!["copy to where it comes from on the host".to_owned()],
            Self::NoDirectory(_) => vec!["an archive is unpacked into a directory that exists".to_owned()],
            Self::Rule { source: Rule::NoDirectory, .. } => {
                vec!["make the directory first, or leave the slash at the end out".to_owned()]
            }
            Self::Rule { source: Rule::DirectoryOverFile, .. } => {
                vec!["copy to a directory, or to a path that does not exist".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}
