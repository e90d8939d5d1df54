//! Which devices a container may use: the rules of its cgroup, and the nodes in its `/dev`.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use base::fs::At as _;
use base::{Failure, Kind};
use oci::runtime::{Device, DeviceRule};
use rustix::fs::{major, minor};
use state::options::DeviceMapping;

/// What of the host's `/dev` has an own life in every container.
const OWN: [&str; 5] = ["pts", "shm", "mqueue", "fd", "console"];
/// A directory of devices has no more than these, nor is it deeper.
const MOST: usize = 10_000;
const DEEPEST: u32 = 16;

/// A device that cannot be given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("invalid device path `{}`: want an absolute path without ..", .0.display())]
    Path(PathBuf),
    #[error("invalid access `{0}` of a device: want some of r, w and m")]
    Access(String),
    #[error("invalid device rule `{0}`: want TYPE MAJOR:MINOR ACCESS, such as c 10:200 rwm or b 8:* r")]
    Rule(String),
    #[error("{} is no device, nor a directory of devices", .0.display())]
    NoDevice(PathBuf),
    #[error("{} is no block device", .0.display())]
    NoDisk(PathBuf),
    #[error("there are more than {MOST} devices in {}", .0.display())]
    TooMany(PathBuf),
    #[error(transparent)]
    File(#[from] base::fs::Error),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
            Self::TooMany(_) => Kind::Exhausted,
            _ => Kind::Invalid,
        }
    }
}

/// Refuses what can be told to make no sense without a look at the host.
pub(super) fn check(mappings: &[DeviceMapping], rules: &[String]) -> Result<(), Error> {
    for DeviceMapping { source, destination, access } in mappings {
        for path in [source, destination] {
            let plain = path.components().all(|c| c != std::path::Component::ParentDir);
            if !path.is_absolute() || !plain || path.as_os_str().as_encoded_bytes().contains(&0) {
                return Err(Error::Path(path.clone()));
            }
        }
        if destination.file_name().is_none() {
            return Err(Error::Path(destination.clone()));
        }
        if !is_access(access) {
            return Err(Error::Access(access.clone()));
        }
    }
    rules.iter().try_for_each(|text| rule(text).map(|_| ()))
}

fn is_access(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|b| b"rwm".contains(&b))
}

/// `c 10:200 rwm`.
pub(super) fn rule(text: &str) -> Result<DeviceRule, Error> {
    let wrong = || Error::Rule(text.chars().take(60).collect());
    let mut words = text.split(' ');
    let (Some(kind @ ("a" | "b" | "c")), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong());
    };
    let number = |text: &str| match text {
        "*" => Some(None),
        digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse::<u32>().ok().map(|n| Some(i64::from(n)))
        }
        _ => None,
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let (major, minor) = number(major).zip(number(minor)).ok_or_else(wrong)?;
    if !is_access(access) {
        return Err(wrong());
    }
    Ok(DeviceRule { allow: true, kind: Some(kind.to_owned()), major, minor, access: Some(access.to_owned()) })
}

/// Docker's: any node may be made, only harmless ones opened; and what was asked for.
pub(super) fn rules(asked: &[DeviceRule]) -> Vec<DeviceRule> {
    let rule = |kind: &str, major: Option<i64>, minor: Option<i64>, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let deny = DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() };
    let mut rules = vec![deny, rule("c", None, None, "m"), rule("b", None, None, "m")];
    // null, zero, full, random, urandom; tty, console, ptmx; the slaves of ptys.
    let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    rules.extend(nodes.map(|(major, minor)| rule("c", Some(major), Some(minor), "rwm")));
    rules.push(rule("c", Some(136), None, "rwm"));
    rules.extend_from_slice(asked);
    rules
}

/// Every device.
pub(super) fn everything() -> Vec<DeviceRule> {
    vec![DeviceRule { allow: true, access: Some("rwm".to_owned()), ..DeviceRule::default() }]
}

/// The device at a path of the host, or those in a directory, as the container gets them.
pub(super) fn find(mapping: &DeviceMapping) -> Result<Vec<Device>, Error> {
    let mut found = Vec::new();
    // A link leads where it says, as `/dev/cdrom` does; in a directory links are passed over.
    let metadata = std::fs::metadata(&mapping.source).at("look at the device", &mapping.source)?;
    if metadata.is_dir() {
        walk(&mapping.source, &mapping.destination, DEEPEST, &mut found)?;
    } else {
        found.extend(node(&metadata, &mapping.destination));
    }
    if found.is_empty() { Err(Error::NoDevice(mapping.source.clone())) } else { Ok(found) }
}

