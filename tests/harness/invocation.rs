//! A command line, and a process that cannot outstay its deadline.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::wait::patience;

/// What a command has said, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; 128 and the signal that ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// A command line to be run.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    input: Option<Vec<u8>>,
    limit: Duration,
}

impl Invocation {
    /// Of `program`, in an empty environment but for PATH.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(crate::image::PATH));
        command.env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8");
        Self { command, input: None, limit: patience(60) }
    }

    /// With an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// With arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// In a directory.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// With this on its standard input, and then the end of it.
    #[must_use]
    pub fn input(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.input = Some(bytes.as_ref().to_vec());
        self
    }

    /// To be killed, and the test failed, after so many seconds rather than sixty.
    #[must_use]
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = patience(seconds);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn output(mut self) -> Output {
        let input = self.input.take();
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut process = self.start(stdin);
        if let Some(bytes) = input {
            let mut stdin = process.child.stdin.take().expect("its input is piped");
            // in a thread: it may say more than a pipe holds before it reads; and it need not read at all
            std::thread::spawn(move || stdin.write_all(&bytes).ok());
        }
        process.wait()
    }

    /// Runs it to its end, which must be a success; returns standard output without its last line break.
    #[track_caller]
    pub fn ok(self) -> String {
        let shown = format!("{:?}", self.command);
        let output = self.output();
        assert!(output.code == 0, "{shown}: {output:#?}");
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// Starts it, with a pipe for each stream.
    pub fn spawn(self) -> Process {
        self.start(Stdio::piped())
    }

    /// The command itself, for what nothing here does.
    pub fn into_command(self) -> Command {
        self.command
    }

    fn start(mut self, stdin: Stdio) -> Process {
        let shown = format!("{:?}", self.command);
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("cannot start {shown}: {e}"));
        let stdout = Stream::follow(child.stdout.take().expect("its output is piped"));
        let stderr = Stream::follow(child.stderr.take().expect("its errors are piped"));
        Process { shown, child, stdout, stderr, deadline: Instant::now() + self.limit, ended: None }
    }
}

/// A process that runs. Dropped before its end, it is killed.
#[derive(Debug)]
pub struct Process {
    shown: String,
    child: Child,
    stdout: Stream,
    stderr: Stream,
    deadline: Instant,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    #[track_caller]
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.child.stdin.as_mut().expect("its input is still open");
        stdin.write_all(bytes.as_ref()).expect("it reads its input");
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// Waits until standard output contains `text`.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        assert!(
            self.stdout.contains(text, self.deadline),
            "{}: no {text:?} in {:?}; errors {:?}",
            self.shown,
            self.stdout.text(),
            self.stderr.text()
        );
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("it can be waited for");
        }
        self.ended.is_none()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // gone already: no harm, its status waits
        kill_process(pid_of(&self.child), signal).ok();
    }

    /// Kills it as nothing can prevent, and waits for that.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended = self.child.wait().ok();
    }

    /// Waits for its end, and the end of its streams.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let status = match self.ended {
            Some(status) => status,
            None => self.await_end(),
        };
        self.ended = Some(status);
        // whoever inherited a stream and keeps it open is a leak of ours
        let grace = Instant::now() + patience(5);
        for (stream, name) in [(&self.stdout, "standard output"), (&self.stderr, "standard error")] {
            assert!(stream.ends(grace), "{}: somebody keeps its {name} open", self.shown);
        }
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        Output { code, stdout: self.stdout.text(), stderr: without_apparmor(&self.stderr.text()) }
    }

    #[track_caller]
    fn await_end(&mut self) -> ExitStatus {
        if let Ok(pidfd) = pidfd_open(pid_of(&self.child), PidfdFlags::empty()) {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)).unwrap_or(1);
            if ready == 0 {
                self.kill();
                panic!(
                    "{} hangs; it has said {:?} and {:?}",
                    self.shown,
                    self.stdout.text(),
                    self.stderr.text()
                );
            }
        }
        self.child.wait().expect("it can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.kill();
        }
    }
}

/// Where the kernel has AppArmor and nobody can load our profile, every start says so, rightly. The tests are about
/// what else it says.
fn without_apparmor(errors: &str) -> String {
    const WARNING: &str = "dhow: warning: containers run without AppArmor's confinement";
    errors.split_inclusive('\n').filter(|line| !line.starts_with(WARNING)).collect()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// What comes out of a descriptor, gathered by a thread.
#[derive(Debug, Clone)]
pub(crate) struct Stream(Arc<(Mutex<Gathered>, Condvar)>);

#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    pub(crate) fn follow(mut from: impl Read + Send + 'static) -> Self {
        let stream = Self(Arc::default());
        let shared = Arc::clone(&stream.0);
        std::thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            loop {
                // a terminal that nobody holds any more answers EIO: as good as its end
                let length = from.read(&mut chunk).unwrap_or(0);
                let mut gathered = shared.0.lock().expect("nobody panics with it");
                gathered.bytes.extend_from_slice(&chunk[..length]);
                gathered.ended = length == 0;
                shared.1.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
        stream
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().expect("nobody panics with it").bytes).into_owned()
    }

    /// Waits for `text`; false where it does not come.
    pub(crate) fn contains(&self, text: &str, deadline: Instant) -> bool {
        let has = |gathered: &Gathered| String::from_utf8_lossy(&gathered.bytes).contains(text);
        self.wait(deadline, |gathered| has(gathered) || gathered.ended);
        has(&self.0.0.lock().expect("nobody panics with it"))
    }

    fn ends(&self, deadline: Instant) -> bool {
        self.wait(deadline, |gathered| gathered.ended)
    }

    fn wait(&self, deadline: Instant, done: impl Fn(&Gathered) -> bool) -> bool {
        let mut gathered = self.0.0.lock().expect("nobody panics with it");
        while !done(&gathered) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            gathered = self.0.1.wait_timeout(gathered, left).expect("nobody panics with it").0;
        }
        true
    }
}
