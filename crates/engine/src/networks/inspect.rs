//! `network inspect`, in Docker's shape.

use base::Id;
use network::{Definition, Endpoint, Plan};
use serde_json::{Map, Value, json};

use crate::Engine;
use crate::containers::inspect::rfc3339;
use crate::containers::{reconcile, records};
use crate::error::Result;
use crate::networks::list::predefined_id;

impl Engine {
    /// All that is known of a network.
    pub fn inspect_network(&self, name: &str) -> Result<Value> {
        if let "host" | "none" = name {
            return Ok(predefined(name));
        }
        let definition = self.network_store().find(name)?;
        let mut containers = Map::new();
        for (_, id) in network::users(&self.instance, &definition)? {
            if containers.contains_key(id.as_str()) {
                continue;
            }
            if let Some(shown) = self.on_network(&id, &definition)? {
                containers.insert(id.to_string(), shown);
            }
        }
        let mut pools = Vec::new();
        if let Some((subnet, gateway, range)) = network::addresses(&self.instance, &definition)? {
            let mut pool = json!({ "Subnet": subnet.to_string(), "Gateway": gateway.to_string() });
            if let Some(range) = range {
                pool["IPRange"] = json!(range.to_string());
            }
            if !definition.reserved.is_empty() {
                pool["AuxiliaryAddresses"] = json!(definition.reserved);
            }
            pools.push(pool);
        }
        if let Some(pool6) = &definition.ipv6 {
            let mut pool =
                json!({ "Subnet": pool6.subnet.to_string(), "Gateway": pool6.gateway.to_string() });
            if let Some(range) = pool6.range {
                pool["IPRange"] = json!(range.to_string());
            }
            pools.push(pool);
        }
        let mut shown = json!({
            "Name": definition.name,
            "Id": definition.id,
            "Created": rfc3339(definition.created),
            "Scope": "local",
            "Driver": definition.driver,
            "EnableIPv4": true,
            "EnableIPv6": definition.ipv6.is_some(),
            "IPAM": { "Driver": "default", "Options": {}, "Config": pools },
            "Internal": definition.internal,
            "Attachable": definition.attachable,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Containers": containers,
            "Options": definition.options,
            "Labels": definition.labels,
        });
        // Not Docker's.
        if !definition.egress.is_allow() {
            shown["Egress"] = json!(definition.egress);
        }
        Ok(shown)
    }

    /// A container on a network; none where it has gone meanwhile.
    fn on_network(&self, id: &Id, definition: &Definition) -> Result<Option<Value>> {
        let Some(record) = records::record(&self.instance, id)? else { return Ok(None) };
        let endpoints = self.endpoints_of(id)?;
        let Some(endpoint) = endpoints.iter().find(|e| e.network() == definition.name) else {
            return Ok(None);
        };
        let address = endpoint.address();
        Ok(Some(json!({
            "Name": record.name,
            "EndpointID": endpoint_id(id, &definition.name),
            "MacAddress": address.mac,
            "IPv4Address": format!("{}/{}", address.ip, address.prefix),
            "IPv6Address": endpoint.address6().map(|(ip, prefix, _)| format!("{ip}/{prefix}")).unwrap_or_default(),
        })))
    }

    /// Where a running container is on networks; nothing where it does not run.
    pub(crate) fn endpoints_of(&self, id: &Id) -> Result<Vec<Endpoint>> {
        match self.plan_of(id)? {
            Some(plan) => Ok(plan.endpoints().cloned().collect()),
            None => Ok(Vec::new()),
        }
    }

    /// The plan of a running container's networks, as it is by now.
    pub(crate) fn plan_of(&self, id: &Id) -> Result<Option<Plan>> {
        match reconcile::read_request(&self.instance.live(id)) {
            Some(request) => Ok(Some(request.network.by_now(&self.instance, id)?)),
            None => Ok(None),
        }
    }
}

/// An id for a container's place on a network, the same as long as both exist.
pub(crate) fn endpoint_id(container: &Id, network: &str) -> Id {
    Id::of(&format!("{container} {network}"))
}

fn predefined(name: &str) -> Value {
    json!({
        "Name": name,
        "Id": predefined_id(name),
        "Created": rfc3339(base::Timestamp(0)),
        "Scope": "local",
        "Driver": if name == "none" { "null" } else { name },
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": [] },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": {},
        "Options": {},
        "Labels": {},
    })
}
