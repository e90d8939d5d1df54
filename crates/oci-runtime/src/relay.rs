//! What a command in the foreground needs of us: its signals, its terminal, somebody who waits for its end.
//!
//! Without a terminal the command has our own streams, and nothing is copied. With one, ours is put into raw mode and
//! bytes go both ways; its size follows ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci::runtime::ConsoleSize;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use sys::process::{read_signal, send_signal, signal_fd};

use crate::error::{Doing as _, Error};
use crate::notify::Notify;
use crate::report::Report;
use crate::signals;

/// A relay, ready before the command is: from then on no signal is lost.
#[derive(Debug)]
pub(crate) struct Relay {
    signals: OwnedFd,
}

/// What comes with the command.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// The master of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// Where it says that it is ready.
    pub(crate) notify: Option<Notify>,
}

/// All but those that cannot be caught, those that mean our own faults, and SIGURG, with which Go's programs wake
/// their own threads.
fn relayed() -> Vec<i32> {
    (1..=64).filter(|n| ![4, 5, 7, 8, 9, 11, 19, 23, 31, 32, 33].contains(n)).collect()
}

impl Relay {
    /// From now on signals are for the command.
    pub(crate) fn begin() -> Result<Self, Error> {
        Ok(Self { signals: signal_fd(&relayed()).doing("catch signals")? })
    }

    /// Serves the command until its end; returns its exit code, or 128 and the signal that ended it.
    pub(crate) fn keep(
        &self,
        pid: u32,
        process: &OwnedFd,
        streams: Streams,
        report: &Report,
    ) -> Result<u8, Error> {
        let ours = match &streams.terminal {
            Some(terminal) => OurTerminal::make_raw(terminal),
            None => None,
        };
        let ended = self.serve(pid, process, &streams, report);
        drop(ours);
        ended
    }

    fn serve(&self, pid: u32, process: &OwnedFd, streams: &Streams, report: &Report) -> Result<u8, Error> {
        let terminal = streams.terminal.as_ref();
        let mut input = terminal.is_some();
        let mut output = terminal.is_some();
        // Typed, and not yet taken by the command's terminal.
        let mut typed: Vec<u8> = Vec::new();
        if let Some(terminal) = terminal {
            rustix::fs::fcntl_setfl(terminal, rustix::fs::OFlags::NONBLOCK).doing("prepare the terminal")?;
        }
        let mut notify = streams.notify.as_ref();
        // A command that lives longer than this is one that stays, and so do we.
        let mut settling = Some(Timespec { tv_sec: 0, tv_nsec: 100_000_000 });
        loop {
            let stdin = stdin();
            let mut sources =
                vec![PollFd::new(process, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            if let Some(terminal) = terminal {
                let mut wanted = PollFlags::empty();
                wanted.set(PollFlags::IN, output);
                wanted.set(PollFlags::OUT, !typed.is_empty());
                // Without a wish the terminal is not asked: its hanging up would be told again and again.
                let asked = if wanted.is_empty() { None } else { Some(terminal) };
                let terminal = asked
                    .map_or_else(|| PollFd::new(process, PollFlags::empty()), |t| PollFd::new(t, wanted));
                sources.push(terminal);
                // What is typed faster than it is taken waits in our own terminal.
                let wanted = if input && typed.is_empty() { PollFlags::IN } else { PollFlags::empty() };
                sources.push(if wanted.is_empty() {
                    PollFd::new(process, wanted)
                } else {
                    PollFd::new(&stdin, wanted)
                });
            } else if let Some(notify) = notify {
                sources.push(PollFd::new(notify, PollFlags::IN));
            }
            match poll(&mut sources, settling.as_ref()) {
                Err(Errno::INTR) => continue,
                Ok(0) => {
                    settling = None;
                    // It is only for thrift.
                    sys::memory::forget_program().ok();
                    continue;
                }
                other => other.doing("wait for the command")?,
            };
            let ready: Vec<bool> = sources.iter().map(|source| !source.revents().is_empty()).collect();
            drop(sources);
            if ready[1] {
                self.pass_signals(process, terminal);
            }
            if let Some(terminal) = terminal {
                if ready[2] {
                    output = output && copy_output(terminal);
                    write_typed(terminal, &mut typed);
                }
                if ready[3] && input && typed.is_empty() {
                    // At its end there is nothing more to be typed. That is not yet the end of what the command reads:
                    // others may have the terminal, too.
                    input = read_typed(&mut typed);
                    write_typed(terminal, &mut typed);
                }
            } else if let Some(at) = notify
                && ready.get(2) == Some(&true)
            {
                match at.pass_on(pid) {
                    Ok(false) => {}
                    Ok(true) => notify = None,
                    // The command runs, whoever hears of it.
                    Err(error) => {
                        report.warning(&error.in_one_line());
                        notify = None;
                    }
                }
            }
            if ready[0] {
                if let Some(terminal) = terminal {
                    // What it said last is still in the terminal.
                    while output && copy_output(terminal) {}
                }
                return reap(process);
            }
        }
    }

    fn pass_signals(&self, process: &OwnedFd, terminal: Option<&OwnedFd>) {
        while let Some(signal) = read_signal(self.signals.as_fd()) {
            match signal {
                signals::CHILD => reap_orphans(process.as_fd()),
                signals::WINDOW if terminal.is_some() => {
                    if let Some(terminal) = terminal {
                        copy_size(terminal);
                    }
                }
                // Fails only where the command has ended, which is seen next.
                other => drop(send_signal(process.as_fd(), other)),
            }
        }
    }
}

/// Reaps what has been left to us as the next of kin, but not the command, whose status is wanted.
fn reap_orphans(process: BorrowedFd<'_>) {
    loop {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // The command first: while its end is not taken, `wait` for any would take it.
        if waitid(WaitId::PidFd(process), options).is_ok_and(|status| status.is_some()) {
            return;
        }
        match waitid(WaitId::All, options) {
            Ok(Some(_)) => {}
            _ => return,
        }
        // Between the two looks the command may have ended; then it is the one that the second saw.
        if waitid(WaitId::PidFd(process), options).is_ok_and(|status| status.is_some()) {
            return;
        }
        if !matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {
            return;
        }
    }
}

fn reap(process: &OwnedFd) -> Result<u8, Error> {
    loop {
        match waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            Ok(Some(status)) => {
                let code = status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s));
                return Ok(code.unwrap_or(255) as u8);
            }
            Ok(None) => return Ok(255),
            Err(error) => return Err(error).doing("learn how the command ended"),
        }
    }
}

