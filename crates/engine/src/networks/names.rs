//! What a container is called on networks of its own, as our name server is told.

use std::net::IpAddr;

use network::{Endpoint, Plan};
use state::container::Record;
use state::egress::Egress;
use state::netd::{Membership, Registration, Subnet, VERSION};
use state::options::{EndpointOptions, NetworkMode};
use state::protocol::CHANGES;

use super::connect::addresses;
use super::endpoints;
use crate::Engine;
use crate::error::Result;

/// Whether a container with these places on networks is called something: on the default network nobody is.
pub(crate) fn has_names(plan: &Plan) -> bool {
    plan.endpoints().any(|endpoint| endpoint.network() != network::DEFAULT)
}

/// What a container is called, and its `resolv.conf`; none where it has no names.
pub(crate) fn of(
    record: &Record,
    plan: &Plan,
    egress: &Egress,
) -> Result<Option<(Registration, network::Resolving)>> {
    // Who is limited asks us on the default network, too: its questions are not its own business any more.
    let limited = !egress.is_allow() && plan.endpoints().next().is_some();
    if has_names(plan) || limited { registration(record, plan, egress).map(Some) } else { Ok(None) }
}

fn registration(record: &Record, plan: &Plan, egress: &Egress) -> Result<(Registration, network::Resolving)> {
    let has_ipv6 = plan.endpoints().any(|endpoint| endpoint.address6().is_some());
    let mut resolving = network::resolving(&record.options.dns, has_ipv6)?;
    if !egress.is_allow() {
        // Its own packets do not get there.
        for upstream in &mut resolving.upstreams {
            upstream.from_host = true;
        }
    }
    let asked = endpoints(&record.options);
    let gateway = plan.address().map(|address| address.gateway.into());
    let hosts = record.options.hosts.iter();
    let hosts = hosts.filter_map(|host| Some((host.name.clone(), host.address.or(gateway)?))).collect();
    let registration = Registration {
        version: VERSION,
        container: record.id.clone(),
        networks: plan.endpoints().map(|endpoint| membership(record, endpoint, &asked)).collect(),
        upstreams: resolving.upstreams.clone(),
        hosts,
        program: monitor::client::find_netd()?,
        egress: egress.clone(),
    };
    Ok((registration, resolving))
}

fn membership(record: &Record, endpoint: &Endpoint, asked: &[EndpointOptions]) -> Membership {
    let (address, six) = (endpoint.address(), endpoint.address6());
    let mut names = Vec::new();
    if endpoint.network() != network::DEFAULT {
        names.extend([record.name.clone(), record.id.short().to_owned(), record.resolved.hostname.clone()]);
        let here = asked.iter().filter(|asked| asked.network == endpoint.network());
        names.extend(here.flat_map(|asked| asked.aliases.clone()));
    }
    let mut subnets = vec![Subnet { address: address.ip.into(), prefix: address.prefix }];
    subnets.extend(six.map(|(ip, prefix, _)| Subnet { address: ip.into(), prefix }));
    let mut gateways = Vec::new();
    // Beside the host, the gateway is another machine.
    if !endpoint.is_macvlan() {
        gateways.push(address.gateway.into());
        gateways.extend(six.map(|(_, _, gateway)| IpAddr::V6(gateway)));
    }
    Membership {
        network: endpoint.network().to_owned(),
        names,
        addresses: addresses(endpoint),
        gateways,
        subnets,
        internal: endpoint.is_internal(),
        allow: asked
            .iter()
            .filter(|asked| asked.network == endpoint.network())
            .flat_map(|asked| asked.allow.clone())
            .collect(),
    }
}

impl Engine {
    /// Tells the monitor of a container that runs what it is called by now, and on which networks.
    pub(crate) fn tell_names(&self, record: &Record) -> Result<()> {
        let Some(plan) = self.plan_of(&record.id)? else { return Ok(()) };
        let egress = self.egress_in_force(&record.id);
        let (registration, resolving) = registration(record, &plan, &egress)?;
        if has_names(&plan) {
            let before = network::files::resolv_conf(&NetworkMode::Bridge, &record.options.dns)?;
            // It asked the host's servers so far. A file that somebody in the container has written is theirs.
            self.edit_file(&record.id, "resolv.conf", |text| {
                if text == before.text { resolving.text } else { text.to_owned() }
            })?;
        }
        let found = self.find(record.id.as_str())?;
        // One of an earlier version would not know what it is told.
        if found.live.as_ref().is_none_or(|live| live.protocol < CHANGES) {
            return Ok(());
        }
        if let Some(session) = self.connect_if_up(&found)? {
            // One that ends just now is called nothing any more.
            session.set_names(&registration).ok();
        }
        Ok(())
    }
}
