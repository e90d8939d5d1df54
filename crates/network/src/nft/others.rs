//! What others' chains do to forwarded packets. We read them, never write them.

use crate::netlink::{Protocol, Refusal, Socket, parse};

use super::{GETCHAIN, GETRULE, INET, IPV4, IPV6, UNSPECIFIED, family, kind};

/// A chain that drops forwarded packets unless a rule of it accepts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropping {
    family: u8,
    table: String,
    chain: String,
    keeper: Keeper,
}

/// Whose chain it is, as far as other chains tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Docker,
    Ufw,
    Somebody,
}

/// What of others there is in a packet's way.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Hooks {
    /// Something that sees what comes in.
    pub(crate) any: bool,
    /// Something that sees what is forwarded.
    pub(crate) forward: bool,
    /// Something of that is iptables'.
    pub(crate) iptables: bool,
}

/// Looks for chains in a packet's way that are in none of the tables that are `own`.
pub(crate) fn hooks(own: &[&str]) -> Result<Hooks, Refusal> {
    const PREROUTING_OR_INGRESS: u32 = 0;
    const INPUT: u32 = 1;
    const FORWARD: u32 = 2;
    let mut found = Hooks::default();
    Socket::open(Protocol::Netfilter)?.dump(kind(GETCHAIN), &family(UNSPECIFIED), |payload| {
        let Some(chain) = Chain::parse(payload).filter(|chain| !own.contains(&chain.table)) else { return };
        found.any |= matches!(chain.hook, Some(PREROUTING_OR_INGRESS | INPUT));
        found.forward |= chain.hook == Some(FORWARD);
        let name = matches!(chain.table, "filter" | "nat" | "mangle" | "raw" | "security");
        // What iptables makes has chains of capital letters.
        let chains = matches!(chain.name, "PREROUTING" | "INPUT" | "FORWARD" | "OUTPUT" | "POSTROUTING");
        found.iptables |= matches!(chain.family, IPV4 | IPV6) && name && chains;
    })?;
    Ok(found)
}

/// Whether a rule of others could say no to what comes in to this host or is forwarded by it, or give it another sender or
/// receiver: a chain with such a rule, or one that drops what no rule lets pass. `own` are the tables of the family `inet` that
/// are ours.
pub(crate) fn may_refuse(own: &[&str]) -> Result<bool, Refusal> {
    const PREROUTING: u32 = 0;
    const INPUT: u32 = 1;
    const FORWARD: u32 = 2;
    const POSTROUTING: u32 = 4;
    let socket = Socket::open(Protocol::Netfilter)?;
    let (mut found, mut drops) = (Vec::new(), false);
    socket.dump(kind(GETCHAIN), &family(UNSPECIFIED), |payload| {
        let is_ours = |chain: &Chain<'_>| chain.family == INET && own.contains(&chain.table);
        let Some(chain) = Chain::parse(payload).filter(|chain| !is_ours(chain)) else { return };
        if matches!(chain.family, INET | IPV4 | IPV6)
            && matches!(chain.hook, Some(PREROUTING | INPUT | FORWARD | POSTROUTING))
        {
            drops |= chain.drops;
            found.push((chain.family, chain.table.to_owned(), chain.name.to_owned()));
        }
    })?;
    if drops || found.is_empty() {
        return Ok(drops);
    }
    let mut any = false;
    socket.dump(kind(GETRULE), &family(UNSPECIFIED), |payload| {
        const TABLE: u16 = 1;
        const CHAIN: u16 = 2;
        let Some((family, attributes)) = payload.first().zip(payload.get(4..)) else { return };
        let string = |kind| parse::attribute(attributes, kind).map(parse::string).unwrap_or_default();
        any |= found
            .iter()
            .any(|(of, table, chain)| (of, &**table, &**chain) == (family, string(TABLE), string(CHAIN)));
    })?;
    Ok(any)
}

