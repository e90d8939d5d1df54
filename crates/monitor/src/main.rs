//! `dhow-monitor`: the small process that stays with a container.
//!
//! Started by the command line with its descriptors in fixed places (see `monitor::client`), never by hand:
//!
//! ```text
//! dhow-monitor run PROGRAM    3: the live directory, locked    4: the door's socket
//! dhow-monitor exec           3: the request                   4: the door's socket
//! ```
//!
//! PROGRAM is the monitor's own path, beside which the other programs are.

mod change;
mod clients;
mod command;
mod exec;
mod health;
mod joined;
mod keep;
mod keeper;
mod launch;
mod limits;
mod names;
mod notes;
mod release;
mod restart;
mod ship;
mod tie;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Readable in ps: executed by descriptor, the kernel would call us by its number.
    rustix::thread::set_name(c"dhow-monitor").ok();
    // No signal is ignored, SIGCHLD among them: `sys::process::Spawn` starts us with their defaults.
    let role = std::env::args().nth(1);
    let (Ok(first), Ok(door)) = (sys::process::inherited(3), sys::process::inherited(4)) else {
        return usage();
    };
    // The directory that we were started in may be unmounted one day.
    rustix::process::chdir("/").ok();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match role.as_deref() {
        Some("run") => keep::run(first, door, std::env::args_os().nth(2).map(PathBuf::from)),
        Some("exec") => exec::run(first, door),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("dhow-monitor is started by dhow, one for each container; it has no use on its own");
    ExitCode::from(2)
}

/// Reads a whole file of JSON through its descriptor.
fn read_json<T: serde::de::DeserializeOwned>(file: &OwnedFd) -> std::io::Result<T> {
    let size = rustix::fs::fstat(file)?.st_size as usize;
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match rustix::io::pread(file, &mut bytes[filled..], filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    serde_json::from_slice(&bytes[..filled]).map_err(std::io::Error::from)
}
