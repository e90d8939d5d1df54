//! Device nodes: the default ones, in a tmpfs that nothing else can reach yet, and those that the specification lists,
//! anywhere in the root.
//!
//! A directory is resolved inside the root, and the node made in it by `mknodat`, which follows nothing: an image
//! whose `/dev` is a symlink gets its devices where it leads to *inside* (CVE-2026-41579). Where nodes cannot be made, in a
//! user namespace, the host's are bound over empty files.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base::Root;
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mkdirat, mknodat, openat,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mounts::{Tree, attach};
use super::{During, Outcome, errno};
use crate::handshake::{Failed, Step};
use crate::plan::{DEFAULT_DEVICES, Dev, DevicePlan, DevicesPlan, FIRST_DEVICE};

/// The links that every container has (runtime-linux.md, "Dev symbolic links").
const LINKS: [(&CStr, &CStr); 6] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"/proc/kcore", c"core"),
    (c"pts/ptmx", c"ptmx"),
];
/// The index of the first link in what is reported.
const FIRST_LINK: usize = DEFAULT_DEVICES.len();

/// Fills a new tmpfs, but for the devices whose bits are set in `replaced`. True where nodes may not be made: there
/// are empty files in their places then, for [`bind_defaults`].
pub(super) fn fill(dev: &OwnedFd, replaced: u8, terminal: bool) -> Outcome<bool> {
    let mut denied = false;
    // The modes below are meant as they stand.
    rustix::process::umask(Mode::empty());
    for (n, (name, major, minor)) in defaults(replaced) {
        if !denied {
            let mode = Mode::from_raw_mode(0o666);
            match mknodat(dev, name, FileType::CharacterDevice, mode, makedev(major, minor)) {
                Err(Errno::PERM) => denied = true,
                other => other.during_nth(Step::Device, n)?,
            }
        }
        if denied {
            empty_file(dev.as_fd(), name, 0o666).during_nth(Step::Device, n)?;
        }
    }
    for (n, (target, name)) in LINKS.into_iter().enumerate() {
        symlinkat(target, dev, name).during_nth(Step::Device, FIRST_LINK + n)?;
    }
    for name in [c"pts", c"shm", c"mqueue"] {
        mkdirat(dev, name, Mode::from_raw_mode(0o755)).during_nth(Step::Device, FIRST_LINK)?;
    }
    if terminal {
        // A file for the terminal to be bound over.
        empty_file(dev.as_fd(), c"console", 0o620).during_nth(Step::Device, FIRST_LINK)?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(denied)
}

fn defaults(replaced: u8) -> impl Iterator<Item = (usize, (&'static CStr, u32, u32))> {
    DEFAULT_DEVICES.into_iter().enumerate().filter(move |(n, _)| replaced & 1 << n == 0)
}

/// Binds the host's default devices over the empty files that [`fill`] left.
pub(super) fn bind_defaults(dev: &OwnedFd, replaced: u8) -> Outcome<()> {
    for (n, (name, major, minor)) in defaults(replaced) {
        (|| {
            let target = openat(dev, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let node = hosts_default(name, makedev(major, minor))?;
            attach(&node, &target)
        })()
        .during_nth(Step::Device, n)?;
    }
    Ok(())
}

fn hosts_default(name: &CStr, number: u64) -> Result<OwnedFd, Errno> {
    // Relative to the host's /dev, so that no path has to be put together.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dev = openat(CWD, c"/dev", flags, Mode::empty())?;
    clone_node(dev.as_fd(), name, FileType::CharacterDevice, number)
}

/// A copy of the mount of one of the host's nodes, if it is the one that is meant.
pub(super) fn hosts(path: &CStr, kind: FileType, number: u64) -> Result<OwnedFd, Errno> {
    clone_node(CWD, path, kind, number)
}

fn clone_node(
    directory: rustix::fd::BorrowedFd<'_>,
    path: &CStr,
    kind: FileType,
    number: u64,
) -> Result<OwnedFd, Errno> {
    let node = open_tree(directory, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let stat = fstat(&node)?;
    let same = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == number;
    if same { Ok(node) } else { Err(Errno::NODEV) }
}

/// All devices that are made once everything is mounted, and a place for the console.
pub(super) fn make(plan: &DevicesPlan, root: &Root, tree: &mut Tree, terminal: bool) -> Outcome<()> {
    if plan.dev == Dev::Ours && plan.list.is_empty() {
        return Ok(());
    }
    rustix::process::umask(Mode::empty());
    if plan.dev == Dev::Image {
        tree.dev = Some(fill_images(plan, root, terminal)?);
    }
    for (n, device) in plan.list.iter().enumerate() {
        let n = FIRST_DEVICE + n;
        let (above, name) = parent(root, &device.path).during_nth(Step::Device, n)?;
        let node = Node::of(device);
        node.make(above.as_fd(), name.as_c_str(), plan.bound, n)?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if plan.dev == Dev::Host && terminal {
        tree.dev = hosts_dev(root);
    }
    Ok(())
}

/// Makes what is missing in a `/dev` that is the image's own, or a file system that we do not know.
fn fill_images(plan: &DevicesPlan, root: &Root, terminal: bool) -> Outcome<OwnedFd> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let dev = root.create_dir_all(Path::new("/dev")).map_err(errno).during_nth(Step::Device, FIRST_LINK)?;
    rustix::process::umask(Mode::empty());
    for (n, (name, major, minor)) in defaults(plan.replaced) {
        let number = makedev(major, minor);
        let node =
            Node { kind: FileType::CharacterDevice, number, mode: 0o666, owner: None, host: Host::Default };
        node.make(dev.as_fd(), name, plan.bound, n)?;
    }
    for (n, (target, name)) in LINKS.into_iter().enumerate() {
        if name == c"ptmx" {
            // An image's may be anything, and a node of the host's multiplexer makes terminals of the host.
            match unlinkat(&dev, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(Failed::new(Step::Device, FIRST_LINK + n, e)),
            }
        }
        match symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Failed::new(Step::Device, FIRST_LINK + n, e)),
        }
    }
    if terminal {
        // No symlink of the image may be what the terminal is bound over (CVE-2025-52565).
        let made = match empty_file(dev.as_fd(), c"console", 0o620) {
            Err(Errno::EXIST) if !can_hold_console(&dev) => unlinkat(&dev, c"console", AtFlags::empty())
                .and_then(|()| empty_file(dev.as_fd(), c"console", 0o620)),
            Err(Errno::EXIST) => Ok(()),
            other => other,
        };
        made.during_nth(Step::Device, FIRST_LINK)?;
    }
    Ok(dev)
}

/// The host's `/dev` as it is bound into the container, if the terminal can be bound over its console. That changes
/// nothing of it: the mount is the container's.
fn hosts_dev(root: &Root) -> Option<OwnedFd> {
    let dev = root.resolve(Path::new("/dev")).ok()?;
    can_hold_console(&dev).then_some(dev)
}

fn can_hold_console(dev: &OwnedFd) -> bool {
    statat(dev, c"console", AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::CharacterDevice)
    })
}

