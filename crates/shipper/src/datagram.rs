//! Collectors that take datagrams: the journal, a local syslog server, one behind UDP.
//!
//! A Unix socket tells when its receiver has taken what was sent (`SIOCOUTQ` is 0 then), but it says the same when
//! the receiver has died with all in its queue. So an empty datagram follows, which receivers pass over: where it can be
//! sent, the one is still there that the others were sent to, and so has read them.
//!
//! UDP tells nothing, but where nobody listens a host says so (ICMP), and with some luck in time.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, send, sendmsg, socket_with, sockopt,
};
use state::shipping::Host;

pub(crate) use crate::journal::Journal;
use crate::link::{Link, Lost, STALL};
use crate::message::Message;
use crate::resolve::resolve;
use crate::shared::Shared;
use crate::syslog::Encoder;

/// So many datagrams are sent before it is looked whether they have arrived.
const ROUND: usize = 32;
/// What UDP carries at most.
const MOST_UDP: usize = 65_507;
/// How long after a round it is looked whether somebody refused it; and so a bound on how fast we send what a receiver
/// has no means to slow down.
const PACE: Duration = Duration::from_millis(2);

/// What is made of a message.
pub(crate) trait Datagram {
    /// Appends it.
    fn encode(&self, message: &Message, to: &mut Vec<u8>);

    /// Whether one that is too long may go as a file.
    fn may_be_file(&self) -> bool {
        false
    }
}

impl Datagram for Encoder {
    fn encode(&self, message: &Message, to: &mut Vec<u8>) {
        Encoder::encode(self, message, to);
    }
}

/// A Unix socket.
#[derive(Debug)]
pub(crate) struct Socket<D> {
    fd: OwnedFd,
    shared: Arc<Shared>,
    datagram: D,
    arrived: Option<u64>,
    buffer: Vec<u8>,
}

impl<D: Datagram> Socket<D> {
    pub(crate) fn connect(path: &Path, datagram: D, shared: &Arc<Shared>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { fd: socket, shared: shared.clone(), datagram, arrived: None, buffer: Vec::new() })
    }

    fn send_one(&self) -> io::Result<()> {
        let deadline = Instant::now() + STALL;
        loop {
            match send(&self.fd, &self.buffer, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::MSGSIZE | Errno::NOBUFS) if self.datagram.may_be_file() => {
                    return self.send_file(deadline);
                }
                Err(error) => self.await_room(error, deadline)?,
            }
        }
    }

    fn await_room(&self, error: Errno, deadline: Instant) -> io::Result<()> {
        match error {
            Errno::AGAIN => self.shared.await_socket(&self.fd, PollFlags::OUT, deadline),
            Errno::INTR => Ok(()),
            other => Err(other.into()),
        }
    }

    /// What is too long for a datagram the journal takes as a sealed file.
    fn send_file(&self, deadline: Instant) -> io::Result<()> {
        let file = memfd_create("message", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = &rest[written..];
        }
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let fds = [std::os::fd::AsFd::as_fd(&file)];
        loop {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&fds));
            match sendmsg(&self.fd, &[], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(error) => self.await_room(error, deadline)?,
            }
        }
    }

    /// Waits until all was taken, and makes sure that it was taken by somebody.
    fn settle(&self) -> io::Result<()> {
        let deadline = Instant::now() + STALL;
        let mut pause = Duration::from_micros(100);
        while sys::socket::unsent(&self.fd)? > 0 {
            if self.shared.is_cancelled() || Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not take what was sent"));
            }
            self.shared.pause(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        match send(&self.fd, &[], SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl<D: Datagram> Link for Socket<D> {
    fn send(&mut self, batch: &[Message]) -> Result<(), Lost> {
        for round in batch.chunks(ROUND) {
            let mut sent = || {
                for message in round {
                    self.buffer.clear();
                    self.datagram.encode(message, &mut self.buffer);
                    self.send_one()?;
                }
                self.settle()
            };
            sent().map_err(|source| Lost { arrived: self.arrived, source })?;
            self.arrived = round.last().map(Message::end);
        }
        Ok(())
    }

    fn arrived(&self) -> Option<u64> {
        self.arrived
    }
}

/// A syslog server behind UDP.
#[derive(Debug)]
pub(crate) struct Udp {
    socket: OwnedFd,
    encoder: Encoder,
    arrived: Option<u64>,
    buffer: Vec<u8>,
}

impl Udp {
    pub(crate) fn connect(host: &Host, encoder: Encoder) -> io::Result<Self> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", host.name));
        for address in resolve(&host.name)? {
            let address = std::net::SocketAddr::new(address, host.port);
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
            match connect(&socket, &address) {
                Ok(()) => return Ok(Self { socket, encoder, arrived: None, buffer: Vec::new() }),
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }

    fn send_round(&mut self, round: &[Message]) -> io::Result<()> {
        for message in round {
            self.buffer.clear();
            self.encoder.encode(message, &mut self.buffer);
            self.buffer.truncate(MOST_UDP);
            send(&self.socket, &self.buffer, SendFlags::NOSIGNAL)?;
        }
        std::thread::sleep(PACE);
        Ok(sockopt::socket_error(&self.socket)??)
    }
}

impl Link for Udp {
    fn send(&mut self, batch: &[Message]) -> Result<(), Lost> {
        for round in batch.chunks(ROUND) {
            self.send_round(round).map_err(|source| Lost { arrived: self.arrived, source })?;
            self.arrived = round.last().map(Message::end);
        }
        Ok(())
    }

    fn arrived(&self) -> Option<u64> {
        self.arrived
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use base::Timestamp;
    use logging::Stream;

    use super::*;

    struct Plain;

    impl Datagram for Plain {
        fn encode(&self, message: &Message, to: &mut Vec<u8>) {
            to.extend_from_slice(&message.text);
        }
    }

    fn message(sequence: u64) -> Message {
        let text = sequence.to_string().into_bytes();
        Message { sequence, stream: Stream::Stdout, time: Timestamp(0), text, piece: None }
    }

    #[test]
    fn what_a_dead_receiver_had_in_its_queue_has_not_arrived() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut link = Socket::connect(&path, Plain, &Arc::default()).unwrap();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            let read = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..read], b"0");
            assert_eq!(receiver.recv(&mut buffer).unwrap(), 0, "the question whether it is still there");
            // The next lies in its queue when it ends.
            std::thread::sleep(Duration::from_millis(100));
        });
        link.send(&[message(0)]).unwrap();
        assert_eq!(link.arrived(), Some(1));
        let lost = link.send(&[message(1), message(2)]).unwrap_err();
        assert_eq!(lost.arrived, Some(1), "{lost:?}");
        reader.join().unwrap();
    }

    #[test]
    fn where_nobody_listens_on_udp_nothing_has_arrived() {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let syslog = state::shipping::Syslog {
            address: state::shipping::Address::Unix("/x".into()),
            facility: 3,
            message: state::shipping::SyslogMessage::Rfc5424,
        };
        let host = Host { name: "127.0.0.1".to_owned(), port: closed };
        let mut link = Udp::connect(&host, Encoder::new(&syslog, "tag")).unwrap();
        let lost = link.send(&[message(0)]).unwrap_err();
        assert_eq!((lost.source.kind(), lost.arrived), (io::ErrorKind::ConnectionRefused, None));
    }
}
