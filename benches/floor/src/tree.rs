//! The container's tree: an overlay over the given root, and what a container finds mounted in it.

use std::ffi::{CStr, CString};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mkdirat, mknodat, symlinkat};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{chdir, pivot_root};

/// The directories of one container.
pub(crate) struct Layout {
    base: PathBuf,
    merged: PathBuf,
    options: CString,
}

impl Layout {
    /// Makes them: an upper directory, a work directory, a place for the mount.
    pub(crate) fn create(base: &Path, rootfs: &str) -> io::Result<Self> {
        let base_text = base.display();
        mkdirat(CWD, base, Mode::RWXU)?;
        for name in ["u", "w", "m"] {
            mkdirat(CWD, base.join(name), Mode::from_raw_mode(0o755))?;
        }
        let options = format!("lowerdir={rootfs},upperdir={base_text}/u,workdir={base_text}/w");
        Ok(Self { base: base.to_owned(), merged: base.join("m"), options: CString::new(options)? })
    }

    /// Makes it this process's root, with proc and dev, and with all the rest if `full`.
    pub(crate) fn enter(&self, full: bool) -> io::Result<()> {
        let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        mount("overlay", &self.merged, "overlay", MountFlags::empty(), &self.options)?;
        chdir(&self.merged)?;
        mount("proc", "proc", "proc", plain, c"")?;
        mount("tmpfs", "dev", "tmpfs", MountFlags::NOSUID, c"mode=755,size=65536k")?;
        if full {
            everything(plain)?;
        }
        pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        chdir("/")?;
        Ok(())
    }

    /// Removes what the container left.
    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

fn mount(
    source: &str,
    target: impl rustix::path::Arg,
    kind: &str,
    flags: MountFlags,
    options: &CStr,
) -> io::Result<()> {
    rustix::mount::mount(source, target, kind, flags, options)?;
    Ok(())
}

fn everything(plain: MountFlags) -> io::Result<()> {
    for (path, mode) in [("dev/pts", 0o755), ("dev/shm", 0o1777), ("dev/mqueue", 0o755)] {
        mkdirat(CWD, path, Mode::from_raw_mode(mode))?;
    }
    let terminals = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount("devpts", "dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, terminals)?;
    mount("shm", "dev/shm", "tmpfs", plain, c"mode=1777,size=65536k")?;
    mount("mqueue", "dev/mqueue", "mqueue", plain, c"")?;
    mount("sysfs", "sys", "sysfs", plain | MountFlags::RDONLY, c"")?;
    let devices =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in devices {
        let path = format!("dev/{name}");
        mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))?;
    }
    symlinkat("/proc/self/fd", CWD, "dev/fd")?;
    symlinkat("pts/ptmx", CWD, "dev/ptmx")?;
    // a kernel need not have them all
    for path in ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"] {
        if rustix::mount::mount_bind(path, path).is_ok() {
            rustix::mount::mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | plain, c"")?;
        }
    }
    for path in ["proc/kcore", "proc/keys", "proc/timer_list"] {
        let _ = rustix::mount::mount_bind("/dev/null", path);
    }
    for path in ["proc/acpi", "sys/firmware"] {
        let _ = mount("tmpfs", path, "tmpfs", MountFlags::RDONLY, c"size=0k");
    }
    Ok(())
}
