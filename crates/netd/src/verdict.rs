//! What becomes of a question: answered from what we know, or asked outside.
//!
//! In this order:
//! 1. `--add-host` names of the asker, then `host.docker.internal` and its like: the host, as its network reaches it.
//! 2. Names on the asker's networks. Whatever is asked of such a name is answered here, and never outside: "no data" for an
//!    address of a kind that it has not, and for every other type.
//! 3. `localhost`, and names that no server may be asked for (RFC 6761, 7686).
//! 4. Addresses: those of our subnets are nobody else's business, known or not.
//! 5. A single label that nobody here is called by is "no such name". (Docker asks outside. But such a name is nearly
//!    always a container that does not run, and no business of the world's; no public name has a single label, and what
//!    has one in a local network has it with the search domain, which resolvers append.)
//! 6. Everything else is asked outside, if something leads there: whoever is on internal networks only learns that there is
//!    no such name, as there is no such place.
//! 7. Nobody is asked for a name to which no rule lets the container go (`--egress`): a question carries data out as well as a
//!    packet. Of a name that is allowed there are no records that lead past who looks (`HTTPS`, `SVCB`: keys that hide the name
//!    in TLS, other protocols, other addresses), and none of all types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use state::egress::Egress;

use crate::names::Names;
use crate::slab::Key;
use crate::wire::name::Name;
use crate::wire::{class, kind};

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Those addresses that were found.
    Addresses,
    /// This name.
    Pointer(&'a [u8]),
    /// There is the name, and nothing of what was asked for.
    NoData,
    /// There is no such name.
    NoName,
    /// Others are asked.
    Outside,
    /// The asker may not go there.
    Forbidden,
}

/// Whether more registrations could make it another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// No.
    Final,
    /// Yes.
    AsFarAsWeKnow,
}

/// Docker's names for the host, Podman's, and an older one of Docker's.
const HOST: [&[u8]; 3] = [
    b"\x04host\x06docker\x08internal\0",
    b"\x04host\x0acontainers\x08internal\0",
    b"\x07gateway\x06docker\x08internal\0",
];

/// What the asker is told. Addresses are left in `found`.
pub fn on<'a>(
    names: &'a Names,
    asker: Key,
    (leads_out, egress): (bool, &Egress),
    name: &Name,
    asked: (u16, u16),
    found: &mut Vec<IpAddr>,
) -> (Verdict<'a>, Certainty) {
    use Certainty::{AsFarAsWeKnow, Final};
    found.clear();
    let kind = asked.0;
    if names.host(asker, name, found) {
        return (addresses(kind, found), Final);
    }
    if HOST.contains(&name.wire()) {
        names.gateway(asker, found);
        let verdict = if found.is_empty() { Verdict::NoName } else { addresses(kind, found) };
        return (verdict, Final);
    }
    if names.find(asker, name, found) {
        let verdict = addresses(kind, found);
        let certainty = if verdict == Verdict::NoData { AsFarAsWeKnow } else { Final };
        return (verdict, certainty);
    }
    if name.is_below(b"localhost") {
        found.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        return (addresses(kind, found), Final);
    }
    if name.is_below(b"invalid") || name.is_below(b"onion") {
        return (Verdict::NoName, Final);
    }
    if let Some(verdict) = address(names, asker, name, kind) {
        return verdict;
    }
    let mut labels = name.labels();
    let single = labels.next().is_some() && labels.next().is_none();
    // Of a top-level domain itself, not of a name: who checks signatures needs them.
    let of_a_domain = matches!(kind, kind::NS | kind::SOA | kind::DS | kind::DNSKEY);
    if (single && !of_a_domain) || !leads_out || asked.1 != class::IN {
        return (Verdict::NoName, AsFarAsWeKnow);
    }
    if let Egress::Only(_) = egress {
        if !name.host().is_some_and(|name| egress.knows(&name)) {
            return (Verdict::Forbidden, AsFarAsWeKnow);
        }
        if matches!(kind, kind::SVCB | kind::HTTPS | kind::ANY) {
            return (Verdict::NoData, AsFarAsWeKnow);
        }
    }
    (Verdict::Outside, AsFarAsWeKnow)
}

/// Leaves those of the kind that was asked for.
fn addresses<'a>(kind: u16, found: &mut Vec<IpAddr>) -> Verdict<'a> {
    match kind {
        kind::A => found.retain(IpAddr::is_ipv4),
        kind::AAAA => found.retain(IpAddr::is_ipv6),
        kind::ANY => {}
        _ => found.clear(),
    }
    if found.is_empty() { Verdict::NoData } else { Verdict::Addresses }
}

