//! `dhow network connect` and `dhow network disconnect`.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::Parser;
use state::options::EndpointOptions;

use crate::commands::{Run, create};
use crate::error::Result;
use crate::flags::allow::Allow;
use crate::flags::network::Mac;
use crate::globals::Context;

/// Connect a container to a network, running or not.
#[derive(Debug, Parser)]
#[command(name = "network connect")]
pub(crate) struct Connect {
    /// Give it another name there
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Give it this address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// Give it this IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Give its interface this hardware address
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<Mac>,
    /// Let it speak there to this port of that neighbour, and to no other but those that are allowed
    #[arg(long, value_name = "NAME:PORT[/PROTOCOL]")]
    allow: Vec<Allow>,
    /// The network
    network: String,
    /// The container
    container: String,
}

impl Run for Connect {
    fn run(self, context: &Context) -> Result<u8> {
        let asked = EndpointOptions {
            network: self.network,
            aliases: self.alias,
            ip: self.ip,
            ip6: self.ip6,
            mac: self.mac_address.map(|Mac(mac)| mac),
            allow: self.allow.into_iter().map(|Allow(rule)| rule).collect(),
        };
        let warnings = context.engine()?.connect_network(&self.container, &asked)?;
        create::warn(&warnings);
        Ok(0)
    }
}

/// Take a container off a network, running or not.
#[derive(Debug, Parser)]
#[command(name = "network disconnect")]
pub(crate) struct Disconnect {
    /// Do not mind a container that is not there
    #[arg(short, long)]
    force: bool,
    /// The network
    network: String,
    /// The container
    container: String,
}

impl Run for Disconnect {
    fn run(self, context: &Context) -> Result<u8> {
        context.engine()?.disconnect_network(&self.container, &self.network, self.force)?;
        Ok(0)
    }
}
