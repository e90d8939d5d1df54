//! The processes of a group: listing, signalling, killing them.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::fs::At as _;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::files::{read_text, write_to};
use super::group::{Directory, Group};
use super::{Error, freezer};

/// How long a killed group may take to empty. A process in an uninterruptible wait can take for ever, and then
/// the caller has to be told.
const DYING: Duration = Duration::from_secs(10);

/// Groups nest a few levels deep; a container that nests more of them than this keeps its rubbish.
pub(super) const DEPTH: usize = 64;

/// Descriptors of processes that are held at a time.
const BATCH: usize = 256;

const KILL: i32 = libc::SIGKILL;

impl Group {
    /// The process ids, in our namespace, of all in it and in what was made below it. Empty if there is no such
    /// group.
    pub fn processes(&self) -> Vec<u32> {
        let Some(directory) = self.whole() else { return Vec::new() };
        let mut found = processes(&directory.path);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Sends a signal (1 to 64) to every process in it and below it. Who is being forked meanwhile gets it too, as far
    /// as a few rounds find it; for SIGKILL, [`kill`](Self::kill) is certain. A frozen process gets it when it is
    /// thawed.
    pub fn signal_all(&self, signal: i32) -> Result<(), Error> {
        const ROUNDS: usize = 5;
        let Some(directory) = self.whole() else { return Ok(()) };
        let mut reached = Vec::new();
        for _ in 0..ROUNDS {
            let mut new = processes(&directory.path);
            new.retain(|pid| !reached.contains(pid));
            if new.is_empty() {
                break;
            }
            signal_these(&directory.path, &new, signal)
                .at("signal the processes of the cgroup", &directory.path)?;
            reached.append(&mut new);
        }
        Ok(())
    }

    /// Kills every process in it and in what the container made below it, also those that are just being
    /// forked or frozen, and waits until they are gone. Fine if there is no such group.
    pub fn kill(&self) -> Result<(), Error> {
        let Some(directory) = self.whole() else { return Ok(()) };
        let deadline = Instant::now() + DYING;
        if directory.v2 {
            match write_to(CWD, directory.path.join("cgroup.kill"), b"1") {
                Ok(()) => {}
                // It has been removed: before we opened the file, or (ENODEV) right after.
                Err(Errno::NODEV) => return Ok(()),
                Err(Errno::NOENT) if !directory.path.exists() => return Ok(()),
                // Kernels before 5.14 have no such file.
                Err(Errno::NOENT) => kill_all(directory)?,
                Err(error) => {
                    return Err(error).at("kill the cgroup", &directory.path).map_err(Error::File);
                }
            }
        }
        let mut pause = Duration::from_micros(200);
        let mut round = 0;
        while is_populated(&directory.path) {
            if Instant::now() > deadline {
                return Err(Error::Undying { path: directory.path.clone() });
            }
            if !directory.v2 {
                kill_all(directory)?;
                // On v1 a frozen process does not die. Whether the group is frozen costs something to find out
                // where we did not freeze it, and hardly ever is it.
                if self.has_freezer() || round == 2 {
                    self.thaw_where_frozen();
                }
            }
            round += 1;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        if directory.v2 && round > 0 {
            freezer::forget_frozen(&directory.path);
        }
        Ok(())
    }
}

fn kill_all(directory: &Directory) -> Result<(), Error> {
    signal_these(&directory.path, &processes(&directory.path), KILL)
        .at("kill the processes of the cgroup", &directory.path)
        .map_err(Error::File)
}

pub(super) fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

pub(super) fn processes(path: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    collect(path, DEPTH, &mut found);
    found
}

fn collect(path: &Path, depth: usize, found: &mut Vec<u32>) {
    // A group with threads of its own (v2) does not tell its processes; the group above it does.
    let list = read_text(&path.join("cgroup.procs")).unwrap_or_default();
    // A number that is not ours to see (another PID namespace) is 0.
    found.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
    if depth > 0 {
        for child in children(path) {
            collect(&child, depth - 1, found);
        }
    }
}

/// Also true where all we know is that somebody is there whom we cannot see.
pub(super) fn is_populated(path: &Path) -> bool {
    fn look(path: &Path, depth: usize) -> bool {
        read_text(&path.join("cgroup.procs")).is_some_and(|list| !list.is_empty())
            || depth > 0 && children(path).iter().any(|child| look(child, depth - 1))
    }
    look(path, DEPTH)
}

/// Once its descriptor is held, a process cannot be mistaken for a later one with its number; so being in the
/// group is asked again afterwards.
fn signal_these(path: &Path, pids: &[u32], signal: i32) -> std::io::Result<()> {
    for batch in pids.chunks(BATCH) {
        let held: Vec<(u32, OwnedFd)> = batch
            .iter()
            .filter_map(|&pid| {
                let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
                Some((pid, pidfd_open(raw, PidfdFlags::empty()).ok()?))
            })
            .collect();
        let still = processes(path);
        for (pid, process) in held {
            if still.contains(&pid)
                && let Err(error) = sys::process::send_signal(process.as_fd(), signal)
                && error.raw_os_error() != Some(libc::ESRCH)
            {
                return Err(error);
            }
        }
    }
    Ok(())
}
