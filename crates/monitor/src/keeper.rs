//! The loop that keeps a running command: its end, its streams, the doors that listen and speak. One thread,
//! `poll(2)`, no timers but those asked for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use logging::{Stream, Writer};
use monitor::Request;
use network::PortReservations;
use runtime::cgroup::{Group, Hierarchy, Location};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::pipe::fcntl_getpipe_size;
use rustix::process::Signal;
use state::container::HealthStatus;
use state::netd::Registration;
use state::options::{OnUnhealthy, RestartPolicy};
use state::protocol::{Ended, Tag};

use crate::clients::{Client, Wish};
use crate::command::Command;
use crate::limits::Limits;
use crate::names::Names;
use crate::notes::note;
use crate::restart::Wanted;
use crate::ship::Shipping;
use crate::tie::Tie;
use crate::{change, health};

/// The most doors at once: more are hung up on.
const MOST_CLIENTS: usize = 256;
/// Input that waits for the command; a door that sends more is not read until it has been taken.
const MOST_INPUT: usize = 64 << 10;
const BUFFER: usize = 64 << 10;
/// What a command says is read into this. Not on the stack, where its zeroes would have to be written: here, an idle monitor has
/// none of its pages.
static OUTPUT: Mutex<[u8; BUFFER]> = Mutex::new([0; BUFFER]);
/// A command that has said nothing for so long has fallen silent.
const SILENCE: Duration = Duration::from_millis(100);
/// More than the kernel keeps of what was written to a terminal and not yet read.
const MOST_IN_TERMINAL: usize = 128 << 10;
/// A command that lives longer than this is one that stays.
const SETTLED: Duration = Duration::from_millis(100);
/// A command that is unhealthy is given so many seconds to end, at most: longer, and the clock overflows.
const LONGEST_STOP: u64 = 1 << 30;
const KILL: i32 = Signal::KILL.as_raw();
const HANGUP: i32 = Signal::HUP.as_raw();
/// How long doors get to read the last of the output when the command has ended.
const FAREWELL: Duration = Duration::from_secs(10);

/// What is connected to a command, and outlives it where the command is started again.
pub(crate) struct Keeper {
    pub(crate) log: Option<Writer>,
    /// The tie to who sends the log on, if somebody does.
    pub(crate) shipping: Option<Shipping>,
    pub(crate) listener: Option<OwnedFd>,
    /// Signals sent to us, which are for the command.
    pub(crate) signals: OwnedFd,
    pub(crate) clients: Vec<Client>,
    /// The container's cgroup, which doors may freeze for a while.
    pub(crate) cgroup: Option<Location>,
    /// The mark that is there while the container is paused.
    pub(crate) paused: Option<PathBuf>,
    /// What becomes of the container when the command ends by itself.
    pub(crate) policy: RestartPolicy,
    /// Who wants it to end, if somebody does.
    pub(crate) wanted: Option<Wanted>,
    pub(crate) health: Option<health::Watch>,
    /// The host's ports that are held for it.
    pub(crate) ports: PortReservations,
    /// What it is called, and who is told so, while it runs.
    pub(crate) names: Option<Names>,
    /// The tie to the warden of its ports.
    pub(crate) warden: Option<Tie>,
    /// Where it may go, and who is told so, where that is not everywhere.
    pub(crate) limits: Option<Limits>,
    /// What it is called, for the run after this one.
    pub(crate) called: Option<Registration>,
    /// It runs already, and has got its first name now.
    named_late: bool,
    /// When the command is killed that was told to end because of its health.
    kill_at: Option<Instant>,
    /// When the log gives back what memory it took for a burst.
    log_rests_at: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Process,
    Output(usize),
    Input,
    Listener,
    Shipper,
    Signals,
    ProbeEnd,
    ProbeOutput,
    Names,
    Warden,
    Limits,
    Client(usize),
}

impl Keeper {
    pub(crate) fn new(signals: OwnedFd) -> Self {
        Self {
            log: None,
            shipping: None,
            listener: None,
            signals,
            clients: Vec::new(),
            cgroup: None,
            paused: None,
            policy: RestartPolicy::No,
            wanted: None,
            health: None,
            ports: PortReservations::default(),
            names: None,
            warden: None,
            limits: None,
            called: None,
            named_late: false,
            kill_at: None,
            log_rests_at: None,
        }
    }

