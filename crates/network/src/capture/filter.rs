//! Which packets are wanted: a small part of the language that `tcpdump` made known.
//!
//! ```text
//! filter    = all-of { ("or" | "||") all-of }
//! all-of    = one { ["and" | "&&"] one }
//! one       = ("not" | "!") one | "(" filter ")" | primitive
//! primitive = [protocol] [("src" | "dst")] ("host" ADDRESS | "net" SUBNET | "port" N | "portrange" N-N)
//!           | protocol | ADDRESS
//! protocol  = "ip" | "ip6" | "arp" | "tcp" | "udp" | "sctp" | "icmp" | "icmp6"
//! ```
//!
//! Ports are looked for behind the fixed header of IPv6, and in the first fragment.

use std::net::{IpAddr, Ipv4Addr};

use crate::subnet::Subnet;
use crate::subnet6::Subnet6;

/// A filter that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(pub(super) Expression);

/// Not a filter.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct NotAFilter(String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// Every packet.
    All,
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Test(Test),
}

/// A number in a frame, and what it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) load: Load,
    pub(super) relation: Relation,
}

/// Where a number is in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    Byte(u32),
    Half(u32),
    Word(u32),
    /// So far behind the header of IPv4, whose length varies.
    HalfBehindIpv4(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Is(u32),
    /// With only these bits of it.
    MaskedIs(u32, u32),
    AtLeast(u32),
    AnyBitOf(u32),
}

/// Far more than anybody types; the program of as many primitives is below the kernel's bound.
const MOST_WORDS: usize = 120;
const DEEPEST: usize = 40;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const ARP: u32 = 0x0806;
const ICMP: u32 = 1;
const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMP6: u32 = 58;
const SCTP: u32 = 132;

impl Filter {
    /// Understands a filter; no words are every packet.
    pub fn parse(text: &str) -> Result<Self, NotAFilter> {
        let words = words(text);
        if words.is_empty() {
            return Ok(Self(Expression::All));
        }
        if words.len() > MOST_WORDS {
            return Err(NotAFilter(format!("the filter has more than {MOST_WORDS} words")));
        }
        let mut parser = Parser { words: &words, depth: 0 };
        let expression = parser.any_of()?;
        match parser.words.first() {
            None => Ok(Self(expression)),
            Some(word) => Err(NotAFilter(format!("`{}` does not fit there", short(word)))),
        }
    }
}

fn short(word: &str) -> String {
    word.chars().take(60).collect()
}

fn words(text: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(text.len() + 16);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '(' | ')' | '!' => spaced.extend([' ', letter, ' ']),
            '&' | '|' if letters.peek() == Some(&letter) => {
                letters.next();
                spaced.extend([' ', letter, letter, ' ']);
            }
            _ => spaced.push(letter),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

struct Parser<'a> {
    words: &'a [String],
    depth: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Source,
    Destination,
    Either,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&str> {
        self.words.first().map(String::as_str)
    }

    fn next(&mut self, wanted: &str) -> Result<String, NotAFilter> {
        let (first, rest) = self
            .words
            .split_first()
            .ok_or_else(|| NotAFilter(format!("the filter ends where {wanted} is wanted")))?;
        self.words = rest;
        Ok(first.clone())
    }

    fn take(&mut self, one_of: &[&str]) -> bool {
        let there = self.peek().is_some_and(|word| one_of.contains(&word));
        if there {
            self.words = &self.words[1..];
        }
        there
    }

    fn any_of(&mut self) -> Result<Expression, NotAFilter> {
        let mut left = self.all_of()?;
        while self.take(&["or", "||"]) {
            left = or(left, self.all_of()?);
        }
        Ok(left)
    }

    fn all_of(&mut self) -> Result<Expression, NotAFilter> {
        let mut left = self.one()?;
        loop {
            let said = self.take(&["and", "&&"]);
            if !said && matches!(self.peek(), None | Some(")" | "or" | "||")) {
                return Ok(left);
            }
            left = and(left, self.one()?);
        }
    }

    fn one(&mut self) -> Result<Expression, NotAFilter> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(NotAFilter("the filter is nested too deeply".to_owned()));
        }
        let found = if self.take(&["not", "!"]) {
            Expression::Not(Box::new(self.one()?))
        } else if self.take(&["("]) {
            let inner = self.any_of()?;
            if !self.take(&[")"]) {
                return Err(NotAFilter("a parenthesis is not closed".to_owned()));
            }
            inner
        } else {
            self.primitive()?
        };
        self.depth -= 1;
        Ok(found)
    }

    fn primitive(&mut self) -> Result<Expression, NotAFilter> {
        let word = self.next("a condition")?;
        if let Ok(ip) = word.parse::<IpAddr>() {
            return Ok(host(ip, Direction::Either));
        }
        let protocol = protocol(&word);
        let mut kind = word;
        if let Some(protocol) = &protocol {
            match self.peek() {
                Some("src" | "dst" | "host" | "net" | "port" | "portrange") => {
                    kind = self.next("a condition")?;
                }
                _ => return Ok(protocol.clone()),
            }
        }
        let direction = match kind.as_str() {
            "src" => Direction::Source,
            "dst" => Direction::Destination,
            _ => Direction::Either,
        };
        if direction != Direction::Either {
            kind = self.next("host, net or port")?;
            if let Ok(ip) = kind.parse::<IpAddr>() {
                return Ok(with(protocol, host(ip, direction)));
            }
        }
        let condition = match kind.as_str() {
            "host" => host(self.value("an address")?, direction),
            "net" => self.net(direction)?,
            "port" => {
                let port = self.value("a port")?;
                ports(port, port, direction)
            }
            "portrange" => {
                let word = self.next("a range of ports")?;
                let range = word.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                let (first, last) =
                    range.filter(|(first, last): &(u16, u16)| first <= last).ok_or_else(|| {
                        NotAFilter(format!("`{}` is no range of ports, as 8000-8100", short(&word)))
                    })?;
                ports(first, last, direction)
            }
            _ => {
                return Err(NotAFilter(format!(
                    "`{}` is no condition: want a protocol (ip, ip6, arp, tcp, udp, sctp, icmp, icmp6), host, net, port or \
                     portrange, joined by and, or, not",
                    short(&kind)
                )));
            }
        };
        Ok(with(protocol, condition))
    }

    fn value<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, NotAFilter> {
        let word = self.next(what)?;
        word.parse().map_err(|_| NotAFilter(format!("`{}` is not {what}", short(&word))))
    }

    fn net(&mut self, direction: Direction) -> Result<Expression, NotAFilter> {
        let word = self.next("a subnet")?;
        if let Ok(subnet) = word.parse::<Subnet>() {
            return Ok(in_net(subnet.network(), subnet.prefix(), direction));
        }
        let wrong = |_| NotAFilter(format!("`{}` is no subnet, as 10.5.0.0/16", short(&word)));
        let subnet = word.parse::<Subnet6>().map_err(wrong)?;
        Ok(in_net6(subnet.network().to_bits(), subnet.prefix(), direction))
    }
}

