//! The driver `local` and its options, as Docker has them: `type`, `device` and `o`, the words of mount(8).
//!
//! Without options a volume is its directory. `type=none,o=bind,device=DIR` makes it a directory of the host,
//! `type=tmpfs,device=tmpfs` memory that all containers share while one of them runs.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

/// The only driver.
pub const DRIVER: &str = "local";

/// What a volume's content is kept in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// Its own directory.
    Directory,
    /// A directory of the host.
    Bind {
        /// Which.
        device: PathBuf,
        /// The mounts below it come along.
        recursive: bool,
        /// For everybody.
        read_only: bool,
    },
    /// Memory, with these options of tmpfs.
    Tmpfs(Vec<String>),
}

/// What the options ask for.
pub(crate) fn backing(options: &BTreeMap<String, String>) -> Result<Backing> {
    if let Some(unknown) = options.keys().find(|key| !matches!(key.as_str(), "type" | "device" | "o")) {
        return Err(Error::Option(unknown.clone()));
    }
    let get = |key| options.get(key).map(String::as_str).filter(|value| !value.is_empty());
    if options.is_empty() {
        return Ok(Backing::Directory);
    }
    let words: Vec<&str> = get("o").unwrap_or_default().split(',').filter(|word| !word.is_empty()).collect();
    let binds = words.iter().any(|word| matches!(*word, "bind" | "rbind"));
    match get("type") {
        Some("none" | "bind") | None if binds => bind(get("device"), &words),
        Some("bind") => bind(get("device"), &words),
        Some("tmpfs") => tmpfs(&words),
        Some(other) => Err(Error::Type(other.chars().take(40).collect())),
        None => Err(Error::MissingOption("type")),
    }
}

fn bind(device: Option<&str>, words: &[&str]) -> Result<Backing> {
    let device = Path::new(device.ok_or(Error::MissingOption("device"))?);
    if !device.is_absolute() || device.components().any(|c| c == Component::ParentDir) {
        return Err(Error::MountOption(format!("device={}", device.display())));
    }
    let known = |word: &&&str| !matches!(**word, "bind" | "rbind" | "ro" | "rw" | "defaults");
    if let Some(unknown) = words.iter().find(known) {
        return Err(Error::MountOption((*unknown).to_owned()));
    }
    Ok(Backing::Bind {
        device: device.to_owned(),
        recursive: words.contains(&"rbind"),
        read_only: words.contains(&"ro"),
    })
}

fn tmpfs(words: &[&str]) -> Result<Backing> {
    let good = |word: &str| match word.split_once('=') {
        None => matches!(
            word,
            "noexec" | "nosuid" | "nodev" | "noatime" | "exec" | "suid" | "dev" | "rw" | "defaults"
        ),
        Some(("size" | "nr_blocks" | "nr_inodes", value)) => {
            let digits = value.strip_suffix(['k', 'm', 'g', 'K', 'M', 'G', '%']).unwrap_or(value);
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
        }
        Some(("mode", value)) => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        Some(("uid" | "gid", value)) => value.parse::<i32>().is_ok_and(|id| id >= 0),
        Some(_) => false,
    };
    match words.iter().find(|word| !good(word)) {
        Some(bad) => Err(Error::MountOption((*bad).to_owned())),
        None => Ok(Backing::Tmpfs(words.iter().map(|&word| word.to_owned()).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backing(text: &str) -> Result<Backing> {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        super::backing(&pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    #[test]
    fn options_are_dockers() {
        assert_eq!(backing("").unwrap(), Backing::Directory);
        let bind = Backing::Bind { device: "/srv".into(), recursive: false, read_only: true };
        assert_eq!(backing("type=none device=/srv o=bind,ro").unwrap(), bind);
        let Backing::Tmpfs(words) = backing("type=tmpfs device=tmpfs o=size=100m,uid=1000").unwrap() else {
            panic!()
        };
        assert_eq!(words, ["size=100m", "uid=1000"]);
        for bad in [
            "size=1g",
            "type=none o=bind",
            "type=none device=x o=bind",
            "type=none device=/a/../b o=bind",
            "type=nfs device=:/x o=addr=1.2.3.4",
            "type=tmpfs o=bla",
            "device=/x",
            "o=size=1m",
            "type=none device=/x o=bind,shared",
        ] {
            assert!(backing(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_options_are_read_or_refused(kind in "[a-z]{0,5}", device in "[a-z/.]{0,8}", o in "[a-z=,0-9]{0,20}") {
            let pairs = [("type", kind), ("device", device), ("o", o)];
            let _ = super::backing(&pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
        }
    }
}
