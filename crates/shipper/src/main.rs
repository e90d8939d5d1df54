//! `dhow-shipper`: sends what containers say to collectors of logs. One process for all containers of an instance, started
//! by the first monitor that has something to be sent, or by a command that finds something left; it ends when there is
//! nothing more. Never started by hand:
//!
//! ```text
//! dhow-shipper ROOT RUN    3: RUN/shipper, locked    4: the listening socket in it
//! ```
//!
//! What is to be sent lies in spools (`state::shipping` draws them), which monitors write whether we live or not: so
//! a collector that is dead or slow holds nobody but the thread here that waits for it. How far it has come is written down
//! after each step: who kills us loses nothing, and at most what was under way comes twice.
//!
//! ```text
//! monitor ── spool ──▶ worker ── link ──▶ collector
//!    └── connection ─▶ hub: who is there, who has ended, whose spool may go
//! ```
//!
//! | way | what "has arrived" means |
//! |---|---|
//! | fluentd | the collector has acknowledged the chunk |
//! | syslog over TCP, TLS, Unix streams | the server has read to an end that we made: see `syslog_stream` |
//! | journald, syslog over Unix datagrams | the receiver has taken it from its queue, and was alive after that |
//! | syslog over UDP | nobody has refused it |
//!
//! What a collector has read and not yet written anywhere when it is killed, nobody but the collector can know.

mod datagram;
mod fluentd;
mod hub;
mod journal;
mod link;
mod message;
mod resolve;
mod shared;
mod stream;
mod syslog;
mod syslog_stream;
mod tls;
mod wire;
mod worker;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

use runtime::cgroup::{Hierarchy, join_monitors, sweep_parent};
use state::Instance;

fn main() -> ExitCode {
    // Readable in ps: executed by descriptor, the kernel would call us by its number.
    rustix::thread::set_name(c"dhow-shipper").ok();
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let ([root, run], Ok(lock), Ok(listener)) =
        (&arguments[..], sys::process::inherited(3), sys::process::inherited(4))
    else {
        eprintln!("dhow-shipper is started by dhow, one for all containers; it has no use on its own");
        return ExitCode::from(2);
    };
    rustix::process::chdir("/").ok();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let instance = Instance::new(Path::new(root), Path::new(run));
    // On v1 we may be in the groups of whoever has started our monitor, and end with them. Where it cannot be had, we stay.
    let hierarchy = Hierarchy::detect().ok();
    if let Some(hierarchy) = &hierarchy {
        join_monitors(hierarchy, &instance.global_name()).ok();
    }
    let Ok(hub) = hub::Hub::new(instance.clone(), UnixListener::from(listener)) else {
        return ExitCode::FAILURE;
    };
    hub.run();
    // Whoever would have swept the groups away has found us in them.
    if let Some(hierarchy) = &hierarchy {
        sweep_parent(hierarchy, &instance.global_name()).ok();
    }
    drop(lock);
    ExitCode::SUCCESS
}
