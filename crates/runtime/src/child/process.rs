//! The last part of the child's way, for containers and further commands alike: terminal, rights, limits, exec.
//!
//! The order is half of the security. With `no_new_privs` the filter is installed last, when everything else that
//! needs a right is done; without, it needs `CAP_SYS_ADMIN` and so comes before the capabilities go.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fchown, fstatfs, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

use super::accounts::{self, Account};
use super::mounts::Handles;
use super::{During, Outcome, attributes, die_with_parent, errno, give_up, held};
use crate::handshake::{Failed, Message, Step};
use crate::plan::{ProcessPlan, UserPlan};

/// The standard streams of a command without a terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams<'a> {
    pub(crate) input: BorrowedFd<'a>,
    pub(crate) output: BorrowedFd<'a>,
    pub(crate) errors: BorrowedFd<'a>,
}

/// Confines this process and executes the command. Returns only with what failed.
pub(crate) fn become_command(
    plan: &mut ProcessPlan,
    socket: BorrowedFd<'_>,
    streams: Streams<'_>,
    handles: &Handles<'_>,
    init: bool,
) -> Outcome<Infallible> {
    let account = accounts::resolve(plan)?;
    if plan.terminal {
        attach_terminal(plan, socket, handles, &account)?;
    } else {
        attach_streams(streams, &account)?;
    }
    attributes::apply(plan)?;
    // A keyring of its own: the caller's holds the caller's keys.
    if plan.manner.new_keyring {
        match sys::confine::join_new_session_keyring() {
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOSYS | Errno::PERM)) => {}
            other => other.map_err(errno).during(Step::Keyring)?,
        }
    }
    if let Some(umask) = plan.umask {
        rustix::process::umask(Mode::from_raw_mode(umask));
    }
    // As root first and then as the user, as Docker does: `--user` with an image whose directory is root's own works,
    // and so does a file system that does not trust root.
    let entered = match enter_working_dir(plan) {
        Err(failed) if !matches!(failed.errno, Errno::ACCESS | Errno::PERM) => return Err(failed),
        other => other,
    };
    attributes::limit(plan)?;
    if plan.held.is_some() {
        // What the held process lets go of it cannot ask later.
        plan.groups_denied |= plan.groups.is_empty() && attributes::denied(handles.proc);
        held::prepare(plan)?;
    }
    // Said before the filter is installed: a user's own may forbid it. What fails after this is still told.
    send(socket, &Message::Ready.encode(), SendFlags::NOSIGNAL).during(Step::Exec)?;
    // What the frames above own is closed now: from here on nothing may return through them.
    let finished = if plan.held.is_some() {
        held::wait(plan, socket).and_then(|()| finish(plan, &account, entered, socket, None, init))
    } else {
        finish(plan, &account, entered, socket, handles.proc, init)
    };
    let Err(failed) = finished;
    give_up(socket, failed)
}

fn finish(
    plan: &mut ProcessPlan,
    account: &Account,
    entered: Outcome<()>,
    socket: BorrowedFd<'_>,
    proc: Option<&OwnedFd>,
    init: bool,
) -> Outcome<Infallible> {
    // While /proc can still be asked.
    attributes::set_groups(plan, proc)?;
    // Nothing stays open but what the caller hands down on purpose. That it would close on exec is too late: the
    // command, its interpreter or its PATH may lead through a descriptor (`/proc/self/fd/N/…`), to a program of the
    // host (CVE-2024-21626). And it is done before a filter could forbid it.
    sys::process::close_all_but(3 + plan.manner.preserved_descriptors, socket)
        .map_err(errno)
        .during(Step::Exec)?;
    // From here on nothing is opened but a filter's listener, and what process 1 knows the command by. As root still, and
    // before a filter could forbid it.
    let last = (plan.notifies || init) && attributes::leaves_no_descriptor(plan);
    limit_descriptors(plan, last)?;
    take_rights(plan, account, socket)?;
    if entered.is_err() {
        enter_by_path(plan)?;
    }
    sys::process::reset_signals();
    if init {
        crate::init::stay()?;
    }
    if last {
        // A filter may forbid it, and then the command does not start; before, it never could.
        attributes::limit_descriptors(plan)?;
    }
    exec(plan)
}

/// For a hook that runs where the command will: it is who that will be, and has its rights and limits.
pub(crate) fn become_alike(plan: &ProcessPlan, socket: BorrowedFd<'_>) -> Outcome<()> {
    let account = accounts::given(plan)?;
    if let Some(umask) = plan.umask {
        rustix::process::umask(Mode::from_raw_mode(umask));
    }
    let entered = enter_working_dir(plan);
    attributes::limit(plan)?;
    match attributes::set_groups(plan, None) {
        // Where none can be dropped the command goes without, too; that it may has been found out.
        Err(Failed { errno: Errno::PERM, .. }) if plan.groups.is_empty() => {}
        other => other?,
    }
    let last = plan.notifies && attributes::leaves_no_descriptor(plan);
    limit_descriptors(plan, last)?;
    take_rights(plan, &account, socket)?;
    if entered.is_err() {
        enter_by_path(plan)?;
    }
    if last { attributes::limit_descriptors(plan) } else { Ok(()) }
}

