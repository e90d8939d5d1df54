//! `network exposed`: who can really reach the published ports.

use std::net::Ipv6Addr;

use base::Id;
use network::Reach;
use state::options::PortMapping;

use crate::Engine;
use crate::error::Result;

/// A published port of a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposedPort {
    /// Whose.
    pub container: Id,
    /// Its name.
    pub name: String,
    /// The port.
    pub port: PortMapping,
    /// Who can reach it from outside.
    pub reach: Reach,
}

impl Engine {
    /// All published ports of running containers, by container and port, with who can reach them from outside.
    pub fn exposed(&self) -> Result<Vec<ExposedPort>> {
        let mut found = Vec::new();
        for container in self.containers(false)? {
            let ipv6 = self.has_ipv6(&container.id)?;
            // What is on all addresses of both versions is shown twice to people, and is one port here.
            let is_again = |port: &PortMapping| {
                port.host_ip == Some(Ipv6Addr::UNSPECIFIED.into())
                    && container.ports.contains(&PortMapping { host_ip: None, ..port.clone() })
            };
            found.extend(
                container
                    .ports
                    .iter()
                    .filter(|port| !is_again(port))
                    .map(|port| (container.id.clone(), container.name.clone(), port.clone(), ipv6)),
            );
        }
        found.sort_by(|a, b| (&a.1, a.2.host_port, a.2.host_ip).cmp(&(&b.1, b.2.host_port, b.2.host_ip)));
        let ports: Vec<(PortMapping, bool)> =
            found.iter().map(|(.., port, ipv6)| (port.clone(), *ipv6)).collect();
        let reach = network::exposure(&self.instance, &ports)?;
        let listed = found.into_iter().zip(reach);
        Ok(listed
            .map(|((container, name, port, _), reach)| ExposedPort { container, name, port, reach })
            .collect())
    }

    /// Whether a running container's ports are published by IPv6, too.
    fn has_ipv6(&self, id: &Id) -> Result<bool> {
        Ok(network::publishes_ipv6(&self.instance, id)?)
    }
}
