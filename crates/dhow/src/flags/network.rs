//! `--network`.

use std::str::FromStr;

use state::options::{AllowRule, ContainerOptions, EndpointOptions, NetworkMode};

/// The network of a container, or one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Network {
    /// No networks of its own.
    Mode(NetworkMode),
    /// A network, by name or id, and what it wants there.
    On(EndpointOptions),
}

/// Not a network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotANetwork {
    #[error(
        "want a name, as bridge, host, none, container:NAME or that of a network; or name=NETWORK,KEY=VALUE…"
    )]
    Form,
    #[error("`{0}` is nothing that a container wants on a network: want name, alias, ip, ip6 or mac-address")]
    Key(String),
    #[error("`{value}` is no {what}")]
    Value { what: &'static str, value: String },
    #[error("several networks, but `{0}` is none that goes with others")]
    NotWithOthers(String),
    #[error("--allow needs a network of your own, which has names: --network NETWORK (dhow network create)")]
    Allow,
    #[error("{0} needs a network that is said, and one alone: give it there, as --network name=NETWORK,{1}")]
    Where(&'static str, &'static str),
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        if !text.contains('=') {
            return simple(text);
        }
        let mut endpoint = EndpointOptions::default();
        for field in text.split(',') {
            let (key, value) = field.split_once('=').ok_or(NotANetwork::Form)?;
            let no = |what| NotANetwork::Value { what, value: value.chars().take(60).collect() };
            match key {
                "name" => value.clone_into(&mut endpoint.network),
                "alias" => endpoint.aliases.push(value.to_owned()),
                "ip" => endpoint.ip = Some(value.parse().map_err(|_| no("IPv4 address"))?),
                "ip6" => endpoint.ip6 = Some(value.parse().map_err(|_| no("IPv6 address"))?),
                "mac-address" => endpoint.mac = Some(mac(value).ok_or_else(|| no("hardware address"))?),
                _ => return Err(NotANetwork::Key(key.chars().take(40).collect())),
            }
        }
        match endpoint.network.as_str() {
            "" => Err(NotANetwork::Form),
            _ if endpoint == EndpointOptions::on(&endpoint.network) => simple(&endpoint.network),
            "host" | "none" => Err(NotANetwork::NotWithOthers(endpoint.network)),
            _ => Ok(Self::On(endpoint)),
        }
    }
}

fn simple(text: &str) -> Result<Network, NotANetwork> {
    Ok(match text {
        "" => return Err(NotANetwork::Form),
        "bridge" | "default" => Network::Mode(NetworkMode::Bridge),
        "host" => Network::Mode(NetworkMode::Host),
        "none" => Network::Mode(NetworkMode::None),
        _ => match text.strip_prefix("container:") {
            Some("") => return Err(NotANetwork::Form),
            Some(name) => Network::Mode(NetworkMode::Container(name.to_owned())),
            None => Network::On(EndpointOptions::on(text)),
        },
    })
}

/// `02:42:0a:05:00:07`, of one interface.
pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    const GROUP: u8 = 1;
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    (parts.next().is_none() && bytes[0] & GROUP == 0 && bytes != [0; 6]).then_some(bytes)
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl FromStr for Mac {
    type Err = NotANetwork;
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let no = || NotANetwork::Value { what: "hardware address", value: text.chars().take(60).collect() };
        mac(text).map(Mac).ok_or_else(no)
    }
}

/// What other flags want on the network.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) aliases: Vec<String>,
    pub(crate) ip: Option<std::net::Ipv4Addr>,
    pub(crate) ip6: Option<std::net::Ipv6Addr>,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) allow: Vec<AllowRule>,
}