    /// Keeps the command until it has ended, and returns its exit code as Docker counts. `settled` is called once,
    /// if it has run for a moment: work that a short-lived command should not wait for.
    pub(crate) fn keep(
        &mut self,
        command: &mut Command,
        mut request: Option<&mut Request>,
        settled: impl FnOnce(),
    ) -> i32 {
        let mut settled = Some((settled, Instant::now() + SETTLED));
        let mut buffer = OUTPUT.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = &mut *buffer;
        self.kill_at = None;
        loop {
            let next = settled.as_ref().map(|(_, when)| *when);
            let ended = self.turn(Some(command), next, buffer);
            if ended && let Some(code) = command.reap() {
                self.drain_outputs(command, buffer);
                return code;
            }
            if settled.as_ref().is_some_and(|(_, when)| *when <= Instant::now())
                && let Some((work, _)) = settled.take()
            {
                work();
                // What the start has needed of the stack.
                sys::memory::forget_stack();
            }
            if let Some(request) = &mut request {
                self.see_to_allowed(request);
                self.see_to_changes(request, true);
                self.see_to_health(command, request, buffer);
                self.see_to_names(command, request);
            }
        }
    }

    /// Lets the container speak to those of its neighbours that it may speak to by now.
    fn see_to_allowed(&mut self, request: &Request) {
        let Some(allowed) = self.names.as_mut().and_then(Names::allowed) else { return };
        // Where this fails it is closed to them, until the next change.
        if let Ok(plan) = request.network.by_now(&request.instance, &request.id) {
            plan.allow(&request.instance, &request.id, &allowed).ok();
        }
    }

    /// Gives sockets to a container that was on no network with names when it was started.
    fn see_to_names(&mut self, command: &Command, request: &Request) {
        if std::mem::take(&mut self.named_late)
            && let Some(called) = &self.called
        {
            // Where it cannot be done now, it is done when the container is started again.
            self.names = Names::open(&request.instance, called.clone(), command.pid).ok();
        }
    }

    /// Serves doors while no command runs, for so long at most, or until somebody wants the container to stay ended.
    pub(crate) fn rest(&mut self, delay: Duration, request: &mut Request) {
        let until = Instant::now() + delay;
        let mut buffer = [0; 4096];
        while self.wanted.is_none() && Instant::now() < until {
            self.turn(None, Some(until), &mut buffer);
            self.see_to_changes(request, false);
        }
    }

    /// Does what doors have asked to be different.
    fn see_to_changes(&mut self, request: &mut Request, running: bool) {
        for client in &mut self.clients {
            change::serve(client, request, &mut self.ports, running);
        }
    }

    /// Waits until something can be served, or something is due, and serves it. Whether the command has ended.
    fn turn(&mut self, command: Option<&mut Command>, next: Option<Instant>, buffer: &mut [u8]) -> bool {
        if let Some(shipping) = &mut self.shipping {
            shipping.tick();
        }
        let due = [
            next,
            self.kill_at,
            self.log_rests_at,
            self.health.as_ref().and_then(health::Watch::next),
            self.shipping.as_ref().and_then(Shipping::next),
            self.names.as_ref().and_then(Names::next),
            self.warden.as_ref().and_then(Tie::next),
            self.limits.as_ref().and_then(Limits::next),
        ];
        let due = due.into_iter().flatten().min();
        let timeout = due.map(|when| when.saturating_duration_since(Instant::now()));
        let mut command = command;
        let ready = self.wait(command.as_deref(), timeout);
        for source in &ready {
            self.serve(*source, command.as_deref_mut(), buffer);
        }
        self.drop_gone_clients(command);
        if self.log_rests_at.is_some_and(|when| when <= Instant::now()) {
            self.log_rests_at = None;
            if let Some(log) = &mut self.log {
                log.rest();
            }
        }
        if let Some(names) = &mut self.names {
            names.look_after();
        }
        if let Some(warden) = &mut self.warden {
            // That we are there is all that it has to know.
            warden.look_after(&|_| Ok(()));
        }
        if let Some(limits) = &mut self.limits {
            limits.look_after();
        }
        ready.contains(&Source::Process)
    }

