//! D-Bus' wire format (dbus-specification, "Message Protocol"), as much of it as talking to systemd takes: what we
//! send is little-endian, what we read may be either.

/// The most bytes of one message. The specification allows 128 MiB; systemd sends us names.
pub(super) const MOST: usize = 1 << 20;

/// Bytes of a message before its header fields, the length of which comes last.
pub(super) const HEAD: usize = 16;

/// A value, of the types that systemd's properties have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Bool(bool),
    U32s(Vec<u32>),
    U64(u64),
    Text(String),
    Bytes(Vec<u8>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Value {
    const fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::U32s(_) => "au",
            Self::U64(_) => "t",
            Self::Text(_) => "s",
            Self::Bytes(_) => "ay",
            Self::Pairs(_) => "a(ss)",
        }
    }
}

/// Puts values one after the other, each aligned.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// A string or an object's path.
    pub(super) fn string(&mut self, value: &str) {
        self.u32(value.len() as u32);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn signature(&mut self, value: &str) {
        self.bytes.push(value.len() as u8);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
    }

    /// An array whose elements have this alignment: its length does not count what pads the first.
    pub(super) fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        fill(self);
        let size = (self.bytes.len() - start) as u32;
        self.bytes[length..length + 4].copy_from_slice(&size.to_le_bytes());
    }

    pub(super) fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(value) => self.bool(*value),
            Value::U64(value) => self.u64(*value),
            Value::Text(value) => self.string(value),
            Value::Bytes(values) => self.array(1, |w| w.bytes.extend(values)),
            Value::U32s(values) => self.array(4, |w| values.iter().for_each(|v| w.u32(*v))),
            Value::Pairs(values) => self.array(8, |w| {
                for (a, b) in values {
                    w.align(8);
                    w.string(a);
                    w.string(b);
                }
            }),
        }
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// A method call as bytes.
pub(super) fn call(
    serial: u32,
    destination: &str,
    object: &str,
    interface: &str,
    member: &str,
    signature: &str,
    body: &[u8],
) -> Vec<u8> {
    let mut message = Writer { bytes: vec![b'l', Kind::Call as u8, 0, 1] };
    message.u32(body.len() as u32);
    message.u32(serial);
    message.array(8, |w| {
        for (code, kind, value) in
            [(1, "o", object), (2, "s", interface), (3, "s", member), (6, "s", destination)]
        {
            w.align(8);
            w.bytes.push(code);
            w.signature(kind);
            w.string(value);
        }
        if !signature.is_empty() {
            w.align(8);
            w.bytes.push(8);
            w.signature("g");
            w.signature(signature);
        }
    });
    message.align(8);
    message.bytes.extend(body);
    message.bytes
}

/// A message that has come, as far as we look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// The serial of the call that it answers.
    pub(super) reply_to: Option<u32>,
    pub(super) interface: Option<String>,
    pub(super) member: Option<String>,
    pub(super) error: Option<String>,
    pub(super) sender: Option<String>,
    pub(super) signature: String,
    body: Vec<u8>,
    big: bool,
}

/// How long the message is that begins with these bytes; `None` where they begin none that we would read.
pub(super) fn length(head: &[u8; HEAD]) -> Option<usize> {
    let big = is_big(head[0])?;
    let number = |at: usize| {
        let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
        if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    let (body, fields) = (number(4) as usize, number(12) as usize);
    let total = HEAD.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (total <= MOST).then_some(total)
}

fn is_big(mark: u8) -> Option<bool> {
    match mark {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

impl Message {
    /// Reads a whole message. `None` where it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD>()?;
        if length(head)? != bytes.len() || head[3] != 1 {
            return None;
        }
        let big = is_big(head[0])?;
        let mut message = Self {
            kind: match head[1] {
                1 => Kind::Call,
                2 => Kind::Return,
                3 => Kind::Error,
                4 => Kind::Signal,
                _ => return None,
            },
            reply_to: None,
            interface: None,
            member: None,
            error: None,
            sender: None,
            signature: String::new(),
            body: Vec::new(),
            big,
        };
        let mut reader = Reader { bytes, at: 12, big };
        let end = reader.u32()? as usize + HEAD;
        while reader.at < end {
            reader.align(8)?;
            let code = reader.byte()?;
            match (code, reader.signature()?) {
                (2, "s") => message.interface = Some(reader.string()?.to_owned()),
                (3, "s") => message.member = Some(reader.string()?.to_owned()),
                (4, "s") => message.error = Some(reader.string()?.to_owned()),
                (5, "u") => message.reply_to = Some(reader.u32()?),
                (7, "s") => message.sender = Some(reader.string()?.to_owned()),
                (8, "g") => reader.signature()?.clone_into(&mut message.signature),
                // Paths, destinations and numbers of descriptors.
                (_, "s" | "o") => {
                    reader.string()?;
                }
                (_, "u") => {
                    reader.u32()?;
                }
                (_, "g") => {
                    reader.signature()?;
                }
                _ => return None,
            }
        }
        let start = end.checked_next_multiple_of(8)?;
        bytes.get(start..)?.clone_into(&mut message.body);
        Some(message)
    }

    pub(super) fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0, big: self.big }
    }
}

