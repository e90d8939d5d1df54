//! What is sent to collectors of logs: where it goes, and how much of it has arrived.
//!
//! ```text
//! ROOT/spools/<id>/     one container that has a remote log driver
//!   log.local …         the spool: its log, in the format `local`; `dhow logs` reads it, too
//!   ship.json           Manifest: where it goes. Written by the command that starts the container
//!   sent.json           Progress: how much has arrived. Written by the shipper
//! ROOT/spools/.given-up Total: what nobody will ever get, of containers that are gone
//! RUN/shipper/          its flock: the shipper's life
//!   socket              each monitor that has something to ship holds a connection: so it learns that the shipper
//!                       has died, and the shipper that the container has ended
//! ```
//!
//! A spool is beside the container's directory, not in it, and outlives it: it goes when the container is gone and all of
//! it has arrived, or will not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::fs::{self, Durability};
use base::{Id, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Instance;

/// The newest format of these files that this code reads, and the one that it writes.
pub const FORMAT: u32 = 1;

/// The names of the files in a spool.
pub mod file {
    /// The log.
    pub const LOG: &str = "log.local";
    /// [`super::Manifest`].
    pub const MANIFEST: &str = "ship.json";
    /// [`super::Progress`].
    pub const PROGRESS: &str = "sent.json";
    /// [`super::Total`], beside the spools.
    pub const GIVEN_UP: &str = ".given-up";
    /// In the shipper's directory.
    pub const SOCKET: &str = "socket";
}

/// All spools.
pub fn spools(instance: &Instance) -> PathBuf {
    instance.root().join("spools")
}

/// One container's spool.
pub fn spool(instance: &Instance, id: &Id) -> PathBuf {
    spools(instance).join(id.as_str())
}

/// One container's log, where its driver is a remote one.
pub fn log(instance: &Instance, id: &Id) -> PathBuf {
    spool(instance, id).join(file::LOG)
}

/// The shipper's live directory.
pub fn shipper(instance: &Instance) -> PathBuf {
    instance.run().join("shipper")
}

/// Where a container's log goes, and what is said of the container with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The container.
    pub id: Id,
    /// Its name when it was started.
    pub name: String,
    /// Its image, as the user wrote it.
    pub image: String,
    /// `--log-opt tag`, filled in.
    pub tag: String,
    /// Labels and variables of the environment that are sent along, by their names.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Where to.
    pub destination: Destination,
}

/// A collector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// A syslog server.
    Syslog(Syslog),
    /// systemd's journal on this host.
    Journald(Journald),
    /// Fluentd, Fluent Bit, or whatever speaks their forward protocol.
    Fluentd(Fluentd),
}

impl Destination {
    /// The driver's name.
    pub fn driver(&self) -> &'static str {
        match self {
            Self::Syslog(_) => "syslog",
            Self::Journald(_) => "journald",
            Self::Fluentd(_) => "fluentd",
        }
    }
}

/// How to speak to a syslog server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syslog {
    /// Where it is.
    pub address: Address,
    /// The facility's number, 0 to 23.
    pub facility: u8,
    /// How a message is written.
    pub message: SyslogMessage,
}

/// How a syslog message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyslogMessage {
    /// RFC 5424, times in seconds.
    Rfc5424,
    /// RFC 5424, times in microseconds.
    Rfc5424Micro,
    /// RFC 3164, with the host's name.
    Rfc3164,
    /// What programs of this host say to their `/dev/log`: RFC 3164 without the host's name.
    Local,
}

/// How to speak to the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journald {
    /// Its socket for the native protocol.
    pub socket: PathBuf,
}

/// How to speak the forward protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fluentd {
    /// Where it is.
    pub address: Address,
    /// Times in nanoseconds, not in seconds.
    pub sub_second: bool,
    /// Milliseconds until the first attempt to connect again.
    pub retry_wait: Option<u64>,
}

/// Where a collector listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// Datagrams over IP.
    Udp(Host),
    /// A connection over IP.
    Tcp(Host),
    /// The same, encrypted.
    Tls(Host, Tls),
    /// A Unix socket with connections.
    Unix(PathBuf),
    /// A Unix socket of datagrams.
    Unixgram(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Udp(host) => write!(f, "udp://{host}"),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Tls(host, _) => write!(f, "tcp+tls://{host}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Unixgram(path) => write!(f, "unixgram://{}", path.display()),
        }
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// A name or an address, without brackets.
    pub name: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// Whom to trust, and as whom to come. Files are read anew for each connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// Certificates of authorities; none: the host's.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Whoever answers is believed.
    pub skip_verify: bool,
}

