//! The loop that keeps a running command: its end, its streams, the doors that listen and speak. One thread,
//! `poll(2)`, no timers but those asked for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use logging::{Stream, Writer};
use runtime::cgroup::{Group, Hierarchy, Location};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::pipe::fcntl_getpipe_size;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::termios::{Winsize, tcsetwinsize};
use state::protocol::{Ended, Tag};

use crate::clients::{Client, Wish};

/// The most doors at once: more are hung up on.
const MOST_CLIENTS: usize = 256;
/// Input that waits for the command; a door that sends more is not read until it has been taken.
const MOST_INPUT: usize = 64 << 10;
const BUFFER: usize = 32 << 10;
/// More than the kernel keeps of what was written to a terminal and not yet read.
const MOST_IN_TERMINAL: usize = 128 << 10;
/// A command that lives longer than this is one that stays.
const SETTLED: Duration = Duration::from_millis(100);
/// How long doors get to read the last of the output when the command has ended.
const FAREWELL: Duration = Duration::from_secs(10);

/// A running command and all that is connected to it.
pub(crate) struct Keeper {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    /// The other end of standard input.
    pub(crate) input: Option<OwnedFd>,
    /// The other ends of standard output and error; a terminal has only the first.
    pub(crate) outputs: [Option<OwnedFd>; 2],
    /// The master of the terminal; it is also `outputs[0]`'s.
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) log: Option<Writer>,
    pub(crate) listener: Option<OwnedFd>,
    /// Signals sent to us, which are for the command.
    pub(crate) signals: OwnedFd,
    pub(crate) clients: Vec<Client>,
    pub(crate) waiting_input: Vec<u8>,
    pub(crate) input_ended: bool,
    /// The container's cgroup, which doors may freeze for a while.
    pub(crate) cgroup: Option<Location>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Process,
    Output(usize),
    Input,
    Listener,
    Signals,
    Client(usize),
}