/// All devices of the host.
pub(super) fn all() -> Result<Vec<Device>, Error> {
    let mut found = Vec::new();
    let dev = Path::new("/dev");
    for entry in std::fs::read_dir(dev).at("list", dev)? {
        let entry = entry.at("list", dev)?;
        if OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            walk(&entry.path(), &entry.path(), DEEPEST, &mut found)?;
        } else {
            found.extend(node(&metadata, &entry.path()));
        }
    }
    Ok(found)
}

/// What is in a directory, and below it. What goes meanwhile, or cannot be looked at, is not there.
fn walk(source: &Path, destination: &Path, depth: u32, found: &mut Vec<Device>) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(source) else { return Ok(()) };
    for entry in entries.flatten() {
        // Of the entry itself: a link in a directory of devices is another name for one that is found anyway.
        let Ok(metadata) = entry.metadata() else { continue };
        let (from, to) = (entry.path(), destination.join(entry.file_name()));
        if metadata.is_dir() && depth > 0 {
            walk(&from, &to, depth - 1, found)?;
        } else {
            found.extend(node(&metadata, &to));
        }
        if found.len() > MOST {
            return Err(Error::TooMany(source.to_owned()));
        }
    }
    Ok(())
}

/// A node like this one.
fn node(metadata: &std::fs::Metadata, path: &Path) -> Option<Device> {
    let kind = match metadata.file_type() {
        t if t.is_char_device() => "c",
        t if t.is_block_device() => "b",
        _ => return None,
    };
    let number = metadata.rdev();
    Some(Device {
        kind: kind.to_owned(),
        path: path.to_owned(),
        major: major(number).into(),
        minor: minor(number).into(),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    })
}

/// The rule that lets a container use one of its devices.
pub(super) fn rule_of(device: &Device, access: &str) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: Some(device.kind.clone()),
        major: Some(device.major),
        minor: Some(device.minor),
        access: Some(access.to_owned()),
    }
}

/// The number of a block device.
pub(super) fn disk(path: &Path) -> Result<(i64, i64), Error> {
    let metadata = std::fs::metadata(path).at("look at the device", path)?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::NoDisk(path.to_owned()));
    }
    Ok((major(metadata.rdev()).into(), minor(metadata.rdev()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(source: &str, destination: &str, access: &str) -> DeviceMapping {
        DeviceMapping { source: source.into(), destination: destination.into(), access: access.to_owned() }
    }

    #[test]
    fn rules_in_dockers_form() {
        let any = rule("b 8:* r").unwrap();
        assert_eq!((any.kind.as_deref(), any.major, any.minor), (Some("b"), Some(8), None));
        assert_eq!(rule("a *:* rwm").unwrap().access.as_deref(), Some("rwm"));
        for bad in [
            "",
            "c",
            "c 1:2",
            "x 1:2 r",
            "c 1 r",
            "c 1:2:3 r",
            "c 1:2 x",
            "c 1:2 ",
            "c 1:2 rwmr",
            "c  1:2 r",
            "c -1:2 r",
            "c 1:99999999999 r",
            "c 1:2 r\nb *:* rwm",
        ] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_and_rights_are_checked_before_anything_is_looked_at() {
        assert!(check(&[mapping("/dev/null", "/dev/x", "r")], &["c *:* r".to_owned()]).is_ok());
        for bad in [
            mapping("dev/null", "/dev/x", "r"),
            mapping("/dev/../etc", "/dev/x", "r"),
            mapping("/dev/null", "/dev/../../x", "r"),
            mapping("/dev/null", "/", "r"),
            mapping("/dev/null", "/dev/x", ""),
            mapping("/dev/null", "/dev/x", "q"),
        ] {
            assert!(check(&[bad], &[]).is_err());
        }
    }

    #[test]
    fn devices_are_found_by_path_and_by_directory() {
        let one = find(&mapping("/dev/null", "/dev/void", "r")).unwrap();
        assert_eq!((one[0].kind.as_str(), one[0].major, one[0].minor), ("c", 1, 3));
        assert_eq!(one[0].path, Path::new("/dev/void"));
        let none = tempfile::tempdir().unwrap();
        let path = none.path().display().to_string();
        assert!(matches!(find(&mapping(&path, "/dev/x", "r")), Err(Error::NoDevice(_))));
        std::fs::write(none.path().join("file"), "").unwrap();
        assert!(matches!(find(&mapping(&path, "/dev/x", "r")), Err(Error::NoDevice(_))));
        assert!(matches!(find(&mapping("/nope", "/dev/x", "r")), Err(Error::File(_))));
        assert!(all().unwrap().iter().any(|d| d.path == Path::new("/dev/null")));
        assert!(matches!(disk(Path::new("/dev/null")), Err(Error::NoDisk(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_rule_is_read_or_refused(text in "[abc 0-9:*rwm]{0,20}") {
            let _ = rule(&text);
        }
    }
}
