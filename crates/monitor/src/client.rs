//! The doors' side: start a monitor, or find the one that runs.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use base::fs::{self, At};
use base::{Failure, Id, Kind};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair};
use state::Instance;
use state::container::file;
use state::lock::Lock;
use state::{egress, netd};
use sys::mount::{Change, attributes, change};
use sys::process::{Arguments, Spawn};

use crate::request::{ExecRequest, Request};

/// The monitor's program, beside the program that runs or in `../libexec/dhow`.
const PROGRAM: &str = "dhow-monitor";

/// Why a monitor, or the name server, could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program is nowhere where it should be.
    #[error("cannot find {name} beside {} or in ../libexec/dhow", beside.display())]
    Missing {
        /// What it is called.
        name: &'static str,
        /// Where it should be.
        beside: PathBuf,
    },
    /// A file of ours could not be used.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// The request could not be written down.
    #[error("cannot encode the request")]
    Encode(#[source] serde_json::Error),
    /// The kernel said no.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Failure for SpawnError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
            Self::Start { source, .. } if base::processes::are_exhausted(source) => Kind::Exhausted,
            Self::Start { source, .. } => base::failure::kind_of_io(source),
            Self::Missing { .. } | Self::Encode(_) => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Missing { .. } => {
                vec!["install all of Dhow's programs together: cargo xtask install".to_owned()]
            }
            Self::File(e) => e.hints(),
            Self::Start { source, .. } => base::processes::hints(source, &[]),
            Self::Encode(_) => Vec::new(),
        }
    }
}

/// Starts the monitor of a new container. `request.json` is written into the live directory, whose lock goes
/// over to the monitor. The stream speaks [`state::protocol`]; the door's `Hello` is implied by the request, and
/// the monitor's first frame is `Started` or `Failed`.
pub fn spawn(request: &Request, owner: Lock) -> Result<UnixStream, SpawnError> {
    let live = request.instance.live(&request.id);
    let bytes = serde_json::to_vec(request).map_err(SpawnError::Encode)?;
    fs::create_new(&live.join(file::REQUEST), &bytes, 0o600)?;
    let (ours, theirs) = pair(&live)?;
    let program = find_program(PROGRAM)?;
    // It is executed from a mount of its own, and would not find what lies beside it.
    let arguments = [OsStr::new("run"), program.as_os_str()];
    let inherit = [owner.as_fd(), theirs.as_fd()];
    start_program(&program, &request.instance, PROGRAM, &arguments, &inherit)?;
    // The monitor has its own copy of the lock by now; ours must not outlive this call.
    drop(owner);
    Ok(ours.into())
}

/// Starts a process that runs a further command in a container and speaks [`state::protocol`] about it.
pub fn spawn_exec(request: &ExecRequest) -> Result<UnixStream, SpawnError> {
    let live = request.instance.live(&request.id);
    let (ours, theirs) = pair(&live)?;
    let bytes = serde_json::to_vec(request).map_err(SpawnError::Encode)?;
    let memory = rustix::fs::memfd_create("request", rustix::fs::MemfdFlags::CLOEXEC)
        .at("make a request in", &live)?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let written = rustix::io::write(&memory, rest).at("write a request in", &live)?;
        rest = &rest[written..];
    }
    start(&request.instance, PROGRAM, &["exec"], &[memory.as_fd(), theirs.as_fd()])?;
    Ok(ours.into())
}

/// Connects to the monitor of a running container. The caller sends `Hello` first.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` where there is none.
pub fn connect_to(instance: &Instance, id: &Id) -> io::Result<UnixStream> {
    let dir =
        openat(CWD, instance.live(id), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &short_address(dir.as_fd())?)?;
    Ok(socket.into())
}

/// The address of the monitor's socket in an open live directory. A Unix address holds 108 bytes, and roots may
/// be deep: so it is reached through the descriptor.
pub fn short_address(live: rustix::fd::BorrowedFd<'_>) -> io::Result<SocketAddrUnix> {
    address_in(live, file::SOCKET)
}

