//! Names in their wire form: labels, each behind its length, up to an empty one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name, with its end.
pub const LONGEST: usize = 255;
/// The longest label.
const LONGEST_LABEL: usize = 63;
/// The two bits that make a length a pointer.
const POINTER: u8 = 0xc0;

/// A name in lower case, as names are compared.
#[derive(Clone, Copy)]
pub struct Name {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Name {
    /// A name that was [measured](measure).
    pub fn lower(wire: &[u8]) -> Self {
        let mut name = Self { bytes: [0; LONGEST], length: wire.len().min(LONGEST) };
        for (to, from) in name.bytes.iter_mut().zip(wire) {
            // A length is below 64, where no letter is.
            *to = from.to_ascii_lowercase();
        }
        name
    }

    /// From text, labels between dots; a dot at the end may be there. None where it cannot be a name.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut name = Self { bytes: [0; LONGEST], length: 0 };
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            name.push(label.as_bytes())?;
        }
        name.end()
    }

    /// This name and another one's labels behind it.
    #[must_use]
    pub fn join(&self, other: &Self) -> Option<Self> {
        let mut joined = *self;
        joined.length -= 1;
        let whole = joined.bytes.get_mut(joined.length..joined.length + other.length)?;
        whole.copy_from_slice(other.wire());
        joined.length += other.length;
        Some(joined)
    }

    fn push(&mut self, label: &[u8]) -> Option<()> {
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return None;
        }
        let place = self.bytes.get_mut(self.length..self.length + 1 + label.len())?;
        place[0] = label.len() as u8;
        for (to, from) in place[1..].iter_mut().zip(label) {
            *to = from.to_ascii_lowercase();
        }
        self.length += 1 + label.len();
        Some(())
    }

    fn end(mut self) -> Option<Self> {
        *self.bytes.get_mut(self.length)? = 0;
        self.length += 1;
        Some(self)
    }

    /// Its wire form.
    pub fn wire(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Its labels, without the empty one at the end.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(self.wire())
    }

    /// As a rule knows it. None where it cannot be a host's.
    pub fn host(&self) -> Option<String> {
        if self.labels().any(|label| label.contains(&b'.')) {
            return None;
        }
        state::egress::pattern::normal(&self.text())
    }

    /// As text. What is not printed in a name is replaced.
    pub fn text(&self) -> String {
        let labels: Vec<_> = self.labels().map(String::from_utf8_lossy).collect();
        labels.join(".")
    }

    /// Whether it is, or ends with, this label.
    pub fn is_below(&self, top: &[u8]) -> bool {
        self.labels().last() == Some(top)
    }

    /// The address that it is the reverse of, and how many bits of that it names.
    pub fn reversed_address(&self) -> Option<(IpAddr, u8)> {
        let mut labels = [&b""[..]; 34];
        let mut count = 0;
        for label in self.labels() {
            *labels.get_mut(count)? = label;
            count += 1;
        }
        match &labels[..count] {
            [octets @ .., b"in-addr", b"arpa"] if octets.len() <= 4 => {
                let mut address = [0; 4];
                for (byte, label) in address.iter_mut().zip(octets.iter().rev()) {
                    *byte = decimal(label)?;
                }
                Some((Ipv4Addr::from(address).into(), 8 * octets.len() as u8))
            }
            [nibbles @ .., b"ip6", b"arpa"] => {
                let mut bits = 0_u128;
                for label in nibbles {
                    let [digit] = label else { return None };
                    let digit = char::from(*digit).to_digit(16)?;
                    bits = (bits >> 4) | (u128::from(digit) << 124);
                }
                Some((Ipv6Addr::from_bits(bits).into(), 4 * nibbles.len() as u8))
            }
            _ => None,
        }
    }
}

