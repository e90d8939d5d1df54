//! Mapped ids of mounts (config.md, "uidMappings"): the kernel takes a mapping as a user namespace that has it.
//!
//! Such a namespace is made by a child that does nothing but wait until its maps are written and the namespace is
//! held by a descriptor. All of this is done before the launch, by whoever governs the file systems; a container's
//! own root does not.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use oci::runtime::{IdMapping, Linux, Mount, NamespaceKind};
use rustix::fs::OFlags;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sys::process::{Cloned, clone, namespaces};

use super::{PlanError, open};
use crate::launch::untraceable;

/// The mappings of a launch: a container's volumes usually have the same, and a namespace serves them all.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    made: Vec<(Vec<IdMapping>, Vec<IdMapping>, OwnedFd)>,
}

/// A mount's mapping.
#[derive(Debug)]
pub(crate) struct MapIds {
    /// A user namespace that has it.
    pub(crate) namespace: OwnedFd,
    /// Of the mounts below too.
    pub(crate) recursive: bool,
}

impl Mappings {
    /// The mapping that `mount` asks for: its own, or with the option alone the container's. `option` is `ridmap`
    /// (true) or `idmap`.
    pub(super) fn of(
        &mut self,
        mount: &Mount,
        option: Option<bool>,
        linux: &Linux,
    ) -> Result<Option<MapIds>, PlanError> {
        let invalid = |what: &str| PlanError::Invalid {
            field: "mount",
            value: format!("{} {what}", mount.destination.display()),
        };
        let recursive = option.unwrap_or(false);
        let failed = |source: io::Error| PlanError::MapIds { destination: mount.destination.clone(), source };
        let namespace = match (mount.uid_mappings.is_empty(), mount.gid_mappings.is_empty()) {
            (false, false) => self.namespace(&mount.uid_mappings, &mount.gid_mappings).map_err(failed)?,
            (true, true) if option.is_none() => return Ok(None),
            (true, true) => {
                let user = linux.namespaces.iter().find(|n| n.kind == NamespaceKind::User);
                match user.map(|n| n.path.as_deref()) {
                    Some(Some(path)) => open(path, OFlags::RDONLY)?,
                    Some(None) => self.namespace(&linux.uid_mappings, &linux.gid_mappings).map_err(failed)?,
                    None => return Err(invalid("has no mappings, and the container has no user namespace")),
                }
            }
            _ => return Err(invalid("has mappings of user or group ids, but not of both")),
        };
        Ok(Some(MapIds { namespace, recursive }))
    }

    fn namespace(&mut self, uids: &[IdMapping], gids: &[IdMapping]) -> io::Result<OwnedFd> {
        if let Some((.., made)) = self.made.iter().find(|(u, g, _)| u == uids && g == gids) {
            return made.try_clone();
        }
        let made = make_namespace(uids, gids)?;
        let copy = made.try_clone()?;
        self.made.push((uids.to_vec(), gids.to_vec(), made));
        Ok(copy)
    }
}

/// A user namespace with these maps and no process in it.
fn make_namespace(uids: &[IdMapping], gids: &[IdMapping]) -> io::Result<OwnedFd> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // Over a namespace of root's whoever is of root's user has all rights: it must not be traced. Its maps root can
    // write all the same.
    if rustix::process::geteuid().is_root() {
        untraceable()?;
    }
    let (pid, pidfd) = match clone(namespaces::USER, None)? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            // System calls only. It holds nothing of ours but its end of the pipe, which ends with the parent's, be it
            // dropped or dead. What owned the rest is never dropped: this does not return.
            if sys::process::close_all_but(0, read.as_fd()).is_err() {
                sys::process::exit_now(1);
            }
            while rustix::io::read(&read, &mut [0]).is_err_and(|e| e == rustix::io::Errno::INTR) {}
            sys::process::exit_now(0)
        }
    };
    let made = (|| {
        write_map(pid, "uid_map", uids)?;
        write_map(pid, "gid_map", gids)?;
        std::fs::File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from)
    })();
    drop(write);
    // It has nothing else to do than to end.
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    made
}

/// The kernel takes a map in one write.
fn write_map(pid: u32, name: &str, mappings: &[IdMapping]) -> io::Result<()> {
    let mut text = String::new();
    for IdMapping { container_id, host_id, size } in mappings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{container_id} {host_id} {size}");
    }
    std::fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/{name}"))?.write_all(text.as_bytes())
}
