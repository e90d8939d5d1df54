//! What can go wrong in the door itself, and which exit code each failure has: Docker's, so that scripts
//! work unchanged.
//!
//! | code | when |
//! |---|---|
//! | 0 | it worked; also where the reader of our output has gone (broken pipe) |
//! | 1 | it did not; missing arguments, an unknown command; `exec`: no such container, or it does not run |
//! | 64 | a `--format` that is no template; one that asks for what there is not gives 1 |
//! | 125 | a bad flag or value; for `run`: whatever failed before the command |
//! | 126, 127 | `run`, `exec`: the command cannot be executed, is not found; 126 also for all else that keeps an
//! `exec` from starting |
//! | 128 + n | `run`, `exec`: signal n ended the command |

use std::io;

use base::Kind;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The engine said no.
    #[error("{0}")]
    Engine(engine::Error),
    /// The engine said no to `run`, whose exit codes leave room for the command's.
    #[error("{0}")]
    Starting(engine::Error),
    /// The engine said no to `exec`, which tells a missing container from a command that does not start.
    #[error("{0}")]
    Joining(engine::Error),
    /// A flag or its value makes no sense.
    #[error("{message}")]
    Flag {
        /// One line.
        message: String,
        /// What to do.
        hints: Vec<String>,
    },
    /// An argument is missing, or there is one too many; there is no such command.
    #[error("{message}")]
    Usage {
        /// One line.
        message: String,
        /// What to do.
        hints: Vec<String>,
    },
    /// A `--format` that is none.
    #[error("cannot use the format: {0}")]
    Format(String),
    /// A `--format` that asks for what there is not.
    #[error("cannot use the format: {0}")]
    Template(String),
    /// Standard output does not take what we say.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// A file that a flag names.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// A verb.
        action: &'static str,
        /// As the user wrote it.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A port that the container does not publish.
    #[error("no public port {port} of container {container} is published")]
    NotPublished {
        /// `80/tcp`.
        port: String,
        /// As the user wrote it.
        container: String,
    },
    /// `-it` without a terminal.
    #[error("the input device is not a TTY")]
    NoTerminal,
    /// The terminal does not obey.
    #[error("cannot {0}: {1}")]
    Terminal(&'static str, io::Error),
    /// The connection to the container ended without a word about its end.
    #[error("the monitor of the container is gone: its exit code is not known")]
    Lost,
}

/// The result of a verb: its exit code.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Starting(e) => match e.kind() {
                Kind::CommandNotFound => 127,
                Kind::CommandNotExecutable => 126,
                _ => 125,
            },
            Self::Joining(e) => match e.kind() {
                Kind::NotFound | Kind::Conflict => 1,
                Kind::CommandNotFound => 127,
                _ => 126,
            },
            Self::Flag { .. } | Self::File { .. } | Self::Lost => 125,
            Self::Format(_) => 64,
            Self::Engine(_)
            | Self::Template(_)
            | Self::Usage { .. }
            | Self::Output(_)
            | Self::NotPublished { .. }
            | Self::NoTerminal
            | Self::Terminal(..) => 1,
        }
    }

    /// True where nobody wants to read about it.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What to do next.
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Self::Engine(e) | Self::Starting(e) | Self::Joining(e) => {
                let mut hints = e.hints();
                if e.kind() == Kind::Permission && !rustix::process::geteuid().is_root() {
                    hints.push("run dhow as root: sudo dhow …".to_owned());
                }
                hints
            }
            Self::Flag { hints, .. } | Self::Usage { hints, .. } => hints.clone(),
            Self::NoTerminal => vec!["leave out -t where the input is no terminal".to_owned()],
            _ => Vec::new(),
        }
    }

    /// The engine's kind.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Engine(e) | Self::Starting(e) => Some(e.kind()),
            _ => None,
        }
    }

    /// A bad flag without a hint.
    pub(crate) fn flag(message: impl Into<String>) -> Self {
        Self::Flag { message: message.into(), hints: Vec::new() }
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        Self::Engine(error)
    }
}
