//! A conversation with a message bus: connecting, calling, waiting for systemd's jobs. Blocking, with a deadline.

use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use base::{Failure, Kind as Cause};

use super::wire::{self, HEAD, Kind, Message, Writer};

/// How long systemd may take for a job: what others wait.
const PATIENCE: Duration = Duration::from_secs(30);

const BUS: &str = "org.freedesktop.DBus";

/// A failure around systemd.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no bus at the address, or it goes away.
    #[error("cannot talk to systemd over the bus at {address}")]
    Connection {
        /// Where.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The bus does not let us in, or says what is no message.
    #[error("the bus at {address} {what}")]
    Protocol {
        /// Where.
        address: String,
        /// What it does.
        what: &'static str,
    },
    /// No user's bus is named in the environment.
    #[error(
        "no bus of the user's systemd is known: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set"
    )]
    NoUserBus,
    /// systemd refuses.
    #[error("systemd refuses {method}: {text}")]
    Refused {
        /// What it was asked.
        method: String,
        /// D-Bus' name of the error.
        name: String,
        /// In its words.
        text: String,
    },
    /// The job of starting a unit failed.
    #[error("systemd's job for the unit {unit} ended as `{result}`")]
    Job {
        /// Which unit.
        unit: String,
        /// Not `done`.
        result: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Cause {
        match self {
            Self::Connection { source, .. } => base::failure::kind_of_io(source),
            Self::NoUserBus => Cause::Unsupported,
            Self::Refused { .. } | Self::Job { .. } | Self::Protocol { .. } => Cause::Unavailable,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Connection { .. } | Self::NoUserBus => {
                vec!["run without --systemd-cgroup where systemd is not running".to_owned()]
            }
            Self::Job { unit, .. } => {
                vec![format!("see `systemctl status {unit}` and `journalctl -u {unit}`")]
            }
            Self::Refused { .. } | Self::Protocol { .. } => Vec::new(),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    address: String,
    serial: u32,
    deadline: Instant,
    /// Jobs that ended before we knew their names: path and result.
    ended: Vec<(String, String)>,
}

impl Bus {
    /// The machine's bus, or the user's.
    pub(super) fn connect(user: bool) -> Result<Self, Error> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let addresses = if user {
            variable("DBUS_SESSION_BUS_ADDRESS")
                .or_else(|| variable("XDG_RUNTIME_DIR").map(|dir| format!("unix:path={dir}/bus")))
                .ok_or(Error::NoUserBus)?
        } else {
            variable("DBUS_SYSTEM_BUS_ADDRESS")
                .unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".to_owned())
        };
        Self::connect_to(&addresses)
    }

    /// The first of the addresses (`unix:path=…;unix:abstract=…`) that answers.
    pub(super) fn connect_to(addresses: &str) -> Result<Self, Error> {
        let mut failed = None;
        for address in addresses.split(';') {
            match open(address) {
                Ok(stream) => {
                    let mut bus = Self {
                        stream,
                        address: address.to_owned(),
                        serial: 0,
                        deadline: Instant::now() + PATIENCE,
                        ended: Vec::new(),
                    };
                    bus.greet()?;
                    return Ok(bus);
                }
                Err(source) => {
                    failed.get_or_insert(Error::Connection { address: address.to_owned(), source });
                }
            }
        }
        Err(failed.unwrap_or(Error::NoUserBus))
    }

    /// Who we are the kernel tells the bus (SASL EXTERNAL). To name ourselves would be wrong inside a user namespace,
    /// where our number is another.
    fn greet(&mut self) -> Result<(), Error> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\n")?;
        loop {
            let line = self.line()?;
            if line == "DATA" || line.starts_with("DATA ") {
                continue;
            }
            if line.starts_with("OK ") {
                break;
            }
            return Err(self.wrong("does not let this user in"));
        }
        self.send(b"BEGIN\r\n")?;
        self.call(BUS, "/org/freedesktop/DBus", BUS, "Hello", "", &[])?;
        Ok(())
    }

    fn line(&mut self) -> Result<String, Error> {
        const LONGEST: usize = 512;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.receive(&mut byte)?;
            line.push(byte[0]);
            if line.len() > LONGEST {
                return Err(self.wrong("does not speak D-Bus"));
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// A call's answer.
    pub(super) fn call(
        &mut self,
        destination: &str,
        object: &str,
        interface: &str,
        member: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<Message, Error> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&wire::call(serial, destination, object, interface, member, signature, body))?;
        loop {
            let message = self.next()?;
            if message.reply_to != Some(serial) {
                continue;
            }
            if message.kind == Kind::Error {
                let text = if message.signature.starts_with('s') { message.body().string() } else { None };
                let name = message.error.clone().unwrap_or_default();
                let text = text.map_or_else(|| name.clone(), ToOwned::to_owned);
                return Err(Error::Refused { method: member.to_owned(), name, text });
            }
            return Ok(message);
        }
    }

    /// A property that is a string.
    pub(super) fn property(
        &mut self,
        destination: &str,
        object: &str,
        interface: &str,
        name: &str,
    ) -> Result<String, Error> {
        let mut body = Writer::default();
        body.string(interface);
        body.string(name);
        let properties = "org.freedesktop.DBus.Properties";
        let answer = self.call(destination, object, properties, "Get", "ss", &body.bytes)?;
        let mut reader = answer.body();
        let value = (reader.signature() == Some("s")).then(|| reader.string()).flatten();
        value.map(ToOwned::to_owned).ok_or_else(|| self.wrong("gives a property of another type"))
    }

    /// Asks to be told when jobs end, before any is begun.
    pub(super) fn watch_jobs(&mut self, destination: &str, object: &str, manager: &str) -> Result<(), Error> {
        let mut rule = Writer::default();
        rule.string(&format!(
            "type='signal',sender='{destination}',interface='{manager}',member='JobRemoved'"
        ));
        self.call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", &rule.bytes)?;
        self.call(destination, object, manager, "Subscribe", "", &[])?;
        Ok(())
    }

    /// A call that begins a job, whose result this waits for.
    pub(super) fn job(
        &mut self,
        destination: &str,
        object: &str,
        interface: &str,
        member: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<String, Error> {
        let answer = self.call(destination, object, interface, member, signature, body)?;
        let job = answer.body().string().ok_or_else(|| self.wrong("names no job"))?.to_owned();
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| *ended == job) {
                return Ok(result.clone());
            }
            self.next()?;
        }
    }

    /// The next message. What tells of a job's end is noted on the way.
    fn next(&mut self) -> Result<Message, Error> {
        let mut head = [0; HEAD];
        self.receive(&mut head)?;
        let length = wire::length(&head).ok_or_else(|| self.wrong("sends what is no message"))?;
        let mut bytes = head.to_vec();
        bytes.resize(length, 0);
        let mut rest = std::mem::take(&mut bytes);
        self.receive(&mut rest[HEAD..])?;
        let message = Message::decode(&rest).ok_or_else(|| self.wrong("sends what is no message"))?;
        if message.kind == Kind::Signal && message.member.as_deref() == Some("JobRemoved") {
            // Number, job, unit, result.
            let mut body = message.body();
            if let (Some(_), Some(job), Some(_), Some(result)) =
                (body.u32(), body.string(), body.string(), body.string())
            {
                self.ended.push((job.to_owned(), result.to_owned()));
            }
        }
        Ok(message)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let patience = self.patience()?;
        let sent = self.stream.set_write_timeout(Some(patience)).and_then(|()| self.stream.write_all(bytes));
        sent.map_err(|source| self.broken(source))
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        let patience = self.patience()?;
        let received =
            self.stream.set_read_timeout(Some(patience)).and_then(|()| self.stream.read_exact(bytes));
        received.map_err(|source| self.broken(source))
    }

    fn patience(&self) -> Result<Duration, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.broken(io::ErrorKind::TimedOut.into())) } else { Ok(left) }
    }

    fn broken(&self, source: io::Error) -> Error {
        let source =
            if source.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { source };
        Error::Connection { address: self.address.clone(), source }
    }

    fn wrong(&self, what: &'static str) -> Error {
        Error::Protocol { address: self.address.clone(), what }
    }
}

/// `unix:path=/a,guid=…`: only sockets of this machine are understood.
fn open(address: &str) -> io::Result<UnixStream> {
    let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
    let parameters = address.strip_prefix("unix:").ok_or_else(unsupported)?;
    for parameter in parameters.split(',') {
        match parameter.split_once('=') {
            Some(("path", path)) => return UnixStream::connect(Path::new(&unescape(path))),
            Some(("abstract", name)) => {
                let address = SocketAddr::from_abstract_name(unescape(name).as_bytes())?;
                return UnixStream::connect_addr(&address);
            }
            _ => {}
        }
    }
    Err(unsupported())
}

/// `%20` is a blank (dbus-specification, "Server Addresses").
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|b| (*b as char).to_digit(16));
        if first == b'%'
            && let (Some(high), Some(low)) = (digit(0), digit(1))
        {
            bytes.push((high * 16 + low) as u8);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
