//! The default devices, in a tmpfs that nothing else can reach yet.

use std::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, symlinkat};

use super::{During, Outcome};
use crate::handshake::Step;

/// The devices that every container has (config-linux.md, "Default Devices").
const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];

/// The links that every container has (runtime-linux.md, "Dev symbolic links").
const LINKS: [(&CStr, &CStr); 6] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"/proc/kcore", c"core"),
    (c"pts/ptmx", c"ptmx"),
];

/// Fills a new tmpfs.
pub(super) fn fill(dev: &OwnedFd, terminal: bool) -> Outcome<()> {
    // The modes below are meant as they stand.
    rustix::process::umask(Mode::empty());
    for (n, (name, major, minor)) in DEVICES.into_iter().enumerate() {
        let made =
            mknodat(dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor));
        made.during_nth(Step::Device, n)?;
    }
    for (n, (target, name)) in LINKS.into_iter().enumerate() {
        symlinkat(target, dev, name).during_nth(Step::Device, n)?;
    }
    for name in [c"pts", c"shm", c"mqueue"] {
        mkdirat(dev, name, Mode::from_raw_mode(0o755)).during(Step::Device)?;
    }
    if terminal {
        // A file for the terminal to be bound over.
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(dev, c"console", flags, Mode::from_raw_mode(0o620)).during(Step::Device)?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// The name of the n-th device, for the parent's words.
pub(crate) fn name(n: usize) -> &'static str {
    DEVICES.get(n).and_then(|(name, ..)| name.to_str().ok()).unwrap_or("a link")
}