/// How much of a spool has arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The number of the first entry that has not arrived, as far as we know.
    pub next: u64,
    /// How many entries were rotated away before they could be sent.
    pub dropped: u64,
    /// Lines of which a beginning was sent, and not yet the end: standard output's, standard error's.
    pub partial: [Option<Partial>; 2],
    /// Why nothing arrives, if nothing does.
    pub error: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// A line that is sent in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// The number of its first piece's entry.
    pub first: u64,
    /// How many pieces there were.
    pub count: u32,
}

/// What was given up of containers that are gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Total {
    /// How many entries.
    pub entries: u64,
    /// Of how many containers.
    pub containers: u64,
}

impl Manifest {
    /// Writes it into a spool, which is made where it is missing.
    pub fn write(&self, instance: &Instance) -> fs::Result<()> {
        let dir = spool(instance, &self.id);
        fs::create_dir_all(&spools(instance), 0o700)?;
        fs::create_dir_all(&dir, 0o700)?;
        replace(&dir.join(file::MANIFEST), self)
    }

    /// The one of a spool; none where there is none that can be understood.
    pub fn read(spool: &Path) -> fs::Result<Option<Self>> {
        let manifest: Option<Self> = read(&spool.join(file::MANIFEST))?;
        Ok(manifest.filter(|manifest| manifest.format <= FORMAT))
    }
}

impl Progress {
    /// Writes it into a spool.
    pub fn write(&self, spool: &Path) -> fs::Result<()> {
        replace(&spool.join(file::PROGRESS), self)
    }

    /// The one of a spool. Where none can be read, nothing has arrived: rather twice than never.
    pub fn read(spool: &Path) -> fs::Result<Self> {
        Ok(read(&spool.join(file::PROGRESS))?.unwrap_or_default())
    }
}

impl Total {
    /// What was given up by now.
    pub fn read(instance: &Instance) -> fs::Result<Self> {
        Ok(read(&spools(instance).join(file::GIVEN_UP))?.unwrap_or_default())
    }

    /// Counts what one more container has lost.
    pub fn add(instance: &Instance, entries: u64) -> fs::Result<()> {
        if entries == 0 {
            return Ok(());
        }
        let _lock = crate::lock::Lock::exclusive(&spools(instance))?;
        let mut total = Self::read(instance)?;
        total.entries += entries;
        total.containers += 1;
        replace(&spools(instance).join(file::GIVEN_UP), &total)
    }
}

fn replace<T: Serialize>(path: &Path, value: &T) -> fs::Result<()> {
    // Plain values: there is none of them that JSON has no words for.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    fs::write_atomic(path, &bytes, Durability::Volatile)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> fs::Result<Option<T>> {
    Ok(fs::read_if_exists(path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        let host = |name: &str| Host { name: name.to_owned(), port: 514 };
        assert_eq!(Address::Udp(host("::1")).to_string(), "udp://[::1]:514");
        assert_eq!(Address::Tls(host("logs"), Tls::default()).to_string(), "tcp+tls://logs:514");
        assert_eq!(Address::Unix("/run/x".into()).to_string(), "unix:///run/x");
    }

    #[test]
    fn what_cannot_be_understood_has_not_arrived() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Progress::read(dir.path()).unwrap(), Progress::default());
        let progress = Progress { format: FORMAT, next: 7, dropped: 2, ..Progress::default() };
        progress.write(dir.path()).unwrap();
        assert_eq!(Progress::read(dir.path()).unwrap(), progress);
        std::fs::write(dir.path().join(file::PROGRESS), b"{\"next\":").unwrap();
        assert_eq!(Progress::read(dir.path()).unwrap(), Progress::default());
    }

    #[test]
    fn what_is_given_up_adds_up() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        fs::create_dir_all(&spools(&instance), 0o700).unwrap();
        Total::add(&instance, 0).unwrap();
        Total::add(&instance, 3).unwrap();
        Total::add(&instance, 4).unwrap();
        assert_eq!(Total::read(&instance).unwrap(), Total { entries: 7, containers: 2 });
    }
}