impl Keeper {
    /// Keeps the command until it has ended, and returns its exit code as Docker counts. `settled` is called once,
    /// if it has run for a moment: work that a short-lived command should not wait for.
    #[expect(
        clippy::large_stack_arrays,
        reason = "pages of the stack that are never touched cost an idle monitor nothing"
    )]
    pub(crate) fn keep(&mut self, settled: impl FnOnce()) -> i32 {
        let mut settled = Some((settled, Instant::now() + SETTLED));
        // On the stack: an idle monitor has never touched most of it.
        let mut buffer = [0; BUFFER];
        loop {
            let timeout = settled.as_ref().map(|(_, when)| when.saturating_duration_since(Instant::now()));
            let ready = self.wait(timeout);
            for source in &ready {
                self.serve(*source, &mut buffer);
            }
            self.drop_gone_clients();
            if ready.contains(&Source::Process)
                && let Some(code) = self.reap()
            {
                self.drain_outputs(&mut buffer);
                return code;
            }
            if settled.as_ref().is_some_and(|(_, when)| *when <= Instant::now())
                && let Some((work, _)) = settled.take()
            {
                work();
            }
        }
    }

    /// Forgets the doors that have hung up. When the one goes whose input the command reads, however it ended, that
    /// input has ended (Docker's `StdinOnce`): the command would wait for more for ever.
    fn drop_gone_clients(&mut self) {
        let feeder_gone = self.clients.iter().any(|c| c.is_gone() && c.is_feeder());
        if self.clients.iter().any(|c| c.is_gone() && c.holds()) {
            self.thaw();
        }
        self.clients.retain(|c| !c.is_gone());
        if feeder_gone {
            self.end_input();
        }
    }

    /// Lets the container go on that a door had frozen and left so: it was killed.
    fn thaw(&self) {
        let Some(location) = &self.cgroup else { return };
        // Nobody is there to be told; whoever kills the container thaws it in any case.
        if let Ok(hierarchy) = Hierarchy::detect() {
            Group::existing(&hierarchy, location).thaw().ok();
        }
    }

    /// No more input comes. A terminal has no such end: whoever attaches next can go on typing.
    fn end_input(&mut self) {
        if self.terminal.is_none() {
            self.input_ended = true;
            self.write_input();
        }
    }

    /// Tells every door how it ended, and waits a while for those that still read.
    pub(crate) fn farewell(&mut self, ended: &Ended) {
        let payload = serde_json::to_vec(ended).unwrap_or_default();
        for client in &mut self.clients {
            client.tell(Tag::Exited, &payload);
        }
        let until = Instant::now() + FAREWELL;
        self.clients.retain(Client::has_pending);
        while !self.clients.is_empty() && Instant::now() < until {
            let mut polled: Vec<PollFd<'_>> =
                self.clients.iter().map(|c| PollFd::from_borrowed_fd(c.fd(), PollFlags::OUT)).collect();
            let wait = timespec(until.saturating_duration_since(Instant::now()));
            if poll(&mut polled, Some(&wait)).is_err() {
                continue;
            }
            drop(polled);
            for client in &mut self.clients {
                client.flush();
            }
            self.clients.retain(|c| c.has_pending() && !c.is_gone());
        }
    }

    /// Waits until something can be served. Level-triggered: what is not served now comes again.
    fn wait(&self, timeout: Option<Duration>) -> Vec<Source> {
        let mut set = Set::default();
        // Who watches decides the pace: see clients::MOST_PENDING.
        let lagging = self.clients.iter().any(Client::is_lagging);
        set.add(Source::Process, self.pidfd.as_fd(), PollFlags::IN);
        set.add(Source::Signals, self.signals.as_fd(), PollFlags::IN);
        for (n, output) in self.outputs.iter().enumerate() {
            if let (Some(fd), false) = (output, lagging) {
                set.add(Source::Output(n), fd.as_fd(), PollFlags::IN);
            }
        }
        if let (Some(fd), false) = (self.input_target(), self.waiting_input.is_empty()) {
            set.add(Source::Input, fd, PollFlags::OUT);
        }
        if let Some(fd) = &self.listener {
            set.add(Source::Listener, fd.as_fd(), PollFlags::IN);
        }
        for (n, client) in self.clients.iter().enumerate() {
            let read = if self.waiting_input.len() < MOST_INPUT { PollFlags::IN } else { PollFlags::empty() };
            let write = if client.has_pending() { PollFlags::OUT } else { PollFlags::empty() };
            set.add(Source::Client(n), client.fd(), read | write);
        }
        set.poll(timeout)
    }

    fn input_target(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().or(self.terminal.as_ref()).map(AsFd::as_fd)
    }

    fn serve(&mut self, source: Source, buffer: &mut [u8]) {
        match source {
            Source::Process => {}
            Source::Signals => {
                while let Some(signal) = sys::process::read_signal(self.signals.as_fd()) {
                    self.signal(signal);
                }
            }
            Source::Output(n) => {
                self.read_output(n, buffer);
            }
            Source::Input => self.write_input(),
            Source::Listener => self.accept(),
            Source::Client(n) => self.serve_client(n, buffer),
        }
    }

    /// Passes one buffer of output on and returns its length; 0 at the end of the stream, or where nothing is there
    /// now.
    fn read_output(&mut self, n: usize, buffer: &mut [u8]) -> usize {
        let Some(fd) = &self.outputs[n] else { return 0 };
        match rustix::io::read(fd, &mut *buffer) {
            Ok(0) => self.outputs[n] = None,
            Ok(read) => {
                let (stream, tag) = [(Stream::Stdout, Tag::Output), (Stream::Stderr, Tag::Errors)][n];
                if let Some(log) = &mut self.log {
                    log.write(stream, &buffer[..read]);
                }
                for client in &mut self.clients {
                    client.tell_output(tag, &buffer[..read]);
                }
                return read;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal whose other end is closed everywhere says EIO.
            Err(_) => self.outputs[n] = None,
        }
        0
    }

    /// What the command had written before it ended. Others may hold the pipe open and go on writing (processes that
    /// an exec has left behind; whoever a descriptor was passed to, out of the container), so we read no more than
    /// a pipe can have held at its end.
    fn drain_outputs(&mut self, buffer: &mut [u8]) {
        for n in 0..self.outputs.len() {
            let Some(fd) = &self.outputs[n] else { continue };
            let mut left = fcntl_getpipe_size(fd).unwrap_or(MOST_IN_TERMINAL);
            while left > 0 {
                let length = left.min(buffer.len());
                match self.read_output(n, &mut buffer[..length]) {
                    0 => break,
                    read => left -= read,
                }
            }
        }
        if let Some(log) = &mut self.log {
            log.finish();
        }
    }

    fn write_input(&mut self) {
        let mut written = 0;
        let mut broken = false;
        if let Some(fd) = self.input_target() {
            while written < self.waiting_input.len() {
                match rustix::io::write(fd, &self.waiting_input[written..]) {
                    Ok(n) => written += n,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(_) => {
                        broken = true;
                        break;
                    }
                }
            }
        }
        if broken {
            // Nobody reads it any more.
            self.input = None;
            self.waiting_input = Vec::new();
        } else if written == self.waiting_input.len() {
            self.waiting_input = Vec::new();
        } else {
            self.waiting_input.drain(..written);
        }
        if self.input_ended && self.waiting_input.is_empty() {
            self.input = None;
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        if let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC)
            && self.clients.len() < MOST_CLIENTS
            && let Ok(client) = Client::new(socket)
        {
            self.clients.push(client);
        }
    }

    fn serve_client(&mut self, n: usize, buffer: &mut [u8]) {
        let mut wishes = Vec::new();
        let Some(client) = self.clients.get_mut(n) else { return };
        client.flush();
        client.receive(buffer, &mut wishes);
        for wish in wishes {
            match wish {
                Wish::Greeted => {
                    let pid = self.pid.to_le_bytes();
                    if let Some(client) = self.clients.get_mut(n) {
                        client.tell(Tag::Started, &pid);
                    }
                }
                Wish::Input(bytes) => {
                    if self.input_target().is_some() && !self.input_ended {
                        self.waiting_input.extend_from_slice(&bytes);
                        self.write_input();
                    }
                }
                Wish::InputEnd => self.end_input(),
                Wish::Resize { rows, columns } => {
                    if let Some(terminal) = &self.terminal {
                        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                        tcsetwinsize(terminal, size).ok();
                    }
                }
                Wish::Signal(signal) => self.signal(signal),
            }
        }
    }

    fn signal(&self, signal: i32) {
        // Fails only where the command has ended, which is seen next, or for a number that is no signal.
        sys::process::send_signal(self.pidfd.as_fd(), signal).ok();
    }

    fn reap(&self) -> Option<i32> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => Some(
                status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s)).unwrap_or(255),
            ),
            Ok(None) | Err(Errno::INTR) => None,
            // Not our child any more: it cannot be asked.
            Err(_) => Some(255),
        }
    }
}

/// Descriptors to be polled, and what each means.
#[derive(Default)]
struct Set<'a> {
    sources: Vec<Source>,
    polled: Vec<PollFd<'a>>,
}

impl<'a> Set<'a> {
    fn add(&mut self, source: Source, fd: BorrowedFd<'a>, flags: PollFlags) {
        self.sources.push(source);
        self.polled.push(PollFd::from_borrowed_fd(fd, flags));
    }

    fn poll(mut self, timeout: Option<Duration>) -> Vec<Source> {
        let timeout = timeout.map(timespec);
        if poll(&mut self.polled, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let ready = self.sources.into_iter().zip(&self.polled);
        ready.filter(|(_, polled)| !polled.revents().is_empty()).map(|(source, _)| source).collect()
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