/// Takes values off bytes from elsewhere: `None` where there is no such value.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes = *self.take(4)?.first_chunk::<4>()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A string or an object's path.
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        self.text(length)
    }

    pub(super) fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?;
        self.text(usize::from(length))
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0 && !text.contains('\0')).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_call_is_as_the_specification_draws_it() {
        let mut body = Writer::default();
        body.string("a");
        let bytes = call(7, "d.e", "/o", "i.f", "M", "s", &body.bytes);
        assert_eq!(&bytes[..12], [b'l', 1, 0, 1, 6, 0, 0, 0, 7, 0, 0, 0]);
        // The object's field comes first: code, signature "o", length, text.
        assert_eq!(&bytes[16..27], [1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'o', 0]);
        assert_eq!(bytes.len() % 8, 6, "the body begins on a multiple of 8");
        assert_eq!(length(bytes.first_chunk().unwrap()), Some(bytes.len()));
        let read = Message::decode(&bytes).unwrap();
        assert_eq!(
            (read.kind, read.member.as_deref(), read.interface.as_deref()),
            (Kind::Call, Some("M"), Some("i.f"))
        );
        assert_eq!((read.signature.as_str(), read.body().string()), ("s", Some("a")));
    }

    #[test]
    fn variants_are_aligned_by_their_types() {
        let mut w = Writer::default();
        w.variant(&Value::U64(5));
        assert_eq!(w.bytes, [1, b't', 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        let mut w = Writer::default();
        w.variant(&Value::U32s(vec![9]));
        assert_eq!(w.bytes, [2, b'a', b'u', 0, 4, 0, 0, 0, 9, 0, 0, 0]);
        let mut w = Writer::default();
        w.variant(&Value::Bytes(vec![3]));
        assert_eq!(w.bytes, [2, b'a', b'y', 0, 1, 0, 0, 0, 3]);
        let mut w = Writer::default();
        w.variant(&Value::Pairs(Vec::new()));
        assert_eq!(w.bytes, [5, b'a', b'(', b's', b's', b')', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            serial in any::<u32>(), texts in proptest::collection::vec("[^\0]{0,12}", 1..5), number in any::<u32>(),
        ) {
            let mut body = Writer::default();
            for text in &texts {
                body.string(text);
                body.u32(number);
            }
            let bytes = call(serial, "a.b", "/c", "d.e", &texts[0], "su", &body.bytes);
            let read = Message::decode(&bytes).unwrap();
            prop_assert_eq!(read.member.as_deref(), Some(texts[0].as_str()));
            let mut reader = read.body();
            for text in &texts {
                prop_assert_eq!(reader.string(), Some(text.as_str()));
                prop_assert_eq!(reader.u32(), Some(number));
            }
            prop_assert_eq!(reader.u32(), None);
        }

        #[test]
        fn foreign_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..200_usize, with in any::<u8>()) {
            Message::decode(&bytes);
            // And such as look like a message at first.
            let whole = call(1, "a.b", "/c", "d.e", "F", "s", &bytes);
            bytes = whole;
            let at = at % bytes.len();
            bytes[at] = with;
            if let Some(message) = Message::decode(&bytes) {
                let mut body = message.body();
                body.string();
                body.u32();
                body.signature();
            }
        }
    }
}
