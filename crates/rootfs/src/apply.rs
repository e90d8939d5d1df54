//! An archive becomes a directory that overlay can use as a layer (OCI image specification, layer.md).
//!
//! Whiteouts become what overlay takes for them (the kernel's Documentation/filesystems/overlayfs.rst): the
//! character device 0:0 for one name, `trusted.overlay.opaque` for all of a directory. They speak of the
//! layers below only: what the same archive has at that place stays, whichever comes first. One that lies
//! below a file or symlink of the same archive says nothing, since that hides all below already; umoci writes
//! such ones where a directory became a symlink.

use std::fs::File;
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::archive::{Archive, ArchiveError, Entry, EntryKind};
use crate::limits::{Exceeded, Limits};
use crate::mark;
use crate::name::{BadName, Meaning, Name, shown};
use crate::tree::{Replaced, Tree, both, is_whiteout, os};

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// What new files in a directory get.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The archive itself is broken.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// One entry cannot be unpacked.
    #[error("cannot unpack the entry `{name}`")]
    Entry {
        /// Its name, fit to be shown.
        name: String,
        /// Why.
        source: EntryError,
    },
    /// It does not keep to a bound.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The last touches failed.
    #[error("cannot finish the directories")]
    Finish(#[source] io::Error),
}

/// Why one entry cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Its name is refused.
    #[error("the name is refused")]
    Name(#[from] BadName),
    /// The name that it links to is refused.
    #[error("the link's target `{target}` is refused")]
    Target {
        /// The target, fit to be shown.
        target: String,
        /// Why.
        source: BadName,
    },
    /// A hard link to what is not there. Files of lower layers cannot be linked to.
    #[error("it is a hard link to `{0}`, which this layer does not have")]
    NoTarget(String),
    /// A hard link to a directory.
    #[error("it is a hard link to `{0}`, which is a directory")]
    DirectoryTarget(String),
    /// A device that Linux cannot number.
    #[error("there is no device {0}:{1}")]
    Device(u32, u32),
    /// The content cannot be had.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The kernel said no.
    #[error("cannot {action}")]
    System {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file system does not keep an attribute that the file needs.
    #[error("cannot set the attribute {name}")]
    Attribute {
        /// The attribute's name, fit to be shown.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, EntryError>;

/// Adds what was attempted to what the kernel said.
trait Action<T> {
    fn to(self, action: &'static str) -> Result<T>;
}

impl<T, E: Into<io::Error>> Action<T> for std::result::Result<T, E> {
    fn to(self, action: &'static str) -> Result<T> {
        self.map_err(|e| EntryError::System { action, source: e.into() })
    }
}

/// Unpacks `archive`, and reads the stream it is in to the end, into the empty directory `root`.
pub(crate) fn unpack(
    mut archive: Archive<impl BufRead>,
    root: OwnedFd,
    limits: &Limits,
) -> std::result::Result<(), ApplyError> {
    let mut tree = Tree::new(root);
    let mut entries = 0;
    while let Some(entry) = archive.next()? {
        entries += 1;
        if entries + tree.made() > limits.max_entries {
            return Err(Exceeded::Entries(limits.max_entries).into());
        }
        if let Err(source) = apply(&mut tree, &entry, &mut archive) {
            return Err(match source {
                // The archive ended or broke off in the content: not this entry's fault.
                EntryError::Archive(e) => e.into(),
                source => ApplyError::Entry { name: shown(&entry.name), source },
            });
        }
    }
    tree.finish().map_err(|e| ApplyError::Finish(e.into()))?;
    Ok(archive.drain()?)
}

fn apply(tree: &mut Tree, entry: &Entry, archive: &mut Archive<impl BufRead>) -> Result<()> {
    match Meaning::of(&entry.name)? {
        Meaning::Nothing => Ok(()),
        Meaning::Whiteout(name) => whiteout(tree, &name),
        Meaning::Opaque(name) => {
            if tree.is_cut_off(&name).to("look at what is there")? {
                return Ok(());
            }
            tree.opaque_root |= name.is_root();
            mark::set_opaque(tree.dir(&name).to("make the directory")?).to("make the directory opaque")
        }
        Meaning::File(name) => match &entry.kind {
            EntryKind::Directory => directory(tree, &name, entry),
            // CVE-2021-29136: a symlink in the place of the root.
            _ if name.is_root() => Err(BadName::Root.into()),
            EntryKind::HardLink(target) => hard_link(tree, &name, target),
            _ => {
                if !create(tree, &name, entry, archive)? {
                    tree.clear(&name).to("replace what is there")?;
                    if !create(tree, &name, entry, archive)? {
                        return Err(Errno::EXIST).to("replace what is there");
                    }
                }
                Ok(())
            }
        },
    }
}

fn whiteout(tree: &mut Tree, name: &Name) -> Result<()> {
    let Some((parent, last)) = name.split() else { return Err(BadName::Whiteout.into()) };
    if tree.is_cut_off(&parent).to("look at what is there")? {
        return Ok(());
    }
    let dir = tree.dir(&parent).to("make the directories above it")?;
    match rustix::fs::statat(dir, os(last), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(dir, os(last), FileType::CharacterDevice, mode, 0).to("make the whiteout")?;
            mark::set_has_whiteouts(dir).to("mark the directory")
        }
        // A file hides what is below by being there; a directory would be merged with it.
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            renew(tree.dir(name).to("open the directory")?)
        }
        other => other.map(drop).to("look at what is there"),
    }
}

/// A directory in the place of one that a whiteout took away: it shows nothing of that one, nor looks like it.
fn renew(dir: BorrowedFd<'_>) -> Result<()> {
    mark::set_opaque(dir).to("make the directory opaque")?;
    mark::clear_implied(dir).to("mark the directory")
}

fn directory(tree: &mut Tree, name: &Name, entry: &Entry) -> Result<()> {
    let (mut opaque, mut fresh) = (false, true);
    if let Some((parent, last)) = name.split() {
        let mkdir = |dir: BorrowedFd<'_>| rustix::fs::mkdirat(dir, os(last), Mode::from_raw_mode(0o700));
        let dir = tree.dir(&parent).to("make the directories above it")?;
        match mkdir(dir) {
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(dir, os(last), AtFlags::SYMLINK_NOFOLLOW)
                    .to("look at what is there")?;
                fresh = false;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    opaque = tree.clear(name).to("replace what is there")? == Replaced::Whiteout;
                    mkdir(tree.dir(&parent).to("make the directories above it")?).to("make the directory")?;
                }
            }
            other => other.to("make the directory")?,
        }
    }
    tree.default_acls |= entry.xattrs.iter().any(|(name, _)| name == DEFAULT_ACL);
    let inherits = tree.default_acls;
    let dir = tree.dir(name).to("open the directory")?;
    if !fresh {
        mark::clear_implied(dir).to("mark the directory")?;
    }
    if inherits {
        disinherit(dir)?;
    }
    set_metadata(dir, entry)?;
    if opaque {
        mark::set_opaque(dir).to("make the directory opaque")?;
    }
    tree.set_dir_mtime(name, entry.mtime).to("open the directory")
}

