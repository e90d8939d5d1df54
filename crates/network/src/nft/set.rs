//! Sets and maps: how they are made, and how elements come and go.

use crate::netlink::{CREATE, Request};

use super::{DELSETELEM, LIST_ELEMENT, NEWSET, NEWSETELEM, Transaction, VALUE};

const TABLE: u16 = 1;

/// The types of keys and values, as `nft` numbers them so that it can print them.
#[derive(Clone, Copy)]
pub(super) enum Type {
    Ipv4Address = 7,
    Ipv6Address = 8,
    EtherAddress = 9,
    Protocol = 12,
    Service = 13,
    InterfaceName = 41,
}

impl Type {
    /// How many bytes it fills: whole registers of four.
    fn size(self) -> u32 {
        match self {
            Self::Ipv4Address | Self::Protocol | Self::Service => 4,
            Self::EtherAddress => 8,
            Self::Ipv6Address | Self::InterfaceName => 16,
        }
    }
}

/// What a set's elements lead to.
pub(super) enum Holds<'a> {
    /// Nothing: it is a set.
    Nothing,
    /// Nothing: it is a set of intervals.
    Intervals,
    /// Nothing, and each element only for a time.
    Timeouts,
    /// Values of these types.
    Values(&'a [Type]),
    /// What becomes of the packet.
    Verdicts,
}

/// The number of a concatenation: six bits each.
fn concatenation(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, part| (number << 6) | *part as u32)
}

/// A key's length. One that stands alone has its own: `nft` ends itself at another.
fn size(types: &[Type]) -> u32 {
    match types {
        [Type::Protocol] => 1,
        [Type::Service] => 2,
        [Type::EtherAddress] => 6,
        types => types.iter().map(|part| part.size()).sum(),
    }
}

/// Makes a set or map. Its id need only differ from those of the others in the transaction.
pub(super) fn make(
    transaction: &mut Transaction,
    table: &str,
    (name, id): (&str, u32),
    key: &[Type],
    holds: &Holds<'_>,
) {
    const NAME: u16 = 2;
    const FLAGS: u16 = 3;
    const KEY_TYPE: u16 = 4;
    const KEY_LENGTH: u16 = 5;
    const DATA_TYPE: u16 = 6;
    const DATA_LENGTH: u16 = 7;
    const ID: u16 = 10;
    const USERDATA: u16 = 13;
    /// So that `nft` prints names: the key's order of bytes (type 0, four of them) is the machine's own (1).
    const HOST_ORDER: &[u8] =
        if cfg!(target_endian = "little") { &[0, 4, 1, 0, 0, 0] } else { &[0, 4, 0, 0, 0, 1] };
    const HAS_INTERVALS: u32 = 4;
    const IS_MAP: u32 = 8;
    const HAS_TIMEOUTS: u32 = 16;
    const VERDICT: u32 = 0xffff_ff00;
    transaction.message(NEWSET, CREATE, |r| {
        r.string(TABLE, table);
        r.string(NAME, name);
        r.be32(
            FLAGS,
            match holds {
                Holds::Nothing => 0,
                Holds::Intervals => HAS_INTERVALS,
                Holds::Timeouts => HAS_TIMEOUTS,
                Holds::Values(_) | Holds::Verdicts => IS_MAP,
            },
        );
        r.be32(KEY_TYPE, concatenation(key));
        r.be32(KEY_LENGTH, size(key));
        match holds {
            Holds::Nothing | Holds::Intervals | Holds::Timeouts => {}
            Holds::Values(types) => {
                r.be32(DATA_TYPE, concatenation(types));
                r.be32(DATA_LENGTH, size(types));
            }
            Holds::Verdicts => {
                r.be32(DATA_TYPE, VERDICT);
                r.be32(DATA_LENGTH, 16);
            }
        }
        r.be32(ID, id);
        if matches!(key, [Type::InterfaceName]) {
            r.bytes(USERDATA, HOST_ORDER);
        }
    });
}

/// One element.
pub(super) enum Element<'a> {
    /// A key and the value it leads to; an empty value where it only has to be found.
    Value(&'a [u8], &'a [u8]),
    /// A key and the chain to jump to.
    Jump(&'a [u8], &'a str),
    /// A key that is there for so many milliseconds.
    Until(&'a [u8], u64),
    /// From this key on …
    From(&'a [u8]),
    /// … up to this one, which is not part of it.
    To(&'a [u8]),
}

impl Element<'_> {
    /// Writes the message's attributes.
    pub(super) fn write(&self, r: &mut Request, table: &str, set: &str) {
        const SET: u16 = 2;
        const ELEMENTS: u16 = 3;
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        const FLAGS: u16 = 3;
        const TIMEOUT: u16 = 4;
        const VERDICT: u16 = 2;
        const CODE: u16 = 1;
        const CHAIN: u16 = 2;
        const JUMP: i32 = -3;
        const ENDS_INTERVAL: u32 = 1;
        r.string(TABLE, table);
        r.string(SET, set);
        r.nest(ELEMENTS, |r| {
            r.nest(LIST_ELEMENT, |r| {
                let (Self::Value(key, _)
                | Self::Jump(key, _)
                | Self::Until(key, _)
                | Self::From(key)
                | Self::To(key)) = self;
                r.nest(KEY, |r| r.bytes(VALUE, key));
                match self {
                    Self::Value(_, data) if !data.is_empty() => r.nest(DATA, |r| r.bytes(VALUE, data)),
                    Self::Jump(_, chain) => r.nest(DATA, |r| {
                        r.nest(VERDICT, |r| {
                            r.be32(CODE, JUMP.cast_unsigned());
                            r.string(CHAIN, chain);
                        });
                    }),
                    Self::Until(_, milliseconds) => r.bytes(TIMEOUT, &milliseconds.to_be_bytes()),
                    Self::To(_) => r.be32(FLAGS, ENDS_INTERVAL),
                    Self::Value(..) | Self::From(_) => {}
                }
            });
        });
    }

    pub(super) fn add(&self, transaction: &mut Transaction, table: &str, set: &str) {
        transaction.message(NEWSETELEM, CREATE, |r| self.write(r, table, set));
    }

    /// Adds it instead of one with the same key, that may be there or not. (Added and removed first, since a removal wants one to
    /// be there, and most kernels leave one as it is that is added again.)
    pub(super) fn replace(&self, transaction: &mut Transaction, table: &str, set: &str) {
        let (Self::Value(key, _)
        | Self::Jump(key, _)
        | Self::Until(key, _)
        | Self::From(key)
        | Self::To(key)) = self;
        self.add(transaction, table, set);
        Element::Value(key, &[]).remove(transaction, table, set);
        self.add(transaction, table, set);
    }

    pub(super) fn remove(&self, transaction: &mut Transaction, table: &str, set: &str) {
        transaction.message(DELSETELEM, 0, |r| self.write(r, table, set));
    }
}

/// An interface's name as a key.
pub(super) fn interface(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    // One that is too long cannot be an interface's; the kernel refused it when the link was made.
    let length = name.len().min(15);
    key[..length].copy_from_slice(&name.as_bytes()[..length]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenations_have_six_bits_and_whole_registers_each() {
        let key = [Type::Ipv6Address, Type::Protocol, Type::Service];
        assert_eq!((concatenation(&key), size(&key)), (0x830d, 24));
        assert_eq!(interface("dhow0")[..6], *b"dhow0\0");
    }
}
