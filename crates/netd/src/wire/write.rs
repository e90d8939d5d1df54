//! Our own answers.

use std::net::IpAddr;

use super::query::Query;
use super::{HEADER, OPT_LENGTH, OUR_SIZE, be16, class, flag, kind, put16};

/// The name of the question, in a record: a pointer to where it always is.
const QUESTION: [u8; 2] = [0xc0, HEADER as u8];

/// An answer under construction, at the end of a buffer.
#[derive(Debug)]
pub struct Answer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    /// How long it may become, without what EDNS adds at the end.
    room: usize,
    records: u16,
    flags: u16,
    code: u16,
    edns: bool,
}

impl<'a> Answer<'a> {
    /// To this query, no longer than `limit`. What is said of local names is said with authority.
    pub fn to(query: &Query<'_>, limit: usize, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        let kept = query.flags & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
        let flags = kept | flag::RESPONSE | flag::RECURSION_AVAILABLE;
        for number in [query.id, flags, 1, 0, 0, 0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(query.question);
        let edns = query.edns.is_some();
        let room = limit - if edns { OPT_LENGTH } else { 0 };
        Self { out, start, room, records: 0, flags, code: 0, edns }
    }

    /// We have the say over the name.
    pub fn authoritative(&mut self) -> &mut Self {
        self.flags |= flag::AUTHORITATIVE;
        self
    }

    /// How the question was answered.
    pub fn code(&mut self, code: u16) -> &mut Self {
        self.code = code;
        self
    }

    /// An address of the name.
    pub fn address(&mut self, lifetime: u32, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(ip) => self.record(kind::A, lifetime, &ip.octets()),
            IpAddr::V6(ip) => self.record(kind::AAAA, lifetime, &ip.octets()),
        }
    }

    /// The name that the address has, in its wire form.
    pub fn pointer(&mut self, lifetime: u32, name: &[u8]) -> &mut Self {
        self.record(kind::PTR, lifetime, name)
    }

    /// One that does not fit is left out, and the asker told so.
    fn record(&mut self, kind: u16, lifetime: u32, data: &[u8]) -> &mut Self {
        const FIXED: usize = 12;
        if self.out.len() - self.start + FIXED + data.len() > self.room {
            self.flags |= flag::TRUNCATED;
            return self;
        }
        self.out.extend_from_slice(&QUESTION);
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&class::IN.to_be_bytes());
        self.out.extend_from_slice(&lifetime.to_be_bytes());
        self.out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        self.out.extend_from_slice(data);
        self.records += 1;
        self
    }

    /// Ends it.
    pub fn finish(&mut self) {
        if self.edns {
            options(self.out, false, self.code);
        }
        let message = &mut self.out[self.start..];
        put16(message, 2, self.flags | (self.code & flag::CODE));
        put16(message, 6, self.records);
        put16(message, 10, self.edns.into());
    }
}

/// Adds EDNS to a message. The upper bits of the code go with it.
pub(super) fn options(out: &mut Vec<u8>, dnssec: bool, code: u16) {
    out.extend_from_slice(&[0]);
    out.extend_from_slice(&kind::OPT.to_be_bytes());
    out.extend_from_slice(&OUR_SIZE.to_be_bytes());
    out.extend_from_slice(&[(code >> 4) as u8, 0, u8::from(dnssec) << 7, 0, 0, 0]);
}

/// The answer to a message that could not be read: its header, and the code. None where it has no header.
pub fn refusal(message: &[u8], code: u16, out: &mut Vec<u8>) {
    let (Some(id), Some(flags)) = (be16(message, 0), be16(message, 2)) else { return };
    let kept = flags & (flag::OPERATION | flag::RECURSION_DESIRED);
    let with_options = code > flag::CODE;
    let flags = kept | flag::RESPONSE | flag::RECURSION_AVAILABLE | (code & flag::CODE);
    for number in [id, flags, 0, 0, 0, with_options.into()] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    if with_options {
        options(out, false, code);
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Message;
    use hickory_proto::rr::RData;
    use proptest::prelude::*;

    use super::super::query::Edns;
    use super::super::query::tests::question;
    use super::super::{code, name::Name};
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out() {
        for edns in [None, Some(Edns { size: 512, dnssec: false })] {
            let message = question(9, "web", kind::A, edns);
            let query = Query::parse(&message).unwrap();
            let mut out = Vec::new();
            let mut answer = Answer::to(&query, query.size(), &mut out);
            for n in 0..200 {
                answer.authoritative().address(5, IpAddr::from([10, 0, 0, n]));
            }
            answer.finish();
            assert!(out.len() <= 512 && out.len() > 490);
            let read = Message::from_vec(&out).unwrap();
            assert!(read.metadata.truncation && read.metadata.authoritative);
            assert!(read.answers.len() > 25);
        }
    }

    #[test]
    fn a_code_of_many_bits_is_in_two_places() {
        let mut message = question(9, "web", kind::A, Some(Edns { size: 512, dnssec: false }));
        let last = message.len();
        message[last - 5] = 1;
        let mut out = Vec::new();
        refusal(&message, code::BAD_VERSION, &mut out);
        let read = Message::from_vec(&out).unwrap();
        assert_eq!(u16::from(read.metadata.response_code), code::BAD_VERSION);
        refusal(&message[..3], code::FORMAT_ERROR, &mut out);
        assert_eq!(out.len(), 12 + 11, "nobody to answer");
    }

    proptest! {
        #[test]
        fn others_read_what_we_write(
            name in "[a-zA-Z0-9_-]{1,20}(\\.[a-z0-9]{1,10}){0,3}",
            addresses in prop::collection::vec(any::<IpAddr>(), 0..8),
            with_edns in any::<bool>(),
            pointer in "[a-z]{1,9}\\.[a-z]{1,9}",
        ) {
            let message = question(77, &name, kind::ANY, with_edns.then_some(Edns { size: 4096, dnssec: true }));
            let query = Query::parse(&message).unwrap();
            let mut out = Vec::new();
            let mut answer = Answer::to(&query, 4096, &mut out);
            for address in &addresses {
                answer.address(5, *address);
            }
            answer.pointer(6, Name::from_text(&pointer).unwrap().wire()).finish();
            let read = Message::from_vec(&out).unwrap();
            prop_assert_eq!(read.metadata.id, 77);
            prop_assert_eq!(read.edns.is_some(), with_edns);
            let found: Vec<IpAddr> = read.answers.iter().filter_map(|record| match &record.data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(a) => Some(IpAddr::V6(a.0)),
                _ => None,
            }).collect();
            prop_assert_eq!(found, addresses);
            let RData::PTR(target) = &read.answers.last().unwrap().data else { panic!() };
            prop_assert_eq!(target.to_string(), format!("{pointer}."));
        }
    }
}
