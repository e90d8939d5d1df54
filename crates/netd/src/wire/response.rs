//! What a server outside has answered: read once, kept, and handed on as often as its lifetime allows.

use std::net::IpAddr;

use super::query::Query;
use super::write::options;
use super::{HEADER, OPT_LENGTH, be16, be32, code, flag, kind, name, put16};

/// The longest that an answer is kept, in seconds: whatever the server says, what changed is seen within the hour.
const LONGEST_LIFE: u32 = 3600;
/// The longest that "no such name" is kept (RFC 2308 speaks of one to three hours; a name that was just made is waited for).
const LONGEST_DENIAL: u32 = 300;
/// How far the longest message reaches.
const LONGEST: usize = u16::MAX as usize;

/// An answer without EDNS, which is between two neighbours only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    bytes: Box<[u8]>,
    /// Where the lifetimes of its records are.
    lifetimes: Box<[u16]>,
    /// The code, with the bits that EDNS carries.
    code: u16,
    /// How many seconds it may be kept.
    life: u32,
}

/// Whether a message is the answer to what we have asked: our number, and our question, to the letter but for its case.
pub fn answers(message: &[u8], id: u16, question: &[u8]) -> bool {
    let (Some(theirs), Some(flags), Some(questions)) = (be16(message, 0), be16(message, 2), be16(message, 4))
    else {
        return false;
    };
    if theirs != id || flags & flag::RESPONSE == 0 || flags & flag::OPERATION != 0 {
        return false;
    }
    if questions == 0 {
        // From a server that could not read it.
        return matches!(flags & flag::CODE, code::FORMAT_ERROR | code::NOT_IMPLEMENTED);
    }
    let Some(asked) = message.get(HEADER..HEADER + question.len()) else { return false };
    let name = question.len() - 4;
    questions == 1
        && asked[..name].eq_ignore_ascii_case(&question[..name])
        && asked[name..] == question[name..]
}

/// Whether the message was cut off.
pub fn is_truncated(message: &[u8]) -> bool {
    be16(message, 2).is_some_and(|flags| flags & flag::TRUNCATED != 0)
}

/// A record, as far as we look at it.
struct Record {
    kind: u16,
    /// Where its lifetime is.
    lifetime: usize,
    end: usize,
}

fn record(message: &[u8], at: usize) -> Option<Record> {
    let fixed = name::skip(message, at)?;
    let end = fixed + 10 + usize::from(be16(message, fixed + 8)?);
    (end <= message.len()).then_some(Record { kind: be16(message, fixed)?, lifetime: fixed + 4, end })
}

