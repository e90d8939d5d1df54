//! A door's end of the conversation with a monitor: see [`state::protocol`].
//!
//! A door either polls [`Session::as_fd`] together with its terminal and calls [`Session::try_next`] until it
//! says `None`, or splits off a [`SessionSender`] for a second thread and blocks in [`Session::next`].

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use state::netd::Registration;
use state::options::RestartPolicy;
use state::protocol::{Change, Ended, Frames, StartFailure, Tag, frame};

/// What a monitor says while a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes of standard output, or of the terminal.
    Output(Vec<u8>),
    /// Bytes of standard error.
    Errors(Vec<u8>),
    /// The end; nothing comes after.
    Exited {
        /// The exit code as Docker counts.
        code: i32,
        /// The OOM killer struck.
        oom_killed: bool,
    },
    /// The monitor is gone without a word; nothing comes after.
    Lost,
}

/// Why a container is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Its user says so: it stays ended.
    Stopped,
    /// The machine goes down: it comes back with it, if its policy says so.
    ShutDown,
    /// It is to be started again at once.
    Restarted,
}

/// A conversation with a monitor.
#[derive(Debug)]
pub struct Session {
    sender: SessionSender,
    frames: Frames,
    chunk: Vec<u8>,
    pid: u32,
    tty: bool,
    ended: bool,
    warnings: Vec<String>,
}

/// The sending half, which another thread may use.
#[derive(Debug, Clone)]
pub struct SessionSender {
    stream: Arc<UnixStream>,
    // A frame is written whole, whoever writes it.
    writing: Arc<Mutex<()>>,
}

/// As much as a pipe holds: more makes no fewer reads.
const CHUNK: usize = 64 * 1024;

impl Session {
    pub(crate) fn new(stream: UnixStream, frames: Frames, pid: u32, tty: bool) -> Self {
        let sender = SessionSender { stream: Arc::new(stream), writing: Arc::default() };
        Self { sender, frames, chunk: vec![0; CHUNK], pid, tty, ended: false, warnings: Vec::new() }
    }

    pub(crate) fn with_warnings(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }

    /// What came up while it was started and people should know, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The process id, on the host, of what was started.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has a terminal: then all its output comes as [`Event::Output`].
    pub fn has_terminal(&self) -> bool {
        self.tty
    }

    /// A sending half for another thread.
    pub fn sender(&self) -> SessionSender {
        self.sender.clone()
    }

    /// The next event; blocks until there is one.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends by itself, and there is more to do with a session"
    )]
    pub fn next(&mut self) -> Event {
        loop {
            match self.buffered() {
                Some(event) => return event,
                None => self.receive(true),
            }
        }
    }

    /// The next event, if it is here already.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = self.buffered();
        if event.is_some() {
            return event;
        }
        self.receive(false);
        self.buffered()
    }

    fn buffered(&mut self) -> Option<Event> {
        loop {
            match self.frames.take() {
                Ok(Some((Tag::Output, bytes))) => return Some(Event::Output(bytes)),
                Ok(Some((Tag::Errors, bytes))) => return Some(Event::Errors(bytes)),
                Ok(Some((Tag::Exited, payload))) => {
                    self.ended = true;
                    return Some(match serde_json::from_slice::<Ended>(&payload) {
                        Ok(ended) => Event::Exited { code: ended.code, oom_killed: ended.oom_killed },
                        Err(_) => Event::Lost,
                    });
                }
                // Not for us, or not any more.
                Ok(Some(_)) => {}
                Ok(None) if self.ended => return Some(Event::Lost),
                Ok(None) => return None,
                Err(_) => {
                    self.ended = true;
                    return Some(Event::Lost);
                }
            }
        }
    }

    fn receive(&mut self, block: bool) {
        use rustix::net::{RecvFlags, recv};
        let flags = if block { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        match recv(&*self.sender.stream, &mut self.chunk[..], flags) {
            Ok((0, _)) => self.ended = true,
            Ok((n, _)) => self.frames.push(&self.chunk[..n]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.ended = true,
        }
    }

    /// Bytes for standard input.
    pub fn send_input(&self, bytes: &[u8]) -> io::Result<()> {
        self.sender.send_input(bytes)
    }

    /// Standard input has ended.
    pub fn end_input(&self) -> io::Result<()> {
        self.sender.end_input()
    }

    /// The terminal has another size.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.sender.resize(rows, columns)
    }

    /// A signal for what was started.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.sender.signal(signal)
    }

    /// What ends the container from here on is wished: no policy starts it again.
    pub(crate) fn want_end(&self, wish: Wish) -> io::Result<()> {
        self.sender.send(
            Tag::Stop,
            match wish {
                Wish::Stopped => &[],
                Wish::ShutDown => &[1],
                Wish::Restarted => &[2],
            },
        )
    }

    /// What is done when it ends, from now on.
    pub(crate) fn set_policy(&self, policy: RestartPolicy) -> io::Result<()> {
        self.sender.send(Tag::Policy, &serde_json::to_vec(&policy).unwrap_or_default())
    }

    /// Has the monitor change something about the container. `None`: it is gone, or the run has ended, without an answer.
    pub(crate) fn change(&mut self, change: &Change) -> io::Result<Option<Result<(), StartFailure>>> {
        self.sender.send(Tag::Change, &serde_json::to_vec(change)?)?;
        while !self.ended {
            match self.frames.take()? {
                Some((Tag::Changed, _)) => return Ok(Some(Ok(()))),
                Some((Tag::Refused, payload)) => return Ok(Some(Err(serde_json::from_slice(&payload)?))),
                Some((Tag::Exited, _)) => self.ended = true,
                Some(_) => {}
                None => self.receive(true),
            }
        }
        Ok(None)
    }

    /// What it is called, from now on.
    pub(crate) fn set_names(&self, names: &Registration) -> io::Result<()> {
        self.sender.send(Tag::Names, &serde_json::to_vec(names).unwrap_or_default())
    }

    /// Waits for what the monitor says as long as it takes.
    pub(crate) fn be_patient(&self) -> io::Result<()> {
        self.sender.stream.set_read_timeout(None)
    }

    /// From here on the monitor thaws the container if we hang up, however that comes about.
    pub(crate) fn hold(&self) -> io::Result<()> {
        self.sender.send(Tag::Hold, &[])
    }

    /// The container goes on already.
    pub(crate) fn let_go(&self) -> io::Result<()> {
        self.sender.send(Tag::LetGo, &[])
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sender.stream.as_fd()
    }
}

