//! What a `RUN --mount` asks for, put where the container's mounts find it.
//!
//! Secrets and here-documents are files on a tmpfs that is mounted in the mount namespace of the thread that runs the command,
//! and there alone: on no disk, and gone with that thread however it ends.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use ::build::graph::{Mounted, Run, Sharing, StepId};
use base::Digest;
use base::fs::{self, At};
use oci::runtime::Mount;
use rootfs::Scratch;
use runtime::{Bundle, Inside};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use super::cache::Cache;
use super::cachemounts::{self, Held};
use super::cancel::Cancel;
use super::copied;
use super::error::{Error, failed};
use super::options::{BuildOptions, SecretSource};
use super::ssh::Agent;
use crate::Engine;
use crate::error::Result;

/// Where the files for one command alone are, in the container.
const PIPES: &str = "/dev/pipes";
/// A secret is no more than that, as with BuildKit.
const LARGEST_SECRET: usize = 500 << 10;

/// The files of a step, as something to be mounted.
#[derive(Debug)]
pub(super) enum View {
    /// Layers, the topmost first; none: nothing is in it.
    Layers(Vec<PathBuf>),
    /// A copy of what shall be seen, called [`copied::NAME`].
    Copied(Scratch),
}

/// What mounts are made of.
pub(super) struct Context<'m> {
    pub(super) engine: &'m Engine,
    pub(super) options: &'m BuildOptions,
    pub(super) cache: &'m Cache,
    pub(super) cancel: &'m Cancel,
    /// The files of a step, with what is at this path.
    pub(super) view: &'m dyn Fn(StepId, &str) -> Result<View>,
    /// Fills a new cache mount with the files of a step at this path.
    pub(super) fill: &'m dyn Fn(StepId, &str, &Path) -> Result<()>,
    /// What a step's files at a path are called, for the identity of caches that begin with them.
    pub(super) identity: &'m dyn Fn(StepId, &str) -> Result<String>,
}

/// A file on the tmpfs: its content, its mode, its owner, and the mount that is of it.
type Private = (Vec<u8>, u32, (u32, u32), usize);

/// A cache that is asked for, by one mount or more.
struct Asked {
    id: String,
    identity: String,
    sharing: Sharing,
    look: (u32, u32, u32),
    from: Option<(StepId, String)>,
    mounts: Vec<usize>,
}

/// The mounts of one `RUN`.
#[derive(Default)]
pub(super) struct Mounts<'m> {
    all: Vec<(Mount, Option<Inside>)>,
    files: Vec<Private>,
    /// Overlays whose upper directory is thrown away, and the mounts that are of them.
    overlays: Vec<(Scratch, Vec<PathBuf>, usize)>,
    copies: Vec<Scratch>,
    agents: Vec<(PathBuf, (u32, u32, u32), usize)>,
    variables: Vec<(String, String)>,
    /// By their names, in whose order they are waited for.
    caches: BTreeMap<Digest, Asked>,
    input: Option<OwnedFd>,
    // Undone in this order.
    running: Vec<Agent>,
    mounted: Vec<PathBuf>,
    held: Vec<Held>,
    _of: std::marker::PhantomData<&'m ()>,
}

impl<'m> Mounts<'m> {
    /// Looks at all of them, and waits for caches that others use.
    pub(super) fn find(run: &Run, context: &Context<'m>) -> Result<Self> {
        let mut all = Self::default();
        for mount in &run.mounts {
            all.one(&mount.target, &mount.what, context)?;
        }
        all.hold(context)?;
        for (name, content) in &run.pipes {
            if name.is_empty() {
                all.input = Some(input(content)?);
                continue;
            }
            let target = format!("{PIPES}/{name}");
            let index = all.bind(&target, true)?;
            all.files.push((content.clone(), 0o755, (0, 0), index));
        }
        Ok(all)
    }

