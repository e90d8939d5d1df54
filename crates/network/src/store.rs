//! The networks of an instance: a file each, made whole or not at all.

use std::path::{Path, PathBuf};

use base::Id;
use base::fs::{self, Durability};
use state::Instance;
use state::lock::Lock;

use crate::definition::{DEFAULT, Definition, FORMAT, check_name};
use crate::error::Attempt;
use crate::subnet::{self, Subnet};
use crate::{Error, Result, link};

const SUFFIX: &str = ".json";

/// The networks of an instance.
#[derive(Debug, Clone)]
pub struct Store {
    instance: Instance,
    dir: PathBuf,
}

impl Store {
    /// Touches nothing.
    pub fn open(instance: &Instance) -> Self {
        Self { instance: instance.clone(), dir: instance.networks() }
    }

    /// Keeps all networks from being removed, until it is dropped. None where none was ever made.
    pub fn hold(&self) -> Result<Option<Lock>> {
        match Lock::shared(&self.dir) {
            Err(error) if error.is_not_found() => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// Nobody else makes or removes networks, nor begins to use one, until it is dropped.
    pub fn lock(&self) -> Result<Lock> {
        match Lock::exclusive(&self.dir) {
            Err(error) if error.is_not_found() => {
                fs::create_dir_all(&self.dir, 0o700)?;
                Ok(Lock::exclusive(&self.dir)?)
            }
            other => Ok(other?),
        }
    }

    /// Adds a network. The lock is held.
    pub fn add(&self, definition: &Definition, _locked: &Lock) -> Result<()> {
        check_name(&definition.name)?;
        if self.named(&definition.name)?.is_some() {
            return Err(Error::Exists(definition.name.clone()));
        }
        let path = self.file(&definition.name);
        let bytes = serde_json::to_vec(definition)
            .map_err(|e| Error::State { path: path.clone(), reason: e.to_string() })?;
        Ok(fs::write_atomic(&path, &bytes, Durability::Synced)?)
    }

    /// Removes a network's definition. The lock is held.
    pub fn remove(&self, definition: &Definition, _locked: &Lock) -> Result<()> {
        fs::remove_file(&self.file(&definition.name))?;
        Ok(fs::sync_dir(&self.dir)?)
    }

    /// All networks that were made, by name; not the default one.
    pub fn list(&self) -> Result<Vec<Definition>> {
        let mut found = Vec::new();
        for name in fs::names(&self.dir)? {
            // Others are being written.
            if let Some(name) = name.strip_suffix(SUFFIX).filter(|name| check_name(name).is_ok()) {
                found.extend(self.named(name)?);
            }
        }
        found.sort_by(|a: &Definition, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The network of this name, id, or beginning of an id.
    pub fn find(&self, wanted: &str) -> Result<Definition> {
        if wanted == DEFAULT || wanted == "default" {
            return Ok(Definition::default_of(&self.instance));
        }
        if let Some(found) = self.named(wanted)? {
            return Ok(found);
        }
        let missing = || Error::NotFound(wanted.chars().take(80).collect());
        if wanted.is_empty() || !wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let all = self.list()?.into_iter().chain([Definition::default_of(&self.instance)]);
        let mut found = all.filter(|d| d.id.as_str().starts_with(wanted));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(Error::Ambiguous(wanted.to_owned())),
            _ => Err(missing()),
        }
    }

    /// The network of this name.
    fn named(&self, name: &str) -> Result<Option<Definition>> {
        // What is no name must not be a path.
        if check_name(name).is_err() {
            return Ok(None);
        }
        let path = self.file(name);
        let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(None) };
        let broken = |reason: String| Error::State { path: path.clone(), reason };
        let definition: Definition = serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
        if definition.format > FORMAT {
            return Err(broken("it was written by a newer version".to_owned()));
        }
        Ok(Some(definition))
    }

    /// A subnet that neither the host reaches nor another network has, for the network of this id. By the time it comes up
    /// somebody else may have taken it: then it gets another.
    pub fn free_subnet(&self, id: &Id) -> Result<Subnet> {
        let taken = self.subnets_but("")?;
        let reachable = link::reachable().link(|| "list the host's routes".to_owned())?;
        let resolvers = crate::files::host_resolvers();
        let free = |subnet: &Subnet| {
            reachable.leaves_free(*subnet, None)
                && !taken.iter().any(|other| other.overlaps(*subnet))
                && !resolvers.iter().any(|ip| subnet.contains(*ip))
        };
        let none = || Error::NoSubnet { bridge: id.short().to_owned() };
        subnet::narrow_candidates(id).find(free).ok_or_else(none)
    }

    /// The subnets that networks other than `name` have, or had when they last stood.
    pub(crate) fn subnets_but(&self, name: &str) -> Result<Vec<Subnet>> {
        let mut subnets = Vec::new();
        let default = [Definition::default_of(&self.instance)];
        for other in self.list()?.iter().chain(&default).filter(|other| other.name != name) {
            subnets.extend(other.ipv4.as_ref().map(|pool| pool.subnet));
            let bridge = crate::bridge::Bridge::of_network(&self.instance, other);
            subnets.extend(bridge.live()?.map(|network| network.subnet));
        }
        Ok(subnets)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{SUFFIX}"))
    }

    /// Where the definitions are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A new network's id.
pub fn new_id() -> Result<Id> {
    Id::random().map_err(Error::Random)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base::Timestamp;

    use super::*;
    use crate::definition::{BRIDGE_DRIVER, Pool4};

    fn definition(name: &str) -> Definition {
        let subnet: Subnet = "10.5.0.0/24".parse().unwrap();
        Definition {
            format: FORMAT,
            id: new_id().unwrap(),
            name: name.to_owned(),
            created: Timestamp::now(),
            driver: BRIDGE_DRIVER.to_owned(),
            ipv4: Some(Pool4 { subnet, range: None, gateway: subnet.gateway(), named: true }),
            ipv6: None,
            internal: false,
            attachable: false,
            reserved: BTreeMap::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            egress: state::egress::Egress::Allow,
        }
    }

    #[test]
    fn networks_are_found_by_name_and_by_the_beginning_of_their_id() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Instance::new(&dir.path().join("root"), &dir.path().join("run")));
        assert!(store.hold().unwrap().is_none() && store.list().unwrap().is_empty());
        let net = definition("net");
        let lock = store.lock().unwrap();
        store.add(&net, &lock).unwrap();
        assert!(matches!(store.add(&definition("net"), &lock), Err(Error::Exists(_))));
        drop(lock);
        for wanted in ["net", net.id.as_str(), net.id.short()] {
            assert_eq!(store.find(wanted).unwrap(), net);
        }
        for wanted in ["nope", "", "../net", "zz"] {
            assert!(matches!(store.find(wanted), Err(Error::NotFound(_))), "{wanted}");
        }
        assert_eq!(store.find("default").unwrap().name, "bridge");
        assert_eq!(store.subnets_but("bridge").unwrap().len(), 1);
        store.remove(&net, &store.lock().unwrap()).unwrap();
        assert!(store.list().unwrap().is_empty());
    }
}