fn with(protocol: Option<Expression>, condition: Expression) -> Expression {
    match protocol {
        Some(protocol) => and(protocol, condition),
        None => condition,
    }
}

fn and(one: Expression, other: Expression) -> Expression {
    Expression::And(Box::new(one), Box::new(other))
}

fn or(one: Expression, other: Expression) -> Expression {
    Expression::Or(Box::new(one), Box::new(other))
}

fn test(load: Load, relation: Relation) -> Expression {
    Expression::Test(Test { load, relation })
}

fn ether_type(kind: u32) -> Expression {
    test(Load::Half(12), Relation::Is(kind))
}

fn protocol(name: &str) -> Option<Expression> {
    let four = |number| and(ether_type(IPV4), test(Load::Byte(23), Relation::Is(number)));
    let six = |number| and(ether_type(IPV6), test(Load::Byte(20), Relation::Is(number)));
    Some(match name {
        "ip" => ether_type(IPV4),
        "ip6" => ether_type(IPV6),
        "arp" => ether_type(ARP),
        "icmp" => four(ICMP),
        "icmp6" => six(ICMP6),
        "tcp" => or(four(TCP), six(TCP)),
        "udp" => or(four(UDP), six(UDP)),
        "sctp" => or(four(SCTP), six(SCTP)),
        _ => return None,
    })
}

/// The condition of the source, of the destination, or of either.
fn either(direction: Direction, source: Expression, destination: Expression) -> Expression {
    match direction {
        Direction::Source => source,
        Direction::Destination => destination,
        Direction::Either => or(source, destination),
    }
}

fn host(ip: IpAddr, direction: Direction) -> Expression {
    match ip {
        IpAddr::V4(ip) => in_net(ip, 32, direction),
        IpAddr::V6(ip) => in_net6(ip.to_bits(), 128, direction),
    }
}

/// ARP counts, too: it is about addresses.
fn in_net(ip: Ipv4Addr, prefix: u8, direction: Direction) -> Expression {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let at = |offset| test(Load::Word(offset), Relation::MaskedIs(mask, ip.to_bits() & mask));
    or(
        and(ether_type(IPV4), either(direction, at(26), at(30))),
        and(ether_type(ARP), either(direction, at(28), at(38))),
    )
}

fn in_net6(ip: u128, prefix: u8, direction: Direction) -> Expression {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    let at = |offset: u32| {
        let mut all = None;
        for word in 0..4 {
            let part = |bits: u128| (bits >> (96 - 32 * word)) as u32;
            if part(mask) != 0 || word == 0 {
                let load = Load::Word(offset + 4 * word);
                let one = test(load, Relation::MaskedIs(part(mask), part(ip & mask)));
                all = Some(match all {
                    Some(before) => and(before, one),
                    None => one,
                });
            }
        }
        all.unwrap_or(Expression::All)
    };
    and(ether_type(IPV6), either(direction, at(22), at(38)))
}

fn ports(first: u16, last: u16, direction: Direction) -> Expression {
    const FRAGMENT_OFFSET: u32 = 0x1fff;
    let within = |load| {
        if first == last {
            return test(load, Relation::Is(first.into()));
        }
        let above = last
            .checked_add(1)
            .map(|above| Expression::Not(Box::new(test(load, Relation::AtLeast(above.into())))));
        let from = test(load, Relation::AtLeast(first.into()));
        match above {
            Some(above) => and(from, above),
            None => from,
        }
    };
    let has_ports = |at| {
        let is = |number| test(Load::Byte(at), Relation::Is(number));
        or(is(TCP), or(is(UDP), is(SCTP)))
    };
    let first_fragment = Expression::Not(Box::new(test(Load::Half(20), Relation::AnyBitOf(FRAGMENT_OFFSET))));
    let four = either(direction, within(Load::HalfBehindIpv4(14)), within(Load::HalfBehindIpv4(16)));
    let six = either(direction, within(Load::Half(54)), within(Load::Half(56)));
    or(
        and(ether_type(IPV4), and(has_ports(23), and(first_fragment, four))),
        and(ether_type(IPV6), and(has_ports(20), six)),
    )
}
