//! Who is called what, on which network.
//!
//! Names are kept by network, and looked up only in the networks that the asker is on: there is no other way to one, so no
//! container learns of a name that is none of its business.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use state::netd::{Membership, Registration, Subnet};

use crate::slab::Key;
use crate::wire::name::Name;

/// All names.
#[derive(Debug, Default)]
pub struct Names {
    /// Networks have numbers while somebody is on them.
    networks: HashMap<Box<str>, Network>,
    next: u32,
    /// Behind the number of a network a name in its wire form: whose it is.
    targets: HashMap<Box<[u8]>, Vec<Target>>,
    /// What an address is called.
    addresses: HashMap<(u32, IpAddr), Vec<Called>>,
    askers: HashMap<Key, Asker>,
}

/// Who has an address, and as what in its wire form.
type Called = (Key, Box<[u8]>);

#[derive(Debug)]
struct Network {
    number: u32,
    users: usize,
}

#[derive(Debug)]
struct Target {
    owner: Key,
    addresses: Box<[IpAddr]>,
}

/// A container, as one who asks.
#[derive(Debug)]
struct Asker {
    places: Vec<Place>,
    hosts: HashMap<Box<[u8]>, Vec<IpAddr>>,
}

/// A network that an asker is on, and what must be forgotten when it goes.
#[derive(Debug)]
struct Place {
    network: Box<str>,
    number: u32,
    keys: Vec<Box<[u8]>>,
    addresses: Vec<IpAddr>,
    gateways: Vec<IpAddr>,
    subnets: Vec<Subnet>,
}

/// What is looked for: a name behind the number of a network.
struct Sought([u8; 4 + crate::wire::name::LONGEST], usize);

fn key(network: u32, name: &Name) -> Sought {
    let wire = name.wire();
    let mut key = Sought([0; 4 + crate::wire::name::LONGEST], 4 + wire.len());
    key.0[..4].copy_from_slice(&network.to_ne_bytes());
    key.0[4..key.1].copy_from_slice(wire);
    key
}

impl Sought {
    fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

impl Names {
    /// Learns a container's names, instead of those that it had.
    pub fn set(&mut self, owner: Key, registration: &Registration) {
        self.remove(owner);
        let places = registration.networks.iter().map(|membership| self.enter(owner, membership)).collect();
        let mut hosts: HashMap<Box<[u8]>, Vec<IpAddr>> = HashMap::new();
        for (name, address) in &registration.hosts {
            if let Some(name) = Name::from_text(name) {
                hosts.entry(name.wire().into()).or_default().push(*address);
            }
        }
        self.askers.insert(owner, Asker { places, hosts });
    }

    fn enter(&mut self, owner: Key, membership: &Membership) -> Place {
        let next = &mut self.next;
        let network = self.networks.entry(membership.network.as_str().into()).or_insert_with(|| {
            *next = next.wrapping_add(1);
            Network { number: *next, users: 0 }
        });
        network.users += 1;
        let number = network.number;
        let suffix = Name::from_text(&membership.network);
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        let names: Vec<Name> = membership.names.iter().filter_map(|name| Name::from_text(name)).collect();
        for name in &names {
            // As Docker has it, `web` is `web.backend` too.
            for name in [Some(*name), suffix.and_then(|suffix| name.join(&suffix))].into_iter().flatten() {
                let bytes: Box<[u8]> = key(number, &name).bytes().into();
                if keys.contains(&bytes) {
                    continue;
                }
                let addresses = membership.addresses.as_slice().into();
                self.targets.entry(bytes.clone()).or_default().push(Target { owner, addresses });
                keys.push(bytes);
            }
        }
        if let Some(name) = names.first() {
            let name = suffix.and_then(|suffix| name.join(&suffix)).unwrap_or(*name);
            for address in &membership.addresses {
                self.addresses.entry((number, *address)).or_default().push((owner, name.wire().into()));
            }
        }
        Place {
            network: membership.network.as_str().into(),
            number,
            keys,
            addresses: membership.addresses.clone(),
            gateways: membership.gateways.clone(),
            subnets: membership.subnets.clone(),
        }
    }

    /// Forgets a container.
    pub fn remove(&mut self, owner: Key) {
        let Some(asker) = self.askers.remove(&owner) else { return };
        for place in asker.places {
            for key in place.keys {
                if let Entry::Occupied(mut found) = self.targets.entry(key) {
                    found.get_mut().retain(|target| target.owner != owner);
                    if found.get().is_empty() {
                        found.remove();
                    }
                }
            }
            for address in place.addresses {
                if let Entry::Occupied(mut found) = self.addresses.entry((place.number, address)) {
                    found.get_mut().retain(|(of, _)| *of != owner);
                    if found.get().is_empty() {
                        found.remove();
                    }
                }
            }
            if let Entry::Occupied(mut network) = self.networks.entry(place.network) {
                network.get_mut().users -= 1;
                if network.get().users == 0 {
                    network.remove();
                }
            }
        }
    }

    /// Collects the addresses of a name on the first of the asker's networks where somebody is called so. Whether somebody is.
    pub fn find(&self, asker: Key, name: &Name, found: &mut Vec<IpAddr>) -> bool {
        let Some(asker) = self.askers.get(&asker) else { return false };
        asker.places.iter().any(|place| {
            let targets = self.targets.get(key(place.number, name).bytes());
            for target in targets.into_iter().flatten() {
                found.extend_from_slice(&target.addresses);
            }
            targets.is_some()
        })
    }

    /// The addresses of a name on this network of the asker's.
    pub fn on_network(&self, asker: Key, network: &str, name: &Name) -> Vec<IpAddr> {
        let places = self.askers.get(&asker).map_or(&[][..], |asker| &asker.places);
        let place = places.iter().find(|place| &*place.network == network);
        let targets = place.and_then(|place| self.targets.get(key(place.number, name).bytes()));
        targets.into_iter().flatten().flat_map(|target| target.addresses.iter().copied()).collect()
    }

