//! What can go wrong with a build, beyond what its parts say.

use base::{Failure, Kind};

/// What can go wrong with a build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command of a `RUN` failed.
    #[error("process \"{command}\" did not complete successfully: exit code: {code}{}", if *.oom { ": out of memory" } else { "" })]
    Command {
        /// The command line.
        command: String,
        /// As the shell has it.
        code: i32,
        /// The kernel killed something of it for want of memory.
        oom: bool,
    },
    /// Somebody wants it to end.
    #[error("the build was interrupted")]
    Interrupted,
    /// A secret that nobody gave.
    #[error("secret {0}: not found")]
    NoSecret(String),
    /// A secret that cannot be read.
    #[error("cannot read the secret {id}")]
    Secret {
        /// Its id.
        id: String,
        /// Why.
        source: std::io::Error,
    },
    /// A secret whose variable cannot hold it.
    #[error("the secret {0} contains a NUL byte, which no environment variable can")]
    SecretNul(String),
    /// An agent that nobody gave.
    #[error("ssh agent {0}: not found")]
    NoAgent(String),
    /// An agent that does not listen.
    #[error("cannot reach the ssh agent {id} at {path}")]
    Agent {
        /// Its id.
        id: String,
        /// Its socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Something that the one who builds has to allow.
    #[error("{what} is not allowed")]
    NotAllowed {
        /// What was asked for.
        what: &'static str,
        /// What allows it.
        flag: &'static str,
    },
    /// A mount that makes no sense.
    #[error("invalid mount target `{0}`: want an absolute path other than /")]
    MountTarget(String),
    /// A platform that cannot be run here.
    #[error("cannot build for {asked}: this machine runs {own}")]
    Platform {
        /// What was asked for.
        asked: String,
        /// What there is.
        own: String,
    },
    /// Something to read or write.
    #[error("cannot {action}")]
    System {
        /// What was attempted.
        action: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The plan is not what it should be.
    #[error("step {0} needs files of a step that has none")]
    NoFiles(usize),
    /// An output that makes no sense.
    #[error("{0}")]
    Output(String),
    /// A document that cannot be written.
    #[error("cannot encode a record")]
    Encode(#[source] serde_json::Error),
    /// The Dockerfile, or what it asks for, in the words of its part.
    #[error(transparent)]
    Dockerfile(#[from] ::build::Error),
    /// An image that nobody has found.
    #[error("nobody has looked for the image {0}")]
    NoImage(String),
    /// A layer that is not what it was.
    #[error("the layer {0} is not what it was: somebody has changed it")]
    Changed(String),
    /// A step that is our own mistake.
    #[error("a mistake of Dhow's ended the step `{0}`")]
    Panicked(String),
    /// An option that makes no sense.
    #[error("{0}")]
    Option(String),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSecret(_) | Self::NoAgent(_) => Kind::NotFound,
            Self::NotAllowed { .. } => Kind::Permission,
            Self::Platform { .. } => Kind::Unsupported,
            Self::System { source, .. } | Self::Secret { source, .. } => base::failure::kind_of_io(source),
            Self::Agent { .. } => Kind::Unavailable,
            Self::Dockerfile(e) => e.kind(),
            Self::Changed(_) => Kind::Corrupt,
            Self::Encode(_) | Self::NoFiles(_) | Self::NoImage(_) | Self::Panicked(_) => Kind::Internal,
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoSecret(id) => vec![format!("give it: --secret id={id},src=FILE, or …,env=NAME")],
            Self::NoAgent(id) => {
                vec![format!("give it: --ssh {id}, or {id}=SOCKET, with an agent that runs")]
            }
            Self::NotAllowed { flag, .. } => vec![format!("allow it: --allow {flag}")],
            Self::Platform { asked, .. } => {
                vec![format!("register an emulator for {asked} with binfmt_misc, or build on such a machine")]
            }
            Self::Dockerfile(e) => e.hints(),
            Self::Panicked(_) => vec!["report it, with what it says above and the Dockerfile".to_owned()],
            Self::Command { oom: true, .. } => vec!["give it more memory (-m)".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// For what the kernel says no to.
pub(super) fn failed(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let action = action.into();
    move |source| Error::System { action, source }
}