/// False at its end.
fn copy_output(terminal: &OwnedFd) -> bool {
    let mut buffer = [0; 8192];
    match rustix::io::read(terminal, &mut buffer) {
        Ok(0) | Err(Errno::IO) => false,
        Ok(length) => {
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                match rustix::io::write(stdout(), rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        poll(&mut [PollFd::new(&stdout(), PollFlags::OUT)], None).ok();
                    }
                    // Nobody reads us any more; the command need not stop for that.
                    Err(_) => break,
                }
            }
            true
        }
        Err(Errno::INTR) => true,
        Err(_) => false,
    }
}

/// False at the end of our input.
fn read_typed(typed: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    match rustix::io::read(stdin(), &mut buffer) {
        Ok(0) => false,
        Ok(length) => {
            typed.extend_from_slice(&buffer[..length]);
            true
        }
        Err(Errno::INTR | Errno::AGAIN) => true,
        Err(_) => false,
    }
}

fn write_typed(terminal: &OwnedFd, typed: &mut Vec<u8>) {
    while !typed.is_empty() {
        match rustix::io::write(terminal, typed) {
            Ok(written) => drop(typed.drain(..written)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return,
            // The terminal is gone, and the command with it.
            Err(_) => typed.clear(),
        }
    }
}

/// The size of the terminal that we are on, which a command's own has from the beginning.
pub(crate) fn own_size() -> Option<ConsoleSize> {
    let size = tcgetwinsize(stdin()).ok()?;
    // Nobody has said how large it is.
    let known = size.ws_row != 0 && size.ws_col != 0;
    known.then_some(ConsoleSize { height: size.ws_row, width: size.ws_col })
}

fn copy_size(terminal: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(stdin()) {
        tcsetwinsize(terminal, size).ok();
    }
}

/// Our own terminal, as it was: put back when this is dropped.
struct OurTerminal(Termios);

impl OurTerminal {
    /// None where our input is no terminal.
    fn make_raw(theirs: &OwnedFd) -> Option<Self> {
        if !isatty(stdin()) {
            return None;
        }
        copy_size(theirs);
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for OurTerminal {
    fn drop(&mut self) {
        tcsetattr(stdin(), OptionalActions::Now, &self.0).ok();
    }
}