    /// Looks after the probes of the container's health, and does what is to be done about what they find.
    fn see_to_health(&mut self, command: &Command, request: &Request, buffer: &mut [u8]) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|when| when <= now) {
            self.kill_at = None;
            command.signal(KILL);
        }
        let due = self.health.as_ref().and_then(health::Watch::next).is_some_and(|when| when <= now);
        // A probe that is born into a frozen group would never be executed, and we would wait for it for ever.
        let still = due && (self.clients.iter().any(Client::holds) || self.is_paused());
        let Some(watch) = &mut self.health else { return };
        let changed =
            watch.finish(buffer).or_else(|| if due { watch.tick(now, command.pid, still) } else { None });
        let Some(status) = changed else { return };
        note(request, &format!("health_status: {}", status.as_str()), &[]);
        let Some(health) = request.health.as_ref().filter(|_| status == HealthStatus::Unhealthy) else {
            return;
        };
        let wanted = match health.check.on_failure {
            OnUnhealthy::None => return,
            OnUnhealthy::Kill => return command.signal(KILL),
            OnUnhealthy::Restart => Wanted::ForRestart,
            OnUnhealthy::Stop => Wanted::ByHealth,
        };
        self.wanted.get_or_insert(wanted);
        command.signal(request.stop_signal);
        self.kill_at = Some(now + Duration::from_secs(request.stop_timeout.min(LONGEST_STOP)));
    }

    /// Forgets the doors that have hung up. When the one goes whose input the command reads, however it ended, that
    /// input has ended (Docker's `StdinOnce`): the command would wait for more for ever.
    fn drop_gone_clients(&mut self, command: Option<&mut Command>) {
        let feeder_gone = self.clients.iter().any(|c| c.is_gone() && c.is_feeder());
        if self.clients.iter().any(|c| c.is_gone() && c.holds()) {
            self.thaw();
        }
        self.clients.retain(|c| !c.is_gone());
        if feeder_gone && let Some(command) = command {
            command.end_input();
        }
    }

    fn is_paused(&self) -> bool {
        self.paused.as_ref().is_some_and(|mark| mark.exists())
    }

    /// Lets the container go on that a door had frozen and left so: it was killed.
    fn thaw(&self) {
        let Some(location) = &self.cgroup else { return };
        if self.is_paused() {
            // Somebody paused it meanwhile, and it stays so.
            return;
        }
        // Nobody is there to be told; whoever kills the container thaws it in any case.
        if let Ok(hierarchy) = Hierarchy::detect() {
            Group::existing(&hierarchy, location).thaw().ok();
        }
    }

    /// Tells the doors how a run ended, and lets those go that listened to it: the next run is another one's.
    pub(crate) fn dismiss(&mut self, ended: &Ended) {
        self.farewell(ended);
        // What they have asked for meanwhile is asked of the container, not of the run.
        let mut buffer = [0; 4096];
        for n in 0..self.clients.len() {
            self.serve_client(n, None, &mut buffer);
        }
        self.clients.clear();
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
    fn wait(&self, command: Option<&Command>, timeout: Option<Duration>) -> Vec<Source> {
        let mut set = Set::default();
        // Who watches decides the pace: see clients::MOST_PENDING.
        let lagging = self.clients.iter().any(Client::is_lagging);
        let waiting_input = command.map_or(0, Command::waiting_input);
        if let Some(command) = command {
            set.add(Source::Process, command.pidfd.as_fd(), PollFlags::IN);
            for (n, output) in command.outputs.iter().enumerate() {
                if let (Some(fd), false) = (output, lagging) {
                    set.add(Source::Output(n), fd.as_fd(), PollFlags::IN);
                }
            }
            if let (Some(fd), true) = (command.input_target(), waiting_input > 0) {
                set.add(Source::Input, fd, PollFlags::OUT);
            }
        }
        set.add(Source::Signals, self.signals.as_fd(), PollFlags::IN);
        if let Some(fd) = &self.listener {
            set.add(Source::Listener, fd.as_fd(), PollFlags::IN);
        }
        if let Some(link) = self.shipping.as_ref().and_then(Shipping::link) {
            set.add(Source::Shipper, link, PollFlags::IN);
        }
        if let Some(watch) = &self.health {
            let (end, output) = watch.descriptors();
            if let Some(fd) = end {
                set.add(Source::ProbeEnd, fd, PollFlags::IN);
            }
            if let Some(fd) = output {
                set.add(Source::ProbeOutput, fd, PollFlags::IN);
            }
        }
        if let Some(fd) = self.names.as_ref().and_then(Names::descriptor) {
            // That it hangs up is told in any case.
            set.add(Source::Names, fd, PollFlags::IN);
        }
        if let Some(fd) = self.warden.as_ref().and_then(Tie::descriptor) {
            set.add(Source::Warden, fd, PollFlags::empty());
        }
        if let Some(fd) = self.limits.as_ref().and_then(Limits::descriptor) {
            set.add(Source::Limits, fd, PollFlags::IN);
        }
        for (n, client) in self.clients.iter().enumerate() {
            let read = if waiting_input < MOST_INPUT { PollFlags::IN } else { PollFlags::empty() };
            let write = if client.has_pending() { PollFlags::OUT } else { PollFlags::empty() };
            set.add(Source::Client(n), client.fd(), read | write);
        }
        set.poll(timeout)
    }

    fn serve(&mut self, source: Source, command: Option<&mut Command>, buffer: &mut [u8]) {
        match (source, command) {
            (Source::Signals, command) => {
                while let Some(signal) = sys::process::read_signal(self.signals.as_fd()) {
                    // Whoever ends us ends it: it comes back when the machine does, if its policy says so.
                    if signal != HANGUP {
                        self.wanted.get_or_insert(Wanted::ByShutdown);
                    }
                    if let Some(command) = &command {
                        command.signal(signal);
                    }
                }
            }
            (Source::Output(n), Some(command)) => {
                self.read_output(command, n, buffer);
            }
            (Source::Input, Some(command)) => command.write_input(),
            (Source::Listener, _) => self.accept(),
            (Source::Shipper, _) => {
                if let Some(shipping) = &mut self.shipping {
                    shipping.lost();
                }
            }
            (Source::ProbeOutput, _) => {
                if let Some(watch) = &mut self.health {
                    watch.read(buffer);
                }
            }
            (Source::Names, _) => {
                if let Some(names) = &mut self.names {
                    names.hear();
                }
            }
            (Source::Warden, _) => {
                if let Some(warden) = &mut self.warden {
                    warden.lost();
                }
            }
            (Source::Limits, _) => {
                if let Some(limits) = &mut self.limits {
                    limits.hear();
                }
            }
            (Source::Client(n), command) => self.serve_client(n, command, buffer),
            // Seen to after all that is ready: see keep and see_to_health.
            (Source::Process | Source::ProbeEnd | Source::Output(_) | Source::Input, _) => {}
        }
    }

    /// Passes one buffer of output on and returns its length; 0 at the end of the stream, or where nothing is there
    /// now.
    fn read_output(&mut self, command: &mut Command, n: usize, buffer: &mut [u8]) -> usize {
        let Some(fd) = &command.outputs[n] else { return 0 };
        match rustix::io::read(fd, &mut *buffer) {
            Ok(0) => command.outputs[n] = None,
            Ok(read) => {
                // Writers' pieces seldom fill a pipe to the last byte.
                if read > BUFFER / 2 {
                    base::pipe::widen(fd);
                }
                let (stream, tag) = [(Stream::Stdout, Tag::Output), (Stream::Stderr, Tag::Errors)][n];
                if let Some(log) = &mut self.log {
                    log.write(stream, &buffer[..read]);
                    self.log_rests_at = log.is_warm().then(|| Instant::now() + SILENCE);
                }
                if let Some(shipping) = &mut self.shipping {
                    shipping.said();
                }
                for client in &mut self.clients {
                    client.tell_output(tag, &buffer[..read]);
                }
                return read;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal whose other end is closed everywhere says EIO.
            Err(_) => command.outputs[n] = None,
        }
        0
    }

    /// What the command had written before it ended. Others may hold the pipe open and go on writing (processes that
    /// an exec has left behind; whoever a descriptor was passed to, out of the container), so we read no more than
    /// a pipe can have held at its end.
    fn drain_outputs(&mut self, command: &mut Command, buffer: &mut [u8]) {
        for n in 0..command.outputs.len() {
            let Some(fd) = &command.outputs[n] else { continue };
            let mut left = fcntl_getpipe_size(fd).unwrap_or(MOST_IN_TERMINAL);
            while left > 0 {
                let length = left.min(buffer.len());
                match self.read_output(command, n, &mut buffer[..length]) {
                    0 => break,
                    read => left -= read,
                }
            }
        }
        if let Some(log) = &mut self.log {
            log.finish();
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

    fn serve_client(&mut self, n: usize, command: Option<&mut Command>, buffer: &mut [u8]) {
        let mut wishes = Vec::new();
        let mut command = command;
        let Some(client) = self.clients.get_mut(n) else { return };
        client.flush();
        client.receive(buffer, &mut wishes);
        for wish in wishes {
            match (wish, command.as_deref_mut()) {
                (Wish::Greeted, command) => {
                    let pid = command.map_or(0, |c| c.pid).to_le_bytes();
                    if let Some(client) = self.clients.get_mut(n) {
                        client.tell(Tag::Started, &pid);
                    }
                }
                (Wish::Stop(wanted), _) => self.wanted = Some(wanted),
                (Wish::Policy(policy), _) => self.policy = policy,
                (Wish::Names(called), _) => {
                    match &mut self.names {
                        Some(names) => names.replace((*called).clone()),
                        None => {
                            self.named_late = called.networks.iter().any(|network| !network.names.is_empty());
                        }
                    }
                    self.called = Some(*called);
                }
                (Wish::Input(bytes), Some(command)) => command.feed(&bytes),
                (Wish::InputEnd, Some(command)) => command.end_input(),
                (Wish::Resize { rows, columns }, Some(command)) => command.resize(rows, columns),
                (Wish::Signal(signal), Some(command)) => command.signal(signal),
                // Between two runs nobody is there to take them.
                (Wish::Input(_) | Wish::InputEnd | Wish::Resize { .. } | Wish::Signal(_), None) => {}
            }
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
