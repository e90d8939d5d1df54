//! A door attached to a container: one thread, one `poll(2)` over the session, standard input and the signals.
//!
//! Nothing here waits for two things at once. Input is read only when the session takes it, in pieces that fit
//! its socket's buffer; so a container that writes a lot while we feed it cannot lock us up. Signals are
//! blocked and read from a descriptor from before the start on: each either goes to the container
//! (`--sig-proxy`) or ends the loop, so that the terminal is restored on the way out.

use std::io;

use engine::{Event, Session};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use state::options::Attach;
use sys::process::{read_signal, signal_fd};

use crate::detach_keys::DetachKeys;
use crate::error::{Error, Result};
use crate::output;
use crate::terminal::{self, RawMode};

/// As much input as surely fits a socket that says it is writable.
const CHUNK: usize = 16 * 1024;

/// How many events are taken before signals and input have their turn, however fast the container writes.
const MOST_EVENTS: usize = 16;

/// After so many of SIGINT and SIGTERM we leave, as Docker does, whatever the container makes of them.
const MOST_SIGNALS: u32 = 3;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGUSR1: i32 = 10;
const SIGUSR2: i32 = 12;
const SIGALRM: i32 = 14;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;

/// The signals that are ours or the container's while attached.
#[derive(Debug)]
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// From now on they wait to be read.
    pub(crate) fn catch() -> Result<Self> {
        signal_fd(&[SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGWINCH])
            .map(Self)
            .map_err(|e| Error::Terminal("catch signals", e))
    }
}

/// How to be attached.
#[derive(Debug)]
pub(crate) struct How {
    /// The container has a terminal.
    pub(crate) tty: bool,
    /// Our standard input goes to its, and its others to ours.
    pub(crate) streams: Attach,
    /// Signals go to it; never with a terminal, which makes signals of keys itself.
    pub(crate) sig_proxy: bool,
    /// How to leave; none: not at all.
    pub(crate) detach: Option<DetachKeys>,
}

/// All streams; the input where it is wanted.
pub(crate) fn all_streams(stdin: bool) -> Attach {
    Attach { stdin, stdout: true, stderr: true }
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The command ended, with this exit code.
    Exited(i32),
    /// The user left.
    Detached,
    /// All of the input is sent, and nothing else was wanted.
    InputSent,
    /// The container does not heed the signals that were passed on to it, and the user has had enough.
    Forced,
    /// A signal told us to go.
    Signalled(i32),
    /// Nobody reads our output any more.
    OutputClosed,
    /// The monitor is gone.
    Lost,
}

impl End {
    /// The exit code of a door that ends so.
    pub(crate) fn exit_code(self) -> Result<u8> {
        match self {
            Self::Exited(code) => Ok(code as u8),
            Self::Detached | Self::InputSent => Ok(0),
            Self::Forced => Ok(1),
            Self::Signalled(signal) => Ok(128 + signal as u8),
            // What SIGPIPE would have made of us.
            Self::OutputClosed => Ok(128 + 13),
            Self::Lost => Err(Error::Lost),
        }
    }
}

/// Stays attached until the end. The terminal is restored when this returns.
pub(crate) fn run(mut session: Session, signals: &Signals, how: How) -> Result<End> {
    for warning in session.warnings() {
        output::talk(&format!("dhow: warning: {warning}"));
    }
    let raw =
        (how.tty && how.streams.stdin && terminal::stdin_is_terminal()).then(RawMode::enter).transpose()?;
    if how.tty {
        resize(&session);
    }
    let mut attached = Attached { how, input: Input::default(), more: true, interrupts: 0 };
    if !attached.how.streams.stdin {
        attached.input.state = InputState::Ended;
    }
    let end = attached.run(&mut session, signals);
    drop(raw);
    match end {
        Ok(End::Detached) => output::talk("read escape sequence"),
        Ok(End::Forced) => {
            output::talk(&format!("\ngot {MOST_SIGNALS} SIGTERM/SIGINTs, forcefully exiting"));
        }
        _ => {}
    }
    end
}

struct Attached {
    how: How,
    input: Input,
    /// The session may hold events that have arrived already (at first: behind the word that the command was
    /// started): do not sleep before they are taken.
    more: bool,
    /// How many of SIGINT and SIGTERM were passed on.
    interrupts: u32,
}

#[derive(Default)]
struct Input {
    state: InputState,
    /// Read, and not yet sent.
    waiting: Vec<u8>,
}

#[derive(Default, PartialEq, Eq)]
enum InputState {
    #[default]
    Open,
    /// Standard input has ended: say so once what is waiting is sent.
    Ending,
    Ended,
}

