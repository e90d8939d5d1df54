//! What of ours is left in the kernel and on disk: taken before the tests and after them, and compared.
//!
//! Everything global that Dhow makes carries its name (`state::Instance::global_name`), so ours can be told
//! from what else the machine does meanwhile. A machine of continuous integration does nothing else: there
//! (`CI=true`) every new interface and firewall table counts, whatever its name.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::shell;

/// How long after the tests everything must be gone.
const GRACE: Duration = Duration::from_secs(5);

/// Directories in which a test may have left files of ours.
const PLACES: &[&str] = &["/tmp", "/var/tmp", "/run", "/var/lib", "/dev/shm", "/etc", "/run/netns"];

/// What there is, a line each: `mount /tmp/dhow…`, `interface dhow-1a2b3c4d`, …
pub(crate) type Snapshot = BTreeSet<String>;

/// Takes one.
pub(crate) fn snapshot() -> Snapshot {
    let everything = std::env::var_os("CI").is_some();
    let mut found = Snapshot::new();
    mounts(&mut found);
    interfaces(&mut found, everything);
    firewall(&mut found, everything);
    cgroups(&mut found);
    processes(&mut found);
    files(&mut found);
    found
}

/// Waits at most the grace for everything new to go, and fails with the list of what stays.
pub(crate) fn check(before: &Snapshot) -> Result<()> {
    check_for(before, &[""])
}

/// The same for what has one of these words in its line: where others may be at work, too.
pub(crate) fn check_for(before: &Snapshot, words: &[&str]) -> Result<()> {
    let deadline = Instant::now() + GRACE;
    loop {
        let now = snapshot();
        let concerns_us = |line: &&String| words.iter().any(|word| line.contains(word));
        let left: Vec<&str> = now.difference(before).filter(concerns_us).map(String::as_str).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("after {} s there is still:\n  {}", GRACE.as_secs(), left.join("\n  "));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits at most the grace for an instance's bridge and cgroups to go: the last monitor takes bridge, table and cgroups along
/// some seconds after the last container, and needs the instance's directories for that.
pub(crate) fn await_sweep(global_name: &str) {
    let places = ["/sys/class/net", "/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"];
    let stands = || places.iter().any(|place| Path::new(place).join(global_name).exists());
    let deadline = Instant::now() + GRACE;
    while stands() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ours(name: &str) -> bool {
    name.contains("dhow")
}

fn read(path: impl AsRef<Path>) -> String {
    // what vanishes while we look was no leak
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn names(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn mounts(found: &mut Snapshot) {
    for line in read("/proc/self/mountinfo").lines() {
        let mut fields = line.split(' ');
        let (root, place) = (fields.nth(3).unwrap_or_default(), fields.next().unwrap_or_default());
        // the checkout itself may lie below a directory of that name
        let inside_checkout = shell::root().starts_with(place);
        if !inside_checkout && (ours(place) || ours(root)) {
            found.insert(format!("mount {place}"));
        }
    }
}

fn interfaces(found: &mut Snapshot, everything: bool) {
    for name in names("/sys/class/net") {
        if everything || ours(&name) || name.starts_with("dv") {
            found.insert(format!("interface {name}"));
        }
    }
}

fn firewall(found: &mut Snapshot, everything: bool) {
    if shell::find("nft").is_none() {
        return;
    }
    let Ok(mut nft) = shell::as_root("nft") else { return };
    // the tables with their rules, without handles and counters: a rule left in another's table shows, too
    let Ok(text) = shell::text(nft.args(["--stateless", "list", "ruleset"])) else { return };
    let mut table = "";
    for line in text.lines() {
        if line.starts_with("table ") {
            table = line.trim_end_matches([' ', '{']);
        }
        if everything || ours(table) || ours(line) {
            found.insert(format!("firewall: {table}: {}", line.trim()));
        }
    }
}

fn cgroups(found: &mut Snapshot) {
    let mut pending = vec![(std::path::PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((directory, depth)) = pending.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            if ours(&entry.file_name().to_string_lossy()) {
                found.insert(format!("cgroup {}", path.display()));
            } else if depth < 4 {
                pending.push((path, depth + 1));
            }
        }
    }
}

fn processes(found: &mut Snapshot) {
    let me = std::process::id().to_string();
    for pid in names("/proc") {
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) || pid == me {
            continue;
        }
        let name = read(format!("/proc/{pid}/comm"));
        let command = read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
        let program = command.split(' ').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let zombie = read(format!("/proc/{pid}/stat")).contains(") Z ");
        if !zombie && (name.starts_with("dhow") || program.starts_with("dhow")) {
            // a monitor holds its container's live directory, which tells whose it is
            let holds = std::fs::read_link(format!("/proc/{pid}/fd/3")).unwrap_or_default();
            found.insert(format!("process {pid}: {} ({})", command.trim(), holds.display()));
        }
    }
}

fn files(found: &mut Snapshot) {
    for place in PLACES {
        for name in names(place) {
            if ours(&name) {
                found.insert(format!("file {place}/{name}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_named_and_what_was_there_is_not() {
        let place = std::env::temp_dir().join(format!("dhow-leak-test-{}", std::process::id()));
        let before = snapshot();
        std::fs::create_dir(&place).unwrap();
        let after = snapshot();
        std::fs::remove_dir(&place).unwrap();
        let line = format!("file {}", place.display());
        assert!(!before.contains(&line));
        assert!(after.contains(&line) || !place.starts_with("/tmp"), "{after:?}");
    }
}
