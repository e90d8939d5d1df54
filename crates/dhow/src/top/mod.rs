//! `dhow top` without a container: a screen of all of them.
//!
//! One thread waits for everything at once: keys ([`keys`]), signals, the ends of actions, and the next second, when the
//! engine is asked ([`watch`]). All of them change the [`model`], which is then drawn ([`draw`]) on the [`screen`]. Only
//! actions have threads of their own: a stop may take its ten seconds.

mod draw;
mod keys;
mod model;
mod screen;
mod text;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base::Id;
use engine::Engine;
use ratatui::layout::Rect;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::isatty;
use sys::process::{read_signal, signal_fd};

use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{output, terminal};
use draw::Look;
use keys::{Decoder, Key};
use model::{Action, Model, Panes, Wish};
use screen::Screen;
use watch::Watch;

const INTERVAL: Duration = Duration::from_secs(1);
/// From the look that nothing can be compared with to the first that can.
const FIRST: Duration = Duration::from_millis(500);
/// How long what follows an escape may take, over a slow line too.
const ESCAPE: Duration = Duration::from_millis(100);

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;
const SIGWINCH: i32 = 28;

/// Shows it until somebody has seen enough.
pub(crate) fn run(context: &Context) -> Result<u8> {
    if !isatty(rustix::stdio::stdin()) || !isatty(rustix::stdio::stdout()) {
        return Err(Error::Usage {
            message: "top without a container is for a terminal, and this is none".to_owned(),
            hints: vec![
                "dhow stats --no-stream prints what all containers use, once".to_owned(),
                "dhow top CONTAINER prints the processes of one".to_owned(),
            ],
        });
    }
    let engine = Arc::new(context.engine()?);
    let watch = Watch::new(&engine)?;
    let failed = |what, e: Errno| Error::Terminal(what, e.into());
    let signals = signal_fd(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGCONT, SIGWINCH])
        .map_err(|e| Error::Terminal("catch signals", e))?;
    let ended = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
        .map_err(|e| failed("wait for actions", e))?;
    let own = |fd: rustix::fd::BorrowedFd<'_>| {
        rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|e| failed("hold the terminal", e))
    };
    let screen = Screen::take(own(rustix::stdio::stdin())?, own(rustix::stdio::stdout())?)?;
    let utf8 = terminal::speaks_utf8() && std::env::var_os("TERM").is_none_or(|term| term != "linux");
    let mut top = Top {
        engine: &engine,
        watch,
        screen,
        model: Model::default(),
        look: Look { utf8 },
        actions: Vec::new(),
        signals,
        ended: Arc::new(ended),
    };
    let code = top.run()?;
    let Top { screen, actions, signals, ended, .. } = top;
    drop(screen);
    await_actions(actions, &signals, &ended)?;
    Ok(code)
}

/// An action that goes on.
struct Acting {
    action: Action,
    id: Id,
    name: String,
    thread: JoinHandle<engine::Result<()>>,
}

struct Top<'e> {
    engine: &'e Arc<Engine>,
    watch: Watch<'e>,
    screen: Screen,
    model: Model,
    look: Look,
    actions: Vec<Acting>,
    signals: OwnedFd,
    /// Is written by an action that has ended.
    ended: Arc<OwnedFd>,
}

