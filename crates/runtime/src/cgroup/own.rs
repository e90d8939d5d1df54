//! What this process itself may do about groups: root may do anything, a user what was delegated to them.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use base::fs::At as _;
use oci::runtime::Resources;
use rustix::fs::{Access, AtFlags, CWD, Uid, accessat, chownat};
use rustix::io::Errno;

use super::files::read_text;
use super::hierarchy::{Hierarchy, Layout};
use super::limits::asks_for_limits;
use super::{Error, Location, systemd};

/// Whether a container can have a group of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Possibility {
    /// It can.
    Possible,
    /// It cannot, and asks for no limit: it can do without. The line is for the user.
    DoWithout {
        /// Why not.
        reason: String,
    },
}

/// Whether a group can be made there by whoever we are. Looks, touches nothing.
///
/// # Errors
/// Where it cannot, but limits are asked for, which there would not be.
pub fn possibility(
    hierarchy: &Hierarchy,
    location: &Location,
    resources: Option<&Resources>,
) -> Result<Possibility, Error> {
    // Root's answer is always yes, and what is wrong shows when it is made; whether systemd makes it, it knows.
    if is_privileged() || matches!(location, Location::Systemd { .. }) {
        return Ok(Possibility::Possible);
    }
    let below = systemd::below_root(location)?;
    let roots: Vec<&Path> = match &hierarchy.0 {
        Layout::V2 { root, .. } => vec![root],
        Layout::V1 { mounts, systemd, .. } => {
            mounts.iter().map(|(_, root)| root).chain(systemd).map(PathBuf::as_path).collect()
        }
    };
    let closed = roots.iter().find_map(|root| {
        let nearest = below.ancestors().map(|part| root.join(part)).find(|path| path.exists())?;
        (!is_writable(&nearest)).then_some(nearest)
    });
    match closed {
        None => Ok(Possibility::Possible),
        Some(path) if resources.is_some_and(asks_for_limits) => {
            Err(Errno::ACCESS).at("make a cgroup, which the limits need, in", path).map_err(Error::File)
        }
        Some(path) => Ok(Possibility::DoWithout {
            reason: format!(
                "the container has no cgroup of its own: {} may not be written to by this user",
                path.display()
            ),
        }),
    }
}

fn is_writable(path: &Path) -> bool {
    // By the effective ids, which are what counts when it is made.
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// v2: where a user's container goes if nothing else is said: beside our own group, which mostly has processes in it
/// and so cannot hand controllers down. `None` on v1, and where our own group is the root.
pub fn beside_own(hierarchy: &Hierarchy, name: &str) -> Option<Location> {
    if !hierarchy.is_v2() {
        return None;
    }
    let own = own_v2(&read_text(Path::new("/proc/self/cgroup"))?)?;
    Some(Location::Path(own.parent()?.join(name)))
}

/// From `/proc/self/cgroup`, in whose lines v2 is `0::/path`. One outside of our view of the groups is of no use.
fn own_v2(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = Path::new(path);
    let inside = path.is_absolute() && !path.components().any(|c| c == std::path::Component::ParentDir);
    inside.then(|| path.to_owned())
}

/// True for root of the machine: neither a user, nor root of a user namespace, which cannot load programs.
pub(super) fn is_privileged() -> bool {
    let every = |text: String| text.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    rustix::process::geteuid().is_root() && read_text(Path::new("/proc/self/uid_map")).is_none_or(every)
}

/// Gives a group of v2 to a user, as far as cgroups(7), "Delegation", says.
pub(super) fn hand_over(path: &Path, uid: u32) -> Result<(), Error> {
    let owner = Some(Uid::from_raw(uid));
    let chown = |path: &Path| chownat(CWD, path, owner, None, AtFlags::SYMLINK_NOFOLLOW);
    chown(path).at("change the owner of the cgroup", path)?;
    let list = read_text(Path::new("/sys/kernel/cgroup/delegate"));
    // Kernels before 4.15 do not say.
    let list = list.unwrap_or_else(|| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads".to_owned());
    for name in list.lines().filter(|name| !name.as_bytes().contains(&b'/')) {
        let file = path.join(std::ffi::OsStr::from_bytes(name.as_bytes()));
        match chown(&file) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error).at("change the owner of", &file).map_err(Error::File),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_is_found() {
        let hybrid = "4:memory:/a\n0::/user.slice/user-1000.slice/session-1.scope\n";
        assert_eq!(own_v2(hybrid).unwrap(), Path::new("/user.slice/user-1000.slice/session-1.scope"));
        assert_eq!(own_v2("4:memory:/a\n"), None);
        assert_eq!(own_v2("0::/../outside\n"), None);
    }

    #[test]
    fn root_can_have_groups() {
        let hierarchy = Hierarchy::detect().unwrap();
        let location = Location::Path("dhow-test-possible/x".into());
        assert_eq!(possibility(&hierarchy, &location, None).unwrap(), Possibility::Possible);
    }
}
