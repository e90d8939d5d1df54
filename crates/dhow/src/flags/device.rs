//! `--device HOST[:CONTAINER[:rwm]]`, and what is said of one block device: `PATH:RATE`.

use std::path::PathBuf;
use std::str::FromStr;

use state::options::{DeviceMapping, DeviceRate};

use super::size::Bytes;

/// A device that a container may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device(pub(crate) DeviceMapping);

/// Not a device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotADevice {
    /// Not even the form.
    #[error("want HOST[:CONTAINER[:ACCESS]], such as /dev/fuse or /dev/sda:/dev/disk:r")]
    Form,
    /// A name of the Container Device Interface.
    #[error("a device of the Container Device Interface cannot be had: name its path")]
    Interface,
    /// A path that is none.
    #[error("`{0}` is not an absolute path")]
    Path(String),
    /// Rights that are none.
    #[error("`{0}` is no access: want some of r, w and m, each once")]
    Access(String),
    /// What is said of a device is not.
    #[error("want PATH:RATE, such as /dev/sda:1mb")]
    Bytes,
    /// Likewise.
    #[error("want PATH:NUMBER, such as /dev/sda:100")]
    Operations,
    /// Likewise.
    #[error("want PATH:WEIGHT, with a weight from 10 to 1000")]
    Weight,
    /// No path of a device.
    #[error("`{0}` is no path below /dev")]
    NotInDev(String),
}

fn is_access(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b"rwm".contains(&b))
        && text.bytes().enumerate().all(|(n, b)| !text.as_bytes()[..n].contains(&b))
}

impl FromStr for Device {
    type Err = NotADevice;
    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, access) = match *parts {
            [source] => (source, source, "rwm"),
            [source, access] if is_access(access) => (source, source, access),
            [source, destination] => (source, destination, "rwm"),
            [source, destination, access] => (source, destination, access),
            _ => return Err(NotADevice::Form),
        };
        if source.is_empty() || destination.is_empty() {
            return Err(NotADevice::Form);
        }
        if parts.len() == 1 && !source.starts_with('/') && source.contains('=') {
            return Err(NotADevice::Interface);
        }
        if let Some(bad) = [source, destination].into_iter().find(|path| !path.starts_with('/')) {
            return Err(NotADevice::Path(bad.to_owned()));
        }
        if !is_access(access) {
            return Err(NotADevice::Access(access.to_owned()));
        }
        Ok(Self(DeviceMapping {
            source: PathBuf::from(source),
            destination: PathBuf::from(destination),
            access: access.to_owned(),
        }))
    }
}

/// `--device-read-bps` and `--device-write-bps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BytesRate(pub(crate) DeviceRate);

/// `--device-read-iops` and `--device-write-iops`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperationsRate(pub(crate) DeviceRate);

/// `--blkio-weight-device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weight(pub(crate) DeviceRate);

/// The path and what is said of it.
fn of_device(text: &str, wrong: NotADevice) -> Result<(PathBuf, &str), NotADevice> {
    let (path, value) = text.rsplit_once(':').ok_or(wrong)?;
    // Docker's rule, which keeps a mistyped path from being looked for anywhere.
    if !path.starts_with("/dev/") {
        return Err(NotADevice::NotInDev(path.to_owned()));
    }
    Ok((PathBuf::from(path), value))
}

impl FromStr for BytesRate {
    type Err = NotADevice;
    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let (path, value) = of_device(text, NotADevice::Bytes)?;
        let Bytes(value) = value.parse().map_err(|_| NotADevice::Bytes)?;
        Ok(Self(DeviceRate { path, value }))
    }
}

impl FromStr for OperationsRate {
    type Err = NotADevice;
    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let (path, value) = of_device(text, NotADevice::Operations)?;
        let value = value.parse::<u32>().map_err(|_| NotADevice::Operations)?.into();
        Ok(Self(DeviceRate { path, value }))
    }
}

impl FromStr for Weight {
    type Err = NotADevice;
    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let (path, value) = of_device(text, NotADevice::Weight)?;
        match value.parse::<u64>() {
            Ok(value @ (0 | 10..=1000)) => Ok(Self(DeviceRate { path, value })),
            _ => Err(NotADevice::Weight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> Result<(String, String, String), NotADevice> {
        let shown = |path: PathBuf| path.display().to_string();
        text.parse().map(|Device(d)| (shown(d.source), shown(d.destination), d.access))
    }

    #[test]
    fn devices_in_dockers_forms() {
        let of = |s: &str, d: &str, a: &str| Ok((s.to_owned(), d.to_owned(), a.to_owned()));
        assert_eq!(device("/dev/fuse"), of("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(device("/dev/fuse:r"), of("/dev/fuse", "/dev/fuse", "r"));
        assert_eq!(device("/dev/a:/dev/b"), of("/dev/a", "/dev/b", "rwm"));
        assert_eq!(device("/dev/a:/dev/b:mr"), of("/dev/a", "/dev/b", "mr"));
        for bad in ["", ":", "/dev/a:", ":/dev/b", "/a:/b:r:w"] {
            assert_eq!(device(bad), Err(NotADevice::Form), "{bad}");
        }
        assert_eq!(device("vendor.com/class=name"), Err(NotADevice::Interface));
        assert_eq!(device("fuse"), Err(NotADevice::Path("fuse".to_owned())));
        assert_eq!(device("/dev/a:b"), Err(NotADevice::Path("b".to_owned())));
        for bad in ["x", "rr", "rwmr", ""] {
            assert!(device(&format!("/dev/a:/dev/b:{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_said_of_a_block_device() {
        let rate = |path: &str, value| DeviceRate { path: PathBuf::from(path), value };
        assert_eq!("/dev/sda:1mb".parse(), Ok(BytesRate(rate("/dev/sda", 1 << 20))));
        assert_eq!("/dev/disk/a:b:5".parse(), Ok(OperationsRate(rate("/dev/disk/a:b", 5))));
        assert_eq!("/dev/sda:500".parse(), Ok(Weight(rate("/dev/sda", 500))));
        for bad in ["/dev/sda", "/dev/sda:", "/dev/sda:x", "sda:1mb", "/etc/passwd:1"] {
            assert!(bad.parse::<BytesRate>().is_err(), "{bad}");
        }
        for bad in ["/dev/sda:-1", "/dev/sda:1k", "/dev/sda:5000000000"] {
            assert!(bad.parse::<OperationsRate>().is_err(), "{bad}");
        }
        for bad in ["/dev/sda:5", "/dev/sda:1001", "/dev/sda:x"] {
            assert!(bad.parse::<Weight>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z/:0-9=.-]{0,30}") {
            let _ = (text.parse::<Device>(), text.parse::<BytesRate>(), text.parse::<Weight>());
        }
    }
}
