//! What of the host a container's options name: looked up at each start, since devices come and go.

use oci::runtime::{BlockIo, Device, DeviceRule, ThrottleDevice, WeightDevice};
use state::options::{ContainerOptions, DeviceRate};

use super::devices::{self, Error};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct OnHost {
    /// The nodes in its `/dev`.
    pub(crate) devices: Vec<Device>,
    /// What it may do with them, and with those that were named by number.
    pub(crate) rules: Vec<DeviceRule>,
    /// Weights and rates of disks.
    pub(crate) block_io: BlockIo,
}

impl OnHost {
    /// Looks. Where nothing is named, nothing is done.
    pub(crate) fn find(options: &ContainerOptions) -> Result<Self, Error> {
        let mut found = Self::default();
        if options.privileged {
            found.devices = devices::all()?;
        }
        for mapping in &options.devices {
            for device in devices::find(mapping)? {
                found.rules.push(devices::rule_of(&device, &mapping.access));
                // One that is given under its own name is there already, if all are.
                found.devices.retain(|other| other.path != device.path);
                found.devices.push(device);
            }
        }
        for text in &options.device_rules {
            found.rules.push(devices::rule(text)?);
        }
        let limits = &options.limits;
        found.block_io = BlockIo {
            weight_device: limits.blkio_weight_device.iter().map(weight).collect::<Result<_, _>>()?,
            throttle_read_bps_device: throttles(&limits.device_read_bps)?,
            throttle_write_bps_device: throttles(&limits.device_write_bps)?,
            throttle_read_iops_device: throttles(&limits.device_read_iops)?,
            throttle_write_iops_device: throttles(&limits.device_write_iops)?,
            ..BlockIo::default()
        };
        Ok(found)
    }
}

fn weight(rate: &DeviceRate) -> Result<WeightDevice, Error> {
    let (major, minor) = devices::disk(&rate.path)?;
    Ok(WeightDevice { major, minor, weight: u16::try_from(rate.value).ok(), leaf_weight: None })
}

fn throttles(rates: &[DeviceRate]) -> Result<Vec<ThrottleDevice>, Error> {
    rates
        .iter()
        .map(|rate| {
            let (major, minor) = devices::disk(&rate.path)?;
            Ok(ThrottleDevice { major, minor, rate: rate.value })
        })
        .collect()
}
