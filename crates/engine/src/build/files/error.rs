//! Why files are not changed as a Dockerfile wants it.

use std::io;

use base::failure::kind_of_io;
use base::{Failure, Kind};

/// Why files are not changed as a Dockerfile wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no `{0}`")]
    NotFound(String),
    #[error("there is no `{0}` for the build: its .dockerignore leaves it out")]
    Ignored(String),
    #[error("nothing matches `{0}`")]
    NoMatch(String),
    #[error("`{0}` is no pattern: a `[` has no end, or nothing in it")]
    Pattern(String),
    #[error("`{0}` is no mode")]
    Mode(String),
    #[error("`{0}` is no owner: its number is too large")]
    Owner(String),
    #[error("cannot understand --exclude")]
    Exclude(#[source] ::build::ignore::Error),
    #[error("cannot understand the pattern of --parents")]
    Parents(#[source] ::build::ignore::Error),
    #[error("cannot {action} `{path}`, which is to be copied")]
    Source { path: String, action: &'static str, source: io::Error },
    #[error("cannot {action} `{path}` in the image")]
    Target { path: String, action: &'static str, source: io::Error },
    #[error("cannot copy to `{0}`: something that is no directory is there")]
    NotDirectory(String),
    #[error("cannot replace the directory `{0}` with a file")]
    OverDirectory(String),
    #[error("`{0}` lies deeper than {1} directories")]
    Deep(String, usize),
    #[error("cannot unpack `{path}`")]
    Archive { path: String, source: rootfs::copy::CopyError },
    #[error("cannot use the memory of digests")]
    Remembered(#[from] base::fs::Error),
}

impl Error {
    pub(super) fn source(path: &[u8], action: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Source { path: shown(path), action, source: source.into() }
    }

    pub(super) fn target(path: &[u8], action: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Target { path: shown(path), action, source: source.into() }
    }
}

/// A path from a tree as a message has it.
pub(super) fn shown(path: &[u8]) -> String {
    const MOST: usize = 500;
    String::from_utf8_lossy(&path[..path.len().min(MOST)]).escape_debug().collect()
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) | Self::Ignored(_) | Self::NoMatch(_) => Kind::NotFound,
            Self::Pattern(_)
            | Self::Mode(_)
            | Self::Owner(_)
            | Self::Exclude(_)
            | Self::Parents(_)
            | Self::NotDirectory(_)
            | Self::OverDirectory(_)
            | Self::Deep(..) => Kind::Invalid,
            Self::Source { source, .. } | Self::Target { source, .. } => kind_of_io(source),
            Self::Archive { source, .. } => source.kind(),
            Self::Remembered(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound(_) => {
                vec![
                    "check the path: it is one from the root of the context, or of the stage copied from"
                        .to_owned(),
                ]
            }
            Self::Ignored(_) => vec!["add a line to .dockerignore that begins with ! to have it".to_owned()],
            Self::Pattern(_) => vec!["write [[] for a bracket that is part of the name".to_owned()],
            Self::Mode(_) => vec!["write it as 0644 or as u=rwX,go=rX".to_owned()],
            Self::NotDirectory(_) => vec!["remove what is there first, or copy to another place".to_owned()],
            Self::OverDirectory(_) => vec!["end the target with a slash to copy into it".to_owned()],
            Self::Archive { source, .. } => source.hints(),
            Self::Remembered(error) => error.hints(),
            _ => Vec::new(),
        }
    }
}
