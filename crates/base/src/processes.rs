//! No process and no thread can be made: what is used up. The kernel says `EAGAIN` for all of several limits.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::{Builder, Scope};

/// So few that are left may have been too few: what failed has ended by the time it is asked about.
const FEW: u64 = 16;

/// Whether a process or thread was refused for lack of something.
pub fn are_exhausted(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory)
}

/// Says of an error that it is a thread's that was not made.
pub fn no_thread(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot start a thread: {error}"))
}

/// Starts threads that help the calling one with a work: so many, or as many as there may be.
pub fn helpers<'scope, F>(scope: &'scope Scope<'scope, '_>, count: usize, work: F)
where
    F: Fn() + Send + Copy + 'scope,
{
    for _ in 0..count {
        // Without it the work takes longer, and that is all.
        if Builder::new().name("helper".to_owned()).spawn_scoped(scope, work).is_err() {
            return;
        }
    }
}

/// What to do where one was; empty where the error says something else. `groups`: the cgroups of the container that it was
/// to be in, if it was.
pub fn hints(error: &io::Error, groups: &[PathBuf]) -> Vec<String> {
    if error.kind() != io::ErrorKind::WouldBlock {
        return Vec::new();
    }
    let mut hints: Vec<String> = groups
        .iter()
        .filter_map(|group| full(group))
        .map(|(now, most)| {
            format!("raise the container's limit of processes, {now} of {most} are there: dhow update --pids-limit")
        })
        .take(1)
        .collect();
    hints.extend(own_groups().iter().find_map(|group| full(group).map(|full| (group, full))).map(
        |(group, (now, most))| {
            format!(
                "raise the limit of processes of the cgroup {}, {now} of {most} are there: pids.max, or TasksMax= of \
                 the systemd unit",
                group.display()
            )
        },
    ));
    hints.extend(kernels());
    if hints.is_empty() {
        hints.push(
            "look at what limits processes: ulimit -u, pids.max of the cgroup, kernel.threads-max, kernel.pid_max"
                .to_owned(),
        );
    }
    hints
}

/// What a group has and may have, where that is about the same.
fn full(group: &Path) -> Option<(u64, u64)> {
    let most = number(&group.join("pids.max"))?;
    let now = number(&group.join("pids.current"))?;
    // The kernel counts what it has refused there, if not when.
    let events = std::fs::read_to_string(group.join("pids.events")).unwrap_or_default();
    let refused = events.lines().any(|line| line.strip_prefix("max ").is_some_and(|count| count != "0"));
    let slack = if refused { FEW } else { FEW.min(most / 2) };
    (now.saturating_add(slack) >= most).then_some((now, most))
}

/// The limits of the whole machine.
fn kernels() -> Option<String> {
    let average = std::fs::read_to_string("/proc/loadavg").ok()?;
    let now: u64 = average.split(' ').nth(3)?.split('/').nth(1)?.parse().ok()?;
    ["threads-max", "pid_max"].iter().find_map(|name| {
        let most = number(&Path::new("/proc/sys/kernel").join(name))?;
        (now + FEW >= most)
            .then(|| format!("raise kernel.{name}, {now} of {most} threads are there: sysctl -w"))
    })
}

/// The groups that we are in and that can limit processes, innermost first.
fn own_groups() -> Vec<PathBuf> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mounts");
    let mounted = |v2: bool| {
        mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (place, kind, options) = (words.next()?, words.next()?, words.next()?);
            let suits = if v2 {
                kind == "cgroup2"
            } else {
                kind == "cgroup" && options.split(',').any(|o| o == "pids")
            };
            suits.then(|| PathBuf::from(place))
        })
    };
    let mut groups = Vec::new();
    for line in read("/proc/self/cgroup").lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let v2 = controllers.is_empty();
        if (v2 || controllers.split(',').any(|name| name == "pids"))
            && let Some(root) = mounted(v2)
        {
            let group = root.join(path.trim_start_matches('/'));
            groups.extend(group.ancestors().take_while(|above| above.starts_with(&root)).map(Path::to_owned));
        }
    }
    groups
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_full_where_next_to_nothing_is_left() {
        let dir = scratch();
        for (now, most, is) in [
            ("100", "max", false),
            ("100", "100", true),
            ("90", "100", true),
            ("10", "100", false),
            ("1", "4", false),
            ("2", "4", true),
        ] {
            std::fs::write(dir.join("pids.current"), now).unwrap();
            std::fs::write(dir.join("pids.max"), most).unwrap();
            assert_eq!(full(&dir).is_some(), is, "{now} of {most}");
        }
        std::fs::write(dir.join("pids.current"), "1").unwrap();
        assert_eq!(full(&dir), None);
        std::fs::write(dir.join("pids.events"), "max 3\n").unwrap();
        assert_eq!(full(&dir), Some((1, 4)), "it has refused some, who have ended since");
        let told = hints(&io::ErrorKind::WouldBlock.into(), std::slice::from_ref(&dir));
        assert!(told[0].contains("1 of 4 are there: dhow update"), "{told:?}");
        assert!(hints(&io::ErrorKind::NotFound.into(), std::slice::from_ref(&dir)).is_empty());
        assert!(!hints(&io::ErrorKind::WouldBlock.into(), &[]).is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }

    fn scratch() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("dhow-base-processes-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}