/// Sets their limit, or only raises it where that is set `last`.
fn limit_descriptors(plan: &ProcessPlan, last: bool) -> Outcome<()> {
    if last { attributes::raise_descriptors(plan) } else { attributes::limit_descriptors(plan) }
}

/// Takes from the bounding set what the command must never get.
pub(super) fn bound(plan: &ProcessPlan) -> Outcome<()> {
    for capability in 0..64 {
        if plan.bounding & 1 << capability == 0
            && !sys::confine::drop_from_bounding_set(capability).map_err(errno).during(Step::Bounding)?
        {
            // The kernel knows no more.
            break;
        }
    }
    Ok(())
}

fn take_rights(plan: &ProcessPlan, account: &Account, socket: BorrowedFd<'_>) -> Outcome<()> {
    bound(plan)?;
    if !plan.no_new_privileges {
        install_filter(plan, socket)?;
    }
    // Keep the permitted set across the change of the user; what of it stays is said right after. Root loses nothing.
    let keep = account.uid != 0;
    if keep {
        rustix::thread::set_keep_capabilities(true).during(Step::User)?;
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(account.uid), rustix::fs::Gid::from_raw(account.gid));
    set_thread_res_gid(gid, gid, gid).during(Step::Groups)?;
    set_thread_res_uid(uid, uid, uid).during(Step::User)?;
    if keep {
        rustix::thread::set_keep_capabilities(false).during(Step::User)?;
    }
    let mut bits = plan.capabilities;
    if account.uid != 0 && plan.ambient == 0 && matches!(plan.user, UserPlan::LookUp { .. }) {
        // What exec(2) will leave of them anyway: a user who is not root has none that are not ambient. Not quite the
        // same all the same: the exec itself happens without them, so that a command that only root may execute is
        // refused. That is how our own engine wants it; a specification with a numeric user gets what it says.
        bits.effective = 0;
        bits.permitted = 0;
    }
    sys::confine::set_capabilities(bits).map_err(errno).during(Step::Capabilities)?;
    sys::confine::ambient(None).map_err(errno).during(Step::Ambient)?;
    for capability in (0..64).filter(|c| plan.ambient & 1 << c != 0) {
        sys::confine::ambient(Some(capability)).map_err(errno).during(Step::Ambient)?;
    }
    // A change of the user has cleared it; where root stayed root it is still set.
    let changed = account.uid != 0 || account.gid != 0 || plan.foreign_users;
    if changed || !plan.manner.tied {
        die_with_parent(plan.manner.tied)?;
    }
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).during(Step::NoNewPrivileges)?;
        install_filter(plan, socket)?;
    }
    Ok(())
}

/// Installs the filter. A listener's descriptor goes to the parent at once, and only when it is in the hands of somebody
/// who answers may we go on: the next call may already be one that waits for an answer.
fn install_filter(plan: &ProcessPlan, socket: BorrowedFd<'_>) -> Outcome<()> {
    if plan.filter.is_empty() {
        return Ok(());
    }
    if !plan.notifies {
        return sys::confine::set_seccomp_filter(&plan.filter, plan.filter_flags)
            .map_err(errno)
            .during(Step::Seccomp);
    }
    let listener = sys::confine::set_notifying_seccomp_filter(&plan.filter, plan.filter_flags)
        .map_err(errno)
        .during(Step::Seccomp)?;
    // These two, sendmsg(2) and recvfrom(2), are the calls that the compiler lets no filter hand to a listener.
    send_descriptor(socket, Message::Listener, listener.as_fd()).during(Step::Listener)?;
    super::await_go(socket)?;
    // Not dropped, which closes it: close(2) may be a call that waits for an answer, too. It closes on exec.
    std::mem::forget(listener);
    Ok(())
}

/// The descriptor is what is entered, and no magic link leads to it: `WORKDIR /proc/self/fd/N` finds nothing.
fn enter_working_dir(plan: &ProcessPlan) -> Outcome<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = base::root::KernelPath::new(&plan.working_dir).map_err(errno).during(Step::WorkingDir)?;
    let dir = openat2(CWD, path.as_c_str(), flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
        .during(Step::WorkingDir)?;
    rustix::process::fchdir(&dir).during(Step::WorkingDir)?;
    check_inside()
}

/// The same where no descriptor may be opened any more. None is open either that a magic link could lead to, but for
/// those that the caller hands down: who enters through one of them is inside, or goes no further.
fn enter_by_path(plan: &ProcessPlan) -> Outcome<()> {
    let path = base::root::KernelPath::new(&plan.working_dir).map_err(errno).during(Step::WorkingDir)?;
    rustix::process::chdir(path.as_c_str()).during(Step::WorkingDir)?;
    check_inside()
}

