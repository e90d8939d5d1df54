//! The plan of the device nodes (config-linux.md, "Devices", "Default Devices").

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::runtime::{Device, Mount, NamespaceKind, Spec};
use rustix::fs::{FileType, makedev};

use super::mounts::{is, is_below};
use super::{PlanError, c_string};

/// The devices that every container has, all of mode 0666.
pub(crate) const DEFAULTS: [(&CStr, u32, u32); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];

/// The index of a specification's first device in what the child reports; the defaults and links come before.
pub(crate) const FIRST: usize = 32;

/// What becomes of `/dev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dev {
    /// A new tmpfs: the default devices go into it before it can be reached.
    Ours,
    /// The root's own, or an odd mount: they go into it after all is mounted, unless they are there.
    Image,
    /// A mount of the host's own devices: it has what it has.
    Host,
}

/// All devices.
#[derive(Debug)]
pub(crate) struct DevicesPlan {
    pub(crate) dev: Dev,
    /// Default devices that the specification describes itself, a bit each.
    pub(crate) replaced: u8,
    /// No nodes can be made: an empty file in a device's place was left there by an earlier start, for the host's to
    /// be bound over.
    pub(crate) bound: bool,
    /// What the specification lists.
    pub(crate) list: Vec<DevicePlan>,
}

#[derive(Debug)]
pub(crate) struct DevicePlan {
    /// Where, an allegation.
    pub(crate) path: PathBuf,
    /// Where the host has it, for a container that may not make nodes: the same path, or `/dev/char/1:3`.
    pub(crate) host: [CString; 2],
    pub(crate) kind: FileType,
    pub(crate) number: u64,
    pub(crate) mode: u32,
    pub(crate) owner: Option<(u32, u32)>,
}

impl DevicesPlan {
    /// The path of what the child reports by its index, for the parent's words.
    pub(crate) fn name(&self, index: usize) -> String {
        match (DEFAULTS.get(index), index.checked_sub(FIRST).and_then(|n| self.list.get(n))) {
            (Some((name, ..)), _) => format!("/dev/{}", name.to_string_lossy()),
            (_, Some(device)) => device.path.display().to_string(),
            _ => "a link in /dev".to_owned(),
        }
    }
}

pub(super) fn plan(spec: &Spec, list: &[Device]) -> Result<DevicesPlan, PlanError> {
    // A remount changes what is there, and does not decide what that is.
    let is_mount = |mount: &&Mount| is(&mount.destination, "dev") && !has(mount, &["remount"]);
    let dev = spec.mounts.iter().rfind(is_mount).map_or(Dev::Image, dev_of);
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let bound = (dev == Dev::Image || !list.is_empty()) && in_user_namespace(spec);
    let mut plan = DevicesPlan { dev, replaced: 0, bound, list: Vec::with_capacity(list.len()) };
    for device in list {
        // These are ours: a link to the container's own devpts, and the terminal.
        if is(&device.path, "dev/ptmx") || terminal && is(&device.path, "dev/console") {
            continue;
        }
        if dev == Dev::Host && is_below(&device.path, "dev") {
            continue;
        }
        for (n, (name, ..)) in DEFAULTS.iter().enumerate() {
            if is(&device.path, &format!("dev/{}", name.to_string_lossy())) {
                plan.replaced |= 1 << n;
            }
        }
        plan.list.push(plan_one(device)?);
    }
    Ok(plan)
}

