//! What the child of a clone does: walk the plan with system calls until the command is executed.
//!
//! **Nothing here allocates, locks or logs.** The child of a process with threads may do none of it, and although
//! the monitor has a single thread, the rule keeps the launch usable from anywhere. A failure is a
//! [`Failed`]: the step, the errno and the index of the object; the parent has the words.

mod accounts;
mod attributes;
mod cgroups;
mod copy_up;
mod devices;
mod held;
mod masks;
mod mounts;
mod namespaces;
mod process;
mod trees;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, move_mount};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Signal, fchdir, pivot_root, set_parent_process_death_signal, setsid};
use rustix::thread::UnshareFlags;

pub(crate) use attributes::write_labels;
pub(crate) use namespaces::{become_root, go_between};
pub(crate) use process::{JOINED, Streams, become_alike, become_command, send_descriptor};

use crate::handshake::{Failed, Message, PACKET, Step};
use crate::plan::{CgroupNamespace, Joining, LaunchPlan, MountNamespace};

pub(crate) type Outcome<T> = Result<T, Failed>;

/// Names the step of a failed call.
pub(crate) trait During<T> {
    fn during(self, step: Step) -> Outcome<T>;
    fn during_nth(self, step: Step, index: usize) -> Outcome<T>;
}

impl<T, E: Into<Errno>> During<T> for Result<T, E> {
    fn during(self, step: Step) -> Outcome<T> {
        self.during_nth(step, 0)
    }

    fn during_nth(self, step: Step, index: usize) -> Outcome<T> {
        self.map_err(|e| Failed::new(step, index, e))
    }
}

/// An I/O error's errno; what has none was made by us for a bad argument.
pub(crate) fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::INVAL)
}

/// The whole of the child: never returns.
pub(crate) fn run(plan: &mut LaunchPlan, socket: BorrowedFd<'_>, streams: Streams<'_>) -> ! {
    let Err(failed) = walk(plan, socket, streams);
    give_up(socket, failed)
}

/// Tells what failed, and ends.
pub(crate) fn give_up(socket: BorrowedFd<'_>, failed: Failed) -> ! {
    // If the parent is gone there is nobody to tell.
    send(socket, &Message::Failed(failed).encode(), SendFlags::NOSIGNAL).ok();
    sys::process::exit_now(1)
}

fn walk(
    plan: &mut LaunchPlan,
    socket: BorrowedFd<'_>,
    streams: Streams<'_>,
) -> Outcome<std::convert::Infallible> {
    begin_session()?;
    let joining = plan.joining();
    if joining == Joining::First
        && let Some(group) = &plan.group
    {
        group.join_self().during(Step::Cgroup)?;
    }
    // What is made in the root is for its users, whatever the caller's umask; the command gets that, if no other.
    let callers = rustix::process::umask(Mode::from_raw_mode(0o022));
    plan.process.umask.get_or_insert(callers.as_raw_mode());
    namespaces::enter(&plan.namespaces, socket)?;
    trees::take(plan, socket)?;
    let tree = mounts::build(plan)?;
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).during(Step::Hostname)?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).during(Step::DomainName)?;
    }
    if plan.mounted_step {
        send(socket, &Message::Mounted.encode(), SendFlags::NOSIGNAL).during(Step::Go)?;
    }
    await_go(socket)?;

    if joining == Joining::Last
        && let Some(group) = &plan.group
    {
        group.join_self().during(Step::Cgroup)?;
    }
    if !plan.netlink.is_empty() {
        configure_network(&plan.netlink, plan.netlink_replies)?;
    }
    match &plan.namespaces.cgroup {
        CgroupNamespace::Shared => {}
        CgroupNamespace::New => unshare_cgroup()?,
        CgroupNamespace::Joined(namespace) => {
            sys::namespace::join(namespace.as_fd()).map_err(errno).during(Step::CgroupNamespace)?;
        }
    }
    cgroups::mount(plan)?;
    match plan.namespaces.mounts {
        MountNamespace::New if plan.process.manner.no_pivot => move_root(&tree.root)?,
        MountNamespace::New => pivot(&tree.root)?,
        // Its root is others' too.
        MountNamespace::Joined | MountNamespace::Shared => change_root(&tree.root)?,
    }
    mounts::finish(plan, &tree)?;
    let handles = tree.handles();
    write_labels(&plan.process, handles.proc.or(plan.process.proc.as_ref()))?;
    become_command(&mut plan.process, socket, streams, &tree.handles(), plan.init)
}

