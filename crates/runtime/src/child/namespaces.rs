//! How the child gets into its namespaces: those that were made with it, those that it makes and joins itself, and
//! the go-between for those that must be joined before it is cloned.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use oci::runtime::NamespaceKind;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, openat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use sys::process::{Cloned, clone_sibling, namespaces};

use super::{
    During, Outcome, Streams, await_message, die_with_parent, errno, give_up, retry, send_descriptor,
};
use crate::handshake::{Message, Step};
use crate::plan::{LaunchPlan, NamespacePlan};

/// The whole of the go-between: joins, clones the child as its sibling, tells the parent of it, and ends.
pub(crate) fn go_between(plan: &mut LaunchPlan, socket: BorrowedFd<'_>, streams: Streams<'_>) -> ! {
    let made = plan.namespaces.made;
    // It is in the container's group already, where the parent could put it there, and so will the child be.
    let cloned = join_before(plan).and_then(|()| clone_sibling(made).map_err(errno).during(Step::Clone));
    match cloned {
        Ok(Cloned::Child) => match await_message(socket, Message::Mapped) {
            // The first word to the parent was the go-between's.
            Ok(()) => super::run(plan, socket, streams),
            Err(failed) => give_up(socket, failed),
        },
        Ok(Cloned::Parent { pid, pidfd }) => {
            // If the parent is gone, so is the other end of the child's socket: it ends by itself.
            send_descriptor(socket, Message::Born(pid), pidfd.as_fd()).ok();
            sys::process::exit_now(0)
        }
        Err(failed) => give_up(socket, failed),
    }
}

fn join_before(plan: &mut LaunchPlan) -> Outcome<()> {
    // What has the ids or the view of processes that we will have must not trace us (CVE-2016-9962); for a new user
    // namespace the parent has seen to that. But once we cannot be traced, our files in /proc are those of the machine's root, whom
    // we may cease to be: what is written there is written now. Whoever is not root yet tries again when they are.
    if plan.namespaces.users.is_none() {
        if let Some(offsets) = &plan.namespaces.time
            && make_time(offsets).is_ok()
        {
            // Dropped it would be freed, and that may lock.
            std::mem::forget(plan.namespaces.time.take());
        }
        set_dumpable_behavior(DumpableBehavior::NotDumpable).during(Step::Join)?;
    }
    let joined = &plan.namespaces.joined;
    // Namespaces may belong to the user namespace that is joined with them, or to the one that we are in.
    let mut later = 0_u64;
    for (n, namespace) in joined.iter().enumerate().filter(|(_, j)| j.kind != NamespaceKind::User) {
        match sys::namespace::join(namespace.namespace.as_fd()).map_err(errno) {
            Err(Errno::PERM) if has_user(&plan.namespaces) && n < 64 => later |= 1 << n,
            other => other.during_nth(Step::Join, n)?,
        }
    }
    for (n, namespace) in joined.iter().enumerate() {
        if namespace.kind == NamespaceKind::User {
            sys::namespace::join(namespace.namespace.as_fd()).map_err(errno).during_nth(Step::Join, n)?;
        }
    }
    for (n, namespace) in joined.iter().enumerate().filter(|(n, _)| later & 1 << n != 0) {
        sys::namespace::join(namespace.namespace.as_fd()).map_err(errno).during_nth(Step::Join, n)?;
    }
    Ok(())
}

fn has_user(plan: &NamespacePlan) -> bool {
    plan.joined.iter().any(|j| j.kind == NamespaceKind::User)
}

/// What is left to do once the clone has made what it could.
pub(super) fn enter(plan: &NamespacePlan, socket: BorrowedFd<'_>) -> Outcome<()> {
    if plan.users.is_some() && !plan.between {
        await_message(socket, Message::Mapped)?;
    }
    // Our files in /proc are those of whoever made us, as yet: once our ids have changed they are the machine's root's.
    let early = plan.users.is_some();
    if let (true, Some(offsets)) = (early, &plan.time) {
        make_time(offsets).during(Step::Time)?;
    }
    if plan.users.is_some() || has_user(plan) {
        become_root()?;
        die_with_parent(true)?;
    }
    if plan.traceable {
        // The change of ids has made us untraceable, also for the user who made us, and who has still to find our
        // namespaces.
        set_dumpable_behavior(DumpableBehavior::Dumpable).during(Step::Users)?;
    }
    if let (false, Some(offsets)) = (early, &plan.time) {
        make_time(offsets).during(Step::Time)?;
    }
    if !plan.between {
        for (n, namespace) in plan.joined.iter().enumerate() {
            sys::namespace::join(namespace.namespace.as_fd()).map_err(errno).during_nth(Step::Join, n)?;
        }
    }
    Ok(())
}

/// Root of the user namespace that we are in: what the kernel gave us with it is its capabilities, not its ids.
pub(crate) fn become_root() -> Outcome<()> {
    // Where whoever made it may not choose their groups, none may (setgroups(2) is denied), and theirs stay.
    match set_thread_groups(&[]) {
        Err(Errno::PERM) => {}
        other => other.during(Step::Users)?,
    }
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).during(Step::Users)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).during(Step::Users)
}

/// A time namespace is made for children, and its clocks are set before anybody has entered it: then it can be entered
/// without a child.
fn make_time(offsets: &[u8]) -> Result<(), Errno> {
    sys::process::unshare(namespaces::TIME as u32).map_err(errno)?;
    if !offsets.is_empty() {
        write_file(c"/proc/self/timens_offsets", offsets)?;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let made = openat(CWD, c"/proc/self/ns/time_for_children", flags, Mode::empty())?;
    sys::namespace::join(made.as_fd()).map_err(errno)
}

fn write_file(path: &CStr, value: &[u8]) -> Result<(), Errno> {
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let written = retry(|| rustix::io::write(&file, value))?;
    if written == value.len() { Ok(()) } else { Err(Errno::IO) }
}
