//! Process 1 of a container started with `--init`: it starts the command, forwards signals, reaps orphans, and
//! ends with the command's exit code. It runs confined as the command does, and like all that runs after the clone
//! it neither allocates nor locks.

use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions};
use sys::process::Cloned;

use crate::child::{During, Outcome, errno};
use crate::handshake::Step;

/// Splits: returns in the process that is to become the command; process 1 stays and never returns.
pub(crate) fn stay() -> Outcome<()> {
    // Before the command exists, so that not even its end in the next instant goes unseen.
    sys::process::block_all_signals();
    match sys::process::fork().map_err(errno).during(Step::Init)? {
        Cloned::Child => {
            // A group of its own, in the foreground where there is a terminal: what its keys mean reaches the command
            // once, and not a second time through process 1. (In the background it could not be set without SIGTTOU,
            // which is blocked here.) Both only fail where there is nothing to be set.
            rustix::process::setpgid(None, None).ok();
            rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid()).ok();
            sys::process::reset_signals();
            Ok(())
        }
        Cloned::Parent { pid, .. } => {
            // Not to be traced or read by what runs inside.
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
            rustix::thread::set_name(c"dhow-init").ok();
            // The handshake ends when the command's copy of the socket closes on exec: ours must not hold it open.
            sys::process::close_from(3, move || keep(pid))
        }
    }
}

fn keep(command: u32) -> ! {
    let signals: [i32; 64] = std::array::from_fn(|n| n as i32 + 1);
    loop {
        match sys::process::wait_signal(&signals) {
            Some(signal) if signal == Signal::CHILD.as_raw() => reap(command),
            // Fails only where the command has ended, which is seen next.
            Some(signal) => drop(sys::process::kill(command, signal)),
            None => {}
        }
    }
}

/// Reaps whatever has ended; ends with the command.
fn reap(command: u32) {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() as u32 == command => {
                let code = status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s));
                sys::process::exit_now(code.unwrap_or(255))
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
