//! Why a repository's files cannot be had. No error has a login in it.

use base::{Failure, Kind};

/// Why a repository's files cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("`{url}` is no Git repository that can be fetched: {why}")]
    Address { url: String, why: &'static str },
    #[error("`{0}` is no reference of a Git repository")]
    Reference(String),
    #[error("`{0}` is no commit: want at least 7 hexadecimal digits")]
    Checksum(String),
    #[error("`{0}` has a reference both behind `#` and behind `?`")]
    Twice(String),
    #[error("a Git address has no parameter `{0}`")]
    Query(String),
    #[error("the subdirectory `{0}` leads out of the repository")]
    Leaves(String),
    #[error("the repository has no subdirectory `{0}`")]
    NoSubdirectory(String),
    #[error("`{url}` has no `{reference}`")]
    NoReference { url: String, reference: String },
    #[error("`{reference}` of `{url}` changed while it was fetched")]
    Moved { url: String, reference: String },
    #[error("`{url}` is at the commit {found}, not at {wanted}")]
    OtherCommit { url: String, wanted: String, found: String },
    #[error("the build was interrupted")]
    Interrupted,
    #[error("cannot run git")]
    Start(#[source] std::io::Error),
    #[error("git {verb} of `{url}` failed: {said}")]
    Failed { verb: String, url: String, said: String },
    #[error(transparent)]
    File(#[from] base::fs::Error),
}

impl Failure for GitError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoReference { .. } | Self::NoSubdirectory(_) => Kind::NotFound,
            Self::Moved { .. } | Self::Failed { .. } => Kind::Unavailable,
            Self::OtherCommit { .. } => Kind::Corrupt,
            Self::Start(e) if e.kind() == std::io::ErrorKind::NotFound => Kind::Unsupported,
            Self::Start(_) => Kind::Internal,
            Self::File(e) => e.kind(),
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Start(e) if e.kind() == std::io::ErrorKind::NotFound => {
                vec!["install git: contexts and `ADD` from repositories need it".to_owned()]
            }
            Self::Moved { .. } => vec!["try again".to_owned()],
            Self::Failed { .. } => {
                vec!["check that the repository exists, and that you may read it without a prompt".to_owned()]
            }
            Self::Query(_) => vec!["use ref, branch, tag, subdir, checksum or keep-git-dir".to_owned()],
            Self::File(e) => e.hints(),
            _ => Vec::new(),
        }
    }
}
