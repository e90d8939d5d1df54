//! `--tmpfs PATH[:OPTIONS]`.

use std::path::PathBuf;
use std::str::FromStr;

use state::options::TmpfsMount;

use super::volume::{NotAMount, destination};

/// A tmpfs for the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tmpfs(pub(crate) TmpfsMount);

impl FromStr for Tmpfs {
    type Err = NotAMount;
    fn from_str(text: &str) -> Result<Self, NotAMount> {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        let destination: PathBuf = destination(path)?;
        let options: Vec<String> = options.split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect();
        for option in &options {
            check(option)?;
        }
        Ok(Self(TmpfsMount { destination, options, ..TmpfsMount::default() }))
    }
}

fn check(option: &str) -> Result<(), NotAMount> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let good = match name {
        "rw" | "ro" | "exec" | "noexec" | "suid" | "nosuid" | "dev" | "nodev" | "atime" | "noatime"
        | "diratime" | "nodiratime" | "relatime" | "strictatime" | "sync" | "async" => !option.contains('='),
        "size" => value.strip_suffix('%').unwrap_or(value).parse::<super::size::Bytes>().is_ok(),
        "mode" => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        "uid" | "gid" => value.parse::<u32>().is_ok(),
        "nr_inodes" | "nr_blocks" => value.parse::<super::size::Bytes>().is_ok(),
        _ => false,
    };
    if good { Ok(()) } else { Err(NotAMount::Option(option.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let Tmpfs(mount) = "/run:size=64m,mode=1777,noexec,uid=1000".parse().unwrap();
        assert_eq!(mount.destination, PathBuf::from("/run"));
        assert_eq!(mount.options, ["size=64m", "mode=1777", "noexec", "uid=1000"]);
        assert!("/run:size=50%".parse::<Tmpfs>().is_ok());
        for bad in ["run", "", "/run:bla", "/run:size=x", "/run:mode=9", "/run:rw=1", "/"] {
            assert!(bad.parse::<Tmpfs>().is_err(), "{bad}");
        }
    }
}