/// A byte in decimal, without zeroes before it.
fn decimal(label: &[u8]) -> Option<u8> {
    if label.len() > 1 && label[0] == b'0' {
        return None;
    }
    label.iter().try_fold(0_u8, |value, digit| {
        let digit = char::from(*digit).to_digit(10)? as u8;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn labels(mut wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = wire.split_first()?;
        if *length == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        wire = rest;
        Some(label)
    })
}

/// How long the name is that begins there, if it is a whole one without pointers.
pub fn measure(message: &[u8], at: usize) -> Option<usize> {
    let mut length = 0;
    loop {
        let label = usize::from(*message.get(at + length)?);
        if label > LONGEST_LABEL {
            return None;
        }
        length += 1 + label;
        if length > LONGEST {
            return None;
        }
        if label == 0 {
            return Some(length);
        }
    }
}

/// Where the name ends that begins there, which may be compressed. A pointer must lead back.
pub fn skip(message: &[u8], at: usize) -> Option<usize> {
    let mut place = at;
    loop {
        let length = *message.get(place)?;
        match length & POINTER {
            POINTER => {
                let to = usize::from(super::be16(message, place)? & 0x3fff);
                return (to >= super::HEADER && to < place).then_some(place + 2);
            }
            0 => {
                place += 1 + usize::from(length);
                if place - at > LONGEST {
                    return None;
                }
                if length == 0 {
                    return Some(place);
                }
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    #[test]
    fn text_becomes_labels_in_lower_case() {
        assert_eq!(name("Web.1").wire(), b"\x03web\x011\0");
        assert_eq!(name("web.").wire(), name("WEB").wire());
        assert!(name("a.b").is_below(b"b") && !name("a.b").is_below(b"a"));
        for bad in ["", ".", "a..b", ".a", &"a".repeat(64), &"a.".repeat(128)] {
            assert!(Name::from_text(bad).is_none(), "{bad}");
        }
        assert_eq!(name(&"a.".repeat(127)).wire().len(), LONGEST);
        assert_eq!(name("web").join(&name("back.end")).unwrap().wire(), name("web.back.end").wire());
        assert!(name(&"a.".repeat(127)).join(&name("b")).is_none());
    }

    #[test]
    fn reverse_names_are_addresses() {
        let reversed = |text: &str| name(text).reversed_address().map(|(ip, bits)| (ip.to_string(), bits));
        assert_eq!(reversed("4.3.2.10.in-addr.arpa"), Some(("10.2.3.4".to_owned(), 32)));
        assert_eq!(reversed("2.10.IN-ADDR.arpa"), Some(("10.2.0.0".to_owned(), 16)));
        assert_eq!(reversed("in-addr.arpa"), Some(("0.0.0.0".to_owned(), 0)));
        for bad in ["5.4.3.2.1.in-addr.arpa", "256.in-addr.arpa", "01.in-addr.arpa", "x.in-addr.arpa", "arpa"]
        {
            assert_eq!(reversed(bad), None, "{bad}");
        }
        let six = format!("1.{}d.f.ip6.arpa", "0.".repeat(29));
        assert_eq!(reversed(&six), Some(("fd00::1".to_owned(), 128)));
        assert_eq!(reversed("0.0.d.F.ip6.arpa"), Some(("fd00::".to_owned(), 16)));
        assert_eq!(reversed(&format!("0.{six}")), None);
        assert_eq!(reversed("10.ip6.arpa"), None);
    }

    #[test]
    fn pointers_lead_back_or_nowhere() {
        let mut message = vec![0; 12];
        message.extend_from_slice(b"\x01a\0\x01b\xc0\x0c\xc0\x12");
        assert_eq!(skip(&message, 12), Some(15));
        assert_eq!(skip(&message, 15), Some(19));
        assert_eq!(skip(&message, 19), Some(21));
        message[18] = 19;
        assert_eq!(skip(&message, 15), None, "forward");
        message[18] = 17;
        assert_eq!(skip(&message, 15), None, "to itself");
        message[18] = 3;
        assert_eq!(skip(&message, 15), None, "into the header");
        assert_eq!(measure(&message, 15), None);
        assert_eq!(measure(&message, 12), Some(3));
    }

    proptest! {
        #[test]
        fn any_bytes_are_measured(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..420) {
            if let Some(length) = measure(&bytes, at) {
                let name = Name::lower(&bytes[at..at + length]);
                prop_assert_eq!(name.labels().map(|label| label.len() + 1).sum::<usize>() + 1, length);
                prop_assert_eq!(skip(&bytes, at), Some(at + length));
                name.reversed_address();
            }
            if let Some(end) = skip(&bytes, at) {
                prop_assert!(end > at && end <= bytes.len());
            }
        }
    }
}