impl Response {
    /// Reads a message that [answers] a question. None where it is malformed.
    pub fn parse(message: &[u8]) -> Option<Self> {
        if message.len() > LONGEST || be16(message, 4)? != 1 {
            return None;
        }
        let flags = be16(message, 2)?;
        let counts = [be16(message, 6)?, be16(message, 8)?, be16(message, 10)?];
        let mut at = HEADER + name::measure(message, HEADER)? + 4;
        let mut lifetimes = Vec::new();
        let mut life = LONGEST_LIFE;
        let mut denial = None;
        let mut extended = 0;
        let mut kept = counts;
        'all: for (section, count) in counts.into_iter().enumerate() {
            for n in 0..count {
                let Record { kind, lifetime, end } = record(message, at)?;
                if kind == kind::OPT {
                    // What is behind it would move, and there it is never more than a courtesy.
                    extended = (be32(message, lifetime)? >> 24) as u16;
                    kept[section] = n;
                    kept[section + 1..].fill(0);
                    break 'all;
                }
                let seconds = be32(message, lifetime)?;
                // The highest bit makes it nothing (RFC 2181).
                let seconds = if i32::try_from(seconds).is_ok() { seconds } else { 0 };
                lifetimes.push(lifetime as u16);
                life = life.min(seconds);
                if kind == kind::SOA && section == 1 {
                    // Its last number is how long a denial lives (RFC 2308).
                    denial = Some(seconds.min(be32(message, end - 4)?));
                }
                at = end;
            }
        }
        let code = (flags & flag::CODE) | (extended << 4);
        life = match code {
            code::NO_ERROR if counts[0] > 0 => life,
            code::NO_ERROR | code::NO_SUCH_NAME => denial.unwrap_or(0).min(LONGEST_DENIAL).min(life),
            _ => 0,
        };
        let mut bytes: Box<[u8]> = message.get(..at)?.into();
        for (n, count) in kept.into_iter().enumerate() {
            put16(&mut bytes, 6 + 2 * n, count);
        }
        Some(Self { bytes, lifetimes: lifetimes.into(), code, life })
    }

    /// Its code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Whether somebody else may know better: it says nothing about the name.
    pub fn is_failure(&self) -> bool {
        !matches!(self.code, code::NO_ERROR | code::NO_SUCH_NAME)
    }

    /// How many seconds it may be kept: 0, not at all.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// The addresses in it, whatever name they are of: who has asked takes them for those of the name in the question.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut found = Vec::new();
        let mut at = HEADER + name::measure(&self.bytes, HEADER).unwrap_or(0) + 4;
        while let Some(Record { kind, end, lifetime }) = record(&self.bytes, at) {
            let data = self.bytes.get(lifetime + 6..end).unwrap_or_default();
            match kind {
                kind::A => found.extend(<[u8; 4]>::try_from(data).map(IpAddr::from)),
                kind::AAAA => found.extend(<[u8; 16]>::try_from(data).map(IpAddr::from)),
                _ => {}
            }
            at = end;
        }
        found
    }

    /// How much memory it takes.
    pub fn weight(&self) -> usize {
        self.bytes.len() + 2 * self.lifetimes.len()
    }

    /// Writes it as the answer to this query, no longer than `limit`, after it was kept for so many seconds.
    pub fn write(&self, query: &Query<'_>, limit: usize, age: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let message = &mut out[start..];
        put16(message, 0, query.id);
        let theirs = be16(message, 2).unwrap_or(0);
        // Whether a server checked it is said to those who ask for that.
        let checked = query.dnssec() || query.has(flag::AUTHENTIC);
        let authentic = if checked { theirs & flag::AUTHENTIC } else { 0 };
        let kept = query.flags & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
        put16(
            message,
            2,
            flag::RESPONSE | flag::RECURSION_AVAILABLE | kept | authentic | (self.code & flag::CODE),
        );
        // The asker's letters, large and small as they came, and so in every record that points to them.
        if let Some(place) = message.get_mut(HEADER..HEADER + query.question.len()) {
            place.copy_from_slice(query.question);
        }
        for &at in &self.lifetimes {
            let at = usize::from(at);
            if let Some(place) = message.get_mut(at..at + 4) {
                let left = be32(place, 0).filter(|left| i32::try_from(*left).is_ok()).unwrap_or(0);
                // What a server gives more than we keep is not passed on either.
                place.copy_from_slice(&left.min(LONGEST_LIFE).saturating_sub(age).to_be_bytes());
            }
        }
        let room = limit - if query.edns.is_some() { OPT_LENGTH } else { 0 };
        if message.len() > room {
            let whole = cut(message, room);
            out.truncate(start + whole);
        }
        if query.edns.is_some() {
            options(out, query.dnssec(), self.code);
            let message = &mut out[start..];
            let additional = be16(message, 10).unwrap_or(0);
            put16(message, 10, additional + 1);
        }
    }
}

