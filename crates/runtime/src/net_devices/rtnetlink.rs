//! The little of rtnetlink(7) that moving a device takes: requests with attributes, answers, refusals.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

pub(super) const NEW_LINK: u16 = 16;
pub(super) const GET_LINK: u16 = 18;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const GET_ADDRESS: u16 = 22;

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_DUMP`, `NLM_F_REPLACE | NLM_F_CREATE`.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
pub(super) const CREATE: u16 = 0x500;

/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;

/// A socket of one network namespace: that of the thread which opens it.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    /// The socket of another namespace, opened by a thread that ends there.
    pub(super) fn open_in(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        std::thread::scope(|scope| {
            let there = std::thread::Builder::new().spawn_scoped(scope, || {
                sys::namespace::join(namespace)?;
                Self::open()
            })?;
            there.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace has ended")))
        })
    }

    /// Asks for one thing, or for something to be done.
    pub(super) fn ask(&self, request: Request, flags: u16) -> io::Result<Option<Vec<u8>>> {
        let mut answer = None;
        self.exchange(request, ACKNOWLEDGE | flags, |payload| answer = Some(payload.to_vec()))?;
        Ok(answer)
    }

    /// Asks for all that there are.
    pub(super) fn list(&self, request: Request, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.exchange(request, DUMP, each)
    }

    fn exchange(&self, request: Request, flags: u16, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        send(&self.0, &request.finish(REQUEST | flags), SendFlags::empty())?;
        // What a kernel puts into one answer at most (NLMSG_GOODSIZE and the larger ones of dumps).
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match recv(&self.0, &mut buffer, RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                other => other?.0,
            };
            let mut rest = &buffer[..read.min(buffer.len())];
            while let Some((kind, payload, next)) = message(rest) {
                rest = next;
                match kind {
                    ERROR => return refusal(payload),
                    DONE => return Ok(()),
                    _ => each(payload),
                }
            }
        }
    }
}

/// The first message: its type, what is in it, what comes after it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let payload = bytes.get(HEADER..length)?;
    Some((kind, payload, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// An acknowledgement is a refusal with the number 0.
fn refusal(payload: &[u8]) -> io::Result<()> {
    match u32_at(payload, 0).map(|n| n as i32) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The attributes of a message, behind its fixed part.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The upper bits tell of nesting and byte order.
        Some((kind & 0x3fff, value))
    })
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A request being written.
pub(super) struct Request(Vec<u8>);

impl Request {
    /// With its fixed part.
    pub(super) fn new(kind: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self(bytes)
    }

    /// With one more attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = 4 + value.len() as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self, flags: u16) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = Request::new(7, &[1, 2, 3, 4]).with(3, b"eth0\0").with(9, &[5]).finish(1);
        let (kind, payload, rest) = message(&bytes).unwrap();
        assert_eq!((kind, rest.len()), (7, 0));
        assert_eq!(attributes(&payload[4..]).collect::<Vec<_>>(), [(3, &b"eth0\0"[..]), (9, &[5])]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_loop(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while let Some((_, payload, next)) = message(rest) {
                prop_assert!(next.len() < rest.len());
                prop_assert!(attributes(payload).count() <= payload.len() / 4);
                rest = next;
            }
            let _ = refusal(&bytes);
        }
    }
}
