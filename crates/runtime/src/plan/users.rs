//! The plan of a new user namespace: how its ids are the host's.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use oci::runtime::{IdMapping, Linux};

use super::PlanError;

/// The most lines that the kernel takes (4.15).
const MOST_MAPPINGS: usize = 340;

/// The maps of a new user namespace, which the parent writes.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) uids: Map,
    pub(crate) gids: Map,
}

impl Maps {
    /// Whether nobody in the namespace may choose their groups: who could, might leave one that forbids them something,
    /// and so the kernel has it denied before a user maps their own (user_namespaces(7)).
    pub(crate) fn deny_groups(&self) -> bool {
        self.gids.helper.is_none() && !rustix::process::geteuid().is_root()
    }
}

/// One map.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) lines: Vec<IdMapping>,
    /// Whoever may not write it themselves has it written by this program, which looks into `/etc/subuid` or
    /// `/etc/subgid`.
    pub(crate) helper: Option<PathBuf>,
}

impl Map {
    /// As the kernel reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for IdMapping { container_id, host_id, size } in &self.lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{container_id} {host_id} {size}");
        }
        text
    }
}

pub(super) fn plan(linux: &Linux) -> Result<Maps, PlanError> {
    let uids = checked("uid mappings", &linux.uid_mappings)?;
    let gids = checked("gid mappings", &linux.gid_mappings)?;
    // Root of whatever user namespace we are in writes them.
    if rustix::process::geteuid().is_root() {
        return Ok(Maps { uids: Map { lines: uids, helper: None }, gids: Map { lines: gids, helper: None } });
    }
    let helper = |name: &str, lines: &[IdMapping], own: u32| match lines {
        // The kernel lets everybody map themselves.
        [IdMapping { host_id, size: 1, .. }] if *host_id == own => Ok(None),
        _ => find(name).map(Some).ok_or_else(|| PlanError::NoMapper(name.to_owned())),
    };
    Ok(Maps {
        uids: Map { helper: helper("newuidmap", &uids, rustix::process::geteuid().as_raw())?, lines: uids },
        gids: Map { helper: helper("newgidmap", &gids, rustix::process::getegid().as_raw())?, lines: gids },
    })
}

fn checked(field: &'static str, lines: &[IdMapping]) -> Result<Vec<IdMapping>, PlanError> {
    let invalid = |value: String| PlanError::Invalid { field, value };
    if lines.is_empty() {
        return Err(invalid("a new user namespace needs them".to_owned()));
    }
    if lines.len() > MOST_MAPPINGS {
        return Err(invalid(format!("{} are more than {MOST_MAPPINGS}", lines.len())));
    }
    for (n, line) in lines.iter().enumerate() {
        let shown = format!("{}:{}:{}", line.container_id, line.host_id, line.size);
        // The last number is no id: to the kernel it means "none".
        let fits = |first: u32| first.checked_add(line.size).is_some();
        if line.size == 0 || !fits(line.container_id) || !fits(line.host_id) {
            return Err(invalid(format!("`{shown}` is not a range of ids")));
        }
        let meet = |a: u32, b: u32, size: u32| a < b + size && b < a + line.size;
        if lines[..n].iter().any(|other| {
            meet(line.container_id, other.container_id, other.size)
                || meet(line.host_id, other.host_id, other.size)
        }) {
            return Err(invalid(format!("`{shown}` overlaps with one before it")));
        }
    }
    // Who builds the root is root.
    if !lines.iter().any(|line| line.container_id == 0) {
        return Err(invalid("none of them maps the container's 0".to_owned()));
    }
    Ok(lines.to_vec())
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|file| {
        std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(list: &[(u32, u32, u32)]) -> Vec<IdMapping> {
        let line = |&(container_id, host_id, size)| IdMapping { container_id, host_id, size };
        list.iter().map(line).collect()
    }

    #[test]
    fn ranges_must_be_ranges_and_apart() {
        for good in [&[(0, 0, u32::MAX)][..], &[(0, 1000, 1), (1, 100_000, 65535)], &[(5, 5, 1), (0, 0, 5)]] {
            assert!(checked("x", &lines(good)).is_ok(), "{good:?}");
        }
        for (bad, why) in [
            (&[][..], "needs them"),
            (&[(0, 0, 0)], "not a range"),
            (&[(0, 1, u32::MAX)], "not a range"),
            (&[(0, 0, 1), (u32::MAX, 5, 1)], "not a range"),
            (&[(0, 1000, 10), (9, 2000, 10)], "overlaps"),
            (&[(0, 1000, 10), (10, 1009, 10)], "overlaps"),
            (&[(0, 1000, 10), (2, 2000, 1)], "overlaps"),
            (&[(1, 1000, 10)], "container's 0"),
        ] {
            let error = checked("x", &lines(bad)).unwrap_err().to_string();
            assert!(error.contains(why), "{bad:?}: {error}");
        }
        let many: Vec<_> = (0..341).map(|n| (n, n, 1)).collect();
        assert!(checked("x", &lines(&many)).is_err());
    }

    #[test]
    fn a_map_is_written_as_the_kernel_reads_it() {
        let map = Map { lines: lines(&[(0, 1000, 1), (1, 100_000, 65535)]), helper: None };
        assert_eq!(map.text(), "0 1000 1\n1 100000 65535\n");
    }
}
