//! Reads netlink messages. The bytes come from the kernel; still nothing here trusts a length.

/// One message of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages in a datagram. Ends early where a length makes no sense.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let payload = bytes.get(16..length)?;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a payload: kind (without its flag bits) and value. Ends early where a length makes no
/// sense.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const FLAGS: u16 = 0xc000;
    std::iter::from_fn(move || {
        let length = u16_at(bytes, 0)? as usize;
        let value = bytes.get(4..length)?;
        let kind = u16_at(bytes, 2)? & !FLAGS;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// An attribute that is a C string.
pub(crate) fn string(value: &[u8]) -> &str {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).unwrap_or_default()
}

/// Bytes `at..at + 2` in the machine's order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Bytes `at..at + 4` in the machine's order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Bytes `0..4` in network order.
pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::Request;

    #[test]
    fn what_is_written_is_read() {
        let mut request = Request::new();
        request.message(7, 0, &[1, 2, 3, 4], |r| {
            r.string(1, "eth0");
            r.nest(2, |r| r.u32(3, 42));
        });
        request.message(8, super::super::ACK, &[], |_| {});
        let all: Vec<_> = messages(request.as_bytes()).collect();
        assert_eq!(
            all.iter().map(|m| (m.kind, m.flags, m.sequence)).collect::<Vec<_>>(),
            [(7, 1, 1), (8, 5, 2)]
        );
        let body = &all[0].payload[4..];
        assert_eq!(string(attribute(body, 1).unwrap()), "eth0");
        assert_eq!(u32_at(attribute(attribute(body, 2).unwrap(), 3).unwrap(), 0), Some(42));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_loop(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                for (_, value) in attributes(message.payload) {
                    string(value);
                    prop_assert!(attributes(value).count() <= value.len());
                }
            }
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4 + 1);
        }

        #[test]
        fn any_cut_of_an_answer_is_harmless(cut in 0usize..60, flip in 0usize..60, bit in any::<u8>()) {
            let mut request = Request::new();
            request.message(7, 0, &[0; 4], |r| { r.string(1, "eth0"); r.nest(2, |r| r.u32(3, 42)); });
            let mut bytes = request.into_bytes();
            let flip = flip % bytes.len();
            bytes[flip] ^= bit;
            for message in messages(&bytes[..cut.min(bytes.len())]) {
                attributes(message.payload).for_each(drop);
            }
        }
    }
}
