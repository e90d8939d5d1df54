//! What a container asks.

use super::name::measure;
use super::{HEADER, OUR_SIZE, PLAIN_SIZE, be16, be32, class, code, flag, kind, name};

/// A question that makes sense.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The asker's number for it.
    pub id: u16,
    /// Its [flags](flag).
    pub flags: u16,
    /// The question as it was written: name, type and class.
    pub question: &'a [u8],
    /// Its type.
    pub kind: u16,
    /// Its class.
    pub class: u16,
    /// What EDNS says, where the asker knows it.
    pub edns: Option<Edns>,
}

/// EDNS (RFC 6891), without its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// How long an answer over UDP may be.
    pub size: u16,
    /// Records of DNSSEC are wanted.
    pub dnssec: bool,
}

/// Why a message is not answered well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It is no question: an answer might be answered again, for ever.
    Silence,
    /// With this [code].
    Code(u16),
}

impl<'a> Query<'a> {
    /// Reads a message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Wrong> {
        let at = |place| be16(message, place).ok_or(Wrong::Silence);
        let (id, flags) = (at(0)?, at(2)?);
        let counts = [at(4)?, at(6)?, at(8)?, at(10)?];
        if flags & flag::RESPONSE != 0 {
            return Err(Wrong::Silence);
        }
        if flags & flag::OPERATION != 0 {
            return Err(Wrong::Code(code::NOT_IMPLEMENTED));
        }
        let malformed = Wrong::Code(code::FORMAT_ERROR);
        if counts[0] != 1 {
            return Err(malformed);
        }
        let length = measure(message, HEADER).ok_or(malformed)?;
        let end = HEADER + length + 4;
        let question = message.get(HEADER..end).ok_or(malformed)?;
        let (kind, class) =
            (be16(question, length).ok_or(malformed)?, be16(question, length + 2).ok_or(malformed)?);
        let edns = records(message, end, counts[1..].iter().map(|n| u32::from(*n)).sum()).ok_or(malformed)?;
        let edns = edns.map_err(Wrong::Code)?;
        if (kind::FIRST_META..kind::ANY).contains(&kind) || !matches!(class, class::IN | class::ANY) {
            // Whole zones, old mail; the classes of computers that are no more.
            return Err(Wrong::Code(code::REFUSED));
        }
        Ok(Self { id, flags, question, kind, class, edns })
    }

    /// The name that is asked for, in its wire form.
    pub fn name(&self) -> &'a [u8] {
        &self.question[..self.question.len() - 4]
    }

    /// How long an answer over UDP may be.
    pub fn size(&self) -> usize {
        let told = self.edns.map_or(0, |edns| usize::from(edns.size.min(OUR_SIZE)));
        told.max(PLAIN_SIZE)
    }

    /// Whether records of DNSSEC are wanted.
    pub fn dnssec(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec)
    }

    /// Whether this flag is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Looks through the records behind a question for EDNS. None where they are malformed.
fn records(message: &[u8], mut at: usize, count: u32) -> Option<Result<Option<Edns>, u16>> {
    let mut found = None;
    for _ in 0..count {
        let end = name::skip(message, at)?;
        let length = usize::from(be16(message, end + 8)?);
        if be16(message, end)? == kind::OPT {
            let extended = be32(message, end + 4)?;
            if found.is_some() || end != at + 1 {
                return None;
            }
            if (extended >> 16) & 0xff != 0 {
                return Some(Err(code::BAD_VERSION));
            }
            found = Some(Edns { size: be16(message, end + 2)?, dnssec: extended & 0x8000 != 0 });
        }
        at = end + 10 + length;
        if at > message.len() {
            return None;
        }
    }
    Some(Ok(found))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::name::Name;
    use super::*;

    /// A question, as resolvers ask it.
    pub(crate) fn question(id: u16, name: &str, kind: u16, edns: Option<Edns>) -> Vec<u8> {
        let mut message = Vec::new();
        for number in [id, flag::RECURSION_DESIRED, 1, 0, 0, edns.is_some().into()] {
            message.extend_from_slice(&number.to_be_bytes());
        }
        message.extend_from_slice(Name::from_text(name).unwrap().wire());
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&class::IN.to_be_bytes());
        if let Some(Edns { size, dnssec }) = edns {
            message.extend_from_slice(&[0, 0, 41]);
            message.extend_from_slice(&size.to_be_bytes());
            message.extend_from_slice(&[0, 0, u8::from(dnssec) << 7, 0, 0, 0]);
        }
        message
    }

    #[test]
    fn a_question_is_read() {
        let message = question(7, "web", kind::AAAA, Some(Edns { size: 1232, dnssec: true }));
        let query = Query::parse(&message).unwrap();
        assert_eq!(
            (query.id, query.kind, query.class, query.name()),
            (7, kind::AAAA, class::IN, &b"\x03web\0"[..])
        );
        assert_eq!((query.size(), query.dnssec()), (1232, true));
        let message = question(7, "web", kind::A, None);
        assert_eq!(Query::parse(&message).unwrap().size(), 512);
    }

    #[test]
    fn what_makes_no_sense_is_told_so() {
        let good = question(7, "web", kind::A, Some(Edns { size: 100, dnssec: false }));
        assert_eq!(Query::parse(&good).unwrap().size(), 512, "never less");
        let wrong = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut message = good.clone();
            change(&mut message);
            Query::parse(&message).unwrap_err()
        };
        let last = good.len();
        assert_eq!(wrong(&|m| m[2] |= 0x80), Wrong::Silence);
        assert_eq!(wrong(&|m| m.truncate(11)), Wrong::Silence);
        assert_eq!(wrong(&|m| m[2] |= 0x28), Wrong::Code(code::NOT_IMPLEMENTED));
        assert_eq!(wrong(&|m| m[5] = 2), Wrong::Code(code::FORMAT_ERROR));
        assert_eq!(wrong(&|m| m[5] = 0), Wrong::Code(code::FORMAT_ERROR));
        assert_eq!(wrong(&|m| m[12] = 0xc0), Wrong::Code(code::FORMAT_ERROR));
        assert_eq!(wrong(&|m| m.truncate(20)), Wrong::Code(code::FORMAT_ERROR));
        assert_eq!(wrong(&|m| m.truncate(last - 1)), Wrong::Code(code::FORMAT_ERROR));
        assert_eq!(wrong(&|m| m[18] = 252), Wrong::Code(code::REFUSED));
        assert_eq!(wrong(&|m| m[20] = 3), Wrong::Code(code::REFUSED), "CHAOS");
        assert_eq!(wrong(&|m| m[last - 5] = 1), Wrong::Code(code::BAD_VERSION));
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(message in prop::collection::vec(any::<u8>(), 0..200)) {
            Query::parse(&message).ok();
        }

        #[test]
        fn nor_one_that_is_nearly_good(at in 0_usize..40, byte in any::<u8>(), cut in 0_usize..41) {
            let mut message = question(1, "a.bc", kind::A, Some(Edns { size: 1232, dnssec: false }));
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            message.truncate(cut);
            if let Ok(query) = Query::parse(&message) {
                prop_assert!(query.size() >= 512);
                prop_assert_eq!(measure(query.question, 0), Some(query.name().len()));
            }
        }
    }
}
