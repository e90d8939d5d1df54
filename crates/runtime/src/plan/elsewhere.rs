//! Trees of another mount namespace: `/proc/PID/root/…` as the source of a bind mount.
//!
//! The kernel copies mounts of the caller's own namespace alone. So a thread enters the other one, copies the tree
//! there, and ends: what it leaves is a copy that is attached nowhere, and such a one can be attached anywhere.
//! What the path leads through belongs to whoever owns that namespace: it is resolved there, inside of that
//! process's root, and over no link that the kernel makes up.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{chroot, fchdir};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// The process, and the path in its root; none where the path is not of this form.
fn parts(path: &Path) -> Option<(u32, PathBuf)> {
    let mut components = path.components();
    let plain = |component: Component<'_>, name: &str| component.as_os_str() == name;
    (components.next()? == Component::RootDir && plain(components.next()?, "proc")).then_some(())?;
    let pid = components.next()?.as_os_str().to_str()?.parse().ok()?;
    plain(components.next()?, "root").then_some(())?;
    Some((pid, Path::new("/").join(components.as_path())))
}

/// Copies the tree, where the path leads into another process's root.
pub(super) fn copy(path: &Path, flags: OpenTreeFlags) -> Option<Result<OwnedFd, Errno>> {
    let (pid, inside) = parts(path)?;
    let copied = std::thread::scope(|scope| {
        let entered = std::thread::Builder::new().spawn_scoped(scope, move || {
            enter(pid)?;
            let how = OFlags::PATH | OFlags::CLOEXEC;
            let there = openat2(CWD, &inside, how, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
            open_tree(&there, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)
        });
        let entered = entered.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::AGAIN))?;
        entered.join().unwrap_or(Err(Errno::CANCELED))
    });
    Some(copied)
}

/// This thread goes where the process is.
fn enter(pid: u32) -> Result<(), Errno> {
    sys::process::unshare(UnshareFlags::FS.bits())
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::PERM))?;
    let open = |name: &str, flags| openat(CWD, format!("/proc/{pid}/{name}"), flags, Mode::empty());
    let root = open("root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
    let mounts = open("ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC)?;
    move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
    fchdir(&root)?;
    chroot(c".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_through_another_root_lead_elsewhere() {
        assert_eq!(parts(Path::new("/proc/7/root/dev/shm")), Some((7, PathBuf::from("/dev/shm"))));
        assert_eq!(parts(Path::new("/proc/7/root")), Some((7, PathBuf::from("/"))));
        for other in
            ["/proc/self/root/dev", "/proc/7/cwd/x", "/srv/proc/7/root", "proc/7/root", "/proc", "/dev/shm"]
        {
            assert_eq!(parts(Path::new(other)), None, "{other}");
        }
    }
}