/// The address of a socket in an open directory.
pub fn address_in(directory: rustix::fd::BorrowedFd<'_>, name: &str) -> io::Result<SocketAddrUnix> {
    use std::os::fd::AsRawFd;
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

fn pair(live: &Path) -> Result<(OwnedFd, OwnedFd), SpawnError> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .at("make a socket for", live)?)
}

/// The program of the name server and the warden, beside the monitor's.
pub fn netd_beside(monitor: &Path) -> PathBuf {
    monitor.with_file_name(netd::PROGRAM)
}

/// Starts the warden of an instance's published ports and tables, as [`spawn_netd`] does the name server.
pub fn spawn_warden(
    program: &Path,
    instance: &Instance,
    lock: &Lock,
    listener: &OwnedFd,
) -> Result<OwnedFd, SpawnError> {
    let arguments = [OsStr::new(netd::WARDEN), instance.root().as_os_str(), instance.run().as_os_str()];
    start_program(program, instance, netd::PROGRAM, &arguments, &[lock.as_fd(), listener.as_fd()])
}

/// The name server's program. A monitor, which is executed from a mount of its own, could not find it.
pub fn find_netd() -> Result<PathBuf, SpawnError> {
    find_program(netd::PROGRAM)
}

/// The program that keeps containers within their limits.
pub fn find_egressd() -> Result<PathBuf, SpawnError> {
    find_program(egress::link::PROGRAM)
}

/// Starts the name server of an instance's networks. It goes on holding the lock, and listens on the socket. The process
/// that is returned ends at once: it leaves the server behind, which is nobody's child.
pub fn spawn_netd(
    program: &Path,
    instance: &Instance,
    lock: &Lock,
    listener: &OwnedFd,
) -> Result<OwnedFd, SpawnError> {
    let directories = [instance.root(), instance.run()].map(Path::as_os_str);
    start_program(program, instance, netd::PROGRAM, &directories, &[lock.as_fd(), listener.as_fd()])
}

/// Starts what keeps an instance's containers within their limits, as [`spawn_netd`] does the name server.
pub fn spawn_egressd(
    program: &Path,
    instance: &Instance,
    lock: &Lock,
    listener: &OwnedFd,
) -> Result<OwnedFd, SpawnError> {
    let directories = [instance.root(), instance.run()].map(Path::as_os_str);
    let program_name = egress::link::PROGRAM;
    start_program(program, instance, program_name, &directories, &[lock.as_fd(), listener.as_fd()])
}

