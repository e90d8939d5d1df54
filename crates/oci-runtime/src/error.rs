//! Why a command fails, in the words that callers of runc look for.
//!
//! Podman, containerd, CRI-O and Docker read what a runtime says: `container does not exist`, `container not running`,
//! `executable file not found in $PATH`, `no such file or directory`, `permission denied`. Those are kept, and the
//! kernel's words are spelled as Go spells them, in lower case.

use std::io;
use std::path::PathBuf;

use base::{Failure, Kind};
use runtime::{LaunchError, PlanError};

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// There is no such container.
    #[error("container does not exist")]
    NotFound,
    /// There is one of that name.
    #[error("container with id {0} already exists")]
    Exists(String),
    /// A name that cannot be a container's.
    #[error("invalid container ID format: {0:?}")]
    InvalidId(String),
    /// The container is in a state that does not allow it.
    #[error("{0}")]
    State(String),
    /// The bundle has no configuration.
    #[error("JSON specification file {} not found", .0.display())]
    NoConfig(PathBuf),
    /// A file of JSON is none.
    #[error("cannot understand {}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The configuration contradicts the specification.
    #[error("invalid configuration: {0}")]
    Config(String),
    /// What this runtime or this machine does not do.
    #[error("{0}")]
    Unsupported(String),
    /// A record of a newer version than ours.
    #[error("the record of container {id} has format {version}, and this dhow-runtime reads up to {newest}")]
    TooNew {
        /// The container.
        id: String,
        /// Its record's.
        version: u32,
        /// Ours.
        newest: u32,
    },
    /// A file.
    #[error(transparent)]
    File(#[from] base::fs::Error),
    /// Something else that the kernel refuses.
    #[error("cannot {what}")]
    System {
        /// A verb phrase.
        what: String,
        /// What it said.
        source: io::Error,
    },
    /// A hook.
    #[error("error running {stage} hook #{number}")]
    Hook {
        /// Of which stage.
        stage: &'static str,
        /// Counted from 0.
        number: usize,
        /// Why.
        source: runtime::hooks::HookError,
    },
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] runtime::cgroup::Error),
    /// Cache and memory bandwidth.
    #[error(transparent)]
    Resctrl(#[from] runtime::rdt::Error),
    /// What the configuration asks for cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The command did not start.
    #[error("{}", launching(command, source))]
    Launch {
        /// What was to be executed.
        command: String,
        /// Why not; its words are in ours.
        source: LaunchError,
    },
    /// The same, of a command that failed within another's words.
    #[error("{context}: {}", source.in_one_line())]
    Within {
        /// Whose.
        context: &'static str,
        /// Why.
        source: Box<Error>,
        /// The exit code.
        code: u8,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Usage(_) | Self::InvalidId(_) | Self::Config(_) | Self::Json { .. } => Kind::Invalid,
            Self::NotFound | Self::NoConfig(_) => Kind::NotFound,
            Self::Exists(_) | Self::State(_) => Kind::Conflict,
            Self::Unsupported(_) | Self::TooNew { .. } => Kind::Unsupported,
            Self::File(e) => e.kind(),
            Self::System { source, .. } => base::failure::kind_of_io(source),
            Self::Hook { .. } => Kind::Internal,
            Self::Cgroup(e) => e.kind(),
            Self::Resctrl(e) => e.kind(),
            Self::Plan(e) => e.kind(),
            Self::Launch { source, .. } => source.kind(),
            Self::Within { source, .. } => source.kind(),
        }
    }
}

impl Error {
    /// What `dhow-runtime` ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Within { code, .. } => *code,
            _ => 1,
        }
    }

    /// All of it: what, and why.
    pub(crate) fn in_one_line(&self) -> String {
        match self {
            // Its words have their source in them already.
            Self::Launch { .. } | Self::Within { .. } => as_go_says(&self.to_string()),
            _ => as_go_says(&base::failure::causes(self)),
        }
    }

    /// Of a failing `create`, `run` or `exec`, which say so first.
    pub(crate) fn within(self, context: &'static str, code: u8) -> Self {
        Self::Within { context, source: Box::new(self), code }
    }
}

/// For whatever has no path to tell.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|e| Error::System { what: what.into(), source: e.into() })
    }
}

/// What Docker tells exit codes 127 and 126 by.
fn launching(command: &str, error: &LaunchError) -> String {
    let why = match (error, error.kind()) {
        (LaunchError::Child { source: None, .. }, Kind::CommandNotFound) => {
            format!("exec: {command:?}: executable file not found in $PATH")
        }
        (LaunchError::Child { source: Some(e), .. }, Kind::CommandNotFound | Kind::CommandNotExecutable) => {
            format!("exec: {command:?}: {e}")
        }
        _ => base::failure::causes(error),
    };
    format!("unable to start container process: {why}")
}

/// `Permission denied (os error 13)` is `permission denied` to everybody who was written in Go.
fn as_go_says(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(" (os error ") {
        let (before, after) = rest.split_at(at);
        let Some(end) = after.find(')') else { break };
        let begin = before.rfind(": ").map_or(0, |n| n + 2);
        said.push_str(&before[..begin]);
        let mut words = before[begin..].chars();
        said.extend(words.next().into_iter().flat_map(char::to_lowercase));
        said.push_str(words.as_str());
        rest = &after[end + 1..];
    }
    said.push_str(rest);
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(kind: Kind, errno: Option<i32>) -> String {
        let source = errno.map(io::Error::from_raw_os_error);
        let what = "cannot execute `x` in the container".to_owned();
        let source = LaunchError::Child { what, kind, source, hints: Vec::new() };
        Error::Launch { command: "x".to_owned(), source }.in_one_line()
    }

    #[test]
    fn callers_find_the_words_that_they_look_for() {
        assert_eq!(
            child(Kind::CommandNotFound, None),
            "unable to start container process: exec: \"x\": executable file not found in $PATH"
        );
        assert_eq!(
            child(Kind::CommandNotFound, Some(2)),
            "unable to start container process: exec: \"x\": no such file or directory"
        );
        assert_eq!(
            child(Kind::CommandNotExecutable, Some(13)),
            "unable to start container process: exec: \"x\": permission denied"
        );
        assert_eq!(
            child(Kind::Internal, Some(22)),
            "unable to start container process: cannot execute `x` in the container: invalid argument"
        );
    }

    #[test]
    fn every_word_of_the_kernel_is_spelled_as_go_spells_it() {
        assert_eq!(as_go_says("a: Not a directory (os error 20): b"), "a: not a directory: b");
        assert_eq!(as_go_says("Bad (os error"), "Bad (os error");
        assert_eq!(as_go_says("Bad (os error 1"), "Bad (os error 1");
        assert_eq!(as_go_says("plain"), "plain");
    }

    #[test]
    fn a_failing_exec_has_a_code_of_its_own() {
        let error = Error::NotFound.within("exec failed", 255);
        assert_eq!(
            (error.exit_code(), error.in_one_line().as_str()),
            (255, "exec failed: container does not exist")
        );
        assert_eq!(Error::Usage("x".into()).within("exec failed", 255).exit_code(), 255);
    }
}
