//! `dhow-netd`: the name server of an instance's networks, and the warden of its published ports and tables. Each is started by
//! the monitor of the first container that needs it:
//!
//! ```text
//! dhow-netd ROOT RUN            3: the directory RUN/netd, locked      4: the socket in it, listening
//! dhow-netd warden ROOT RUN     3: the directory RUN/warden, locked    4: the socket in it, listening
//! ```

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use netd::server::Server;
use netd::warden::Post;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use state::Instance;
use state::lock::Lock;
use sys::confine::CapabilityBits;
use sys::process::Cloned;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let is_warden = arguments.first().is_some_and(|role| role == state::netd::WARDEN);
    if is_warden {
        arguments.remove(0);
    }
    // Readable in ps: executed by descriptor, the kernel would call us by its number.
    rustix::thread::set_name(if is_warden { c"dhow-warden" } else { c"dhow-netd" }).ok();
    let [root, run] = &arguments[..] else { return usage() };
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
    // Descriptors for each container, and one for each question that is on its way.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
    let instance = Instance::new(Path::new(root), Path::new(run));
    // As long as this is held we are the one: the kernel lets go of it, however we end.
    let lock = Lock::inherited(directory);
    let parent = instance.global_name();
    let stayed = || {
        // On cgroup v1 we are still in the groups of whoever started the container. Where ours cannot be had, we stay.
        if let Ok(hierarchy) = runtime::cgroup::Hierarchy::detect() {
            let join = if is_warden { runtime::cgroup::leave } else { runtime::cgroup::join_monitors };
            join(&hierarchy, &parent).ok();
        }
    };
    let served = if is_warden {
        // Its sockets want more than their use does.
        Post::new(&instance, listener).and_then(|mut post| {
            confine(NET_ADMIN);
            post.run(stayed)
        })
    } else {
        confine(SYS_ADMIN);
        Server::new(&instance, listener).and_then(|mut server| server.run(stayed))
    };
    // Whoever connects from now on is hung up on, and starts the next one.
    drop(lock);
    // Where all monitors were killed, nobody comes after us who would take away the group that we were the last in.
    if let Ok(hierarchy) = runtime::cgroup::Hierarchy::detect() {
        runtime::cgroup::sweep_parent(&hierarchy, &parent).ok();
    }
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Into network namespaces.
const SYS_ADMIN: u64 = 1 << 21;
/// Rules, and what the kernel remembers of connections.
const NET_ADMIN: u64 = 1 << 12;

/// Gives up what is not needed by who reads what strangers say: all but this one right. What cannot be given up is kept, since
/// names and open ports are more than that.
fn confine(right: u64) {
    let left = CapabilityBits { effective: right, permitted: right, inheritable: 0 };
    rustix::thread::set_no_new_privs(true).ok();
    sys::confine::set_capabilities(left).ok();
}

fn usage() -> ExitCode {
    eprintln!("dhow-netd is started by dhow's monitors, one for all containers; it has no use on its own");
    ExitCode::from(2)
}