    /// Collects the addresses that the asker alone knows a name by (`--add-host`).
    pub fn host(&self, asker: Key, name: &Name, found: &mut Vec<IpAddr>) -> bool {
        let addresses = self.askers.get(&asker).and_then(|asker| asker.hosts.get(name.wire()));
        found.extend(addresses.into_iter().flatten());
        addresses.is_some()
    }

    /// Collects the host's addresses on the first of the asker's networks that has some.
    pub fn gateway(&self, asker: Key, found: &mut Vec<IpAddr>) {
        let places = self.askers.get(&asker).map_or(&[][..], |asker| &asker.places);
        let gateways = places.iter().map(|place| &place.gateways).find(|gateways| !gateways.is_empty());
        found.extend(gateways.into_iter().flatten());
    }

    /// What an address on one of the asker's networks is called.
    pub fn called(&self, asker: Key, address: IpAddr) -> Option<&[u8]> {
        let mut places = self.askers.get(&asker)?.places.iter();
        let (_, name) = places.find_map(|place| self.addresses.get(&(place.number, address))?.first())?;
        Some(name)
    }

    /// Whether all addresses that begin with these bits are of one network of ours, whoever is on it.
    pub fn is_ours(&self, address: IpAddr, bits: u8) -> bool {
        self.askers
            .values()
            .flat_map(|asker| &asker.places)
            .flat_map(|place| &place.subnets)
            .any(|subnet| subnet.contains(address, bits))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A container on networks, each with the last byte of its subnet and its names there.
    pub(crate) fn registration(on: &[(&str, u8, &[&str])], ip: u8) -> Registration {
        let membership = |(network, subnet, names): &(&str, u8, &[&str])| Membership {
            network: (*network).to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: vec![
                IpAddr::from([10, 0, *subnet, ip]),
                format!("fd00:{subnet}::{ip}").parse().unwrap(),
            ],
            gateways: vec![IpAddr::from([10, 0, *subnet, 1])],
            subnets: vec![Subnet { address: IpAddr::from([10, 0, *subnet, 0]), prefix: 24 }],
            internal: false,
            allow: Vec::new(),
        };
        Registration {
            version: state::netd::VERSION,
            container: "a".repeat(64).parse().unwrap(),
            networks: on.iter().map(membership).collect(),
            upstreams: Vec::new(),
            hosts: vec![("Extra.example".to_owned(), IpAddr::from([192, 0, 2, 1]))],
            program: std::path::PathBuf::new(),
            egress: state::egress::Egress::Allow,
        }
    }

    pub(crate) const fn owner(index: u32) -> Key {
        Key { index, turn: 0 }
    }

    fn find(names: &Names, asker: u32, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        names.find(owner(asker), &Name::from_text(name).unwrap(), &mut found);
        let mut found: Vec<String> =
            found.iter().filter(|ip| ip.is_ipv4()).map(ToString::to_string).collect();
        found.sort();
        found
    }

    #[test]
    fn a_container_sees_the_names_of_its_networks_and_no_others() {
        let mut names = Names::default();
        names.set(owner(0), &registration(&[("front", 1, &["web", "site"])], 2));
        names.set(owner(1), &registration(&[("back", 2, &["db"]), ("front", 1, &["db", "site"])], 3));
        names.set(owner(2), &registration(&[("back", 2, &["web"])], 4));
        assert_eq!(find(&names, 0, "WEB"), ["10.0.1.2"]);
        assert_eq!(find(&names, 2, "web"), ["10.0.2.4"]);
        assert_eq!(find(&names, 1, "web"), ["10.0.2.4"], "the first network that knows it");
        assert_eq!(find(&names, 1, "web.front"), ["10.0.1.2"]);
        assert_eq!(find(&names, 2, "web.front"), [""; 0]);
        assert_eq!(find(&names, 0, "site"), ["10.0.1.2", "10.0.1.3"]);
        assert_eq!(find(&names, 2, "site"), [""; 0]);
        assert_eq!(names.called(owner(0), IpAddr::from([10, 0, 1, 3])), Some(&b"\x02db\x05front\0"[..]));
        assert_eq!(names.called(owner(0), IpAddr::from([10, 0, 2, 3])), None);
        assert!(names.is_ours(IpAddr::from([10, 0, 2, 200]), 32));
        let mut hosts = Vec::new();
        assert!(names.host(owner(0), &Name::from_text("extra.EXAMPLE").unwrap(), &mut hosts));
        assert!(!names.host(owner(9), &Name::from_text("extra.example").unwrap(), &mut hosts));
        assert_eq!(hosts, [IpAddr::from([192, 0, 2, 1])]);
    }

    #[test]
    fn nothing_is_left_of_who_is_gone() {
        let mut names = Names::default();
        names.set(owner(0), &registration(&[("front", 1, &["web", "WEB", "site"])], 2));
        names.set(owner(1), &registration(&[("front", 1, &["site"])], 3));
        names.set(owner(1), &registration(&[("front", 1, &["other"])], 3));
        assert_eq!(find(&names, 0, "site"), ["10.0.1.2"]);
        names.remove(owner(0));
        assert_eq!(find(&names, 1, "site"), [""; 0]);
        assert_eq!(find(&names, 1, "other"), ["10.0.1.3"]);
        names.remove(owner(1));
        names.remove(owner(1));
        let Names { networks, targets, addresses, askers, .. } = names;
        assert!(networks.is_empty() && targets.is_empty() && addresses.is_empty() && askers.is_empty());
    }
}