fn start<S: AsRef<OsStr>>(
    instance: &Instance,
    name: &'static str,
    arguments: &[S],
    inherit: &[rustix::fd::BorrowedFd<'_>],
) -> Result<OwnedFd, SpawnError> {
    start_program(&find_program(name)?, instance, name, arguments, inherit)
}

fn start_program<S: AsRef<OsStr>>(
    program: &Path,
    instance: &Instance,
    name: &'static str,
    arguments: &[S],
    inherit: &[rustix::fd::BorrowedFd<'_>],
) -> Result<OwnedFd, SpawnError> {
    let failed = |source: io::Error| SpawnError::Start { program: program.to_owned(), source };
    let file = unwritable(program).map_err(failed)?;
    let null =
        openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at("open", "/dev/null")?;
    let all = std::iter::once(OsStr::new(name)).chain(arguments.iter().map(AsRef::as_ref));
    let strings: Vec<CString> = all.map(|s| CString::new(s.as_bytes()).unwrap_or_default()).collect();
    let (_, process) = born_in(
        || monitors_group(instance),
        |cgroup| {
            let spawn = Spawn {
                program: file.as_fd(),
                arguments: Arguments::new(strings.clone(), 0),
                environment: Arguments::new(Vec::new(), 0),
                inherit: inherit.to_vec(),
                cgroup: cgroup.map(AsFd::as_fd),
            };
            spawn.start(null.as_fd())
        },
    )
    .map_err(failed)?;
    Ok(process)
}

/// Starts a process in a group that others may remove at any moment: the monitor that was the last sweeps the group away
/// when nobody is in it, and who has just opened it is not in it yet. (To be born into a removed group is `ENOENT`, or on
/// some kernels `ENODEV`.) So it is asked for once more, and at last done without: see [`monitors_group`].
fn born_in<T>(
    group: impl Fn() -> Option<OwnedFd>,
    start: impl Fn(Option<&OwnedFd>) -> io::Result<T>,
) -> io::Result<T> {
    for _ in 0..2 {
        let Some(group) = group() else { break };
        if let Ok(started) = start(Some(&group)) {
            return Ok(started);
        }
    }
    // What fails for another reason than the group fails again, and says why.
    start(None)
}

pub(crate) fn find_program(name: &'static str) -> Result<PathBuf, SpawnError> {
    let me = std::env::current_exe().at("find", "/proc/self/exe")?;
    let dir = me.parent().unwrap_or(Path::new("/"));
    let beside = dir.join(name);
    if rustix::fs::access(&beside, rustix::fs::Access::EXEC_OK).is_ok() {
        return Ok(beside);
    }
    let installed = dir.join("../libexec/dhow").join(name);
    if rustix::fs::access(&installed, rustix::fs::Access::EXEC_OK).is_ok() {
        return Ok(installed);
    }
    Err(SpawnError::Missing { name, beside: dir.to_owned() })
}

/// The program, opened through a private read-only mount of its own.
///
/// A process of the container may get hold of the program that starts it, through `/proc/PID/exe`, and later
/// open that file for writing (CVE-2019-5736). Reached through this mount, which nobody else can see or change,
/// the file cannot be written, whoever asks. It costs two system calls; a sealed copy in memory would cost the
/// copying, and its memory per container.
fn unwritable(program: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match open_tree(CWD, program.as_os_str().as_bytes(), flags) {
        Ok(mount) => {
            change(mount.as_fd(), Change { set: attributes::RDONLY, ..Change::default() })?;
            Ok(mount)
        }
        Err(e) => Err(e.into()),
    }
}

/// On cgroup v2 a monitor is born into the monitors' group; on v1 it moves there itself, after the start. Where
/// the group cannot be had, it stays with the caller: no reason to refuse a container.
fn monitors_group(instance: &Instance) -> Option<OwnedFd> {
    let hierarchy = runtime::cgroup::Hierarchy::detect().ok()?;
    runtime::cgroup::open_monitors_v2(&hierarchy, &instance.global_name()).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group that is gone again, but open; none where no cgroup v2 is mounted.
    fn removed_group() -> Option<OwnedFd> {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let root = root.into_iter().find(|root| root.join("cgroup.controllers").exists())?;
        let path = root.join(format!("dhow-test-swept-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let open = openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        std::fs::remove_dir(&path).unwrap();
        Some(open.unwrap())
    }

    #[test]
    fn a_group_that_was_just_swept_away_hinders_nobody() {
        let Some(group) = removed_group() else { return };
        let open = |path| openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let (program, null) = (open("/bin/true"), open("/dev/null"));
        let start = |cgroup: Option<&OwnedFd>| {
            let spawn = Spawn {
                program: program.as_fd(),
                arguments: Arguments::new(vec![c"true".to_owned()], 0),
                environment: Arguments::new(Vec::new(), 0),
                inherit: Vec::new(),
                cgroup: cgroup.map(AsFd::as_fd),
            };
            spawn.start(null.as_fd())
        };
        assert!(start(Some(&group)).is_err());
        let (_, process) = born_in(|| group.try_clone().ok(), start).unwrap();
        let how = rustix::process::WaitIdOptions::EXITED;
        rustix::process::waitid(rustix::process::WaitId::PidFd(process.as_fd()), how).unwrap();
    }
}
