//! A terminal with somebody at it.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OutputModes, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};

use crate::instance::Dhow;
use crate::invocation::{Invocation, Stream};
use crate::wait::{eventually, patience};

/// A command on a pseudo-terminal of its own, which is its controlling one.
#[derive(Debug)]
pub struct Terminal {
    controller: File,
    child: Child,
    screen: Stream,
    deadline: Instant,
}

/// What of a terminal's settings a raw mode changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    echo: bool,
    lines: bool,
    signals: bool,
    output: bool,
}

impl Settings {
    /// Whether keys go through as they are.
    pub fn is_raw(self) -> bool {
        !(self.echo || self.lines || self.signals)
    }
}

impl Terminal {
    /// Runs `dhow` with these arguments on a terminal of 24 rows and 80 columns.
    #[track_caller]
    pub fn run(dhow: &Dhow, args: &[&str]) -> Self {
        Self::of(|invocation| dhow.on(invocation, args))
    }

    /// The same of any command line, appended to a program that executes it on the terminal.
    #[track_caller]
    pub fn of(append: impl FnOnce(Invocation) -> Invocation) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let path = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        set_size(&controller, 24, 80);
        let terminal = File::options().read(true).write(true).open(path).unwrap();
        // `setsid` makes its standard input the controlling terminal and becomes the command
        let invocation = Invocation::new("setsid").arg("--ctty");
        let mut command = append(invocation).into_command();
        command.stdin(Stdio::from(terminal.try_clone().unwrap()));
        command.stdout(Stdio::from(terminal.try_clone().unwrap())).stderr(Stdio::from(terminal));
        let child = command.spawn().unwrap();
        drop(command);
        let controller = File::from(controller);
        let screen = Stream::follow(controller.try_clone().unwrap());
        Self { controller, child, screen, deadline: Instant::now() + patience(30) }
    }

    /// Types.
    #[track_caller]
    pub fn press(&mut self, keys: &[u8]) {
        self.controller.write_all(keys).unwrap();
    }

    /// Waits until the screen has shown `text`.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let shown = self.screen.contains(text, self.deadline);
        assert!(shown, "no {text:?} on the terminal, but {:?}", self.screen.text());
    }

    /// All that the screen has shown.
    pub fn screen(&self) -> String {
        self.screen.text()
    }

    /// Makes the window another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.controller, rows, columns);
    }

    /// The window's size.
    pub fn size(&self) -> (u16, u16) {
        let size = tcgetwinsize(&self.controller).unwrap();
        (size.ws_row, size.ws_col)
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Settings {
        let now = tcgetattr(&self.controller).unwrap();
        Settings {
            echo: now.local_modes.contains(LocalModes::ECHO),
            lines: now.local_modes.contains(LocalModes::ICANON),
            signals: now.local_modes.contains(LocalModes::ISIG),
            output: now.output_modes.contains(OutputModes::OPOST),
        }
    }

    /// The process id of the command.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end and tells the exit code.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let status = eventually("the command on the terminal to end", || self.child.try_wait().unwrap());
        use std::os::unix::process::ExitStatusExt;
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn set_size(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}