/// Whether the container's root is not the machine's, or we are not.
fn in_user_namespace(spec: &Spec) -> bool {
    let own = spec.linux.iter().flat_map(|l| &l.namespaces).any(|n| n.kind == NamespaceKind::User);
    // The machine's own maps all ids to themselves.
    own || std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| !map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

fn has(mount: &Mount, options: &[&str]) -> bool {
    mount.options.iter().any(|option| options.contains(&&**option))
}

fn dev_of(mount: &Mount) -> Dev {
    match mount.kind.as_deref() {
        _ if has(mount, &["bind", "rbind"]) => Dev::Host,
        Some("bind" | "devtmpfs") => Dev::Host,
        Some("tmpfs") => Dev::Ours,
        _ => Dev::Image,
    }
}

fn plan_one(device: &Device) -> Result<DevicePlan, PlanError> {
    let path = device.path.display();
    let invalid = |what: String| PlanError::Invalid { field: "device", value: format!("{path}: {what}") };
    if device.path.file_name().is_none() {
        return Err(invalid("its path names no file".to_owned()));
    }
    let (kind, directory) = match &*device.kind {
        "c" | "u" => (FileType::CharacterDevice, "char"),
        "b" => (FileType::BlockDevice, "block"),
        "p" => (FileType::Fifo, "fifo"),
        other => return Err(invalid(format!("`{other}` is no type of devices"))),
    };
    let part = |number: i64, bits: u32| {
        u32::try_from(number)
            .ok()
            .filter(|n| *n < 1 << bits)
            .ok_or_else(|| invalid(format!("no device has the number {}:{}", device.major, device.minor)))
    };
    let number = match kind {
        FileType::Fifo => 0,
        // The kernel's widths.
        _ => makedev(part(device.major, 12)?, part(device.minor, 20)?),
    };
    let by_number = format!("/dev/{directory}/{}:{}", device.major, device.minor);
    let host = Path::new("/").join(&device.path);
    let owner = (device.uid.is_some() || device.gid.is_some())
        .then(|| (device.uid.unwrap_or(0), device.gid.unwrap_or(0)));
    Ok(DevicePlan {
        path: device.path.clone(),
        host: [c_string("device", host.as_os_str().as_bytes())?, c_string("device", by_number)?],
        kind,
        number,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        owner,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: &str, path: &str, major: i64, minor: i64) -> Device {
        Device { kind: kind.to_owned(), path: path.into(), major, minor, ..Device::default() }
    }

    fn spec(mounts: &[(&str, &str, &str)]) -> Spec {
        let mount = |(destination, kind, option): &(&str, &str, &str)| Mount {
            destination: (*destination).into(),
            kind: Some((*kind).to_owned()),
            options: vec![(*option).to_owned()],
            ..Mount::default()
        };
        Spec { mounts: mounts.iter().map(mount).collect(), ..Spec::default() }
    }

    #[test]
    fn what_dev_is_decides_who_fills_it() {
        let dev = |mounts: &[(&str, &str, &str)]| plan(&spec(mounts), &[]).unwrap().dev;
        assert_eq!(dev(&[("/dev", "tmpfs", "nosuid")]), Dev::Ours);
        assert_eq!(dev(&[("/dev/", "bind", "rbind")]), Dev::Host);
        assert_eq!(dev(&[("/dev", "none", "rbind")]), Dev::Host);
        assert_eq!(dev(&[("/dev", "devtmpfs", "rw")]), Dev::Host);
        assert_eq!(dev(&[("/dev/shm", "tmpfs", "rw")]), Dev::Image);
        assert_eq!(dev(&[("/dev", "tmpfs", "nosuid"), ("/dev", "bind", "remount")]), Dev::Ours);
        assert_eq!(dev(&[("/dev", "tmpfs", "nosuid"), ("/dev/.", "tmpfs", "remount")]), Dev::Ours);
        assert_eq!(dev(&[("/dev", "bind", "rbind"), ("/dev", "none", "remount")]), Dev::Host);
        assert_eq!(dev(&[("/dev", "bind", "remount")]), Dev::Image);
    }

    #[test]
    fn the_hosts_own_devices_need_no_others_however_they_are_written() {
        let host = spec(&[("/dev", "none", "rbind")]);
        for path in ["/dev/fuse", "dev/fuse", "//dev/./net/tun", "/a/../dev/fuse"] {
            assert_eq!(plan(&host, &[device("c", path, 10, 229)]).unwrap().list.len(), 0, "{path}");
        }
        for path in ["/devices/fuse", "/dev/../fuse"] {
            assert_eq!(plan(&host, &[device("c", path, 10, 229)]).unwrap().list.len(), 1, "{path}");
        }
    }

    #[test]
    fn devices_are_checked_and_the_defaults_can_be_described() {
        let one = |d: Device| plan(&Spec::default(), &[d]);
        let planned = one(device("c", "/dev/null", 1, 3)).unwrap();
        assert_eq!((planned.replaced, planned.list.len()), (1, 1));
        assert_eq!(one(device("c", "/dev/ptmx", 5, 2)).unwrap().list.len(), 0);
        assert_eq!(one(device("p", "/run/pipe", 0, 0)).unwrap().list[0].kind, FileType::Fifo);
        assert_eq!(one(device("u", "x/y", 10, 229)).unwrap().list[0].host[0].as_c_str(), c"/x/y");
        for wrong in [device("x", "/a", 1, 1), device("c", "/a", -1, 3), device("c", "/a/..", 1, 3)] {
            assert!(matches!(one(wrong), Err(PlanError::Invalid { .. })));
        }
        assert!(one(device("b", "/a", 1, 1 << 20)).is_err());
    }

    #[test]
    fn an_index_finds_its_device() {
        let planned = plan(&Spec::default(), &[device("c", "/dev/fuse", 10, 229)]).unwrap();
        assert_eq!(planned.name(1), "/dev/zero");
        assert_eq!(planned.name(FIRST), "/dev/fuse");
    }
}
