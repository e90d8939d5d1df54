//! The root of a container for those that copy: of one that runs as it is, of one at rest as a start would make it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use base::fs::At;
use base::{Id, Root, fs};
use rootfs::pack;
use rootfs::view::{self, Assembled, Bind, Origin};
use runtime::cgroup::{Group, Hierarchy};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use state::container::{Live, Record};
use state::options::Recursion;
use volume::Backing;

use crate::Engine;
use crate::containers::control::StateError;
use crate::containers::ownership::Owner;
use crate::containers::records::Found;
use crate::error::Result;

/// What is done with the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Overlay's scratch directory for a copy. The container's own would tell that it has run.
const WORK: &str = "copying";
/// How long whoever starts or ends the container may take before they are looked at again.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often they are.
const ATTEMPTS: u32 = 20;

/// The root of a container.
pub(super) struct View {
    root: Root,
    _at_rest: Option<AtRest>,
}

/// What a view of a container at rest holds. It must not be started meanwhile: two mounts would share one upper directory.
struct AtRest {
    mounts: Option<Assembled>,
    work: std::path::PathBuf,
    _owner: Owner,
}

impl View {
    /// The root.
    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// The root once more, for somebody else to keep.
    pub(super) fn root_again(&self) -> fs::Result<Root> {
        Ok(Root::from_fd(again(self.root.as_fd())?))
    }
}

impl Drop for AtRest {
    fn drop(&mut self) {
        drop(self.mounts.take());
        // It goes with the container at the latest.
        fs::remove_dir_all(&self.work).ok();
    }
}

fn again(root: BorrowedFd<'_>) -> fs::Result<OwnedFd> {
    root.try_clone_to_owned().at("keep", "the root of the container")
}

impl Engine {
    /// The files of a container as it sees them, mounts included.
    pub(super) fn view(&self, name: &str, found: Found, access: Access) -> Result<View> {
        let mut found = found;
        for _ in 0..ATTEMPTS {
            if let Some(live) = &found.live {
                if let Some(root) = self.running_root(&found.record.id, live)? {
                    return Ok(View { root: Root::from_fd(root), _at_rest: None });
                }
                // It is just ending.
                self.await_release(&found.record.id)?;
            } else if access == Access::Read && !has_mounts(&found.record) {
                return Ok(View { root: Root::from_fd(self.merged_root(&found.record)?), _at_rest: None });
            } else if let Some(owner) = Owner::wait(&self.instance, &found.record.id, PATIENCE)? {
                return self.assembled(&found.record, owner);
            }
            found = self.find(name)?;
        }
        Err(StateError::Busy { name: name.to_owned(), state: "being started or stopped" }.into())
    }

    /// The root of a container that runs; none if it has ended.
    fn running_root(&self, id: &Id, live: &Live) -> Result<Option<OwnedFd>> {
        let Some(pid) = i32::try_from(live.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            other => other.at("open", format!("the process {}", live.pid))?,
        };
        // Being in the container's group shows that the number means a process of its; and if that lives still after we
        // have seen it there, the number cannot have been given to another one before.
        let group = Group::existing(&Hierarchy::detect()?, &self.placement(id).into());
        if !group.processes().contains(&live.pid) || has_ended(process.as_fd()) {
            return Ok(None);
        }
        match view::of_process(process.as_fd(), live.pid) {
            Err(_) if has_ended(process.as_fd()) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// The root of a container that does not run and has nothing mounted into it, to be read.
    fn merged_root(&self, record: &Record) -> Result<OwnedFd> {
        let overlay =
            self.layer_store().overlay(&record.image.layers, &self.instance.container(&record.id))?;
        let mut layers = vec![overlay.upper];
        layers.extend(overlay.lowers);
        Ok(pack::merged(&layers)?)
    }

    /// What a container at rest has mounted into it, in the order in which it is mounted. What is in memory is not there while
    /// it does not run.
    fn mounts_at_rest(&self, record: &Record) -> Result<Vec<Bind>> {
        let options = &record.options;
        let mut binds: Vec<Bind> = options
            .binds
            .iter()
            .map(|bind| Bind {
                origin: Origin::Host {
                    path: bind.source.clone(),
                    recursive: bind.recursion != Recursion::Disabled,
                },
                destination: bind.destination.clone(),
                // Whose files are whose the runtime knows: here the copies would be somebody else's.
                read_only: bind.read_only || !bind.map.is_empty(),
            })
            .collect();
        for mount in &options.volumes {
            let Some(volume) = self.volume_store().find(&mount.name)? else { continue };
            let (root, recursive, read_only) = match volume.backing()? {
                Backing::Directory => (volume.mountpoint, true, false),
                Backing::Bind { device, recursive, read_only } => (device, recursive, read_only),
                Backing::Tmpfs(_) => continue,
            };
            let origin = match &mount.subpath {
                None => Origin::Host { path: root, recursive },
                Some(path) => Origin::Within(root, path.clone()),
            };
            let read_only = read_only || mount.read_only;
            binds.push(Bind { origin, destination: mount.destination.clone(), read_only });
        }
        for mount in options.image_mounts.iter().filter(|mount| mount.subpath.is_none()) {
            let dir = self.instance.container(&record.id);
            let lowers = self.layer_store().overlay(&mount.layers, &dir)?.lowers;
            let (origin, destination) = (Origin::Layers(lowers), mount.destination.clone());
            binds.push(Bind { origin, destination, read_only: true });
        }
        binds.sort_by_key(|bind| bind.destination.components().count());
        Ok(binds)
    }

    fn assembled(&self, record: &Record, owner: Owner) -> Result<View> {
        let dir = self.instance.container(&record.id);
        let work = dir.join(WORK);
        // What somebody who was killed has left.
        fs::remove_dir_all(&work)?;
        fs::create_dir(&work, 0o700)?;
        let mut at_rest = AtRest { mounts: None, work: work.clone(), _owner: owner };
        let overlay = self.layer_store().overlay(&record.image.layers, &dir)?;
        let overlay = rootfs::Overlay { work, ..overlay };
        let mounts = view::assemble(overlay, self.mounts_at_rest(record)?, record.options.read_only)?;
        let root = Root::from_fd(again(mounts.root.as_fd())?);
        at_rest.mounts = Some(mounts);
        Ok(View { root, _at_rest: Some(at_rest) })
    }
}

fn has_mounts(record: &Record) -> bool {
    let options = &record.options;
    !(options.binds.is_empty() && options.volumes.is_empty() && options.image_mounts.is_empty())
}

/// A pidfd can be read when its process has ended.
fn has_ended(process: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut fds, Some(&now)), Ok(0))
}
