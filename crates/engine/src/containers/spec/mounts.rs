//! The mounts of a container: the kernel's own file systems, what the engine provides, what the user binds.

use std::path::{Path, PathBuf};

use oci::runtime::Mount;
use state::options::{BindMount, ContainerOptions, IpcMode, Recursion, TmpfsMount};

use super::Context;
use super::limits::SHM_SIZE;
use super::surroundings::joined_path;
use crate::containers::storage::{Found, mappings};

/// The files that the engine writes into the live directory and binds into the container.
pub(crate) const PROVIDED: [(&str, &str); 3] =
    [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")];

/// All mounts in the order in which they are made: a parent before what lies below it.
pub(super) fn all(options: &ContainerOptions, context: &Context<'_>) -> Vec<Mount> {
    let wanted = |path: &Path| {
        let normal = |p: &Path| p.components().collect::<PathBuf>();
        options.destinations().any(|d| normal(d) == path)
    };
    let mut mounts: Vec<Mount> =
        kernels(options).into_iter().filter(|mount| !wanted(&mount.destination)).collect();
    let mut others: Vec<Mount> = PROVIDED
        .iter()
        .map(|(file, path)| provided(&context.network_files.join(file), path, options.read_only))
        .filter(|mount| !wanted(&mount.destination))
        .collect();
    others.extend(options.binds.iter().map(bind));
    let images = options.image_mounts.iter().map(|m| (&m.destination, true));
    let volumes = options.volumes.iter().map(|m| (&m.destination, m.read_only));
    for (destination, read_only) in volumes.chain(images) {
        // All of them were found before.
        let found = context.storage.found.get(destination);
        others.extend(found.map(|found| inside(destination, read_only, found)));
    }
    others.extend(options.tmpfs.iter().map(tmpfs));
    // Stable: equal depths stay in the order that the user gave.
    others.sort_by_key(|mount| mount.destination.components().count());
    mounts.append(&mut others);
    mounts
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: PathBuf::from(destination),
        kind: Some(kind.to_owned()),
        source: Some(PathBuf::from(source)),
        options: options.iter().map(|&o| o.to_owned()).collect(),
        ..Mount::default()
    }
}

/// Docker's seven, with Docker's options.
fn kernels(options: &ContainerOptions) -> Vec<Mount> {
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let views: &[&str] = if options.privileged { &[] } else { &["ro"] };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/sys", "sysfs", "sysfs", &[&["nosuid", "noexec", "nodev"], views].concat()),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[views, &["nosuid", "noexec", "nodev"]].concat()),
    ];
    // A view of whichever namespace it is in.
    let queues = mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    let shared = |source: &Path, path: &str| Mount {
        source: Some(source.to_owned()),
        ..mount(path, "bind", "", &["rbind", "rprivate", "nosuid", "noexec", "nodev"])
    };
    match options.namespaces.ipc {
        IpcMode::Private | IpcMode::Shareable => {
            let size = format!("size={}", options.limits.shm_size.unwrap_or(SHM_SIZE));
            let shm = ["nosuid", "noexec", "nodev", "mode=1777", &size];
            mounts.extend([queues, mount("/dev/shm", "tmpfs", "shm", &shm)]);
        }
        IpcMode::None => mounts.push(queues),
        IpcMode::Host => {
            mounts.extend([queues, shared(Path::new("/dev/shm"), "/dev/shm")]);
        }
        IpcMode::Container(_) => {
            mounts.extend([queues, shared(&joined_path("root/dev/shm"), "/dev/shm")]);
        }
    }
    mounts
}

fn provided(file: &Path, path: &str, read_only: bool) -> Mount {
    let mut options = vec!["bind".to_owned(), "rprivate".to_owned()];
    if read_only {
        options.push("ro".to_owned());
    }
    Mount {
        destination: PathBuf::from(path),
        kind: Some("bind".to_owned()),
        source: Some(file.to_owned()),
        options,
        ..Mount::default()
    }
}

fn bind(bind: &BindMount) -> Mount {
    let deep = bind.recursion != Recursion::Disabled;
    let mut options = vec![
        if deep { "rbind" } else { "bind" }.to_owned(),
        bind.propagation.clone().unwrap_or_else(|| "rprivate".to_owned()),
    ];
    if bind.read_only {
        // For all of it: a submount that can be written would be a surprise. (`ro` is the topmost mount's alone.)
        let topmost = bind.recursion == Recursion::Writable;
        options.push(if topmost { "ro" } else { "rro" }.to_owned());
    }
    let mut mount = Mount {
        destination: bind.destination.clone(),
        kind: Some("bind".to_owned()),
        source: Some(bind.source.clone()),
        options,
        ..Mount::default()
    };
    if !bind.map.is_empty() {
        // For all of it, too: below it, the ids would be others.
        mount.options.push(if deep { "ridmap" } else { "idmap" }.to_owned());
        (mount.uid_mappings, mount.gid_mappings) = mappings(&bind.map);
    }
    mount
}

/// A volume, or an image's files.
fn inside(destination: &Path, read_only: bool, found: &Found) -> Mount {
    let kind = if found.recursive { "rbind" } else { "bind" };
    let mut options = vec![kind.to_owned(), "rprivate".to_owned()];
    if read_only || found.read_only {
        options.push("rro".to_owned());
    }
    Mount {
        destination: destination.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(found.source.clone()),
        options,
        ..Mount::default()
    }
}

/// Docker's defaults, less what the user says otherwise.
fn tmpfs(tmpfs: &TmpfsMount) -> Mount {
    let mut options: Vec<String> = Vec::new();
    for (default, opposite) in [("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev")] {
        if !tmpfs.options.iter().any(|o| o == opposite || o == default) {
            options.push(default.to_owned());
        }
    }
    options.extend(
        tmpfs.options.iter().filter(|o| !matches!(o.as_str(), "exec" | "suid" | "dev" | "rw")).cloned(),
    );
    Mount {
        destination: tmpfs.destination.clone(),
        kind: Some("tmpfs".to_owned()),
        source: Some(PathBuf::from("tmpfs")),
        options,
        ..Mount::default()
    }
}
