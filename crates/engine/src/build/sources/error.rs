//! Why a source cannot be had.

use std::io;
use std::path::PathBuf;

use base::failure::kind_of_io;
use base::{Failure, Kind};

/// Why a source cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no directory `{}` to build from", .0.display())]
    NoDirectory(PathBuf),
    #[error("`{}`, which is to be built from, is no directory", .0.display())]
    NotDirectory(PathBuf),
    #[error("there is no Dockerfile at `{0}`")]
    NoDockerfile(String),
    #[error("the Dockerfile `{0}` is larger than 16 MiB")]
    LongDockerfile(String),
    #[error("the Dockerfile `{0}` is no text")]
    BinaryDockerfile(String),
    #[error("standard input cannot be both the context and the Dockerfile")]
    TwiceStdin,
    #[error("standard input is a Dockerfile: there is no other one `{0}` beside it")]
    StdinAndFile(String),
    #[error("cannot read the .dockerignore `{path}`")]
    Ignore { path: String, source: ::build::ignore::Error },
    #[error("cannot read `{path}`")]
    Read { path: String, source: io::Error },
    #[error("cannot unpack the context {origin}")]
    Unpack { origin: String, source: rootfs::copy::CopyError },
    #[error("contexts of this form are not supported yet: `{0}`")]
    Unsupported(String),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoDirectory(_) | Self::NoDockerfile(_) => Kind::NotFound,
            Self::Read { source, .. } => kind_of_io(source),
            Self::Unpack { source, .. } => source.kind(),
            Self::Unsupported(_) => Kind::Unsupported,
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoDockerfile(_) => vec!["name it with -f, or give it with -f -".to_owned()],
            Self::NoDirectory(_) | Self::NotDirectory(_) => {
                vec!["give a directory, `-`, a Git repository, or the address of an archive".to_owned()]
            }
            Self::TwiceStdin => vec!["put the Dockerfile into the archive, and name it with -f".to_owned()],
            Self::StdinAndFile(_) => vec!["leave -f out, or give an archive that has it".to_owned()],
            Self::Unpack { source, .. } => source.hints(),
            _ => Vec::new(),
        }
    }
}