/// Leaves of a message the records of the answer that fit whole: there are resolvers that never ask again by TCP. Returns
/// how long it is now.
fn cut(message: &mut [u8], room: usize) -> usize {
    let answers = be16(message, 6).unwrap_or(0);
    let mut end = HEADER + name::measure(message, HEADER).unwrap_or(0) + 4;
    let mut fit = 0;
    while fit < answers {
        match record(message, end) {
            Some(record) if record.end <= room => end = record.end,
            _ => break,
        }
        fit += 1;
    }
    let flags = be16(message, 2).unwrap_or(0);
    put16(message, 2, flags | flag::TRUNCATED);
    put16(message, 6, fit);
    put16(message, 8, 0);
    put16(message, 10, 0);
    end
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::{
        Edns as TheirEdns, Message, MessageType, OpCode, Query as TheirQuery, ResponseCode,
    };
    use hickory_proto::rr::rdata::{A, CNAME, SOA};
    use hickory_proto::rr::{Name as TheirName, RData, Record as TheirRecord, RecordType};
    use proptest::prelude::*;

    use super::super::query::Edns;
    use super::super::query::tests::question;
    use super::*;

    fn their_name(text: &str) -> TheirName {
        TheirName::from_ascii(text).unwrap()
    }

    /// What another library says to the question for `www.example.com`.
    fn message(answers: u8, denial: bool, edns: bool) -> Vec<u8> {
        let name = their_name("www.example.com.");
        let mut message = Message::new(5, MessageType::Response, OpCode::Query);
        message.add_query(TheirQuery::query(name.clone(), RecordType::A));
        message.metadata.authentic_data = true;
        for n in 0..answers {
            let alias = their_name("alias.example.com.");
            let data = if n == 0 {
                RData::CNAME(CNAME(alias.clone()))
            } else {
                RData::A(A(Ipv4Addr::new(192, 0, 2, n)))
            };
            let owner = if n == 0 { name.clone() } else { alias };
            message.add_answer(TheirRecord::from_rdata(owner, 100 + u32::from(n), data));
        }
        if denial {
            message.metadata.response_code = ResponseCode::NXDomain;
            let soa =
                SOA::new(their_name("ns.example.com."), their_name("mail.example.com."), 1, 2, 3, 4, 60);
            message.add_authority(TheirRecord::from_rdata(their_name("example.com."), 900, RData::SOA(soa)));
        }
        if edns {
            message.set_edns(TheirEdns::new());
        }
        message.to_vec().unwrap()
    }

    fn asked(edns: Option<Edns>) -> Vec<u8> {
        question(77, "WWW.example.com", kind::A, edns)
    }

    #[test]
    fn an_answer_is_handed_on_with_less_life() {
        let response = Response::parse(&message(3, false, true)).unwrap();
        assert_eq!((response.life(), response.code(), response.is_failure()), (100, 0, false));
        let mut ask = asked(None);
        ask[13..16].copy_from_slice(b"wWw");
        let query = Query::parse(&ask).unwrap();
        let mut out = Vec::new();
        response.write(&query, 512, 30, &mut out);
        assert_eq!(&out[13..16], b"wWw");
        let read = Message::from_vec(&out).unwrap();
        assert_eq!((read.metadata.id, read.metadata.authentic_data, read.edns.is_some()), (77, false, false));
        let lives: Vec<u32> = read.answers.iter().map(|record| record.ttl).collect();
        assert_eq!(lives, [70, 71, 72]);
    }

    #[test]
    fn edns_is_ours() {
        let response = Response::parse(&message(1, false, false)).unwrap();
        let ask = asked(Some(Edns { size: 1232, dnssec: true }));
        let mut out = Vec::new();
        response.write(&Query::parse(&ask).unwrap(), 1232, 200, &mut out);
        let read = Message::from_vec(&out).unwrap();
        assert!(read.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok && edns.max_payload() == 4096));
        assert!(read.metadata.authentic_data);
        assert_eq!(read.answers[0].ttl, 0);
    }

    #[test]
    fn a_denial_lives_as_its_zone_says() {
        assert_eq!(Response::parse(&message(0, true, true)).unwrap().life(), 60);
        assert_eq!(Response::parse(&message(0, false, true)).unwrap().life(), 0, "nobody says how long");
    }

    #[test]
    fn too_long_an_answer_is_cut_at_a_record() {
        let response = Response::parse(&message(120, false, true)).unwrap();
        for edns in [None, Some(Edns { size: 700, dnssec: false })] {
            let ask = asked(edns);
            let query = Query::parse(&ask).unwrap();
            let mut out = vec![1, 2, 3];
            response.write(&query, query.size(), 0, &mut out);
            assert!(out.len() - 3 <= query.size());
            let read = Message::from_vec(&out[3..]).unwrap();
            assert!(read.metadata.truncation && read.answers.len() > 20 && read.answers.len() < 120);
        }
    }

    #[test]
    fn only_the_answer_to_our_question_is_one() {
        let answer = message(1, false, false);
        let asked = asked(None);
        let question = &asked[HEADER..];
        assert!(answers(&answer, 5, question));
        assert!(!answers(&answer, 6, question));
        assert!(!answers(&asked, 77, question), "a question");
        let mut other = question.to_vec();
        other[2] = b'v';
        assert!(!answers(&answer, 5, &other));
        other = question.to_vec();
        let kind = other.len() - 3;
        other[kind] = 28;
        assert!(!answers(&answer, 5, &other));
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            changes in prop::collection::vec((0_usize..200, any::<u8>()), 0..6),
            answers in 0_u8..5, denial in any::<bool>(), limit in 512_usize..600,
        ) {
            let mut nearly = message(answers, denial, true);
            for (at, byte) in changes {
                if let Some(place) = nearly.get_mut(at) {
                    *place = byte;
                }
            }
            let asked = asked(Some(Edns { size: 512, dnssec: false }));
            let query = Query::parse(&asked).unwrap();
            for message in [&bytes, &nearly] {
                super::answers(message, 5, query.question);
                if let Some(response) = Response::parse(message) {
                    let mut out = Vec::new();
                    response.write(&query, limit, 1, &mut out);
                    prop_assert!(out.len() <= limit);
                }
            }
        }
    }
}
