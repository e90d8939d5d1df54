//! Carries requests to the kernel and its answers back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send, socket_with,
};

use super::parse::{self, Message};
use super::{DUMP, Request};

/// The part of the kernel one talks to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// What the kernel said no with: an error number, and sometimes words.
#[derive(Debug, thiserror::Error)]
#[error("{errno}{}{words}", if words.is_empty() { "" } else { ": " })]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// The kernel's words (extended acknowledgement), often none.
    pub words: String,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, words: String::new() }
    }
}

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// Large enough for what the kernel puts into one datagram of a dump.
const BUFFER: usize = 32 * 1024;
const ERROR: u16 = 2;
const DONE: u16 = 3;

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    pub(crate) fn open(protocol: Protocol) -> Result<Self, Refusal> {
        let protocol = match protocol {
            Protocol::Route => None, // protocol 0
            Protocol::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        sys::socket::want_netlink_words(&fd)?;
        Ok(Self(fd))
    }

    /// Sends the messages and waits for `acknowledgements`; the first refusal ends it.
    ///
    /// After a refusal the socket must not be used again: answers may still be queued in it.
    pub(crate) fn transact(&self, request: &Request, acknowledgements: usize) -> Result<(), Refusal> {
        self.send(request)?;
        let mut buffer = [0; 4096];
        let mut left = acknowledgements;
        while left > 0 {
            let length = self.receive(&mut buffer)?;
            for message in parse::messages(&buffer[..length]) {
                if message.kind == ERROR {
                    acknowledged(&message)?;
                    left = left.saturating_sub(1);
                }
            }
        }
        Ok(())
    }

    /// Sends one question that is not a dump and hands the answer's payload to `answer`.
    pub(crate) fn ask<T>(&self, request: &Request, answer: impl FnOnce(&[u8]) -> T) -> Result<T, Refusal> {
        self.send(request)?;
        let mut buffer = [0; 4096];
        let length = self.receive(&mut buffer)?;
        let message = parse::messages(&buffer[..length]).next().ok_or(Errno::BADMSG)?;
        if message.kind == ERROR {
            acknowledged(&message)?;
        }
        Ok(answer(message.payload))
    }

    /// Lists everything of a kind: `each` sees the messages' payloads. If something changed meanwhile the
    /// kernel says that the list may be inconsistent, and the caller must be able to see entries again.
    pub(crate) fn dump(&self, kind: u16, fixed: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Refusal> {
        const INTERRUPTED: u16 = 0x10;
        const ATTEMPTS: usize = 10;
        let mut request = Request::new();
        request.message(kind, DUMP, fixed, |_| {});
        let mut buffer = vec![0; BUFFER];
        for _ in 0..ATTEMPTS {
            let mut interrupted = false;
            let mut ended = false;
            self.send(&request)?;
            while !ended {
                let length = self.receive(&mut buffer)?;
                for message in parse::messages(&buffer[..length]) {
                    interrupted |= message.flags & INTERRUPTED != 0;
                    match message.kind {
                        ERROR => acknowledged(&message)?,
                        DONE => ended = true,
                        _ => each(message.payload),
                    }
                }
            }
            if !interrupted {
                return Ok(());
            }
        }
        Err(Errno::INTR.into())
    }

    /// Hears what these groups (a bit each) are told, and whatever else is sent to it, of which so many bytes may wait.
    pub(crate) fn listen(&self, groups: u32, room: usize) -> Result<(), Refusal> {
        bind(&self.0, &netlink::SocketAddrNetlink::new(0, groups))?;
        // More than users may want; without the right to it, there is less room.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.0, room).ok();
        Ok(())
    }

    /// Sends messages that nobody waits for to be answered.
    pub(crate) fn tell(&self, request: &Request) -> Result<(), Refusal> {
        self.send(request)
    }

    /// A datagram that is there. `AGAIN` where none is, `MSGSIZE` where it was longer than the buffer.
    pub(crate) fn receive_now(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        let (_, length) = rustix::io::retry_on_intr(|| recv(&self.0, &mut *buffer, flags))?;
        if length > buffer.len() { Err(Errno::MSGSIZE) } else { Ok(length) }
    }

    /// Hears what is told to a multicast group, from now on.
    pub(crate) fn join(&self, group: u32) -> Result<(), Refusal> {
        // What has no number of its own yet is left out.
        rustix::net::bind(&self.0, &netlink::SocketAddrNetlink::new(0, 0))?;
        Ok(sys::socket::join_netlink_group(&self.0, group)?)
    }

    /// Hands each message of one datagram over; waits for one.
    pub(crate) fn each(&self, mut each: impl FnMut(&Message<'_>)) -> Result<(), Refusal> {
        let mut buffer = vec![0; BUFFER];
        let length = self.receive(&mut buffer)?;
        parse::messages(&buffer[..length]).for_each(|message| each(&message));
        Ok(())
    }

    fn send(&self, request: &Request) -> Result<(), Refusal> {
        send(&self.0, request.as_bytes(), SendFlags::empty())?;
        Ok(())
    }

    /// One datagram; longer than the buffer is an error, not a silent cut.
    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Refusal> {
        let (_, length) = rustix::io::retry_on_intr(|| recv(&self.0, &mut *buffer, RecvFlags::TRUNC))?;
        if length == 0 || length > buffer.len() { Err(Errno::MSGSIZE.into()) } else { Ok(length) }
    }
}

/// What an `NLMSG_ERROR` says.
fn acknowledged(message: &Message<'_>) -> Result<(), Refusal> {
    /// The message's attributes are the extended acknowledgement.
    const WORDS_FOLLOW: u16 = 0x200;
    /// Only the header of our message is repeated.
    const CAPPED: u16 = 0x100;
    const TEXT: u16 = 1;
    let code = parse::u32_at(message.payload, 0).ok_or(Errno::BADMSG)? as i32;
    if code == 0 {
        return Ok(());
    }
    let repeated =
        if message.flags & CAPPED != 0 { 16 } else { parse::u32_at(message.payload, 4).unwrap_or(16) };
    let words = (message.flags & WORDS_FOLLOW != 0)
        .then(|| message.payload.get(4 + (repeated as usize).next_multiple_of(4)..))
        .flatten()
        .and_then(|attributes| parse::attribute(attributes, TEXT))
        .map_or(String::new(), |text| parse::string(text).to_owned());
    // The kernel's error numbers lie below 4096; anything else is no answer of its.
    let errno = if (-4095..0).contains(&code) { Errno::from_raw_os_error(-code) } else { Errno::BADMSG };
    Err(Refusal { errno, words })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refusal_has_number_and_words() {
        let socket = Socket::open(Protocol::Route).unwrap();
        let mut request = Request::new();
        const RTM_GETLINK: u16 = 18;
        request.message(RTM_GETLINK, 0, &[0; 16], |r| r.string(3, "no-such-link"));
        let refusal = socket.ask(&request, |_| ()).unwrap_err();
        assert_eq!(refusal.errno, Errno::NODEV);
        let with_words = Refusal { errno: Errno::NODEV, words: "why".to_owned() };
        assert!(with_words.to_string().ends_with(": why"));
    }

    proptest! {
        #[test]
        fn any_acknowledgement_is_read(flags in any::<u16>(), payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let message = Message { kind: ERROR, flags, sequence: 1, payload: &payload };
            drop(acknowledged(&message).map_err(|refusal| refusal.to_string()));
        }
    }
}
