//! `dhow-egressd`: keeps containers within the limits of where they may go. Started by the monitor of the first container that
//! has some:
//!
//! ```text
//! dhow-egressd ROOT RUN     3: the directory RUN/egress, locked    4: the socket in it, listening
//! ```

use std::path::Path;
use std::process::ExitCode;

use egressd::server::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use state::Instance;
use state::lock::Lock;
use sys::confine::CapabilityBits;
use sys::process::Cloned;

fn main() -> ExitCode {
    // Readable in ps: executed by descriptor, the kernel would call us by its number.
    rustix::thread::set_name(c"dhow-egressd").ok();
    let mut arguments = std::env::args_os().skip(1);
    let (Some(root), Some(run)) = (arguments.next(), arguments.next()) else { return usage() };
    let (Ok(directory), Ok(listener)) = (sys::process::inherited(3), sys::process::inherited(4)) else {
        return usage();
    };
    // Nobody's child: the monitor that has started us keeps a container, and may stay for longer than we do.
    match sys::process::fork() {
        Ok(Cloned::Child) => {}
        Ok(Cloned::Parent { .. }) => return ExitCode::SUCCESS,
        Err(_) => return ExitCode::FAILURE,
    }
    rustix::process::chdir("/").ok();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Two descriptors for each connection through the proxy, and four for its pipes.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
    confine();
    let instance = Instance::new(Path::new(&root), Path::new(&run));
    // As long as this is held we are the one: the kernel lets go of it, however we end.
    let lock = Lock::inherited(directory);
    let parent = instance.global_name();
    let served = Server::new(&instance, listener).and_then(|mut server| {
        server.run(|| {
            // On cgroup v1 we are still in the groups of whoever started the container. Where ours cannot be had, we stay.
            if let Ok(hierarchy) = runtime::cgroup::Hierarchy::detect() {
                runtime::cgroup::join_monitors(&hierarchy, &parent).ok();
            }
        })
    });
    // Whoever connects from now on is hung up on, and starts the next one.
    drop(lock);
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Gives up what is not needed by who reads what strangers say: all but the firewall. What cannot be given up is kept, since
/// limits are more than that.
fn confine() {
    const NET_ADMIN: u64 = 1 << 12;
    let left = CapabilityBits { effective: NET_ADMIN, permitted: NET_ADMIN, inheritable: 0 };
    rustix::thread::set_no_new_privs(true).ok();
    sys::confine::set_capabilities(left).ok();
}

fn usage() -> ExitCode {
    eprintln!("dhow-egressd is started by dhow's monitors, one for all containers; it has no use on its own");
    ExitCode::from(2)
}