impl Attached {
    fn run(&mut self, session: &mut Session, signals: &Signals) -> Result<End> {
        loop {
            let to_send = !self.input.waiting.is_empty() || self.input.state == InputState::Ending;
            let to_read = self.input.state == InputState::Open && !to_send;
            let (from_session, from_signals, from_stdin) = {
                let wanted = if to_send { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                let stdin = rustix::stdio::stdin();
                let mut fds = [
                    PollFd::new(session, wanted),
                    PollFd::new(&signals.0, PollFlags::IN),
                    PollFd::new(&stdin, PollFlags::IN),
                ];
                let count = if to_read { 3 } else { 2 };
                let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
                match poll(&mut fds[..count], self.more.then_some(&at_once)) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(e) => return Err(Error::Terminal("wait for the container", e.into())),
                }
                (fds[0].revents(), fds[1].revents(), fds[2].revents())
            };
            if from_signals.contains(PollFlags::IN)
                && let Some(end) = self.take_signals(session, signals)
            {
                return Ok(end);
            }
            // Anything but "writable" is for the reader to find out: bytes, the end, an error.
            if (self.more || !(from_session - PollFlags::OUT).is_empty())
                && let Some(end) = self.take_events(session)?
            {
                return Ok(end);
            }
            if to_send && from_session.contains(PollFlags::OUT) {
                self.send_input(session);
                let Attach { stdout, stderr, .. } = self.how.streams;
                if self.input.state == InputState::Ended && !stdout && !stderr {
                    return Ok(End::InputSent);
                }
            }
            if to_read && !from_stdin.is_empty() && self.read_input() {
                return Ok(End::Detached);
            }
        }
    }

    fn take_signals(&mut self, session: &Session, signals: &Signals) -> Option<End> {
        use std::os::fd::AsFd;
        while let Some(signal) = read_signal(signals.0.as_fd()) {
            if signal == SIGWINCH {
                if self.how.tty {
                    resize(session);
                }
            } else if self.how.sig_proxy && !self.how.tty {
                // A monitor that hangs up says the rest in its last frame.
                session.signal(signal).ok();
                self.interrupts += u32::from(matches!(signal, SIGINT | SIGTERM));
                if self.interrupts >= MOST_SIGNALS {
                    return Some(End::Forced);
                }
            } else {
                return Some(End::Signalled(signal));
            }
        }
        None
    }

    fn write(&self, event: Event) -> std::result::Result<(), io::Error> {
        let Attach { stdout, stderr, .. } = self.how.streams;
        match event {
            // A terminal has one stream for both.
            Event::Output(bytes) if stdout || self.how.tty && stderr => {
                output::raw(rustix::stdio::stdout(), &bytes)
            }
            Event::Errors(bytes) if stderr => output::raw(rustix::stdio::stderr(), &bytes),
            _ => Ok(()),
        }
    }

    fn take_events(&mut self, session: &mut Session) -> Result<Option<End>> {
        self.more = true;
        for _ in 0..MOST_EVENTS {
            let Some(event) = session.try_next() else {
                self.more = false;
                break;
            };
            match event {
                Event::Exited { code, .. } => return Ok(Some(End::Exited(code))),
                Event::Lost => return Ok(Some(End::Lost)),
                _ => {}
            }
            match self.write(event) {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(Some(End::OutputClosed)),
                other => other.map_err(Error::Output)?,
            }
        }
        Ok(None)
    }

    /// Sends what is waiting. Where the monitor has hung up, its last words are still to be read.
    fn send_input(&mut self, session: &Session) {
        if !self.input.waiting.is_empty() {
            if session.send_input(&self.input.waiting).is_err() {
                self.input.state = InputState::Ended;
            }
            self.input.waiting.clear();
        } else if self.input.state == InputState::Ending {
            session.end_input().ok();
            self.input.state = InputState::Ended;
        }
    }

    /// Reads a piece of standard input; true if the user wants to leave.
    fn read_input(&mut self) -> bool {
        let mut chunk = [0; CHUNK];
        match rustix::io::read(rustix::stdio::stdin(), &mut chunk) {
            Err(Errno::INTR | Errno::AGAIN) => false,
            // A terminal that hangs up gives EIO: as good as its end.
            Ok(0) | Err(_) => {
                self.input.state = InputState::Ending;
                false
            }
            Ok(length) => {
                if let Some(keys) = &mut self.how.detach {
                    return keys.feed(&chunk[..length], &mut self.input.waiting);
                }
                self.input.waiting.extend_from_slice(&chunk[..length]);
                false
            }
        }
    }
}

fn resize(session: &Session) {
    if let Some((rows, columns)) = terminal::size() {
        session.resize(rows, columns).ok();
    }
}
