//! Which rights it has.

use clap::Args;
use state::options::ContainerOptions;

use crate::error::Result;
use crate::flags::security;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Give it a capability
    #[arg(long, value_name = "CAPABILITY", help_heading = "Confinement")]
    cap_add: Vec<String>,
    /// Take a capability from it
    #[arg(long, value_name = "CAPABILITY", help_heading = "Confinement")]
    cap_drop: Vec<String>,
    /// Confine it otherwise: seccomp=…, apparmor=…, no-new-privileges, systempaths=unconfined
    #[arg(long, value_name = "OPTION", help_heading = "Confinement")]
    security_opt: Vec<String>,
    /// Take all confinement but the namespaces away: all capabilities, all devices, no filter
    #[arg(long, help_heading = "Confinement")]
    privileged: bool,
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) -> Result<()> {
        options.privileged = self.privileged;
        options.cap_add = self.cap_add;
        options.cap_drop = self.cap_drop;
        options.security = security::resolve(&self.security_opt)?;
        Ok(())
    }
}