impl SessionSender {
    /// Bytes for standard input.
    pub fn send_input(&self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(CHUNK).try_for_each(|chunk| self.send(Tag::Input, chunk))
    }

    /// Standard input has ended.
    pub fn end_input(&self) -> io::Result<()> {
        self.send(Tag::InputEnd, &[])
    }

    /// The terminal has another size.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let [r, c] = [rows.to_le_bytes(), columns.to_le_bytes()];
        self.send(Tag::Resize, &[r[0], r[1], c[0], c[1]])
    }

    /// A signal for what was started.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.send(Tag::Signal, &signal.to_le_bytes())
    }

    fn send(&self, tag: Tag, payload: &[u8]) -> io::Result<()> {
        let _whole = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (&*self.stream).write_all(&frame(tag, payload))
    }
}

/// A first frame, if one came before the end.
type First = Option<(Tag, Vec<u8>)>;

/// Reads one frame after another until `Started` or `Failed`; what comes behind it in the same read stays.
pub(crate) fn read_start(stream: &mut UnixStream) -> io::Result<(Frames, First)> {
    let mut frames = Frames::default();
    let mut chunk = [0; 4096];
    loop {
        if let Some(first) = frames.take()? {
            return Ok((frames, Some(first)));
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Ok((frames, None)),
            Ok(n) => frames.push(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::protocol::{read_frame, write_frame};

    fn pair() -> (UnixStream, Session) {
        let (monitor, door) = UnixStream::pair().unwrap();
        (monitor, Session::new(door, Frames::default(), 1, false))
    }

    #[test]
    fn events_come_in_order_and_the_end_is_the_end() {
        let (mut monitor, mut session) = pair();
        assert_eq!(session.try_next(), None);
        write_frame(&mut monitor, Tag::Output, b"out").unwrap();
        write_frame(&mut monitor, Tag::Errors, b"err").unwrap();
        write_frame(&mut monitor, Tag::Exited, br#"{"code":7,"oom_killed":true}"#).unwrap();
        drop(monitor);
        assert_eq!(session.next(), Event::Output(b"out".to_vec()));
        assert_eq!(session.try_next(), Some(Event::Errors(b"err".to_vec())));
        assert_eq!(session.next(), Event::Exited { code: 7, oom_killed: true });
        assert_eq!(session.next(), Event::Lost);
    }

    #[test]
    fn a_monitor_that_hangs_up_or_talks_nonsense_is_lost() {
        let (monitor, mut session) = pair();
        drop(monitor);
        assert_eq!(session.next(), Event::Lost);
        let (mut monitor, mut session) = pair();
        monitor.write_all(&[18, 255, 255, 255, 255]).unwrap();
        assert_eq!(session.next(), Event::Lost);
    }

    #[test]
    fn what_is_sent_arrives_framed() {
        let (mut monitor, session) = pair();
        session.resize(24, 80).unwrap();
        session.signal(15).unwrap();
        session.sender().send_input(b"in").unwrap();
        session.end_input().unwrap();
        drop(session);
        let mut frames = Vec::new();
        while let Some(frame) = read_frame(&mut monitor).unwrap() {
            frames.push(frame);
        }
        let expected = [
            (Tag::Resize, vec![24, 0, 80, 0]),
            (Tag::Signal, vec![15, 0, 0, 0]),
            (Tag::Input, b"in".to_vec()),
            (Tag::InputEnd, vec![]),
        ];
        assert_eq!(frames, expected);
    }

    #[test]
    fn what_comes_behind_the_first_frame_is_kept() {
        let (mut monitor, mut door) = UnixStream::pair().unwrap();
        write_frame(&mut monitor, Tag::Started, &9_u32.to_le_bytes()).unwrap();
        write_frame(&mut monitor, Tag::Output, b"early").unwrap();
        let (frames, first) = read_start(&mut door).unwrap();
        assert_eq!(first, Some((Tag::Started, vec![9, 0, 0, 0])));
        assert_eq!(Session::new(door, frames, 9, false).next(), Event::Output(b"early".to_vec()));
    }
}
