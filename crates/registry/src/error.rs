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
    /// There is no such file, nor a place for one.
    #[error("there is no place for logins: neither HOME nor DOCKER_CONFIG is set")]
    NoCredentialsFile,
    /// A credential helper failed.
    #[error("the credential helper docker-credential-{name} cannot {action} a login: {why}")]
    Helper {
        /// Its name, without what all of them begin with.
        name: String,
        /// What it was asked to do.
        action: &'static str,
        /// Why; in its own words.
        why: String,
    },
    /// `registries.toml` cannot be used.
    #[error("the configuration {} is not valid: {reason}", path.display())]
    Registries {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nothing may be asked of any registry.
    #[error("nothing is asked of the registry `{host}`: we are offline")]
    Offline {
        /// The registry.
        host: String,
    },
    /// Nothing may come from there.
    #[error("`{name}` is blocked: registries.toml blocks `{prefix}`")]
    Blocked {
        /// The repository, or the registry.
        name: String,
        /// What is blocked.
        prefix: String,
    },
    /// A certificate or key of ours, or of an authority, that cannot be used.
    #[error("cannot use {}: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
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
    /// A name that makes no address.
    #[error("`{host}` is not a registry's host")]
    Host {
        /// The host.
        host: String,
    },
    /// The name means no machine.
    #[error("cannot find the registry `{host}`: its name has no address")]
    NoSuchHost {
        /// The registry.
        host: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It sends us somewhere where we do not go.
    #[error("`{host}` redirects {why}")]
    Redirect {
        /// The registry.
        host: String,
        /// Where to, or how often.
        why: String,
    },
    /// Neither a mirror nor the registry had it. What the registry says counts.
    #[error("{last}")]
    Mirrors {
        /// What the last one said.
        last: Box<Error>,
        /// What the others said, in the order in which they were asked.
        mirrors: Vec<String>,
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
    /// It knows what is asked for, and does not give it.
    #[error("the registry `{host}` does not give `{repository}` to us (403){}", after(said))]
    Forbidden {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// What it says.
        said: String,
    },
    /// It wants a login sent over the network in plain text.
    #[error("the registry `{host}` wants a login to be sent to `{realm}` in plain HTTP")]
    PlainRealm {
        /// The registry.
        host: String,
        /// The token server.
        realm: String,
    },
    /// It cannot be searched.
    #[error(
        "the registry `{host}` cannot be searched: it has neither a search nor a list of its repositories"
    )]
    NoSearch {
        /// The registry.
        host: String,
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
    #[error("the registry `{host}` {} ({status}){}", unavailable(*status), after(said))]
    Unavailable {
        /// The registry.
        host: String,
        /// The answer's status.
        status: u16,
        /// What it says.
        said: String,
        /// When it wants to be asked again, in seconds.
        again_in: Option<u64>,
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
            Self::Mirrors { last, .. } => last.kind(),
            Self::CredentialsFile { .. }
            | Self::NoCredentialsFile
            | Self::Registries { .. }
            | Self::Certificate { .. }
            | Self::Host { .. }
            | Self::Location { .. } => Kind::Invalid,
            Self::Blocked { .. } => Kind::Permission,
            Self::NotFound { .. } => Kind::NotFound,
            Self::LoginWanted { .. } | Self::LoginRefused { .. } | Self::Forbidden { .. } => {
                Kind::Unauthorized
            }
            Self::Offline { .. }
            | Self::Redirect { .. }
            | Self::NoSuchHost { .. }
            | Self::Helper { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::Unavailable { .. }
            | Self::Status { .. } => Kind::Unavailable,
            Self::NotARegistry { .. } | Self::TooLarge { .. } | Self::Digest { .. } | Self::Size { .. } => {
                Kind::Corrupt
            }
            Self::NoRootCertificates
            | Self::Challenge { .. }
            | Self::PlainRealm { .. }
            | Self::NoSearch { .. } => Kind::Unsupported,
            Self::Setup(_) | Self::Stopped(_) => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::File(e) => return e.hints(),
            Self::Sink(e) => return e.0.hints(),
            Self::NoRootCertificates => "install the package ca-certificates".to_owned(),
            Self::Mirrors { last, mirrors } => {
                let mut hints = last.hints();
                hints.extend(mirrors.iter().map(|said| format!("see also what a mirror said: {said}")));
                return hints;
            }
            Self::Offline { .. } => {
                "go online: leave out --offline, DHOW_OFFLINE, or `offline` in registries.toml".to_owned()
            }
            Self::Helper { .. } => {
                "mend it, or take it out of credsStore and credHelpers in config.json".to_owned()
            }
            Self::NoSuchHost { host, .. } => {
                format!("check the name `{host}`, and the name servers in /etc/resolv.conf")
            }
            Self::Redirect { host, .. } => format!("ask whoever runs {host}, or what stands between"),
            Self::PlainRealm { realm, .. } => {
                format!("use HTTPS there, or allow it in registries.toml: [registry.\"{realm}\"] http = true")
            }
            Self::NoSearch { .. } => {
                "look at its web page, or search Docker Hub: dhow search TERM".to_owned()
            }
            Self::Unreachable { local: true, host, .. } => {
                format!("check that the registry at {host} is running")
            }
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Broken { .. } => {
                "check the registry's name, the network, and HTTPS_PROXY if there is a proxy".to_owned()
            }
            Self::Tls { source, host } => tls_hint(host, &base::failure::chain(source)),
            Self::LoginWanted { host, .. } | Self::Forbidden { host, .. } => {
                format!("check the name, or log in: dhow login {host}")
            }
            Self::LoginRefused { host, .. } => {
                format!("log in with an account that may do it: dhow login {host}")
            }
            Self::Unavailable { again_in: Some(seconds), .. } => {
                format!("wait for {seconds} s, as it asks, and try again")
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

impl Error {
    /// Whether it is the host that is the matter, and not what was asked of it.
    pub(crate) fn is_of_host(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::NoSuchHost { .. }
                | Self::Tls { .. }
                | Self::Timeout { .. }
                | Self::Broken { .. }
                | Self::Unavailable { .. }
        )
    }

    /// Whether what was asked for is not there, of whomever it was asked.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::Mirrors { last, .. } => last.is_not_found(),
            other => matches!(other, Self::NotFound { .. }),
        }
    }

    /// The same with the tags that there are.
    pub(crate) fn with_tags(self, tags: Vec<String>) -> Self {
        match self {
            Self::Mirrors { last, mirrors } => {
                Self::Mirrors { last: Box::new(last.with_tags(tags)), mirrors }
            }
            Self::NotFound { host, what, .. } => Self::NotFound { host, what, tags },
            other => other,
        }
    }
}

/// What to do about a connection that TLS refuses.
fn tls_hint(host: &str, text: &str) -> String {
    let has = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    if has(&["InvalidContentType", "corrupt message", "tls handshake eof"]) {
        format!(
            "use a registry with HTTPS, or allow plain HTTP in registries.toml: [registry.\"{host}\"] http = true"
        )
    } else if has(&["xpired"]) {
        "have its certificate renewed, or set this machine's clock if that is wrong".to_owned()
    } else if has(&["NotValidYet", "not valid yet"]) {
        "set this machine's clock".to_owned()
    } else if has(&["NotValidForName", "not valid for name"]) {
        "use the name that its certificate is for".to_owned()
    } else if has(&[
        "CertificateRequired",
        "fatal alert: BadCertificate",
        "AccessDenied",
        "fatal alert: UnknownCA",
    ]) {
        format!("give it a certificate of yours: /etc/dhow/certs.d/{host}/client.cert and client.key")
    } else {
        format!(
            "trust the authority that signed its certificate: /etc/dhow/certs.d/{host}/ca.crt, or the system's \
             (update-ca-certificates)"
        )
    }
}

fn unavailable(status: u16) -> &'static str {
    match status {
        429 => "has had enough requests of us for now",
        500 => "has an error of its own",
        _ => "is not able to answer now",
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
