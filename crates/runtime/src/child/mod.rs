//! What the child of a clone does: walk the plan with system calls until the command is executed.
//!
//! **Nothing here allocates, locks or logs.** The child of a process with threads may do none of it, and although
//! the monitor has a single thread, the rule keeps the launch usable from anywhere. A failure is a
//! [`Failed`]: the step, the errno and the index of the object; the parent has the words.

mod accounts;
mod devices;
mod mounts;
mod process;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci::runtime::NamespaceKind;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Signal, fchdir, pivot_root, set_parent_process_death_signal, setsid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

pub(crate) use devices::name as device_name;
pub(crate) use process::{Streams, become_command, joined_handles};

use crate::handshake::{Failed, Message, PACKET, Step};
use crate::plan::LaunchPlan;

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
    let tree = mounts::build(plan)?;
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).during(Step::Hostname)?;
    }
    for (n, (kind, namespace)) in plan.joined.iter().enumerate() {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), link_type(*kind))
            .during_nth(Step::Join, n)?;
    }

    await_go(socket)?;

    // On v2 we were born there.
    if !plan.v2
        && let Some(group) = &plan.group
    {
        group.join_self().during(Step::Cgroup)?;
    }
    if !plan.netlink.is_empty() {
        configure_network(&plan.netlink, plan.netlink_replies)?;
    }
    if plan.cgroup_namespace {
        unshare_cgroup()?;
    }
    mounts::mount_cgroups(plan, &tree)?;
    pivot(&tree.root)?;
    mounts::finish(plan, &tree)?;
    become_command(&mut plan.process, socket, streams, &tree.handles(), plan.init)
}

/// A session of its own, and death with the parent, until the credentials change (then it is asked for again).
pub(crate) fn begin_session() -> Outcome<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).during(Step::Session)?;
    setsid().during(Step::Session)?;
    Ok(())
}

fn unshare_cgroup() -> Outcome<()> {
    sys::process::unshare(UnshareFlags::NEWCGROUP.bits()).map_err(errno).during(Step::CgroupNamespace)
}

/// Waits until the parent says that groups and network are ready. A parent that died says nothing for ever, or
/// the end of the stream.
pub(crate) fn await_go(socket: BorrowedFd<'_>) -> Outcome<()> {
    let mut packet = [0; PACKET];
    let (read, _) = retry(|| recv(socket, &mut packet, RecvFlags::empty())).during(Step::Go)?;
    if Message::decode(&packet[..read.min(PACKET)]) == Some(Message::Go) {
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
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
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

/// Makes the copied mount tree private: nothing that we mount is seen outside.
pub(crate) fn make_private() -> Outcome<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", flags).during(Step::Propagation)
}

fn link_type(kind: NamespaceKind) -> Option<LinkNameSpaceType> {
    Some(match kind {
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        _ => return None,
    })
}