/// What is told of the name of an address; none where it is not for us to say.
fn address<'a>(names: &'a Names, asker: Key, name: &Name, kind: u16) -> Option<(Verdict<'a>, Certainty)> {
    let (address, bits) = name.reversed_address()?;
    let whole = bits == if address.is_ipv4() { 32 } else { 128 };
    if whole && address.is_loopback() {
        let verdict = if kind == kind::PTR { Verdict::Pointer(b"\x09localhost\0") } else { Verdict::NoData };
        return Some((verdict, Certainty::Final));
    }
    if whole && let Some(called) = names.called(asker, address) {
        let asked = matches!(kind, kind::PTR | kind::ANY);
        return Some((if asked { Verdict::Pointer(called) } else { Verdict::NoData }, Certainty::Final));
    }
    names
        .is_ours(address, bits)
        .then_some((if whole { Verdict::NoName } else { Verdict::NoData }, Certainty::AsFarAsWeKnow))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::tests::{owner, registration};

    fn names() -> Names {
        let mut names = Names::default();
        names.set(owner(0), &registration(&[("front", 1, &["web", "db.example.com"])], 2));
        let mut four = registration(&[("front", 1, &["four"])], 3);
        four.networks[0].addresses.truncate(1);
        names.set(owner(1), &four);
        names.set(owner(2), &registration(&[("back", 2, &["secret"])], 4));
        names
    }

    #[test]
    fn each_question_has_its_verdict() {
        use Verdict::{Addresses, NoData, NoName, Outside};
        let names = names();
        let mut found = Vec::new();
        let mut told = |name: &str, kind| {
            let name = Name::from_text(name).unwrap();
            let (verdict, certainty) =
                on(&names, owner(0), (true, &Egress::Allow), &name, (kind, class::IN), &mut found);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            (verdict, certainty == Certainty::Final, found.join(" "))
        };
        let nothing = String::new();
        assert_eq!(told("Web", kind::A), (Addresses, true, "10.0.1.2".to_owned()));
        assert_eq!(told("web.front", kind::AAAA), (Addresses, true, "fd00:1::2".to_owned()));
        assert_eq!(told("web", kind::ANY), (Addresses, true, "10.0.1.2 fd00:1::2".to_owned()));
        assert_eq!(told("web", 65), (NoData, false, nothing.clone()), "HTTPS");
        assert_eq!(told("four", kind::AAAA), (NoData, false, nothing.clone()));
        assert_eq!(told("db.example.com", kind::A).0, Addresses);
        assert_eq!(told("www.example.com", kind::A), (Outside, false, nothing.clone()));
        assert_eq!(told("secret", kind::A), (NoName, false, nothing.clone()), "on another network");
        assert_eq!(told("secret.back", kind::A).0, Outside, "nor is it told that there is a network");
        assert_eq!(told("com", kind::DS).0, Outside);
        assert_eq!(told("extra.example", kind::A), (Addresses, true, "192.0.2.1".to_owned()));
        assert_eq!(told("extra.example", kind::AAAA), (NoData, true, nothing.clone()));
        for host in ["host.docker.internal", "HOST.containers.internal", "gateway.docker.internal"] {
            assert_eq!(told(host, kind::A), (Addresses, true, "10.0.1.1".to_owned()));
            assert_eq!(told(host, kind::AAAA), (NoData, true, nothing.clone()));
        }
        assert_eq!(told("x.localhost", kind::A), (Addresses, true, "127.0.0.1".to_owned()));
        assert_eq!(told("x.onion", kind::A), (NoName, true, nothing));
    }

    #[test]
    fn addresses_of_ours_are_nobody_elses_business() {
        use Verdict::{NoData, NoName, Outside, Pointer};
        let names = names();
        let told = |name: &str, kind| {
            let name = Name::from_text(name).unwrap();
            on(&names, owner(0), (true, &Egress::Allow), &name, (kind, class::IN), &mut Vec::new()).0
        };
        assert_eq!(told("3.1.0.10.in-addr.arpa", kind::PTR), Pointer(b"\x04four\x05front\0"));
        assert_eq!(told("3.1.0.10.in-addr.arpa", kind::A), NoData);
        assert_eq!(told("9.1.0.10.in-addr.arpa", kind::PTR), NoName);
        assert_eq!(told("1.0.10.in-addr.arpa", kind::SOA), NoData);
        assert_eq!(told("4.2.0.10.in-addr.arpa", kind::PTR), NoName, "there is one, on another network");
        assert_eq!(told("0.10.in-addr.arpa", kind::SOA), Outside);
        assert_eq!(told("8.8.8.8.in-addr.arpa", kind::PTR), Outside);
        assert_eq!(told("1.0.0.127.in-addr.arpa", kind::PTR), Pointer(b"\x09localhost\0"));
    }

    #[test]
    fn nobody_is_asked_where_nothing_leads_out() {
        let names = names();
        let told = |name: &str| {
            let name = Name::from_text(name).unwrap();
            on(&names, owner(0), (false, &Egress::Allow), &name, (kind::A, class::IN), &mut Vec::new()).0
        };
        assert_eq!(told("www.example.com"), Verdict::NoName);
        assert_eq!(told("web"), Verdict::Addresses);
    }

    #[test]
    fn who_is_limited_asks_for_what_is_allowed_and_nothing_else() {
        use Verdict::{Addresses, Forbidden, NoData, Outside};
        let names = names();
        let egress = Egress::parse(&["example.com", "*.example.org"]).unwrap();
        let told = |name: &str, kind| {
            let name = Name::from_text(name).unwrap();
            on(&names, owner(0), (true, &egress), &name, (kind, class::IN), &mut Vec::new()).0
        };
        assert_eq!(told("Example.com", kind::A), Outside);
        assert_eq!(told("a.example.org", kind::AAAA), Outside);
        assert_eq!(told("example.com", 16), Outside, "TXT");
        for kind in [kind::SVCB, kind::HTTPS, kind::ANY] {
            assert_eq!(told("example.com", kind), NoData);
        }
        for name in
            ["example.org", "www.example.com", "notexample.com", "example.com.evil", "8.8.8.8.in-addr.arpa"]
        {
            assert_eq!(told(name, kind::A), Forbidden, "{name}");
        }
        assert_eq!(told("com", kind::NS), Forbidden);
        assert_eq!(told("web", kind::A), Addresses, "neighbours are no egress");
        // A dot within a label is not one between two.
        let tricky = Name::lower(b"\x0bexample.com\0");
        let verdict =
            on(&names, owner(0), (true, &egress), &tricky, (kind::NS, class::IN), &mut Vec::new()).0;
        assert_eq!(verdict, Forbidden);
    }
}