fn check_inside() -> Outcome<()> {
    // A directory outside of the root has no absolute path (CVE-2024-21626).
    let mut path = [MaybeUninit::<u8>::uninit(); 4096];
    let inside = sys::process::working_dir_is_inside(&mut path).map_err(errno).during(Step::WorkingDir)?;
    if inside { Ok(()) } else { Err(Failed::new(Step::WorkingDir, 0, Errno::XDEV)) }
}

fn attach_streams(streams: Streams<'_>, account: &Account) -> Outcome<()> {
    let places = [streams.input, streams.output, streams.errors];
    for (n, stream) in places.into_iter().enumerate() {
        if account.uid != 0 {
            // So that the command may open /dev/stdout again. Only pipes are ours to give away.
            let stat = rustix::fs::fstat(stream).during_nth(Step::Stdio, n)?;
            if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo {
                give_to(stream, account, Step::Stdio, n)?;
            }
        }
        sys::process::duplicate_to(stream, n as i32).map_err(errno).during_nth(Step::Stdio, n)?;
    }
    Ok(())
}

/// A terminal of the container's own devpts: the master goes to the parent, the other end becomes the standard
/// streams, the controlling terminal and `/dev/console`. It is opened through our mount's descriptor, and its
/// peer through the master: no path of the image takes part (CVE-2025-52565).
fn attach_terminal(
    plan: &ProcessPlan,
    socket: BorrowedFd<'_>,
    handles: &Handles<'_>,
    account: &Account,
) -> Outcome<()> {
    let found;
    let devpts = if let Some(devpts) = handles.devpts {
        devpts
    } else {
        // None that we have mounted: a devpts that came with a bind mount does, and nothing else that lies there.
        found = verified(c"/dev/pts", DEVPTS_MAGIC, Step::Terminal)?;
        found.as_ref().ok_or(Failed::new(Step::Terminal, 0, Errno::NODEV))?
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat(devpts, c"ptmx", flags, Mode::empty()).during(Step::Terminal)?;
    rustix::pty::unlockpt(&master).during(Step::Terminal)?;
    let peer = rustix::pty::ioctl_tiocgptpeer(
        &master,
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC,
    )
    .during(Step::Terminal)?;
    if let Some((rows, columns)) = plan.console_size {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).during(Step::Terminal)?;
    }
    give_to(peer.as_fd(), account, Step::Terminal, 0)?;
    if let Some(dev) = handles.dev {
        let clone =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let console = open_tree(&peer, c"", clone).during(Step::Terminal)?;
        move_mount(&console, c"", dev, c"console", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .during(Step::Terminal)?;
    }
    send_descriptor(socket, Message::Terminal, master.as_fd()).during(Step::Terminal)?;
    for place in 0..3 {
        sys::process::duplicate_to(peer.as_fd(), place).map_err(errno).during(Step::Terminal)?;
    }
    rustix::process::ioctl_tiocsctty(&peer).during(Step::Terminal)
}

/// Makes the user the owner. Where the owner is nobody of our user namespace we may not, and the command gets by
/// without: it only cannot open its streams a second time.
fn give_to(file: BorrowedFd<'_>, account: &Account, step: Step, index: usize) -> Outcome<()> {
    match fchown(file, Some(rustix::fs::Uid::from_raw(account.uid)), None) {
        Err(Errno::PERM | Errno::INVAL | Errno::ROFS) => Ok(()),
        other => other.during_nth(step, index),
    }
}

/// A message with the descriptor that it is about.
pub(crate) fn send_descriptor(
    socket: BorrowedFd<'_>,
    message: Message,
    fd: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [fd];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let packet = message.encode();
    sendmsg(socket, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// The directory at `path` if it is of the file system with this magic number: a container may have put anything there.
fn verified(path: &CStr, magic: i64, step: Step) -> Outcome<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(fd) => {
            let kind = fstatfs(&fd).during(step)?.f_type as i64;
            Ok((kind == magic).then_some(fd))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(Failed::new(step, 0, e)),
    }
}

/// Tries the candidates in turn, as `execvp` does: what is not there is passed over, what may not be executed is
/// remembered.
fn exec(plan: &mut ProcessPlan) -> Outcome<Infallible> {
    let home = CStr::from_bytes_with_nul(&plan.home).ok();
    let mut worst = Failed::new(Step::Exec, 0, Errno::NOENT);
    for (n, path) in plan.candidates.iter().enumerate() {
        let error = errno(sys::process::exec(path, &mut plan.arguments, &mut plan.environment, home));
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
            Errno::ACCESS => worst = Failed::new(Step::Exec, n, error),
            _ => return Err(Failed::new(Step::Exec, n, error)),
        }
    }
    Err(worst)
}

/// The handles of a process that joins a container: nothing there is ours.
pub(crate) const JOINED: Handles<'static> = Handles { proc: None, devpts: None, dev: None };