/// A session of its own, and death with the parent, until the credentials change: then it is asked for again, or
/// what is not to be tied lives on. Until then nobody would know of it who could end it.
pub(crate) fn begin_session() -> Outcome<()> {
    die_with_parent(true)?;
    setsid().during(Step::Session)?;
    Ok(())
}

pub(crate) fn die_with_parent(tied: bool) -> Outcome<()> {
    set_parent_process_death_signal(tied.then_some(Signal::KILL)).during(Step::Session)
}

fn unshare_cgroup() -> Outcome<()> {
    sys::process::unshare(UnshareFlags::NEWCGROUP.bits()).map_err(errno).during(Step::CgroupNamespace)
}

/// Waits until the parent says that groups and network are ready.
pub(crate) fn await_go(socket: BorrowedFd<'_>) -> Outcome<()> {
    await_message(socket, Message::Go)
}

/// Waits until the parent says this. One that died says the end of the stream.
pub(crate) fn await_message(socket: BorrowedFd<'_>, message: Message) -> Outcome<()> {
    let mut packet = [0; PACKET];
    let (read, _) = retry(|| recv(socket, &mut packet, RecvFlags::empty())).during(Step::Go)?;
    if Message::decode(&packet[..read.min(PACKET)]) == Some(message) {
        Ok(())
    } else {
        Err(Failed::new(Step::Go, 0, Errno::PIPE))
    }
}

pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Sends the prepared requests (to NETLINK_ROUTE, protocol 0) and reads one acknowledgement for each.
fn configure_network(batch: &[u8], replies: usize) -> Outcome<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .during(Step::Netlink)?;
    send(&socket, batch, SendFlags::empty()).during(Step::Netlink)?;
    let mut seen = 0;
    while seen < replies {
        let mut buffer = [0; 4096];
        let (read, _) = retry(|| recv(&socket, &mut buffer, RecvFlags::empty())).during(Step::Netlink)?;
        let mut rest = &buffer[..read.min(4096)];
        // nlmsghdr: length u32, type u16, …; an NLMSG_ERROR (2) carries the negated errno behind it.
        while let Some((head, _)) = rest.split_first_chunk::<20>() {
            let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let error = i32::from_ne_bytes([head[16], head[17], head[18], head[19]]);
            if u16::from_ne_bytes([head[4], head[5]]) == 2 {
                if error != 0 {
                    return Err(Failed::new(Step::Netlink, seen, Errno::from_raw_os_error(-error)));
                }
                seen += 1;
            }
            let next = (length + 3) & !3;
            if length < 16 || next > rest.len() {
                break;
            }
            rest = &rest[next..];
        }
    }
    Ok(())
}

/// Writes below our own `/proc` mount, reached by its descriptor, never by a path that a volume or a symlink of
/// the image could redirect (CVE-2019-16884, CVE-2025-52881).
pub(crate) fn write_proc(
    proc: Option<&OwnedFd>,
    path: &std::ffi::CStr,
    value: &[u8],
    step: Step,
    index: usize,
) -> Outcome<()> {
    let proc = proc.ok_or(Failed::new(step, index, Errno::NOENT))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat2(proc, path, flags, Mode::empty(), resolve).during_nth(step, index)?;
    let written = retry(|| rustix::io::write(&file, value)).during_nth(step, index)?;
    if written == value.len() { Ok(()) } else { Err(Failed::new(step, index, Errno::IO)) }
}

/// The new root becomes `/`, and the old one goes out of sight.
fn pivot(root: &OwnedFd) -> Outcome<()> {
    fchdir(root).during(Step::Pivot)?;
    // With both names the same, the old root lands on top of the new one, and is taken off from there:
    // pivot_root(2), "pivot_root(".", ".")".
    pivot_root(c".", c".").during(Step::Pivot)?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH).during(Step::Pivot)?;
    rustix::process::chdir(c"/").during(Step::Pivot)
}

/// The new root is moved over `/`. Without `pivot_root(2)` the old one stays below it.
fn move_root(root: &OwnedFd) -> Outcome<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(root, c"", CWD, c"/", flags).during(Step::Pivot)?;
    change_root(root)
}

/// The new root becomes `/` for this process and those that come of it.
pub(crate) fn change_root(root: &OwnedFd) -> Outcome<()> {
    fchdir(root).during(Step::Pivot)?;
    rustix::process::chroot(c".").during(Step::Pivot)?;
    rustix::process::chdir(c"/").during(Step::Pivot)
}

/// Makes the copied mount tree private: nothing that we mount is seen outside.
pub(crate) fn make_private() -> Outcome<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", flags).during(Step::Propagation)
}
