//! A connected stream socket that waits with patience, and knows how much of what was written its other end has taken.
//!
//! TCP says that bytes were acknowledged, not that anybody has read them. But a collector that closes (or dies: the kernel
//! closes for it) with bytes unread answers with a reset, and with none unread in order. So where a connection has ended
//! in order, what was acknowledged by then was read, and what was written later was not; `tcpi_bytes_acked` tells
//! where the border is. A Unix socket takes everything at once, and behaves the same. After a reset nothing is known.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, shutdown, socket_with, sockopt,
};
use state::shipping::Host;

use crate::link::STALL;
use crate::resolve::resolve;
use crate::shared::Shared;

/// How long a host has to answer.
const CONNECTING: Duration = Duration::from_secs(5);
/// Who says nothing for so long is asked whether it is still there; so often; and then given up.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 6);

/// The socket.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: OwnedFd,
    shared: Arc<Shared>,
    written: u64,
    /// TCP: what the kernel counts as acknowledged before the first byte (it counts the SYN).
    acknowledged_before: Option<u64>,
    is_unix: bool,
    end: End,
}

/// How the connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has not.
    Open,
    /// The other end has closed it, having read all.
    Closed,
    /// In another way.
    Broken,
}

impl Wire {
    /// Connects to the first of a host's addresses that answers.
    pub(crate) fn tcp(host: &Host, shared: &Arc<Shared>) -> io::Result<Self> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", host.name));
        for address in resolve(&host.name)? {
            let address = std::net::SocketAddr::new(address, host.port);
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let attempt = || -> io::Result<Self> {
                let socket = new_socket(family)?;
                match connect(&socket, &address) {
                    Err(Errno::INPROGRESS) => {
                        shared.await_socket(&socket, PollFlags::OUT, Instant::now() + CONNECTING)?;
                        sockopt::socket_error(&socket)??;
                    }
                    other => other?,
                }
                sockopt::set_tcp_nodelay(&socket, true)?;
                let (idle, interval, count) = KEEPALIVE;
                sockopt::set_socket_keepalive(&socket, true)?;
                sockopt::set_tcp_keepidle(&socket, idle)?;
                sockopt::set_tcp_keepintvl(&socket, interval)?;
                sockopt::set_tcp_keepcnt(&socket, count)?;
                // Where the kernel cannot tell, nothing is known after an end.
                let acknowledged_before = sys::socket::tcp_acknowledged(&socket).ok();
                Ok(Self { acknowledged_before, ..Self::of(socket, shared) })
            };
            match attempt() {
                Ok(wire) => return Ok(wire),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Connects to a Unix socket.
    pub(crate) fn unix(path: &Path, shared: &Arc<Shared>) -> io::Result<Self> {
        let socket = new_socket(AddressFamily::UNIX)?;
        let address = SocketAddrUnix::new(path)?;
        let until = Instant::now() + CONNECTING;
        // Its queue of those that want to connect may be full: there is nothing to poll for.
        while let Err(error) = connect(&socket, &address) {
            if error != Errno::AGAIN || Instant::now() > until {
                return Err(error.into());
            }
            shared.pause(Duration::from_millis(20));
        }
        Ok(Self { is_unix: true, ..Self::of(socket, shared) })
    }

    fn of(socket: OwnedFd, shared: &Arc<Shared>) -> Self {
        let shared = shared.clone();
        Self { socket, shared, written: 0, acknowledged_before: None, is_unix: false, end: End::Open }
    }

    /// How many bytes were written.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// How many of them the other end has read. Only known where it has closed the connection in order.
    pub(crate) fn taken(&self) -> Option<u64> {
        if self.end != End::Closed {
            return None;
        }
        if self.is_unix {
            return Some(self.written);
        }
        let before = self.acknowledged_before?;
        let acknowledged = sys::socket::tcp_acknowledged(&self.socket).ok()?;
        Some(acknowledged.saturating_sub(before).min(self.written))
    }

    /// Reads what is there, without waiting. `None`: nothing is.
    pub(crate) fn read_now(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                self.ended(End::Closed);
                Ok(Some(0))
            }
            Ok((read, _)) => Ok(Some(read)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => {
                self.ended(End::Broken);
                Err(error.into())
            }
        }
    }

    /// Says that no more comes.
    pub(crate) fn shut(&mut self) -> io::Result<()> {
        match shutdown(&self.socket, Shutdown::Write) {
            // It has ended; how, the next read tells.
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The first end is how it has ended.
    fn ended(&mut self, how: End) {
        if self.end == End::Open {
            self.end = how;
        }
    }

    fn write_now(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(written) => {
                self.written += written as u64;
                Ok(Some(written))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => {
                // After an end in order it is EPIPE, be it followed by a reset or not. Only a Unix socket says that
                // of what ended otherwise, too, and keeps the reason apart.
                let reset = !matches!(sockopt::socket_error(&self.socket), Ok(Ok(())));
                let how = if error == Errno::PIPE && !reset { End::Closed } else { End::Broken };
                self.ended(how);
                Err(error.into())
            }
        }
    }
}

fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let deadline = Instant::now() + STALL;
        loop {
            if let Some(read) = self.read_now(buffer)? {
                return Ok(read);
            }
            self.shared.await_socket(&self.socket.as_fd(), PollFlags::IN, deadline)?;
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let deadline = Instant::now() + STALL;
        loop {
            if let Some(written) = self.write_now(bytes)? {
                return Ok(written);
            }
            self.shared.await_socket(&self.socket.as_fd(), PollFlags::OUT, deadline)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Writes ten bytes of which the other end reads so many before it closes, then ten more.
    fn closes_after(mut wire: Wire, mut theirs: impl Read, reads: usize) -> Wire {
        wire.write_all(b"ten bytes!").unwrap();
        theirs.read_exact(&mut vec![0; reads]).unwrap();
        drop(theirs);
        std::thread::sleep(Duration::from_millis(20));
        for _ in 0..50 {
            if wire.write_all(b"later byte").is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        wire
    }

    fn tcp() -> (Wire, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = Host { name: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        (Wire::tcp(&host, &Arc::default()).unwrap(), listener.accept().unwrap().0)
    }

    #[test]
    fn what_was_read_before_the_end_is_known_where_it_came_in_order() {
        let (wire, theirs) = tcp();
        assert_eq!(closes_after(wire, theirs, 10).taken(), Some(10));
        let (wire, theirs) = tcp();
        assert_eq!(closes_after(wire, theirs, 9).taken(), None, "a byte was unread");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let unix = || (Wire::unix(&path, &Arc::default()).unwrap(), listener.accept().unwrap().0);
        let (wire, theirs) = unix();
        assert_eq!(closes_after(wire, theirs, 10).taken(), Some(10));
        let (wire, theirs) = unix();
        assert_eq!(closes_after(wire, theirs, 9).taken(), None, "a byte was unread");
    }

    #[test]
    fn an_end_is_seen_by_reading_too() {
        let (mut wire, theirs) = tcp();
        assert_eq!(wire.read_now(&mut [0; 8]).unwrap(), None);
        wire.write_all(b"x").unwrap();
        (&theirs).read_exact(&mut [0; 1]).unwrap();
        drop(theirs);
        assert_eq!(wire.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(wire.taken(), Some(1));
    }
}
