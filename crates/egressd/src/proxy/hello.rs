//! The first words of TLS: whom does the client want? (RFC 8446, 6066)

/// The longest hello that is read. Real ones have a few kilobytes, with keys of post-quantum exchanges.
pub const LONGEST: usize = 64 << 10;

/// Why a hello is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Something else.
    #[error("it is not TLS")]
    NotTls,
    /// Longer than is read.
    #[error("its TLS hello is too long")]
    TooLong,
    /// Nobody is named.
    #[error("its TLS hello names no server")]
    NoName,
    /// Somebody else may be meant.
    #[error("its TLS hello is encrypted, and hides whom it is for")]
    Encrypted,
    /// What is named is no host.
    #[error("its TLS hello names no host that a rule can be about")]
    BadName,
}

/// Reads the beginning of a stream: the name of the server that is meant, as a rule knows it. None while more must come.
pub fn read(stream: &[u8]) -> Result<Option<String>, Refused> {
    const HANDSHAKE: u8 = 22;
    const HELLO: u8 = 1;
    /// The longest piece that a record may hold, unencrypted.
    const LONGEST_RECORD: usize = 1 << 14;
    let mut message = Vec::new();
    let mut rest = stream;
    loop {
        if let Some(header) = message.first_chunk::<4>() {
            let [kind, high, middle, low] = *header;
            if kind != HELLO {
                return Err(Refused::NotTls);
            }
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            if length > LONGEST {
                return Err(Refused::TooLong);
            }
            if let Some(body) = message.get(4..4 + length) {
                return name(body).map(Some);
            }
        }
        // What can be seen already to be something else is not waited for.
        if rest.first().is_some_and(|kind| *kind != HANDSHAKE) || rest.get(1).is_some_and(|major| *major != 3)
        {
            return Err(Refused::NotTls);
        }
        let Some(length) = rest.get(3..5) else { break };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length == 0 || length > LONGEST_RECORD {
            return Err(Refused::NotTls);
        }
        let end = rest.len().min(5 + length);
        message.extend_from_slice(&rest[5..end]);
        if end < 5 + length {
            rest = &[];
            // Perhaps the message is whole, though its record is not; else more must come.
            if message.len() < 4 {
                break;
            }
            let whole = message.get(1..4).map_or(0, |b| u32::from_be_bytes([0, b[0], b[1], b[2]]) as usize);
            if message.first() == Some(&HELLO) && whole <= LONGEST && message.len() < 4 + whole {
                break;
            }
            continue;
        }
        rest = &rest[end..];
    }
    if stream.len() > LONGEST { Err(Refused::TooLong) } else { Ok(None) }
}

/// Takes bytes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A vector behind its length of so many bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.take(width)?.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
        self.take(length)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }
}

/// The name in a whole hello.
fn name(body: &[u8]) -> Result<String, Refused> {
    const SERVER_NAME: u16 = 0;
    const ENCRYPTED_HELLO: u16 = 0xfe0d;
    const ENCRYPTED_NAME: u16 = 0xffce;
    let mut reader = Reader(body);
    let mut extensions = (|| {
        reader.take(2 + 32)?;
        reader.vector(1)?;
        reader.vector(2)?;
        reader.vector(1)?;
        let extensions = if reader.0.is_empty() { &[] } else { reader.vector(2)? };
        reader.0.is_empty().then_some(Reader(extensions))
    })()
    .ok_or(Refused::NotTls)?;
    let mut found = None;
    while !extensions.0.is_empty() {
        let (kind, content) =
            (|| Some((extensions.number()?, extensions.vector(2)?)))().ok_or(Refused::NotTls)?;
        match kind {
            SERVER_NAME if found.is_some() => return Err(Refused::BadName),
            SERVER_NAME => found = Some(server_name(content).ok_or(Refused::BadName)?),
            ENCRYPTED_HELLO | ENCRYPTED_NAME => return Err(Refused::Encrypted),
            _ => {}
        }
    }
    found.ok_or(Refused::NoName)
}

/// One name, of the only kind that there is.
fn server_name(content: &[u8]) -> Option<String> {
    let mut reader = Reader(content);
    let mut list = Reader(reader.vector(2)?);
    if !reader.0.is_empty() || list.take(1)? != [0] {
        return None;
    }
    let name = list.vector(2)?;
    if !list.0.is_empty() {
        return None;
    }
    state::egress::pattern::normal(std::str::from_utf8(name).ok()?)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn behind(width: usize, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32).to_be_bytes();
        [&length[4 - width..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &behind(2, content)].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        extension(0, &behind(2, &[&[0], &behind(2, name)[..]].concat()))
    }

    /// A hello with these extensions, in records of at most so many bytes.
    pub(crate) fn hello(extensions: &[Vec<u8>], record: usize) -> Vec<u8> {
        let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &behind(2, &extensions.concat())]
            .concat();
        let message = [&[1], &behind(3, &body)[..]].concat();
        message.chunks(record).flat_map(|piece| [&[22, 3, 1], &behind(2, piece)[..]].concat()).collect()
    }

    #[test]
    fn the_name_is_found_however_it_is_cut() {
        for record in [1, 7, 16384] {
            let stream =
                hello(&[extension(10, &[0, 0]), sni(b"Example.ORG"), extension(21, &[0; 300])], record);
            for length in 0..stream.len() {
                assert_eq!(read(&stream[..length]), Ok(None), "{record} {length}");
            }
            assert_eq!(read(&stream), Ok(Some("example.org".to_owned())));
            assert_eq!(read(&[&stream[..], b"more"].concat()), Ok(Some("example.org".to_owned())));
        }
    }

    #[test]
    fn what_hides_or_doubles_its_name_is_refused() {
        let of = |extensions: &[Vec<u8>]| read(&hello(extensions, 16384));
        assert_eq!(of(&[]), Err(Refused::NoName));
        assert_eq!(of(&[sni(b"a.b"), extension(0xfe0d, &[0])]), Err(Refused::Encrypted));
        assert_eq!(of(&[sni(b"a.b"), extension(0xffce, &[0])]), Err(Refused::Encrypted));
        assert_eq!(of(&[sni(b"a.b"), sni(b"c.d")]), Err(Refused::BadName));
        for bad in [&b"1.2.3.4"[..], b"a.b\0.c", b"", b"a b", b"\xff.b", b"::1"] {
            assert_eq!(of(&[sni(bad)]), Err(Refused::BadName), "{bad:?}");
        }
        let two =
            extension(0, &behind(2, &[&[0], &behind(2, b"a.b")[..], &[0], &behind(2, b"c.d")].concat()));
        assert_eq!(of(&[two]), Err(Refused::BadName));
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(Refused::NotTls));
        assert_eq!(read(&[22, 3, 1, 0, 4, 2, 0, 0, 0]), Err(Refused::NotTls), "a server's hello");
        assert_eq!(read(&[0x80, 0x2e, 1, 0, 2]), Err(Refused::NotTls), "SSL 2");
        assert_eq!(read(&[22, 3, 1, 0, 4, 1, 0xff, 0, 0]), Err(Refused::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes));
            drop(name(&bytes));
            drop(read(&[&[22, 3, 1, 0, 200, 1, 0, 0, 196], &bytes[..]].concat()));
        }

        #[test]
        fn one_changed_byte_never_gives_two_answers(at in 0_usize..120, byte: u8) {
            let mut stream = hello(&[sni(b"example.org")], 16384);
            let at = at % stream.len();
            stream[at] = byte;
            if let Ok(Some(name)) = read(&stream) {
                prop_assert!(state::egress::pattern::normal(&name) == Some(name));
            }
        }
    }
}
