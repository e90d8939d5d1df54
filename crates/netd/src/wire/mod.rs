//! DNS messages (RFC 1035, 6891), as far as a forwarding server needs them.
//!
//! Nothing here follows a compression pointer: the name in a question is not compressed, and of an answer's records only
//! the place of their lifetimes matters. So no message, whoever made it, can lead us round in circles.
//!
//! - `name`: names in their wire form, and back from text.
//! - `query`: what a container asks.
//! - `write`: our own answers.
//! - `response`: what a server outside has answered: read, kept, handed on.

pub mod name;
pub mod query;
pub mod response;
pub mod write;

/// The length of a message's header.
pub const HEADER: usize = 12;
/// The length of an `OPT` record without options.
pub const OPT_LENGTH: usize = 11;
/// The longest answer over UDP that we send, and say that we can take: the way to a container has no smaller packets.
pub const OUR_SIZE: u16 = 4096;
/// What a resolver without EDNS can take.
pub const PLAIN_SIZE: usize = 512;

/// Bits of the second and third byte of a header, which are one number.
pub mod flag {
    /// It is a response.
    pub const RESPONSE: u16 = 1 << 15;
    /// The four bits of the operation.
    pub const OPERATION: u16 = 0xf << 11;
    /// From somebody who has the say over the name.
    pub const AUTHORITATIVE: u16 = 1 << 10;
    /// Cut off: ask again by TCP.
    pub const TRUNCATED: u16 = 1 << 9;
    /// Ask others.
    pub const RECURSION_DESIRED: u16 = 1 << 8;
    /// Others are asked.
    pub const RECURSION_AVAILABLE: u16 = 1 << 7;
    /// DNSSEC was checked.
    pub const AUTHENTIC: u16 = 1 << 5;
    /// Do not check it.
    pub const CHECKING_DISABLED: u16 = 1 << 4;
    /// The four bits of the [`code`](super::code).
    pub const CODE: u16 = 0xf;
}

/// How a question was answered.
pub mod code {
    /// Well, perhaps with nothing.
    pub const NO_ERROR: u16 = 0;
    /// It made no sense.
    pub const FORMAT_ERROR: u16 = 1;
    /// Not at all, this time.
    pub const SERVER_FAILURE: u16 = 2;
    /// There is no such name.
    pub const NO_SUCH_NAME: u16 = 3;
    /// That is not done here.
    pub const NOT_IMPLEMENTED: u16 = 4;
    /// Not for you.
    pub const REFUSED: u16 = 5;
    /// Another version of EDNS, of which only the lowest four bits fit into the header.
    pub const BAD_VERSION: u16 = 16;
}

/// Types of records.
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// A zone's servers.
    pub const NS: u16 = 2;
    /// The beginning of a zone.
    pub const SOA: u16 = 6;
    /// Another name.
    pub const PTR: u16 = 12;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// EDNS.
    pub const OPT: u16 = 41;
    /// A zone's keys, as the zone above knows them.
    pub const DS: u16 = 43;
    /// A zone's keys.
    pub const DNSKEY: u16 = 48;
    /// How a service is reached.
    pub const SVCB: u16 = 64;
    /// How a web server is reached: by which protocols, and with which keys that hide whom one speaks to.
    pub const HTTPS: u16 = 65;
    /// The first type that is none, but a question of another kind.
    pub const FIRST_META: u16 = 249;
    /// Everything.
    pub const ANY: u16 = 255;
}

/// Classes of records.
pub mod class {
    /// The internet.
    pub const IN: u16 = 1;
    /// Whichever.
    pub const ANY: u16 = 255;
}

/// The big-endian number at this place.
pub fn be16(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

/// The big-endian number at this place.
pub fn be32(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Writes a big-endian number there.
pub(crate) fn put16(message: &mut [u8], at: usize, value: u16) {
    if let Some(place) = message.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}
