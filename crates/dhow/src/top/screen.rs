//! The terminal while it is ours: raw, on its other screen, without a cursor; and as it was afterwards, whatever happens.
//!
//! It is put back by [`Screen::leave`], by a drop, and before the message of a panic is printed.

use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Frame, TerminalOptions, Viewport};
use rustix::fd::{AsFd, OwnedFd};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::{Error, Result};
use crate::output;

/// The other screen, no cursor, nothing on it.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J\x1b[H";
/// Where there is no other screen (the console of Linux), an empty one is left.
const LEAVE: &[u8] = b"\x1b[0m\x1b[2J\x1b[H\x1b[?1049l\x1b[?25h";
/// Of a terminal that does not know (a serial line).
const USUAL: (u16, u16) = (80, 24);

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send>;

/// A terminal that is ours.
pub(super) struct Screen {
    mode: Arc<Mode>,
    hook: Arc<Hook>,
    terminal: Terminal<CrosstermBackend<Buffered>>,
}

/// The terminal's descriptors, and how it was.
struct Mode {
    input: OwnedFd,
    output: OwnedFd,
    before: Termios,
    /// It is not as it was.
    is_ours: AtomicBool,
}

impl Mode {
    fn enter(&self) -> Result<()> {
        self.is_ours.store(true, Ordering::Relaxed);
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(&self.input, OptionalActions::Now, &raw)
            .map_err(|e| Error::Terminal("make the terminal raw", e.into()))?;
        output::raw(self.output.as_fd(), ENTER).map_err(Error::Output)
    }

    /// Once: what was written since is not to be wiped away.
    fn leave(&self) {
        if !self.is_ours.swap(false, Ordering::Relaxed) {
            return;
        }
        // A terminal that is gone (hang-up) needs nothing.
        output::raw(self.output.as_fd(), LEAVE).ok();
        tcsetattr(&self.input, OptionalActions::Now, &self.before).ok();
    }

    fn area(&self) -> Rect {
        let size = tcgetwinsize(&self.output).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        let (width, height) = size.map_or(USUAL, |size| (size.ws_col, size.ws_row));
        Rect::new(0, 0, width, height)
    }
}

/// What is written at once when it is flushed, so that no half of it is seen.
struct Buffered {
    mode: Arc<Mode>,
    bytes: Vec<u8>,
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = output::raw(self.mode.output.as_fd(), &self.bytes);
        self.bytes.clear();
        written
    }
}

impl Screen {
    /// Takes the terminal that is read there and written here.
    pub(super) fn take(input: OwnedFd, output: OwnedFd) -> Result<Self> {
        let before =
            tcgetattr(&input).map_err(|e| Error::Terminal("read the terminal's settings", e.into()))?;
        let mode = Arc::new(Mode { input, output, before, is_ours: AtomicBool::new(false) });
        let backend = CrosstermBackend::new(Buffered { mode: Arc::clone(&mode), bytes: Vec::new() });
        let viewport = Viewport::Fixed(mode.area());
        let terminal =
            Terminal::with_options(backend, TerminalOptions { viewport }).map_err(Error::Output)?;
        let hook = Arc::new(panic::take_hook());
        let (at_panic, usual) = (Arc::clone(&mode), Arc::clone(&hook));
        panic::set_hook(Box::new(move |about| {
            at_panic.leave();
            usual(about);
        }));
        let screen = Self { mode, hook, terminal };
        screen.mode.enter()?;
        Ok(screen)
    }

    /// Shows this.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.terminal.draw(draw).map(drop).map_err(Error::Output)
    }

    /// Whatever is on the screen, it is drawn anew, in the size that it has now.
    pub(super) fn forget(&mut self) -> Result<()> {
        self.terminal.resize(self.mode.area()).map_err(Error::Output)
    }

    /// Gives the terminal back, until [`enter`](Self::enter).
    pub(super) fn leave(&self) {
        self.mode.leave();
    }

    /// Takes it again.
    pub(super) fn enter(&mut self) -> Result<()> {
        self.mode.enter()?;
        self.forget()
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (u16, u16) {
        let area = self.mode.area();
        (area.width, area.height)
    }

    /// Where keys come from.
    pub(super) fn input(&self) -> &OwnedFd {
        &self.mode.input
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.mode.leave();
        // Who unwinds may not touch the hook, and ends anyway.
        if !std::thread::panicking() {
            let usual = Arc::clone(&self.hook);
            panic::set_hook(Box::new(move |about| usual(about)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::LocalModes;

    use super::*;

    fn pty() -> (File, File) {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let path = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        (File::from(controller), File::options().read(true).write(true).open(path).unwrap())
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_heard_of() {
        let (mut controller, terminal) = pty();
        let is_raw = || !tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ICANON);
        let (input, output) = (terminal.try_clone().unwrap(), terminal.try_clone().unwrap());
        let said = terminal.try_clone().unwrap();
        panic::set_hook(Box::new(move |_| {
            (&said).write_all(b"heard").unwrap();
        }));
        let ended = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            let mut screen = Screen::take(input.into(), output.into()).unwrap();
            screen.draw(|frame| frame.render_widget("shown", frame.area())).unwrap();
            assert!(is_raw());
            panic!("a mistake");
        }));
        drop(panic::take_hook());
        assert!(ended.is_err() && !is_raw());
        let mut shown = vec![0; 64 * 1024];
        let length = controller.read(&mut shown).unwrap();
        let text = String::from_utf8_lossy(&shown[..length]).into_owned();
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in {text:?}"));
        assert!(at("\x1b[?1049h") < at("shown") && at("shown") < at("\x1b[?1049l"), "{text:?}");
        assert!(at("\x1b[?1049l") < at("heard") && at("\x1b[?25h") < at("heard"), "{text:?}");
        assert_eq!(text.matches("\x1b[?1049l").count(), 1, "what was heard is not wiped away: {text:?}");
    }
}
