//! `network capture`.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use base::{Failure, Kind};
use network::capture::{Capture, Filter, Form, NotAFilter, Wanted};
use state::container::Status;

use crate::Engine;
use crate::containers::control::StateError;
use crate::error::Result;

/// What is to be captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Of this interface; none: of all.
    pub interface: Option<String>,
    /// Of the interface on this network.
    pub network: Option<String>,
    /// So many packets; none: until it is stopped, or the container ends.
    pub count: Option<u64>,
    /// So many bytes of each.
    pub keep: u32,
    /// Those that match; empty: all.
    pub filter: String,
}

/// How packets are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureForm {
    /// As a file for other programs, of the form pcapng.
    Pcapng,
    /// A line each.
    Lines,
}

/// A capture that has begun.
#[derive(Debug)]
pub struct PacketCapture {
    capture: Capture,
    end: OwnedFd,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    /// So many packets were written.
    pub written: u64,
    /// For so many there was no room: they came faster than they were written.
    pub dropped: u64,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("invalid filter: {0}")]
    Filter(NotAFilter),
    #[error("container {container} is not on the network `{network}`")]
    NotOn { container: String, network: String },
    #[error("cannot wait for the end of container {0}")]
    Process(String, #[source] io::Error),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Filter(_) => Kind::Invalid,
            Self::NotOn { .. } => Kind::NotFound,
            Self::Process(_, error) => base::failure::kind_of_io(error),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Filter(_) => {
                vec!["such as: tcp port 80, host 10.5.0.2 and not udp, icmp or arp".to_owned()]
            }
            Self::NotOn { container, .. } => vec![format!("see on which it is: dhow inspect {container}")],
            Self::Process(..) => Vec::new(),
        }
    }
}

impl Engine {
    /// Begins to capture what passes the links of a running container.
    pub fn capture(&self, name: &str, options: &CaptureOptions) -> Result<PacketCapture> {
        let filter = Filter::parse(&options.filter).map_err(Error::Filter)?;
        let found = self.find(name)?;
        let (Status::Running | Status::Paused, Some(live)) = (found.status, found.live) else {
            return Err(StateError::NotRunning(name.to_owned()).into());
        };
        let process = |error| Error::Process(name.to_owned(), error);
        let end = network::capture::end_of(live.pid).map_err(process)?;
        let namespace = network::namespace_of(live.pid)?;
        // Asked once more: now that both are held, they are the container's if this is its process still.
        if self.find(found.record.id.as_str())?.live.map(|now| now.pid) != Some(live.pid) {
            return Err(StateError::NotRunning(name.to_owned()).into());
        }
        let link = match &options.network {
            None => options.interface.clone(),
            Some(network) => {
                let definition = self.network_store().find(network)?;
                let endpoints = self.endpoints_of(&found.record.id)?;
                let endpoint = endpoints.iter().find(|endpoint| endpoint.network() == definition.name);
                let not_on = || Error::NotOn { container: name.to_owned(), network: definition.name.clone() };
                Some(format!("eth{}", endpoint.ok_or_else(not_on)?.number()))
            }
        };
        let wanted = Wanted { link, filter, count: options.count, keep: options.keep };
        Ok(PacketCapture { capture: Capture::begin(&namespace, wanted)?, end })
    }
}

impl PacketCapture {
    /// The interfaces whose packets come.
    pub fn interfaces(&self) -> String {
        self.capture.links()
    }

    /// Writes packets until there are enough, the container ends or `stop` is readable.
    pub fn run(
        &mut self,
        form: CaptureForm,
        to: &mut dyn Write,
        stop: BorrowedFd<'_>,
    ) -> io::Result<Captured> {
        let form = match form {
            CaptureForm::Pcapng => Form::Pcapng,
            CaptureForm::Lines => Form::Lines,
        };
        let counts = self.capture.run(form, to, &[stop, self.end.as_fd()])?;
        Ok(Captured { written: self.capture.written(), dropped: counts.dropped })
    }
}
