//! The parent copies the trees of the host's mounts that a container with a user namespace gets, in the container's mount
//! namespace, where the kernel has locked what the host's mounts forbid and cover; with its own rights, since the
//! container's root need not be let in where they lie.
//!
//! A thread enters the namespace, and ends there: what it leaves is descriptors. The child waits meanwhile.
//!
//! A mount namespace that is joined has been made before, from what mounts there were then, and what is copied into it
//! from ours is not locked. So a process without anything else to do makes a namespace for the copying: whose it is does
//! not matter, as long as that is not the owner of ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{chroot, fchdir};
use rustix::thread::UnshareFlags;
use sys::process::{Cloned, clone};

use crate::child::{During, Outcome, errno, retry, send_descriptor};
use crate::handshake::{Failed, Message, Step};
use crate::launch::{kill_and_reap, untraceable};
use crate::plan::{LaunchPlan, MountNamespace, TreeOf};

/// The copies for a child, in the order in which it takes them.
pub(crate) fn copy(plan: &LaunchPlan, pid: u32, process: BorrowedFd<'_>) -> Outcome<Vec<OwnedFd>> {
    let trees: Vec<TreeOf<'_>> =
        if plan.namespaces.parent_copies { plan.trees().collect() } else { Vec::new() };
    if trees.is_empty() {
        return Ok(Vec::new());
    }
    if plan.namespaces.mounts == MountNamespace::Joined {
        let holder = Holder::new().during(Step::Propagation)?;
        return copy_in(holder.pid, holder.process.as_fd(), &trees);
    }
    copy_in(pid, process, &trees)
}

fn copy_in(pid: u32, process: BorrowedFd<'_>, trees: &[TreeOf<'_>]) -> Outcome<Vec<OwnedFd>> {
    std::thread::scope(|scope| {
        let entered = std::thread::Builder::new().spawn_scoped(scope, move || {
            enter(pid, process).during(Step::Propagation)?;
            trees.iter().map(copy_one).collect()
        });
        let copied = entered.map_err(errno).during(Step::Propagation)?.join();
        copied.unwrap_or(Err(Failed::new(Step::Propagation, 0, Errno::CANCELED)))
    })
}

/// A process in a new user namespace and a new mount namespace of that, until it is dropped.
struct Holder {
    pid: u32,
    process: OwnedFd,
    /// While this is open, it stays.
    _open: OwnedFd,
}

impl Holder {
    fn new() -> Result<Self, Errno> {
        // Over a new user namespace our user has all rights from its first moment on.
        untraceable()?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let namespaces = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
        match clone(u64::from(namespaces.bits()), None).map_err(errno)? {
            Cloned::Child => {
                drop(write);
                // Until we are killed, or the other end is gone with whoever holds it.
                retry(|| rustix::io::read(&read, &mut [0; 1])).ok();
                sys::process::exit_now(0)
            }
            Cloned::Parent { pid, pidfd } => Ok(Self { pid, process: pidfd, _open: write }),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        kill_and_reap(&self.process);
    }
}

fn copy_one(tree: &TreeOf<'_>) -> Outcome<OwnedFd> {
    let copy = tree.tree.copy().during_nth(tree.step, tree.index)?;
    let copy = copy.ok_or(Failed::new(tree.step, tree.index, Errno::BADF))?;
    if let Some(ids) = tree.map_ids {
        let mapped = sys::mount::map_ids(copy.as_fd(), ids.namespace.as_fd(), ids.recursive);
        mapped.map_err(errno).during_nth(Step::MountIds, tree.index)?;
    }
    Ok(copy)
}

/// This thread goes where the child is. Its root is the child's, which has ours: that need not be the namespace's.
fn enter(pid: u32, process: BorrowedFd<'_>) -> Result<(), Errno> {
    sys::process::unshare(UnshareFlags::FS.bits()).map_err(errno)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty())?;
    sys::process::set_namespaces(process, UnshareFlags::NEWNS.bits()).map_err(errno)?;
    fchdir(&root)?;
    chroot(c".")
}

/// Tells the child that it may go on, and hands it the copies.
pub(crate) fn hand_over(socket: BorrowedFd<'_>, copies: &[OwnedFd]) {
    // A child that is gone has said why, or is found missing later.
    send(socket, &Message::Mapped.encode(), SendFlags::NOSIGNAL).ok();
    for copy in copies {
        send_descriptor(socket, Message::Tree, copy.as_fd()).ok();
    }
}
