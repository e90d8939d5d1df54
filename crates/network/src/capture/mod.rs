//! What passes a container's links: captured in its network namespace, by a thread that goes there. Nothing of the
//! container is executed, and nothing in it can tell.

mod filter;
mod line;
mod pcapng;
mod program;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sys::packet::{Packet, Ring};

use crate::error::Attempt;
use crate::netlink::Refusal;
use crate::{Error, Result, change, link};

pub use filter::{Filter, NotAFilter};
pub use sys::packet::Counts;

/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK`, whose frames look the same.
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;

/// What is captured.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of this link; none: of all.
    pub link: Option<String>,
    /// Those packets.
    pub filter: Filter,
    /// So many; none: until the end.
    pub count: Option<u64>,
    /// So many bytes of each.
    pub keep: u32,
}

/// How packets are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As a file for other programs.
    Pcapng,
    /// A line each.
    Lines,
}

/// A packet with its link.
struct Seen<'a> {
    seconds: u32,
    nanoseconds: u32,
    length: u32,
    outgoing: bool,
    bytes: &'a [u8],
    link: &'a str,
}

/// A capture that has begun.
#[derive(Debug)]
pub struct Capture {
    ring: Ring,
    /// The namespace's links, by their numbers.
    links: Vec<(u32, String)>,
    wanted: Wanted,
    written: u64,
}

impl Capture {
    /// Begins, in this network namespace.
    pub fn begin(namespace: &File, wanted: Wanted) -> Result<Self> {
        let program = program::compile(&wanted.filter, wanted.keep);
        let (links, ring) = change::inside_of(namespace, || {
            let links = link::named().link(|| "list links".to_owned())?;
            let index = match &wanted.link {
                None => 0,
                Some(name) => {
                    links.iter().find(|(_, known)| known == name).map(|(index, _)| *index).ok_or_else(
                        || Error::NoLink { link: name.chars().take(40).collect(), links: names(&links) },
                    )?
                }
            };
            let ring = Ring::open(index, &program).map_err(Refusal::from);
            // A container names its links as it likes: none of it is for a terminal, nor a line.
            let plain = |name: String| name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            let links: Vec<(u32, String)> =
                links.into_iter().map(|(index, name)| (index, plain(name))).collect();
            Ok((links, ring.link(|| "capture packets".to_owned())?))
        })?;
        Ok(Self { ring, links, wanted, written: 0 })
    }

    /// The links whose packets come.
    pub fn links(&self) -> String {
        self.wanted.link.clone().unwrap_or_else(|| names(&self.links))
    }

    /// Captures until one of these is readable, or it is enough. What was captured by then is written.
    pub fn run(&mut self, form: Form, to: &mut dyn Write, until: &[BorrowedFd<'_>]) -> io::Result<Counts> {
        /// A little longer than the kernel keeps what it has to itself.
        const LATE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        if form == Form::Pcapng {
            pcapng::header(to, &self.links, self.wanted.keep)?;
        }
        to.flush()?;
        let mut ending = false;
        loop {
            while self.next_block(form, to)? {}
            if self.is_enough() {
                break;
            }
            let mut fds = vec![PollFd::new(&self.ring, PollFlags::IN)];
            if !ending {
                fds.extend(until.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
            }
            let ready = match poll(&mut fds, ending.then_some(&LATE)) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            if ending && ready == 0 {
                break;
            }
            ending |= fds[1..].iter().any(|fd| !fd.revents().is_empty());
        }
        Ok(self.ring.counts()?)
    }

    /// How many packets were written.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn is_enough(&self) -> bool {
        self.wanted.count.is_some_and(|count| self.written >= count)
    }

    fn next_block(&mut self, form: Form, to: &mut dyn Write) -> io::Result<bool> {
        let Self { ring, links, wanted, written } = self;
        let mut result = Ok(());
        let there = ring.next_block(|packet| {
            if result.is_ok() && wanted.count.is_none_or(|count| *written < count) {
                match write(links, &packet, form, to) {
                    Ok(true) => *written += 1,
                    Ok(false) => {}
                    Err(error) => result = Err(error),
                }
            }
        });
        result?;
        if there {
            to.flush()?;
        }
        Ok(there)
    }
}

/// Writes a packet; false where it is none that we can tell of: of a link without frames, or one that came later.
fn write(links: &[(u32, String)], packet: &Packet<'_>, form: Form, to: &mut dyn Write) -> io::Result<bool> {
    let Some(number) = links.iter().position(|(index, _)| *index == packet.link) else { return Ok(false) };
    if !matches!(packet.hardware, ETHERNET | LOOPBACK) {
        return Ok(false);
    }
    let seen = Seen {
        seconds: packet.seconds,
        nanoseconds: packet.nanoseconds,
        length: packet.length,
        outgoing: packet.outgoing,
        bytes: packet.bytes,
        link: &links[number].1,
    };
    match form {
        Form::Pcapng => pcapng::packet(to, number as u32, &seen)?,
        Form::Lines => writeln!(to, "{}", line::line(&seen))?,
    }
    Ok(true)
}

fn names(links: &[(u32, String)]) -> String {
    links.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Something that becomes readable when a process has ended.
pub fn end_of(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}