fn hard_link(tree: &mut Tree, name: &Name, raw_target: &[u8]) -> Result<()> {
    let target =
        Name::new(raw_target).map_err(|source| EntryError::Target { target: shown(raw_target), source })?;
    let no_target = || EntryError::NoTarget(shown(raw_target));
    let (Some((parent, last)), Some((target_parent, target_last))) = (name.split(), target.split()) else {
        return Err(EntryError::DirectoryTarget(shown(raw_target)));
    };
    for attempt in 0.. {
        let from = match tree.existing_dir(&target_parent) {
            Err(Errno::NOTDIR) | Ok(None) => return Err(no_target()),
            other => other.to("look for the link's target")?.ok_or_else(no_target)?,
        };
        let stat = match rustix::fs::statat(from, os(target_last), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(no_target()),
            other => other.to("look for the link's target")?,
        };
        if is_whiteout(&stat) {
            return Err(no_target());
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(EntryError::DirectoryTarget(shown(raw_target)));
        }
        // The other directory may push this one out of the cache.
        let from = from.try_clone_to_owned().to("open the directory")?;
        let to = tree.dir(&parent).to("make the directories above it")?;
        // Without AT_SYMLINK_FOLLOW: a link to a symlink is a second name of the symlink.
        match rustix::fs::linkat(&from, os(target_last), to, os(last), AtFlags::empty()) {
            Err(Errno::EXIST) if attempt == 0 => {
                let there = rustix::fs::statat(to, os(last), AtFlags::SYMLINK_NOFOLLOW)
                    .to("look at what is there")?;
                if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) {
                    return Ok(());
                }
                tree.clear(name).to("replace what is there")?;
            }
            other => return other.to("make the hard link"),
        }
    }
    Ok(())
}

