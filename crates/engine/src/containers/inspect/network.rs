//! `NetworkSettings` of `inspect`.

use base::Id;
use network::Endpoint;
use serde_json::{Map, Value, json};
use state::egress::Egress;
use state::options::EndpointOptions;

use super::port_map;
use crate::containers::records::Found;
use crate::networks;
use crate::networks::inspect::endpoint_id;

/// The networks of a container; its addresses there, where it runs.
pub(super) fn settings(found: &Found, endpoints: &[Endpoint], egress: &Egress) -> Value {
    let live = found.live.as_ref();
    let options = &found.record.options;
    let mut networks = Map::new();
    for asked in networks::endpoints(options) {
        let endpoint = endpoints.iter().find(|endpoint| endpoint.network() == asked.network);
        let shown = endpoint_settings(&found.record.id, &asked, endpoint);
        networks.insert(asked.network, shown);
    }
    if networks.is_empty() {
        // As Docker: what is no network of ours is shown as one without addresses.
        for name in networks::names(options) {
            networks.insert(
                name.to_owned(),
                endpoint_settings(&found.record.id, &EndpointOptions::on(name), None),
            );
        }
    }
    let mut settings = addresses(endpoints.first().filter(|e| e.network() == network::DEFAULT));
    settings["Ports"] = live.map_or_else(|| json!({}), |l| port_map(&l.shown_ports()));
    // There is no file that keeps it: the namespace is its processes'.
    settings["SandboxID"] = json!(live.map(|_| found.record.id.as_str()).unwrap_or_default());
    settings["SandboxKey"] = json!(live.map(|l| format!("/proc/{}/ns/net", l.pid)).unwrap_or_default());
    settings["Networks"] = Value::Object(networks);
    // Not Docker's: where it may go while it runs, or what was asked for.
    let egress = if egress.is_allow() { &options.egress } else { egress };
    if !egress.is_allow() {
        settings["Egress"] = json!(egress);
    }
    settings
}

fn endpoint_settings(id: &Id, asked: &EndpointOptions, endpoint: Option<&Endpoint>) -> Value {
    let mut settings = addresses(endpoint);
    let wanted = json!({
        "IPv4Address": asked.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        "IPv6Address": asked.ip6.map(|ip| ip.to_string()).unwrap_or_default(),
    });
    settings["IPAMConfig"] = if asked.ip.is_some() || asked.ip6.is_some() { wanted } else { Value::Null };
    settings["Aliases"] = if asked.aliases.is_empty() { Value::Null } else { json!(asked.aliases) };
    if !asked.allow.is_empty() {
        settings["Allow"] = json!(asked.allow.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    settings["NetworkID"] =
        json!(endpoint.and_then(Endpoint::network_id).map(Id::to_string).unwrap_or_default());
    settings["EndpointID"] =
        json!(endpoint.map(|_| endpoint_id(id, &asked.network).to_string()).unwrap_or_default());
    settings
}

fn addresses(endpoint: Option<&Endpoint>) -> Value {
    let address = endpoint.map(Endpoint::address);
    let six = endpoint.and_then(Endpoint::address6);
    json!({
        "IPAddress": address.as_ref().map(|a| a.ip.to_string()).unwrap_or_default(),
        "IPPrefixLen": address.as_ref().map_or(0, |a| a.prefix),
        "Gateway": address.as_ref().map(|a| a.gateway.to_string()).unwrap_or_default(),
        "MacAddress": address.map(|a| a.mac).unwrap_or_default(),
        "GlobalIPv6Address": six.map(|(ip, _, _)| ip.to_string()).unwrap_or_default(),
        "GlobalIPv6PrefixLen": six.map_or(0, |(_, prefix, _)| prefix),
        "IPv6Gateway": six.map(|(_, _, gateway)| gateway.to_string()).unwrap_or_default(),
    })
}