/// Puts the networks that were said into the options.
pub(crate) fn apply(
    said: Vec<Network>,
    wanted: Wanted,
    options: &mut ContainerOptions,
) -> Result<(), NotANetwork> {
    let mut endpoints = Vec::new();
    let alone = said.len() == 1;
    for network in said {
        match network {
            Network::On(endpoint) => endpoints.push(endpoint),
            Network::Mode(NetworkMode::Bridge) => endpoints.push(EndpointOptions::on("bridge")),
            Network::Mode(mode) if alone => options.network = mode,
            Network::Mode(mode) => {
                let name = match mode {
                    NetworkMode::Container(name) => format!("container:{name}"),
                    NetworkMode::Host => "host".to_owned(),
                    _ => "none".to_owned(),
                };
                return Err(NotANetwork::NotWithOthers(name));
            }
        }
    }
    let Wanted { aliases, ip, ip6, mac, allow } = wanted;
    // Said of the container, it is true on each of its networks.
    if endpoints.is_empty() && !allow.is_empty() {
        return Err(NotANetwork::Allow);
    }
    for endpoint in &mut endpoints {
        endpoint.allow.extend(allow.iter().cloned());
    }
    let lost = [
        (!aliases.is_empty(), "--network-alias", "alias=NAME"),
        (ip.is_some(), "--ip", "ip=ADDRESS"),
        (ip6.is_some(), "--ip6", "ip6=ADDRESS"),
        (mac.is_some() && endpoints.len() > 1, "--mac-address", "mac-address=ADDRESS"),
    ];
    if endpoints.is_empty() && mac.is_some() && options.network == NetworkMode::Bridge {
        endpoints.push(EndpointOptions::on("bridge"));
    }
    if let ([one], true) = (&mut endpoints[..], true) {
        one.aliases.extend(aliases);
        (one.ip, one.ip6, one.mac) = (ip.or(one.ip), ip6.or(one.ip6), mac.or(one.mac));
    } else if let Some((_, flag, key)) = lost.into_iter().find(|(given, ..)| *given) {
        return Err(NotANetwork::Where(flag, key));
    }
    let default_alone = matches!(&endpoints[..], [only] if *only == EndpointOptions::on("bridge"));
    if !endpoints.is_empty() && !default_alone {
        options.network = NetworkMode::Networks;
        options.endpoints = endpoints;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(networks: &[&str], wanted: Wanted) -> Result<ContainerOptions, NotANetwork> {
        let mut options = ContainerOptions::default();
        let said = networks.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        apply(said, wanted, &mut options).map(|()| options)
    }

    #[test]
    fn modes_and_networks_are_told_apart() {
        for (text, mode) in [
            ("bridge", NetworkMode::Bridge),
            ("default", NetworkMode::Bridge),
            ("host", NetworkMode::Host),
            ("none", NetworkMode::None),
            ("container:db", NetworkMode::Container("db".into())),
        ] {
            assert_eq!(applied(&[text], Wanted::default()).unwrap().network, mode, "{text}");
        }
        let options = applied(&["back", "name=front,alias=www,ip=10.5.0.7"], Wanted::default()).unwrap();
        assert_eq!(options.network, NetworkMode::Networks);
        assert_eq!(options.endpoints[1].aliases, ["www"]);
        assert_eq!(options.endpoints[1].ip, Some([10, 5, 0, 7].into()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in
            [&["host", "back"][..], &[""], &["container:"], &["name=x,foo=1"], &["alias=x"], &["name=x,ip=1"]]
        {
            assert!(applied(bad, Wanted::default()).is_err(), "{bad:?}");
        }
        let wanted = || Wanted { ip: Some([10, 5, 0, 7].into()), ..Wanted::default() };
        assert!(applied(&["a", "b"], wanted()).is_err());
        assert!(applied(&[], wanted()).is_err());
        assert_eq!(applied(&["a"], wanted()).unwrap().endpoints[0].ip, wanted().ip);
    }

    #[test]
    fn hardware_addresses_are_of_one_interface() {
        assert_eq!(mac("02:42:0a:05:00:07"), Some([2, 0x42, 10, 5, 0, 7]));
        for bad in
            ["", "02:42", "01:00:00:00:00:01", "00:00:00:00:00:00", "02:42:0a:05:00:07:08", "0x:1:2:3:4:5"]
        {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }
}
