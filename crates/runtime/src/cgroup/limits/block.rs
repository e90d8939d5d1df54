//! Block devices: weights and throttles.

use oci::runtime::{BlockIo, ThrottleDevice};

use super::{Need, Write, only_v1, write};
use crate::cgroup::Error;
use crate::cgroup::hierarchy::Controller;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) enum Setting {
    /// 10 to 1000, for one device or all.
    Weight { device: Option<Device>, weight: u16 },
    /// The same against the group's own subgroups. v1's CFQ, which Linux 5.0 lost.
    LeafWeight { device: Option<Device>, weight: u16 },
    /// Per second; 0 is unlimited.
    Throttle { device: Device, what: Throttle, rate: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cgroup) struct Device {
    major: u32,
    minor: u32,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cgroup) enum Throttle {
    BytesRead,
    BytesWritten,
    Reads,
    Writes,
}

impl Throttle {
    const fn v2_key(self) -> &'static str {
        match self {
            Self::BytesRead => "rbps",
            Self::BytesWritten => "wbps",
            Self::Reads => "riops",
            Self::Writes => "wiops",
        }
    }

    const fn v1_file(self) -> &'static str {
        match self {
            Self::BytesRead => "blkio.throttle.read_bps_device",
            Self::BytesWritten => "blkio.throttle.write_bps_device",
            Self::Reads => "blkio.throttle.read_iops_device",
            Self::Writes => "blkio.throttle.write_iops_device",
        }
    }
}

fn device(major: i64, minor: i64) -> Result<Device, Error> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(Device { major, minor }),
        _ => Err(Error::Invalid { reason: "a block device's number is negative or too large" }),
    }
}

fn weight(value: Option<u16>) -> Result<Option<u16>, Error> {
    match value {
        None | Some(0) => Ok(None),
        Some(10..=1000) => Ok(value),
        Some(_) => Err(Error::Invalid { reason: "a weight of block devices is not from 10 to 1000" }),
    }
}

pub(super) fn settings(block: &BlockIo, list: &mut Vec<super::Setting>) -> Result<(), Error> {
    let mut push = |setting| list.push(super::Setting::Block(setting));
    if let Some(weight) = weight(block.weight)? {
        push(Setting::Weight { device: None, weight });
    }
    if let Some(weight) = weight(block.leaf_weight)? {
        push(Setting::LeafWeight { device: None, weight });
    }
    for entry in &block.weight_device {
        let device = Some(device(entry.major, entry.minor)?);
        if let Some(weight) = weight(entry.weight)? {
            push(Setting::Weight { device, weight });
        }
        if let Some(weight) = weight(entry.leaf_weight)? {
            push(Setting::LeafWeight { device, weight });
        }
    }
    let throttles: [(&[ThrottleDevice], Throttle); 4] = [
        (&block.throttle_read_bps_device, Throttle::BytesRead),
        (&block.throttle_write_bps_device, Throttle::BytesWritten),
        (&block.throttle_read_iops_device, Throttle::Reads),
        (&block.throttle_write_iops_device, Throttle::Writes),
    ];
    for (entries, what) in throttles {
        for entry in entries {
            push(Setting::Throttle { device: device(entry.major, entry.minor)?, what, rate: entry.rate });
        }
    }
    Ok(())
}

/// v1's weight (10 to 1000) as `io.weight` (1 to 10000): the straight line through both ends, as other runtimes
/// draw it.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.max(10)) - 10) * 9999 / 990
}

fn for_device(device: Option<Device>, value: impl std::fmt::Display) -> String {
    device.map_or_else(|| value.to_string(), |device| format!("{device} {value}"))
}

pub(super) fn v2(setting: &Setting, list: &mut Vec<Write>) -> Result<(), Error> {
    use Controller::Io;
    list.push(match setting {
        // The BFQ scheduler has the same scale and its own file; `io.weight` belongs to another controller of
        // block devices (iocost) and has a wider one.
        Setting::Weight { device, weight } => Write {
            otherwise: Some(("io.weight", for_device(*device, io_weight(*weight)))),
            ..write(Io, "io.bfq.weight", for_device(*device, weight), "weight of block devices")
        },
        Setting::LeafWeight { .. } => {
            return Err(only_v1("leaf weight of block devices", "blkio of version 1"));
        }
        Setting::Throttle { device, what, rate } => {
            let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
            write(Io, "io.max", format!("{device} {}={rate}", what.v2_key()), "limit of a block device")
        }
    });
    Ok(())
}

pub(super) fn v1(setting: &Setting, list: &mut Vec<Write>) {
    use Controller::Io;
    list.push(match setting {
        Setting::Weight { device, weight } => {
            let (file, bfq) = match device {
                None => ("blkio.weight", "blkio.bfq.weight"),
                Some(_) => ("blkio.weight_device", "blkio.bfq.weight_device"),
            };
            let value = for_device(*device, weight);
            Write {
                otherwise: Some((bfq, value.clone())),
                ..write(Io, file, value, "weight of block devices")
            }
        }
        Setting::LeafWeight { device, weight } => {
            let file = if device.is_some() { "blkio.leaf_weight_device" } else { "blkio.leaf_weight" };
            write(Io, file, for_device(*device, weight), "leaf weight of block devices").need(Need::Asked)
        }
        Setting::Throttle { device, what, rate } => {
            write(Io, what.v1_file(), format!("{device} {rate}"), "limit of a block device")
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_ends() {
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
        assert_eq!(io_weight(500), 4950);
    }
}
