//! The last part of the child's way, for containers and further commands alike: terminal, rights, limits, exec.
//!
//! The order is half of the security. With `no_new_privs` the filter is installed last, when everything else that
//! needs a right is done; without, it needs `CAP_SYS_ADMIN` and so comes before the capabilities go.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fchown, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::accounts::{self, Account};
use super::mounts::Handles;
use super::{During, Outcome, errno, write_proc};
use crate::handshake::{Failed, Message, Step};
use crate::plan::ProcessPlan;

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
    if let Some(value) = &plan.oom_score_adj {
        write_proc(handles.proc, c"self/oom_score_adj", value, Step::OomScore, 0)?;
    }
    for (n, (resource, limit, _)) in plan.rlimits.iter().enumerate() {
        rustix::process::setrlimit(*resource, *limit).during_nth(Step::Rlimit, n)?;
    }
    // A keyring of its own: the caller's holds the caller's keys.
    match sys::confine::join_new_session_keyring() {
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOSYS | Errno::PERM)) => {}
        other => other.map_err(errno).during(Step::Keyring)?,
    }
    if let Some(profile) = &plan.apparmor {
        let path = c"thread-self/attr/apparmor/exec";
        write_proc(handles.proc, path, profile, Step::AppArmor, 0)?;
    }
    rustix::process::umask(Mode::from_raw_mode(plan.umask.unwrap_or(0o022)));
    // As root first and then as the user, as Docker does: `--user` with an image whose directory is root's own works,
    // and so does a file system that does not trust root.
    let entered = enter_working_dir(plan);
    // Said before the filter is installed: a user's own may forbid it. What fails after this is still told.
    send(socket, &Message::Ready.encode(), SendFlags::NOSIGNAL).during(Step::Exec)?;
    take_rights(plan, &account)?;
    match entered {
        Err(failed) if matches!(failed.errno, Errno::ACCESS | Errno::PERM) => enter_working_dir(plan)?,
        other => other?,
    }
    // From here on nothing is opened. Whatever is open closes on exec (CVE-2024-21626).
    sys::process::close_on_exec_from(3).map_err(errno).during(Step::Exec)?;
    sys::process::reset_signals();
    if init {
        crate::init::stay()?;
    }
    exec(plan)
}

fn take_rights(plan: &ProcessPlan, account: &Account) -> Outcome<()> {
    let filter = |plan: &ProcessPlan| {
        if plan.filter.is_empty() {
            return Ok(());
        }
        sys::confine::set_seccomp_filter(&plan.filter, plan.filter_flags).map_err(errno).during(Step::Seccomp)
    };
    for capability in 0..64 {
        if plan.bounding & 1 << capability == 0
            && !sys::confine::drop_from_bounding_set(capability).map_err(errno).during(Step::Bounding)?
        {
            // The kernel knows no more.
            break;
        }
    }
    if !plan.no_new_privileges {
        filter(plan)?;
    }
    // Keep the permitted set across the change of the user; what of it stays is said right after.
    rustix::thread::set_keep_capabilities(true).during(Step::User)?;
    set_thread_groups_of(&plan.groups)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(account.uid), rustix::fs::Gid::from_raw(account.gid));
    set_thread_res_gid(gid, gid, gid).during(Step::Groups)?;
    set_thread_res_uid(uid, uid, uid).during(Step::User)?;
    rustix::thread::set_keep_capabilities(false).during(Step::User)?;
    let mut bits = plan.capabilities;
    if account.uid != 0 && plan.ambient == 0 {
        // What exec(2) will leave of them anyway: a user who is not root has none that are not ambient.
        bits.effective = 0;
        bits.permitted = 0;
    }
    sys::confine::set_capabilities(bits).map_err(errno).during(Step::Capabilities)?;
    sys::confine::ambient(None).map_err(errno).during(Step::Ambient)?;
    for capability in (0..64).filter(|c| plan.ambient & 1 << c != 0) {
        sys::confine::ambient(Some(capability)).map_err(errno).during(Step::Ambient)?;
    }
    // The change of the user has cleared it.
    set_parent_process_death_signal(Some(Signal::KILL)).during(Step::Session)?;
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).during(Step::NoNewPrivileges)?;
        filter(plan)?;
    }
    Ok(())
}

fn set_thread_groups_of(groups: &[u32]) -> Outcome<()> {
    use crate::plan::MOST_GROUPS;
    let mut list = [rustix::fs::Gid::ROOT; MOST_GROUPS];
    for (slot, &gid) in list.iter_mut().zip(groups) {
        *slot = rustix::fs::Gid::from_raw(gid);
    }
    set_thread_groups(&list[..groups.len().min(MOST_GROUPS)]).during(Step::Groups)
}

/// The descriptor is what is entered, and no magic link leads to it: `WORKDIR /proc/self/fd/N` finds nothing.
fn enter_working_dir(plan: &ProcessPlan) -> Outcome<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = base::root::KernelPath::new(&plan.working_dir).map_err(errno).during(Step::WorkingDir)?;
    let dir = openat2(CWD, path.as_c_str(), flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
        .during(Step::WorkingDir)?;
    rustix::process::fchdir(&dir).during(Step::WorkingDir)?;
    // And it lies inside: a directory outside of the root has no absolute path (CVE-2024-21626).
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
                fchown(stream, Some(rustix::fs::Uid::from_raw(account.uid)), None)
                    .during_nth(Step::Stdio, n)?;
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
    let devpts = handles.devpts.ok_or(Failed::new(Step::Terminal, 0, Errno::NODEV))?;
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
    fchown(&peer, Some(rustix::fs::Uid::from_raw(account.uid)), None).during(Step::Terminal)?;
    if let Some(dev) = handles.dev {
        let clone =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let console = open_tree(&peer, c"", clone).during(Step::Terminal)?;
        move_mount(&console, c"", dev, c"console", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .during(Step::Terminal)?;
    }
    send_descriptor(socket, master.as_fd())?;
    for place in 0..3 {
        sys::process::duplicate_to(peer.as_fd(), place).map_err(errno).during(Step::Terminal)?;
    }
    rustix::process::ioctl_tiocsctty(&peer).during(Step::Terminal)
}

fn send_descriptor(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Outcome<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [fd];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let packet = Message::Terminal.encode();
    sendmsg(socket, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL).during(Step::Terminal)?;
    Ok(())
}

/// Tries the candidates in turn, as `execvp` does: what is not there is passed over, what may not be executed is
/// remembered.
fn exec(plan: &mut ProcessPlan) -> Outcome<Infallible> {
    let home = CStr::from_bytes_with_nul(&plan.home).ok();
    let mut worst = Failed::new(Step::Exec, 0, Errno::NOENT);
    for (n, path) in plan.candidates.iter().enumerate() {
        let error = errno(sys::process::exec(path, &mut plan.arguments, &mut plan.environment, home));
        match error {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => worst = Failed::new(Step::Exec, n, error),
            _ => return Err(Failed::new(Step::Exec, n, error)),
        }
    }
    Err(worst)
}

/// The handles of a process that joins a container: its `/proc` and devpts are found, not made.
pub(crate) fn joined_handles<'a>(proc: Option<&'a OwnedFd>, devpts: Option<&'a OwnedFd>) -> Handles<'a> {
    Handles { proc, devpts, dev: None }
}
