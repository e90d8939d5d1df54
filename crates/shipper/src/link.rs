//! What a way to a collector can do, and the ways there are.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use state::shipping::{Address, Destination, Manifest};

use crate::datagram::{Journal, Socket, Udp};
use crate::fluentd::Forward;
use crate::message::Message;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::syslog::Encoder;
use crate::syslog_stream::SyslogStream;

/// Where nothing moves for so long, the connection is given up. Not sooner: a collector that stands still may have
/// taken what was sent, and would get it twice.
pub(crate) const STALL: Duration = Duration::from_mins(3);

/// A way to a collector that is open.
pub(crate) trait Link {
    /// Sends messages, in their order. That they are taken by the socket is enough.
    fn send(&mut self, batch: &[Message]) -> Result<(), Lost>;

    /// The number up to which all that was sent over this way has arrived; none: nothing is known to have.
    fn arrived(&self) -> Option<u64>;

    /// When [`confirm`](Self::confirm) should be called, where something has been sent of which is not known whether it
    /// has arrived.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Makes sure that all that was sent has arrived. True if more can be sent over this way then.
    fn confirm(&mut self) -> Result<bool, Lost> {
        Ok(true)
    }
}

/// A way that has broken.
#[derive(Debug)]
pub(crate) struct Lost {
    /// The number up to which all has arrived nevertheless; none: as far as was known before.
    pub(crate) arrived: Option<u64>,
    /// What has happened.
    pub(crate) source: io::Error,
}

impl From<io::Error> for Lost {
    fn from(source: io::Error) -> Self {
        Self { arrived: None, source }
    }
}

/// Opens the way to a container's collector.
pub(crate) fn open(manifest: &Manifest, shared: &Arc<Shared>) -> io::Result<Box<dyn Link>> {
    match &manifest.destination {
        Destination::Syslog(syslog) => {
            let encoder = Encoder::new(syslog, &manifest.tag);
            Ok(match &syslog.address {
                Address::Udp(host) => Box::new(Udp::connect(host, encoder)?),
                Address::Unixgram(path) => Box::new(Socket::connect(path, encoder, shared)?),
                address => Box::new(SyslogStream::new(Stream::connect(address, shared)?, encoder)),
            })
        }
        Destination::Journald(journald) => {
            let journal = Journal::new(manifest);
            Ok(Box::new(Socket::connect(&journald.socket, journal, shared)?))
        }
        Destination::Fluentd(fluentd) => {
            let stream = Stream::connect(&fluentd.address, shared)?;
            Ok(Box::new(Forward::new(stream, manifest, fluentd)))
        }
    }
}
