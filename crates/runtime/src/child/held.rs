//! A child that is held: it is what the command will be but for its rights, and waits to be told to become it.
//!
//! It may wait for days. So it lets go of everything that it got from its parent but the socket that it listens on and
//! what the command inherits, and is not to be traced or read by what shares its namespaces (CVE-2016-9962).

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, stat};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, accept_with, send};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sys::socket::peer_user;

use super::attributes::raise_descriptors;
use super::process::bound;
use super::{During, Outcome, await_go, await_message, die_with_parent, errno, retry};
use crate::handshake::{Failed, Message, Step};
use crate::plan::ProcessPlan;

/// Finds out now what would fail only when nobody who made the container is there any more: a command that does not
/// exist, or that nobody may execute.
fn look_for_command(plan: &ProcessPlan) -> Outcome<()> {
    let mut worst = Failed::new(Step::Exec, 0, Errno::NOENT);
    for (n, path) in plan.candidates.iter().enumerate() {
        match stat(path.as_c_str()) {
            Ok(found)
                if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
                    && found.st_mode & 0o111 != 0 =>
            {
                return Ok(());
            }
            Ok(_) => worst = Failed::new(Step::Exec, n, Errno::ACCESS),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            // Where root may not look the user may: the exec will tell.
            Err(_) => return Ok(()),
        }
    }
    Err(worst)
}

/// What must be so before whoever made the container hears that it is made.
pub(super) fn prepare(plan: &ProcessPlan) -> Outcome<()> {
    look_for_command(plan)?;
    raise_descriptors(plan)?;
    // A hook that joins us meanwhile can tell by this what the container may.
    bound(plan)?;
    // An ordinary user's in a user namespace of its own stays traceable, for its maker, who could otherwise not get at
    // its namespaces.
    if !plan.traceable {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).during(Step::Hold)?;
    }
    if !plan.manner.tied {
        die_with_parent(false)?;
    }
    Ok(())
}

/// Waits for somebody who says Go. From then on `socket` is the connection to whoever did.
///
/// The descriptors of the whole process are closed: the caller must not return to what owns them.
pub(super) fn wait(plan: &mut ProcessPlan, socket: BorrowedFd<'_>) -> Outcome<()> {
    let Some(listener) = plan.held.take() else { return Ok(()) };
    // What is sent to us now is for the command: what it means to one that has set up nothing yet.
    sys::process::reset_signals();
    // The one place is what we listen on first and what we speak through then, so that it is open all the time.
    sys::process::take_place(listener, socket).map_err(errno).during(Step::Hold)?;
    close_all_but(plan, socket)?;
    let owner = peer_user(socket).during(Step::Hold)?;
    let connection = loop {
        let connection = retry(|| accept_with(socket, SocketFlags::CLOEXEC)).during(Step::Hold)?;
        // By its mode the socket lets nobody connect but its owner and root. This is a second look: it tells users
        // apart only where we know them, and in a user namespace all those of the host look alike.
        let peer = peer_user(&connection).during(Step::Hold)?;
        // Who goes away without a word, or was killed while it ran its hooks, has not started us: the next one may.
        if peer == owner && await_message(connection.as_fd(), Message::Starting).is_ok() {
            break connection;
        }
    };
    // Nobody can connect any more. From here on we end with whoever starts us.
    sys::process::take_place(connection, socket).map_err(errno).during(Step::Hold)?;
    await_go(socket)?;
    send(socket, &Message::Ready.encode(), SendFlags::NOSIGNAL).during(Step::Hold)?;
    Ok(())
}

fn close_all_but(plan: &ProcessPlan, kept: BorrowedFd<'_>) -> Outcome<()> {
    let first = 3 + plan.manner.preserved_descriptors;
    sys::process::close_all_but(first, kept).map_err(errno).during(Step::Hold)
}