impl Top<'_> {
    fn run(&mut self) -> Result<u8> {
        let mut decoder = Decoder::default();
        self.sample();
        let mut next = Instant::now() + FIRST;
        loop {
            let (model, look) = (&mut self.model, self.look);
            self.screen.draw(|frame| draw::draw(model, look, frame))?;
            let until_next = next.saturating_duration_since(Instant::now());
            let patience = if decoder.is_waiting() { until_next.min(ESCAPE) } else { until_next };
            let [keys, signals, ended] = self.wait(patience)?;
            let mut pressed = Vec::new();
            if keys {
                let mut bytes = [0; 1024];
                match rustix::io::read(self.screen.input(), &mut bytes) {
                    // A terminal that has gone.
                    Ok(0) | Err(Errno::IO) => return Ok(128 + SIGHUP as u8),
                    Ok(length) => pressed = decoder.push(&bytes[..length]),
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(e) => return Err(Error::Terminal("read from the terminal", e.into())),
                }
            } else if decoder.is_waiting() {
                pressed.extend(decoder.give_up());
            }
            for key in pressed {
                if self.press(key)? {
                    return Ok(0);
                }
            }
            if signals {
                while let Some(signal) = read_signal(self.signals.as_fd()) {
                    match signal {
                        SIGWINCH => {
                            self.screen.forget()?;
                            self.detail();
                        }
                        // Whoever had the terminal meanwhile has left it in another state.
                        SIGCONT => self.screen.enter()?,
                        signal => return Ok(128 + signal as u8),
                    }
                }
            }
            if ended {
                self.finish();
                self.sample();
            }
            if Instant::now() >= next {
                next = Instant::now() + INTERVAL;
                self.sample();
            }
        }
    }

    /// Waits until there is a key, a signal, or an end of an action; not longer than that.
    fn wait(&self, patience: Duration) -> Result<[bool; 3]> {
        let mut fds = [
            PollFd::new(self.screen.input(), PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&*self.ended, PollFlags::IN),
        ];
        // Rounded up, so that nobody comes too early and polls again.
        let patience = patience + Duration::from_micros(100);
        let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(fds.map(|fd| !fd.revents().is_empty())),
            Err(e) => Err(Error::Terminal("wait for the terminal", e.into())),
        }
    }

    /// True to leave.
    fn press(&mut self, key: Key) -> Result<bool> {
        match self.model.press(key) {
            Wish::Nothing => {}
            Wish::Quit => return Ok(true),
            Wish::Suspend => {
                self.screen.leave();
                // Stops us here; what follows happens when we are continued, or at once where nobody could do that.
                kill_process(getpid(), Signal::TSTP)
                    .map_err(|e| Error::Terminal("stop for the shell", e.into()))?;
                self.screen.enter()?;
            }
            Wish::Redraw => self.screen.forget()?,
            Wish::Detail => self.detail(),
            Wish::Sample => self.sample(),
            Wish::Act(action, id, name) => self.act(action, id, name),
        }
        Ok(false)
    }

    fn sample(&mut self) {
        match self.watch.sample(self.model.all) {
            Ok(sample) => self.model.take_sample(sample),
            Err(error) => self.model.say(error.to_string(), true),
        }
        self.detail();
    }

    /// As much of the selected one as there is room for.
    fn detail(&mut self) {
        let Some(id) = self.model.selected().cloned() else { return };
        if self.model.panes == Panes::None {
            return;
        }
        let (width, height) = self.screen.size();
        let places = draw::places(&self.model, Rect::new(0, 0, width, height));
        let lines = places.log.height.saturating_sub(1);
        let detail = self.watch.detail(&id, lines.into(), !places.processes.is_empty());
        self.model.take_detail(detail);
    }

    fn act(&mut self, action: Action, id: Id, name: String) {
        let (engine, ended) = (Arc::clone(self.engine), Arc::clone(&self.ended));
        let target = id.clone();
        let thread = std::thread::spawn(move || {
            // Is said however it ends.
            let _end = Ending(ended);
            let id = target.as_str();
            match action {
                Action::Stop => engine.stop(id, None, None),
                Action::Kill => engine.kill(id, "KILL"),
                Action::Restart => engine.restart(id, None, None),
                Action::Pause => engine.pause(id),
                Action::Unpause => engine.unpause(id),
            }
        });
        self.actions.push(Acting { action, id, name, thread });
    }

    /// Says how the actions went that have ended.
    fn finish(&mut self) {
        clear(&self.ended);
        for Acting { action, id, name, thread } in std::mem::take(&mut self.actions) {
            if !thread.is_finished() {
                self.actions.push(Acting { action, id, name, thread });
                continue;
            }
            match thread.join() {
                Ok(Ok(())) => self.model.say(format!("{} {name}: done", action.verb()), false),
                // It names whom it was asked for: an id, which would leave no room for what happened.
                Ok(Err(error)) => self.model.say(error.to_string().replace(id.as_str(), &name), true),
                // It has said so, on a screen that it has put back: we go the same way.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    }
}

/// Writes to the descriptor when it goes.
struct Ending(Arc<OwnedFd>);

impl Drop for Ending {
    fn drop(&mut self) {
        // It counts far beyond the number of actions.
        rustix::io::write(&*self.0, &1_u64.to_ne_bytes()).ok();
    }
}

fn clear(ended: &OwnedFd) {
    // Where there is nothing to read there is nothing to clear.
    rustix::io::read(ended, &mut [0; 8]).ok();
}

/// What was begun is finished, unless a signal says otherwise.
fn await_actions(mut actions: Vec<Acting>, signals: &OwnedFd, ended: &OwnedFd) -> Result<()> {
    let mut said = false;
    loop {
        let (done, open): (Vec<_>, Vec<_>) = actions.into_iter().partition(|a| a.thread.is_finished());
        for Acting { thread, .. } in done {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        actions = open;
        let Some(first) = actions.first() else { return Ok(()) };
        if !said {
            output::talk(&format!(
                "dhow: waiting for {} {} (interrupt to leave it)",
                first.action.verb(),
                first.name
            ));
            said = true;
        }
        let mut fds = [PollFd::new(signals, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        // The thread ends just after it has said so.
        let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::Terminal("wait for actions", e.into())),
        }
        while let Some(signal) = read_signal(signals.as_fd()) {
            if ![SIGCONT, SIGWINCH].contains(&signal) {
                return Ok(());
            }
        }
        clear(ended);
    }
}
