//! Process 1 of a container started with `--init`: it starts the command, forwards signals, reaps orphans, and
//! ends with the command's exit code. It runs confined as the command does, and like all that runs after the clone
//! it neither allocates nor locks.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use sys::process::Cloned;

use crate::child::{During, Outcome, errno};
use crate::handshake::Step;

/// Splits: returns in the process that is to become the command; process 1 stays and never returns.
pub(crate) fn stay() -> Outcome<()> {
    // Before the command exists, so that not even its end in the next instant goes unseen.
    sys::process::block_all_signals();
    match sys::process::fork().map_err(errno).during(Step::Init)? {
        Cloned::Child => {
            sys::process::reset_signals();
            Ok(())
        }
        Cloned::Parent { pid, .. } => {
            // Not to be traced or read by what runs inside.
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
            rustix::thread::set_name(c"dhow-init").ok();
            // The handshake ends when the command's copy of the socket closes on exec: ours must not hold it open.
            sys::process::close_from(3);
            keep(pid)
        }
    }
}

fn keep(command: u32) -> ! {
    let signals: [i32; 31] = std::array::from_fn(|n| n as i32 + 1);
    let Some(command) = Pid::from_raw(command as i32) else { sys::process::exit_now(1) };
    loop {
        match sys::process::wait_signal(&signals) {
            Some(signal) if signal == Signal::CHILD.as_raw() => reap(command),
            Some(signal) => {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    kill_process(command, signal).ok();
                }
            }
            None => {}
        }
    }
}

/// Reaps whatever has ended; ends with the command.
fn reap(command: Pid) {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => {
                let code = status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s));
                sys::process::exit_now(code.unwrap_or(255))
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
