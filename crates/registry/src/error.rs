//! What can go wrong between us and a registry.

use std::fmt;
use std::path::PathBuf;

use base::{Digest, Failure, Kind};

/// The result of a registry's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] base::fs::Error),
    /// Docker's configuration is broken.
    #[error("cannot read the logins in {}: {why}", path.display())]
    CredentialsFile {
        /// The file.
        path: PathBuf,
        /// Why; without anything from inside it.
        why: String,
    },
    /// No certificates to check others by.
    #[error("there are no root certificates to check the registry's by")]
    NoRootCertificates,
    /// TLS or the client could not be set up.
    #[error("cannot set up the connection")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Names that make no address.
    #[error("`{host}/{repository}` is not a repository's address")]
    Location {
        /// The host.
        host: String,
        /// The repository.
        repository: String,
    },
    /// Nobody answers.
    #[error("cannot reach the registry `{host}`")]
    Unreachable {
        /// The registry.
        host: String,
        /// On the loopback interface.
        local: bool,
        /// Why.
        source: reqwest::Error,
    },
    /// It answers, but its certificate or TLS is not right.
    #[error("cannot trust the registry `{host}`")]
    Tls {
        /// The registry.
        host: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It stopped answering.
    #[error("the registry `{host}` does not answer in time")]
    Timeout {
        /// The registry.
        host: String,
    },
    /// The connection broke, again and again.
    #[error("the connection to the registry `{host}` broke")]
    Broken {
        /// The registry.
        host: String,
        /// Why.
        source: reqwest::Error,
    },
    /// No such repository or tag.
    #[error("the registry `{host}` has no {what} (404){}", known_tags(tags))]
    NotFound {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What tags there are instead.
        tags: Vec<String>,
    },
    /// It wants to know who we are.
    #[error("the registry `{host}` wants a login for `{repository}`, or has no such repository ({status})")]
    LoginWanted {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// The answer's status.
        status: u16,
    },
    /// It does not take our login.
    #[error("the registry `{host}` does not accept our login for `{repository}` ({status}){}", after(said))]
    LoginRefused {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// The answer's status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// It asks for a login in a way we do not know.
    #[error("the registry `{host}` asks for a login in a way that we do not know: `{challenge}`")]
    Challenge {
        /// The registry.
        host: String,
        /// What it asks.
        challenge: String,
    },
    /// Too many requests, or it is out of order.
    #[error("the registry `{host}` is not able to answer now ({status}){}", after(said))]
    Unavailable {
        /// The registry.
        host: String,
        /// The answer's status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// Any other status.
    #[error("the registry `{host}` answered {status} when asked for {what}{}", after(said))]
    Status {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// The answer's status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// A web page instead of what was asked for.
    #[error(
        "`{host}` answered with {found} when asked for {what}: it is not a registry, or something stands between"
    )]
    NotARegistry {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// What came.
        found: String,
    },
    /// A document beyond all bounds.
    #[error("the registry `{host}` sends more than {limit} bytes of {what}")]
    TooLarge {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// Content of another digest than it was asked for.
    #[error("the registry `{host}` sends {what} with other content: its digest is {found}, not {wanted}")]
    Digest {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What it should be.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob of another size than its descriptor says.
    #[error("the registry `{host}` sends {found} bytes of the blob {digest}, not {wanted}")]
    Size {
        /// The registry.
        host: String,
        /// The blob.
        digest: Digest,
        /// What its descriptor says.
        wanted: u64,
        /// What came.
        found: u64,
    },
    /// Whoever takes the blobs failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A thread that takes a blob went away.
    #[error("the transfer of the blob {0} was stopped")]
    Stopped(Digest),
}

/// The error of whoever takes the blobs, whatever its type.
pub struct SinkError(Box<dyn Failure>);

impl SinkError {
    pub(crate) fn new(error: impl Failure) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
            Self::Sink(e) => e.0.kind(),
            Self::CredentialsFile { .. } | Self::Location { .. } => Kind::Invalid,
            Self::NotFound { .. } => Kind::NotFound,
            Self::LoginWanted { .. } | Self::LoginRefused { .. } => Kind::Unauthorized,
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::Unavailable { .. }
            | Self::Status { .. } => Kind::Unavailable,
            Self::NotARegistry { .. } | Self::TooLarge { .. } | Self::Digest { .. } | Self::Size { .. } => {
                Kind::Corrupt
            }
            Self::NoRootCertificates | Self::Challenge { .. } => Kind::Unsupported,
            Self::Setup(_) | Self::Stopped(_) => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::File(e) => return e.hints(),
            Self::Sink(e) => return e.0.hints(),
            Self::NoRootCertificates => "install the package ca-certificates".to_owned(),
            Self::Unreachable { local: true, host, .. } => {
                format!("check that the registry at {host} is running")
            }
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Broken { .. } => {
                "check the registry's name, the network, and HTTPS_PROXY if there is a proxy".to_owned()
            }
            Self::Tls { source, .. } => {
                let text = base::failure::chain(source);
                if text.contains("InvalidContentType") || text.contains("corrupt message") {
                    "use a registry with HTTPS: plain HTTP is spoken only on the loopback interface"
                        .to_owned()
                } else {
                    "add the authority that signed its certificate to the system's (update-ca-certificates)"
                        .to_owned()
                }
            }
            Self::LoginWanted { host, .. } => format!("check the name, or log in: docker login {host}"),
            Self::LoginRefused { host, .. } => {
                format!("log in with an account that may pull it: docker login {host}")
            }
            Self::Unavailable { status: 429, .. } => "wait, or log in to be allowed more pulls".to_owned(),
            Self::Unavailable { .. } => "try again later".to_owned(),
            Self::Digest { .. } | Self::Size { .. } => {
                "try again; if it stays so, the registry's content is damaged".to_owned()
            }
            _ => return Vec::new(),
        };
        vec![hint]
    }
}

/// The first tags of a repository that lacks the one asked for.
fn known_tags(tags: &[String]) -> String {
    const SHOWN: usize = 10;
    if tags.is_empty() {
        return String::new();
    }
    let more = if tags.len() > SHOWN { ", …" } else { "" };
    format!("; known tags: {}{more}", tags[..tags.len().min(SHOWN)].join(", "))
}

fn after(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
