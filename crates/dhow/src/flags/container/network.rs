//! Which network it is on, and what of it can be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Args;
use state::egress::Egress;
use state::options::{ContainerOptions, DnsOptions};

use crate::error::{Error, Result};
use crate::flags::allow::Allow;
use crate::flags::expose::Expose;
use crate::flags::host_entry::AddHost;
use crate::flags::network::{self, Mac, Network, Wanted};
use crate::flags::port::Publish;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Connect it to a network: bridge, host, none, container:NAME, or one of your own
    #[arg(long, visible_alias = "net", value_name = "NETWORK", help_heading = "Network")]
    network: Vec<Network>,
    /// Give it another name on its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME", help_heading = "Network")]
    network_alias: Vec<String>,
    /// Give it this address, of its network's subnet
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    ip: Option<Ipv4Addr>,
    /// Give it this IPv6 address, of its network's subnet
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    ip6: Option<Ipv6Addr>,
    /// Give its interface this hardware address
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    mac_address: Option<Mac>,
    /// Let it speak to this port of that neighbour, and to no other neighbour but those that are allowed
    #[arg(long, value_name = "NAME:PORT[/PROTOCOL]", help_heading = "Network")]
    allow: Vec<Allow>,
    /// Publish a port
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER[/PROTOCOL]", help_heading = "Network")]
    publish: Vec<Publish>,
    /// Publish every port that its image or --expose names
    #[arg(short = 'P', long, help_heading = "Network")]
    publish_all: bool,
    /// Let it go there and nowhere else: a name, *.NAME, a URL, an address or range, each with a port or without; or deny,
    /// allow, learn
    #[arg(long, value_name = "RULE", value_delimiter = ',', help_heading = "Network")]
    egress: Vec<String>,
    /// Say that it listens on a port
    #[arg(long, value_name = "PORT[/PROTOCOL]", help_heading = "Network")]
    expose: Vec<Expose>,
    /// Give it a name for an address
    #[arg(long, value_name = "NAME:ADDRESS", help_heading = "Network")]
    add_host: Vec<AddHost>,
    /// Let it ask this name server
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    dns: Vec<IpAddr>,
    /// Let it look for names in this domain
    #[arg(long, value_name = "DOMAIN", help_heading = "Network")]
    dns_search: Vec<String>,
    /// Set an option of its resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", help_heading = "Network")]
    dns_option: Vec<String>,
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) -> Result<()> {
        let wanted = Wanted {
            aliases: self.network_alias,
            ip: self.ip,
            ip6: self.ip6,
            mac: self.mac_address.map(|Mac(mac)| mac),
            allow: self.allow.into_iter().map(|Allow(rule)| rule).collect(),
        };
        network::apply(self.network, wanted, options)
            .map_err(|error| Error::flag(format!("invalid value for '--network': {error}")))?;
        options.egress = Egress::parse(&self.egress)
            .map_err(|error| Error::flag(format!("invalid value for '--egress': {error}")))?;
        options.publish_all = self.publish_all;
        options.expose = self.expose.into_iter().flat_map(|Expose(ports)| ports).collect();
        options.hosts = self.add_host.into_iter().map(|AddHost(host)| host).collect();
        options.dns = DnsOptions { servers: self.dns, search: self.dns_search, options: self.dns_option };
        options.ports = self.publish.into_iter().flat_map(|Publish(ports)| ports).collect();
        Ok(())
    }
}
