//! `network ls`: the networks that there are, and who is on them.

use std::collections::BTreeMap;

use base::{Id, Timestamp};
use network::Definition;

use crate::Engine;
use crate::error::Result;

/// A line of `network ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSummary {
    /// Its id; of `host` and `none` a made-up one.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// When it was made.
    pub created: Timestamp,
    /// It has IPv6 addresses.
    pub ipv6: bool,
    /// Nothing leaves it.
    pub internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// It is always there.
    pub predefined: bool,
    /// How many running containers are on it.
    pub users: usize,
}

impl Engine {
    /// All networks, by name.
    pub fn networks(&self) -> Result<Vec<NetworkSummary>> {
        self.reconcile()?;
        let mut all = Vec::new();
        for definition in
            self.network_store().list()?.into_iter().chain([Definition::default_of(&self.instance)])
        {
            let users = network::users(&self.instance, &definition)?.len();
            all.push(summary(definition, users));
        }
        all.extend([("host", "host"), ("none", "null")].map(|(name, driver)| NetworkSummary {
            id: predefined_id(name),
            name: name.to_owned(),
            driver: driver.to_owned(),
            created: Timestamp(0),
            ipv6: false,
            internal: false,
            labels: BTreeMap::new(),
            predefined: true,
            users: 0,
        }));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }
}

/// The id of `host` and `none`, which are no networks of ours but have one with Docker.
pub(crate) fn predefined_id(name: &str) -> Id {
    Id::of(&format!("network {name}"))
}

fn summary(definition: Definition, users: usize) -> NetworkSummary {
    NetworkSummary {
        predefined: definition.is_default(),
        ipv6: definition.ipv6.is_some(),
        id: definition.id,
        name: definition.name,
        driver: definition.driver,
        created: definition.created,
        internal: definition.internal,
        labels: definition.labels,
        users,
    }
}