/// The chains that would drop what containers behind `bridge` send and receive: those of policy "drop" at the
/// forward hook in whose table no rule names the bridge.
pub(crate) fn dropping(bridge: &str) -> Result<Vec<Dropping>, Refusal> {
    let socket = Socket::open(Protocol::Netfilter)?;
    let mut found: Vec<Dropping> = Vec::new();
    let (mut docker, mut ufw) = (false, false);
    socket.dump(kind(GETCHAIN), &family(UNSPECIFIED), |payload| {
        let Some(chain) = Chain::parse(payload) else { return };
        docker |= chain.name == "DOCKER-USER";
        ufw |= chain.name == "ufw-user-forward";
        if chain.drops_forwarded() {
            found.push(Dropping {
                family: chain.family,
                table: chain.table.to_owned(),
                chain: chain.name.to_owned(),
                keeper: Keeper::Somebody,
            });
        }
    })?;
    if found.is_empty() {
        return Ok(found);
    }
    let mut rules: Vec<(u8, String)> = Vec::new();
    socket.dump(kind(GETRULE), &family(UNSPECIFIED), |payload| {
        const TABLE: u16 = 1;
        let needle = [bridge.as_bytes(), b"\0"].concat();
        if payload.windows(needle.len()).any(|window| window == needle)
            && let Some(table) = payload.get(4..).and_then(|attributes| parse::attribute(attributes, TABLE))
        {
            rules.push((payload[0], parse::string(table).to_owned()));
        }
    })?;
    found.retain(|f| !rules.iter().any(|(family, table)| *family == f.family && *table == f.table));
    found.dedup();
    for chain in &mut found {
        if (chain.family, &*chain.table) == (IPV4, "filter") {
            chain.keeper = if docker {
                Keeper::Docker
            } else if ufw {
                Keeper::Ufw
            } else {
                Keeper::Somebody
            };
        }
    }
    Ok(found)
}

struct Chain<'a> {
    family: u8,
    table: &'a str,
    name: &'a str,
    hook: Option<u32>,
    /// What no rule of it lets pass.
    drops: bool,
}

impl<'a> Chain<'a> {
    fn parse(payload: &'a [u8]) -> Option<Self> {
        const TABLE: u16 = 1;
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const POLICY: u16 = 5;
        const HOOK_NUMBER: u16 = 1;
        const DROP: u32 = 0;
        let family = *payload.first()?;
        let attributes = payload.get(4..)?;
        let number = |value: Option<&[u8]>| value.and_then(parse::be32);
        let hook =
            number(parse::attribute(attributes, HOOK).and_then(|hook| parse::attribute(hook, HOOK_NUMBER)));
        let policy = number(parse::attribute(attributes, POLICY));
        Some(Self {
            family,
            table: parse::string(parse::attribute(attributes, TABLE)?),
            name: parse::string(parse::attribute(attributes, NAME)?),
            hook,
            drops: policy == Some(DROP),
        })
    }

    fn drops_forwarded(&self) -> bool {
        const FORWARD: u32 = 2;
        matches!(self.family, IPV4 | INET) && self.hook == Some(FORWARD) && self.drops
    }
}

impl Dropping {
    /// What to tell the user, with the commands that mend it.
    pub(crate) fn advice(&self, bridge: &str) -> String {
        let Self { family, table, chain, keeper } = self;
        let family = if *family == IPV4 { "ip" } else { "inet" };
        let mend = match keeper {
            Keeper::Docker => both(|flag| format!("iptables -I DOCKER-USER -{flag} {bridge} -j ACCEPT")),
            Keeper::Ufw => format!("ufw route allow in on {bridge} && ufw route allow out on {bridge}"),
            Keeper::Somebody if (family, &**table) == ("ip", "filter") => {
                both(|flag| format!("iptables -I {chain} -{flag} {bridge} -j ACCEPT"))
            }
            Keeper::Somebody => {
                both(|flag| format!("nft insert rule {family} {table} {chain} {flag}ifname {bridge} accept"))
            }
        };
        format!(
            "this host drops forwarded packets (policy of chain {chain} in table {family} {table}), so containers \
             may not reach other machines; to allow it: {mend}"
        )
    }
}

fn both(command: impl Fn(char) -> String) -> String {
    format!("{} && {}", command('i'), command('o'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn advice_fits_the_keeper() {
        let mut chain = Dropping {
            family: IPV4,
            table: "filter".into(),
            chain: "FORWARD".into(),
            keeper: Keeper::Docker,
        };
        assert!(chain.advice("dhow0").contains("iptables -I DOCKER-USER -i dhow0 -j ACCEPT && "));
        chain.keeper = Keeper::Ufw;
        assert!(chain.advice("dhow0").contains("ufw route allow in on dhow0"));
        chain.keeper = Keeper::Somebody;
        assert!(chain.advice("dhow0").contains("iptables -I FORWARD -o dhow0"));
        chain.family = INET;
        assert!(chain.advice("dhow0").contains("nft insert rule inet filter FORWARD oifname dhow0 accept"));
    }

    proptest! {
        #[test]
        fn no_chain_message_makes_it_panic(payload in prop::collection::vec(any::<u8>(), 0..120)) {
            Chain::parse(&payload);
        }
    }
}
