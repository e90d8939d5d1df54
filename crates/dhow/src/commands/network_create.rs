//! `dhow network create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::Parser;
use engine::NetworkOptions;
use state::egress::Egress;

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::flags::label::Label;
use crate::globals::Context;
use crate::output;

/// Make a network.
#[derive(Debug, Parser)]
#[command(name = "network create")]
pub(crate) struct Arguments {
    /// Its driver: bridge, or macvlan for containers that are on a link of the host's (-o parent=LINK)
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// Its addresses, as 10.5.0.0/16 or fd00:5::/64; none: some that nobody has
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    subnet: Vec<String>,
    /// Give containers only addresses of this part of the subnet
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// The bridge's own address, or with macvlan that of the router; none: the first of the subnet
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// An address that no container gets, and what it is for
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<Label>,
    /// Give containers IPv6 addresses, too
    #[arg(long)]
    ipv6: bool,
    /// Let nothing leave it, and nothing come in (macvlan: no route beyond the link)
    #[arg(long)]
    internal: bool,
    /// Let its containers speak to each other (false: only where --allow of one of them says so)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    icc: Option<bool>,
    /// Let its containers go there and nowhere else: a name, *.NAME, a URL, an address or range, each with a port or without;
    /// or deny, allow, learn
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    egress: Vec<String>,
    /// Docker's for networks of a swarm: all networks can be connected to by hand
    #[arg(long, hide = true)]
    attachable: bool,
    /// An option of the driver, as com.docker.network.driver.mtu, parent, macvlan_mode
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<Label>,
    /// Put a label on it
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<Label>,
    /// The network's name
    #[arg(value_name = "NETWORK")]
    name: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let mut reserved = BTreeMap::new();
        for Label(name, address) in self.aux_address {
            let wrong = |_| {
                Error::flag(format!(
                    "invalid value '{name}={address}' for '--aux-address': want NAME=ADDRESS"
                ))
            };
            reserved.insert(name.clone(), address.parse().map_err(wrong)?);
        }
        let mut opt = self.opt;
        if let Some(icc) = self.icc {
            opt.push(Label("com.docker.network.bridge.enable_icc".to_owned(), icc.to_string()));
        }
        let map = |pairs: Vec<Label>| pairs.into_iter().map(|Label(key, value)| (key, value)).collect();
        let options = NetworkOptions {
            name: self.name,
            driver: Some(self.driver),
            subnets: self.subnet,
            ranges: self.ip_range,
            gateways: self.gateway,
            reserved,
            ipv6: self.ipv6,
            internal: self.internal,
            attachable: self.attachable,
            options: map(opt),
            labels: map(self.label),
            egress: Egress::parse(&self.egress)
                .map_err(|error| Error::flag(format!("invalid value for '--egress': {error}")))?,
        };
        output::line(&context.engine()?.create_network(&options)?).map(|()| 0)
    }
}