/// The directory that a device goes into, made if it is missing, and the device's name in it.
fn parent(root: &Root, path: &Path) -> Result<(OwnedFd, base::root::KernelPath), Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|&b| b != b'/').map_or(0, |n| n + 1);
    let above = Path::new(std::ffi::OsStr::from_bytes(&bytes[..end.saturating_sub(name.len())]));
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let directory = root.create_dir_all(above).map_err(errno);
    rustix::process::umask(Mode::empty());
    Ok((directory?, base::root::KernelPath::new(Path::new(name)).map_err(errno)?))
}

/// A node to be made.
struct Node<'a> {
    kind: FileType,
    number: u64,
    mode: u32,
    owner: Option<(u32, u32)>,
    host: Host<'a>,
}

/// Where the host has it.
enum Host<'a> {
    /// In its `/dev`, under the same name.
    Default,
    Paths(&'a [CString; 2]),
}

impl<'a> Node<'a> {
    fn of(plan: &'a DevicePlan) -> Self {
        let (kind, number, mode, owner) = (plan.kind, plan.number, plan.mode, plan.owner);
        Self { kind, number, mode, owner, host: Host::Paths(&plan.host) }
    }

    fn make(&self, directory: rustix::fd::BorrowedFd<'_>, name: &CStr, bound: bool, n: usize) -> Outcome<()> {
        match mknodat(directory, name, self.kind, Mode::from_raw_mode(self.mode), self.number) {
            Ok(()) => {
                let Some((uid, gid)) = self.owner else { return Ok(()) };
                // In a directory of a shared volume it may be something else by now.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let node = openat(directory, name, flags, Mode::empty()).during_nth(Step::Device, n)?;
                if !self.is(&fstat(&node).during_nth(Step::Device, n)?) {
                    return Err(Failed::new(Step::DeviceExists, n, Errno::EXIST));
                }
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                chownat(&node, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH).during_nth(Step::Device, n)
            }
            Err(Errno::EXIST) => match self.there(directory, name, n)? {
                There::Same => Ok(()),
                There::EmptyFile if bound => self.bind(directory, name, n),
                There::EmptyFile | There::Other => Err(Failed::new(Step::DeviceExists, n, Errno::EXIST)),
            },
            Err(Errno::PERM) => self.bind(directory, name, n),
            Err(e) => Err(Failed::new(Step::Device, n, e)),
        }
    }

    /// Binds the host's node.
    fn bind(&self, directory: rustix::fd::BorrowedFd<'_>, name: &CStr, n: usize) -> Outcome<()> {
        match empty_file(directory, name, 0o644) {
            Ok(()) => {}
            Err(Errno::EXIST) => match self.there(directory, name, n)? {
                There::Same => return Ok(()),
                // A place that somebody like us left.
                There::EmptyFile => {}
                There::Other => return Err(Failed::new(Step::DeviceExists, n, Errno::EXIST)),
            },
            Err(e) => return Err(Failed::new(Step::Device, n, e)),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = openat(directory, name, flags, Mode::empty()).during_nth(Step::Device, n)?;
        let node = match self.host {
            Host::Default => hosts_default(name, self.number),
            Host::Paths([path, by_number]) => {
                hosts(path, self.kind, self.number).or_else(|_| hosts(by_number, self.kind, self.number))
            }
        };
        attach(&node.during_nth(Step::Device, n)?, &target).during_nth(Step::Device, n)
    }

    fn is(&self, stat: &rustix::fs::Stat) -> bool {
        let same = self.kind == FileType::Fifo || stat.st_rdev == self.number;
        FileType::from_raw_mode(stat.st_mode) == self.kind && same
    }

    fn there(&self, directory: rustix::fd::BorrowedFd<'_>, name: &CStr, n: usize) -> Outcome<There> {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).during_nth(Step::Device, n)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            kind if kind == self.kind && (kind == FileType::Fifo || stat.st_rdev == self.number) => {
                There::Same
            }
            FileType::RegularFile if stat.st_size == 0 => There::EmptyFile,
            _ => There::Other,
        })
    }
}

/// What lies where a node shall be.
enum There {
    Same,
    EmptyFile,
    Other,
}

fn empty_file(directory: rustix::fd::BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::from_raw_mode(mode)).map(drop)
}