    fn one(&mut self, target: &str, what: &Mounted, context: &Context<'m>) -> Result<()> {
        match what {
            Mounted::Bind { from, source, writable } => {
                let view = (context.view)(*from, source)?;
                let index = self.bind(target, !writable)?;
                let (lowers, place) = match view {
                    View::Layers(layers) => (layers, inside(source)),
                    View::Copied(scratch) => {
                        let upper = scratch.upper();
                        self.copies.push(scratch);
                        (vec![upper], PathBuf::from(copied::NAME))
                    }
                };
                self.all[index].0.source = Some(place);
                if *writable {
                    self.overlays.push((context.engine.layer_store().scratch()?, lowers, index));
                } else if lowers.is_empty() {
                    self.all[index].1 = Some(Inside::Directory(context.engine.instance.spare()));
                } else {
                    self.all[index].1 = Some(Inside::Layers(lowers));
                }
            }
            Mounted::Cache { id, from, source, sharing, mode, uid, gid, read_only } => {
                let identity = from.map(|from| (context.identity)(from, source)).transpose()?;
                let identity = identity.map(|identity| format!("{identity}\0{source}"));
                let wanted = cachemounts::Wanted {
                    id,
                    identity: identity.as_deref().unwrap_or_default(),
                    sharing: *sharing,
                    look: (*mode, *uid, *gid),
                };
                let index = self.bind(target, *read_only)?;
                self.all[index].0.source = Some(PathBuf::from("."));
                let cache = self.caches.entry(wanted.name()).or_insert_with(|| Asked {
                    id: id.clone(),
                    identity: wanted.identity.to_owned(),
                    sharing: *sharing,
                    look: wanted.look,
                    from: from.map(|from| (from, source.clone())),
                    mounts: Vec::new(),
                });
                cache.sharing = cachemounts::stricter(cache.sharing, *sharing);
                cache.mounts.push(index);
            }
            Mounted::Tmpfs { size } => {
                let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "mode=1777".to_owned()];
                options.extend(size.map(|size| format!("size={size}")));
                self.all.push((mount(target, "tmpfs", options)?, None));
            }
            Mounted::Secret { id, required, mode, uid, gid } => {
                if let Some(content) = secret(context.options, id, *required)? {
                    let index = self.bind(target, true)?;
                    self.files.push((content, *mode, (*uid, *gid), index));
                }
            }
            Mounted::SecretEnv { id, required, name } => {
                if let Some(content) = secret(context.options, id, *required)? {
                    let text = String::from_utf8_lossy(&content).into_owned();
                    if text.contains('\0') {
                        return Err(Error::SecretNul(id.clone()).into());
                    }
                    self.variables.push((name.clone(), text));
                }
            }
            Mounted::Ssh { id, required, mode, uid, gid } => {
                let Some(socket) = context.options.ssh.get(id) else {
                    return if *required { Err(Error::NoAgent(id.clone()).into()) } else { Ok(()) };
                };
                super::ssh::reach(id, socket)?;
                let index = self.bind(target, false)?;
                self.agents.push((socket.clone(), (*mode, *uid, *gid), index));
                if !self.variables.iter().any(|(name, _)| name == "SSH_AUTH_SOCK") {
                    self.variables.push(("SSH_AUTH_SOCK".to_owned(), target.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Waits for the caches: for each once, in their order.
    fn hold(&mut self, context: &Context<'m>) -> Result<()> {
        for asked in std::mem::take(&mut self.caches).into_values() {
            let Asked { id, identity, sharing, look, from, mounts } = asked;
            let wanted = cachemounts::Wanted { id: &id, identity: &identity, sharing, look };
            let fill = |place: &Path| match &from {
                Some((from, source)) => (context.fill)(*from, source, place),
                None => Ok(()),
            };
            let held = cachemounts::hold(context.cache, &wanted, &fill, context.cancel)?;
            for index in mounts {
                self.all[index].1 = Some(Inside::Directory(held.path().to_owned()));
            }
            self.held.push(held);
        }
        Ok(())
    }

    fn bind(&mut self, target: &str, read_only: bool) -> Result<usize> {
        let mut options = vec!["bind".to_owned(), "rprivate".to_owned()];
        if read_only {
            options.push("ro".to_owned());
        }
        self.all.push((mount(target, "bind", options)?, None));
        Ok(self.all.len() - 1)
    }

    /// Whether [`Self::make`] mounts something on this side.
    pub(super) fn need_a_namespace(&self) -> bool {
        !self.files.is_empty() || !self.overlays.is_empty()
    }

    /// Makes what they are of, in the live directory of the container.
    pub(super) fn make(&mut self, live: &Path) -> Result<()> {
        if !self.files.is_empty() {
            let place = live.join("private");
            fs::create_dir(&place, 0o700)?;
            tmpfs(&place)?;
            self.mounted.push(place.clone());
            for (n, (content, mode, (uid, gid), index)) in self.files.drain(..).enumerate() {
                let path = place.join(n.to_string());
                let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                let mut file = file.at("create", &path)?;
                file.write_all(&content).at("write", &path)?;
                std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).at("set the owner of", &path)?;
                file.set_permissions(std::fs::Permissions::from_mode(mode)).at("set the mode of", &path)?;
                self.all[index].0.source = Some(path);
            }
        }
        for (n, (scratch, lowers, index)) in self.overlays.iter().enumerate() {
            let place = live.join(format!("overlay-{n}"));
            fs::create_dir(&place, 0o700)?;
            let overlay = scratch.over(lowers.clone())?;
            let tree = rootfs::pack::written(&overlay)?;
            if overlay.lowers.is_empty() {
                self.all[*index].1 = Some(Inside::Directory(overlay.upper));
                continue;
            }
            move_mount(&tree, c"", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .at("mount on", &place)?;
            self.mounted.push(place.clone());
            self.all[*index].1 = Some(Inside::Directory(place));
        }
        for (n, (socket, look, index)) in self.agents.drain(..).enumerate() {
            let place = live.join(format!("agent-{n}"));
            self.running.push(Agent::start(&place, &socket, look)?);
            self.all[index].0.source = Some(place);
        }
        Ok(())
    }

    /// Where they are in the container.
    pub(super) fn targets(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.all.iter().map(|(mount, _)| mount.destination.clone()).filter(|path| !path.starts_with("/dev"))
    }

    /// Variables that come with them.
    pub(super) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// What the command reads, if not nothing.
    pub(super) fn take_input(&mut self) -> Option<OwnedFd> {
        self.input.take()
    }

    /// Adds them to what is run: a parent before what lies below it.
    pub(super) fn add_to(&self, bundle: &mut Bundle) {
        let mut last: BTreeMap<&Path, usize> = BTreeMap::new();
        for (n, (mount, _)) in self.all.iter().enumerate() {
            last.insert(&mount.destination, n);
        }
        let mut mounts: Vec<&(Mount, Option<Inside>)> = last.values().map(|n| &self.all[*n]).collect();
        mounts.sort_by_key(|(mount, _)| mount.destination.components().count());
        for (mount, inside) in mounts {
            bundle.spec.mounts.push(mount.clone());
            if let Some(inside) = inside {
                bundle.inside.insert(mount.destination.clone(), inside.clone());
            }
        }
    }
}

impl Drop for Mounts<'_> {
    fn drop(&mut self) {
        self.running.clear();
        for place in self.mounted.iter().rev() {
            // With the thread they go in any case.
            unmount(place, UnmountFlags::DETACH).ok();
        }
    }
}

/// A path in a view.
fn inside(source: &str) -> PathBuf {
    let path: PathBuf = Path::new(source)
        .components()
        .filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir))
        .collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

fn mount(target: &str, kind: &str, options: Vec<String>) -> Result<Mount> {
    let path = Path::new(target);
    let plain = path.is_absolute()
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !plain || path == Path::new("/") || target.contains('\0') {
        return Err(Error::MountTarget(target.to_owned()).into());
    }
    Ok(Mount {
        destination: path.components().collect(),
        kind: Some(kind.to_owned()),
        source: Some(PathBuf::from(kind)),
        options,
        ..Mount::default()
    })
}

fn tmpfs(place: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let target = std::ffi::CString::new(place.as_os_str().as_bytes()).map_err(io::Error::other);
    // `MS_NOSUID | MS_NODEV`.
    let mounted =
        target.and_then(|target| sys::mount::mount_old(c"tmpfs", &target, c"tmpfs", 2 | 4, c"mode=0700"));
    Ok(mounted.map_err(failed("mount a tmpfs for secrets"))?)
}

fn secret(options: &BuildOptions, id: &str, required: bool) -> Result<Option<Vec<u8>>> {
    let missing = || if required { Err(Error::NoSecret(id.to_owned()).into()) } else { Ok(None) };
    let unreadable = |source| Error::Secret { id: id.to_owned(), source };
    let content = match options.secrets.get(id) {
        None => return missing(),
        Some(SecretSource::Environment(name)) => match std::env::var_os(name) {
            None => return missing(),
            Some(value) => std::os::unix::ffi::OsStringExt::into_vec(value),
        },
        Some(SecretSource::File(path)) => read_secret(path).map_err(unreadable)?,
    };
    if content.len() > LARGEST_SECRET {
        let text = format!("it has more than {LARGEST_SECRET} bytes");
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, text)).into());
    }
    Ok(Some(content))
}

/// A byte more than a secret may have, at most: it may be a device, which has no end.
fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(LARGEST_SECRET as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// A file without a name with this content, to be read from its beginning.
fn input(content: &[u8]) -> Result<OwnedFd> {
    let make = || {
        let fd = rustix::fs::memfd_create(c"here-document", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(content)?;
        file.rewind()?;
        Ok(file.into())
    };
    Ok(make().map_err(failed("keep a here-document"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_plain_absolute_paths() {
        for bad in ["", "/", "x", "/a/../b", "//", "/a\0"] {
            assert!(mount(bad, "bind", Vec::new()).is_err(), "{bad:?}");
        }
        assert_eq!(mount("/a//b/", "bind", Vec::new()).unwrap().destination, Path::new("/a/b"));
    }

    #[test]
    fn sources_stay_inside() {
        assert_eq!(inside("/"), Path::new("."));
        assert_eq!(inside("/a/./b"), Path::new("a/b"));
    }
}
