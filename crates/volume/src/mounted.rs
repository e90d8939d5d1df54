//! Volumes of memory: mounted on the host when the first container that has one starts, unmounted after the last.
//!
//! Who runs with it says so in `RUN/volumes/<name>/<id>`; a claim counts as long as somebody holds that container's
//! live directory, so that one which nobody took back is worth nothing.

use std::io;
use std::path::Path;

use base::Id;
use base::fs::{self, At};
use rustix::fs::{AtFlags, CWD, FlockOperation, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use state::lock::{Held as Owned, held};

use crate::store::DATA;
use crate::{Error, Result, Store};

impl Store {
    /// Sees to it that a volume of memory is mounted, and says that this container runs with it.
    pub fn mount(&self, name: &str, options: &[String], user: &Id) -> Result<()> {
        let _lock = self.lock(name, FlockOperation::LockExclusive)?;
        let claims = self.instance.volume_claims(name);
        fs::create_dir_all(&claims, 0o700)?;
        let claim = claims.join(user.as_str());
        std::fs::write(&claim, "").at("write", &claim)?;
        let data = self.dir(name).join(DATA);
        if is_mounted(&data)? {
            return Ok(());
        }
        let mounted = tmpfs(options, &data).map_err(|source| Error::Mount { name: name.to_owned(), source });
        if mounted.is_err() {
            // Best effort: the error being reported matters more.
            fs::remove_file(&claim).ok();
        }
        mounted
    }

    /// Takes back what a container has said, and unmounts the volume if nobody else runs with it. Fine if it never
    /// said so, or if the volume is gone.
    pub fn release(&self, name: &str, user: &Id) -> Result<()> {
        let _lock = match self.lock(name, FlockOperation::LockExclusive) {
            Err(Error::NotFound(_)) => return Ok(()),
            other => other?,
        };
        let claims = self.instance.volume_claims(name);
        fs::remove_file(&claims.join(user.as_str()))?;
        for other in fs::names(&claims)? {
            if let Ok(id) = other.parse::<Id>()
                && held(&self.instance.live(&id))? == Owned::Owned
            {
                return Ok(());
            }
        }
        self.unmount(name)
    }

    /// Under its exclusive lock.
    pub(crate) fn unmount(&self, name: &str) -> Result<()> {
        let data = self.dir(name).join(DATA);
        while is_mounted(&data)? {
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            unmount(&data, flags).map_err(|e| Error::Mount { name: name.to_owned(), source: e.into() })?;
        }
        Ok(fs::remove_dir_all(&self.instance.volume_claims(name))?)
    }
}

/// Whether something is mounted at this very directory.
fn is_mounted(path: &Path) -> Result<bool> {
    let id = |path: &Path| {
        let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).at("look at", path)?;
        Ok::<_, Error>((found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor))
    };
    match id(path) {
        Err(Error::File(e)) if e.is_not_found() => Ok(false),
        here => Ok(here? != id(path.parent().unwrap_or(path))?),
    }
}

fn tmpfs(options: &[String], at: &Path) -> io::Result<()> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", "tmpfs")?;
    let mut attributes = MountAttrFlags::empty();
    for option in options {
        match (option.as_str(), option.split_once('=')) {
            (_, Some((key, value))) => fsconfig_set_string(&context, key, value)?,
            ("noexec", _) => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            ("nosuid", _) => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            ("nodev", _) => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            ("noatime", _) => attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
            _ => {}
        }
    }
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    loop {
        match move_mount(&mount, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
