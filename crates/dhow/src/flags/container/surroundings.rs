//! What of the host, or of another container, it is let near: namespaces, devices, kernel settings.

use clap::Args;
use state::options::{ContainerOptions, Namespaces};

use crate::error::{Error, Result};
use crate::flags::device::Device;
use crate::flags::namespaces::{Cgroupns, Ipc, Pid, Uts};

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Let it use a device of the host's
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]", help_heading = "Surroundings")]
    device: Vec<Device>,
    /// Let it use devices by number: c 10:200 rwm
    #[arg(long, value_name = "RULE", help_heading = "Surroundings")]
    device_cgroup_rule: Vec<String>,
    /// Whose IPC namespace it is in: private, shareable, none, host or container:NAME
    #[arg(long, value_name = "MODE", help_heading = "Surroundings")]
    ipc: Option<Ipc>,
    /// Whose processes it sees: host or container:NAME
    #[arg(long, value_name = "MODE", help_heading = "Surroundings")]
    pid: Option<Pid>,
    /// Whose host name it has: host
    #[arg(long, value_name = "MODE", help_heading = "Surroundings")]
    uts: Option<Uts>,
    /// Whose cgroups it sees: private or host
    #[arg(long, value_name = "MODE", help_heading = "Surroundings")]
    cgroupns: Option<Cgroupns>,
    /// Put its cgroup below this one
    #[arg(long, value_name = "PATH", help_heading = "Surroundings")]
    cgroup_parent: Option<String>,
    /// Set a kernel setting of its namespaces
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Surroundings")]
    sysctl: Vec<String>,
    /// Attach a word for its runtime
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Surroundings")]
    annotation: Vec<String>,
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) -> Result<()> {
        options.devices = self.device.into_iter().map(|Device(device)| device).collect();
        options.device_rules = self.device_cgroup_rule;
        options.namespaces = Namespaces {
            ipc: self.ipc.map(|Ipc(mode)| mode).unwrap_or_default(),
            pid: self.pid.map(|Pid(mode)| mode).unwrap_or_default(),
            host_uts: self.uts.is_some_and(|Uts(host)| host),
            host_cgroup: self.cgroupns.is_some_and(|Cgroupns(host)| host),
        };
        options.cgroup_parent = self.cgroup_parent.filter(|path| !path.is_empty());
        options.sysctls = self.sysctl.iter().map(|s| pair("--sysctl", s)).collect::<Result<_>>()?;
        options.annotations =
            self.annotation.iter().map(|a| pair("--annotation", a)).collect::<Result<_>>()?;
        Ok(())
    }
}

/// `name=value`, both there.
fn pair(flag: &str, text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err(Error::flag(format!("invalid value '{text}' for '{flag}': want NAME=VALUE"))),
    }
}