/// Makes a file, symlink, device or fifo. False if something is there.
fn create(tree: &mut Tree, name: &Name, entry: &Entry, archive: &mut Archive<impl BufRead>) -> Result<bool> {
    let Some((parent, last)) = name.split() else { return Err(BadName::Root.into()) };
    let last = os(last);
    let dir = match tree.dir(&parent) {
        Err(e @ (Errno::EXIST | Errno::NOENT)) => {
            return Err(e)
                .to("make the directories above it, as a symlink among them leads nowhere in this layer");
        }
        other => other.to("make the directories above it")?,
    };
    let special = |kind, mode, device| rustix::fs::mknodat(dir, last, kind, mode, device);
    let private = Mode::from_raw_mode(0o600);
    let made = match &entry.kind {
        EntryKind::File(_) | EntryKind::Sparse { .. } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // Nobody but root gets to this directory while it is unpacked.
            match rustix::fs::openat(dir, last, flags, Mode::from_raw_mode(entry.mode & 0o777)) {
                Err(Errno::EXIST) => return Ok(false),
                other => {
                    let mut file = File::from(other.to("create the file")?);
                    write_content(&mut file, &entry.kind, archive)?;
                    if tree.default_acls {
                        disinherit(file.as_fd())?;
                    }
                    set_metadata(file.as_fd(), entry)?;
                    rustix::fs::futimens(&file, &both(entry.mtime)).to("set the time")?;
                    return Ok(true);
                }
            }
        }
        EntryKind::Symlink(target) => rustix::fs::symlinkat(os(target), dir, last),
        EntryKind::Fifo => special(FileType::Fifo, private, 0),
        EntryKind::CharDevice(major, minor) => {
            special(FileType::CharacterDevice, private, device(*major, *minor)?)
        }
        EntryKind::BlockDevice(major, minor) => {
            special(FileType::BlockDevice, private, device(*major, *minor)?)
        }
        EntryKind::Directory | EntryKind::HardLink(_) => return Ok(true), // made elsewhere
    };
    match made {
        Err(Errno::EXIST) => return Ok(false),
        other => other.to("create it")?,
    }
    // By name: what is there is what we have just made, and nobody else works in this tree.
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(dir, last, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).to("set the owner")?;
    if !matches!(entry.kind, EntryKind::Symlink(_)) {
        rustix::fs::chmodat(dir, last, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .to("set the mode")?;
    }
    rustix::fs::utimensat(dir, last, &both(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).to("set the time")?;
    Ok(true)
}

pub(crate) fn device(major: u32, minor: u32) -> Result<rustix::fs::Dev> {
    // The kernel's dev_t: 12 and 20 bits; more would be cut off, and name another device.
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(EntryError::Device(major, minor));
    }
    Ok(rustix::fs::makedev(major, minor))
}

/// Writes the content of an entry into its file.
pub(crate) fn write_content(
    file: &mut File,
    kind: &EntryKind,
    archive: &mut Archive<impl BufRead>,
) -> Result<()> {
    match kind {
        EntryKind::File(size) => {
            archive.content(*size, |piece| file.write_all(piece).to("write the content"))
        }
        EntryKind::Sparse { size, regions } => {
            file.set_len(*size).to("set the length")?;
            for &(offset, length) in regions {
                file.seek(SeekFrom::Start(offset)).to("seek")?;
                archive.content(length, |piece| file.write_all(piece).to("write the content"))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Owner, mode and attributes, in this order: a new owner takes setuid bits and capabilities away. What is as
/// it shall be is left alone: to look costs a tenth of what the file system's journal takes for a change.
fn set_metadata(file: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    let stat = rustix::fs::fstat(file).to("look at it")?;
    let same_owner = (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid);
    if !same_owner {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid)).to("set the owner")?;
    }
    if !same_owner || stat.st_mode & 0o7777 != entry.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).to("set the mode")?;
    }
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_content(name)) {
        match rustix::fs::fsetxattr(file, os(name), value, XattrFlags::empty()) {
            Ok(()) => {}
            // Some file systems keep no attributes of users (tmpfs before Linux 6.6). What they say is not
            // needed to run the image, unlike a capability or an access list.
            Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => {}
            Err(e) => return Err(EntryError::Attribute { name: shown(name), source: e.into() }),
        }
    }
    Ok(())
}

/// Takes away the access lists that a new file has from its directory: an archive says of each file what it has.
fn disinherit(file: BorrowedFd<'_>) -> Result<()> {
    for name in [ACCESS_ACL, DEFAULT_ACL] {
        match rustix::fs::fremovexattr(file, os(name)) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e).to("remove an access list"),
        }
    }
    Ok(())
}

/// Whether an attribute is content of an image, rather than policy of the host that would read it:
/// `trusted.overlay.redirect` could lead overlay elsewhere, `security.selinux` and its like belong to the
/// host's administrator, and the rest of `trusted.` to programs of his.
pub(crate) fn is_content(name: &[u8]) -> bool {
    match name {
        b"security.capability" | ACCESS_ACL | DEFAULT_ACL => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.contains(&0),
    }
}
