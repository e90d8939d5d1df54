//! Heads of HTTP/1 requests (RFC 9110, 9112), read so strictly that no server can read them otherwise: what two could
//! understand in two ways is refused.

use state::egress::pattern::normal;

/// The longest head.
pub const LONGEST: usize = 64 << 10;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Something else.
    #[error("it is not HTTP/1")]
    NotHttp,
    /// Longer than is read.
    #[error("its head is too long")]
    TooLong,
    /// Ambiguous.
    #[error("its head can be read in more than one way")]
    Ambiguous,
    /// Nobody is named, or two are.
    #[error("it does not name one host")]
    Host,
    /// A tunnel.
    #[error("it asks for a tunnel")]
    Tunnel,
    /// Another protocol.
    #[error("it asks for another protocol")]
    Upgrade,
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Length(u64),
    /// Pieces, each behind its length.
    Chunks,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How long the head is, in bytes.
    pub length: usize,
    /// Whom it is for, as a rule knows it.
    pub host: String,
    /// The port that is named with it.
    pub port: Option<u16>,
    /// What it asks for, as it was written, without the query.
    pub target: String,
    /// What follows.
    pub body: Body,
}

impl Head {
    /// The path as servers see it: none where they may see different ones.
    pub fn path(&self) -> Option<String> {
        let mut path = Vec::new();
        let mut bytes = self.target.bytes();
        while let Some(byte) = bytes.next() {
            let byte = match byte {
                b'%' => {
                    let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                    let byte = (digit()? * 16 + digit()?) as u8;
                    // What would mean something else if it were not escaped.
                    if !byte.is_ascii_graphic() || b"/\\%?#.;".contains(&byte) {
                        return None;
                    }
                    byte
                }
                b'\\' | b';' | b'#' => return None,
                other => other,
            };
            path.push(byte);
        }
        let path = String::from_utf8(path).ok()?;
        let inner = path.strip_prefix('/')?;
        let plain = |(at, part): (usize, &str)| {
            let last = inner.split('/').count() == at + 1;
            part != "." && part != ".." && (!part.is_empty() || last)
        };
        inner.split('/').enumerate().all(plain).then_some(path)
    }
}

/// Reads the head at the beginning of a stream. None while more must come.
pub fn read(stream: &[u8]) -> Result<Option<Head>, Refused> {
    const END: &[u8] = b"\r\n\r\n";
    let seen = &stream[..stream.len().min(LONGEST)];
    let end = seen.windows(END.len()).position(|four| four == END);
    let head = end.map_or(seen, |end| &seen[..end + END.len()]);
    // Lines end in one way alone, and nothing else that controls is in them but tabs in values.
    for (at, byte) in head.iter().enumerate() {
        let good = match byte {
            b'\r' => at + 1 == head.len() || head[at + 1] == b'\n',
            b'\n' => at > 0 && head[at - 1] == b'\r',
            b'\t' => true,
            other => !other.is_ascii_control(),
        };
        if !good {
            return Err(if at < 24 { Refused::NotHttp } else { Refused::Ambiguous });
        }
    }
    let Some(end) = end else {
        return if stream.len() >= LONGEST { Err(Refused::TooLong) } else { Ok(None) };
    };
    let text = std::str::from_utf8(&head[..end]).map_err(|_| Refused::Ambiguous)?;
    let mut lines = text.split("\r\n");
    let (target, minor) = request_line(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    for line in lines {
        fields.add(line)?;
    }
    let named = fields.host.as_deref().ok_or(Refused::Host)?;
    let (host, port) = authority(named).ok_or(Refused::Host)?;
    let target = match target.strip_prefix("http://") {
        // To a proxy: whom it names there counts, and must be whom it names here.
        Some(rest) => {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            if authority(&rest[..at]) != Some((host.clone(), port)) {
                return Err(Refused::Host);
            }
            if rest[at..].starts_with('/') { rest[at..].to_owned() } else { format!("/{}", &rest[at..]) }
        }
        None => target.to_owned(),
    };
    let target = target.split('?').next().unwrap_or_default().to_owned();
    Ok(Some(Head { length: head.len(), host, port, target, body: fields.body(minor)? }))
}

/// The target and the version's second number.
fn request_line(line: &str) -> Result<(&str, u8), Refused> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refused::NotHttp);
    };
    let minor = match version {
        "HTTP/1.1" => 1,
        "HTTP/1.0" => 0,
        // Of HTTP/2 without TLS, this is the first line.
        "HTTP/2.0" => return Err(Refused::Upgrade),
        _ => return Err(Refused::NotHttp),
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(Refused::NotHttp);
    }
    if method.eq_ignore_ascii_case("CONNECT") {
        return Err(Refused::Tunnel);
    }
    let good =
        target.starts_with('/') || target.starts_with("http://") || (target == "*" && method == "OPTIONS");
    if good && target.bytes().all(|b| b.is_ascii_graphic()) {
        Ok((target, minor))
    } else {
        Err(Refused::NotHttp)
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A host and a port.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(port.parse().ok()?))
        }
        Some(_) => return None,
        None => (text, None),
    };
    Some((normal(host)?, port))
}

/// The fields that say whom a request is for and where it ends.
#[derive(Default)]
struct Fields {
    host: Option<String>,
    length: Option<u64>,
    chunks: bool,
}

impl Fields {
    fn add(&mut self, line: &str) -> Result<(), Refused> {
        let (name, value) = line.split_once(':').ok_or(Refused::Ambiguous)?;
        // A line that begins with a space continued the one before, once.
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Refused::Ambiguous);
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "host" if self.host.is_some() => return Err(Refused::Host),
            "host" => self.host = Some(value.to_owned()),
            "content-length" => {
                let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                if !digits || self.length.is_some() {
                    return Err(Refused::Ambiguous);
                }
                self.length = Some(value.parse().map_err(|_| Refused::Ambiguous)?);
            }
            "transfer-encoding" if self.chunks || !value.eq_ignore_ascii_case("chunked") => {
                return Err(Refused::Ambiguous);
            }
            "transfer-encoding" => self.chunks = true,
            // There are servers that take an underscore for a hyphen.
            "content_length" | "transfer_encoding" => return Err(Refused::Ambiguous),
            // After it the stream could not be read any more.
            "upgrade" | "http2-settings" => return Err(Refused::Upgrade),
            _ => {}
        }
        Ok(())
    }

    fn body(&self, minor: u8) -> Result<Body, Refused> {
        match (self.length, self.chunks) {
            (Some(_), true) => Err(Refused::Ambiguous),
            // 1.0 has no chunks, and whoever reads none takes them for the next request.
            (None, true) if minor == 0 => Err(Refused::Ambiguous),
            (None, true) => Ok(Body::Chunks),
            (length, false) => Ok(Body::Length(length.unwrap_or(0))),
        }
    }
}

/// How much of a stream of chunks belongs to the body, step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunks {
    /// At the line with a chunk's length.
    Line,
    /// So many bytes of a chunk, and the end of its line, are left.
    Content(u64),
    /// At a line behind the last chunk.
    Trailer,
    /// At its end.
    Done,
}

impl Chunks {
    /// Steps over what is whole: how many bytes. 0 while more must come.
    pub fn step(&mut self, stream: &[u8]) -> Result<usize, Refused> {
        /// The longest line: a length, and what nobody uses behind it.
        const LONGEST_LINE: usize = 4096;
        if let Self::Content(left) = self {
            let taken = stream.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            // Its last two bytes end a line.
            let content_left = left.saturating_sub(2);
            for (at, byte) in
                stream[..taken].iter().enumerate().skip(usize::try_from(content_left).unwrap_or(usize::MAX))
            {
                let end = *left - at as u64;
                if *byte != (if end == 2 { b'\r' } else { b'\n' }) {
                    return Err(Refused::Ambiguous);
                }
            }
            *left -= taken as u64;
            if *left == 0 {
                *self = Self::Line;
            }
            return Ok(taken);
        }
        if *self == Self::Done {
            return Ok(0);
        }
        let seen = &stream[..stream.len().min(LONGEST_LINE)];
        let Some(end) = seen.iter().position(|b| *b == b'\n') else {
            return if seen.len() < LONGEST_LINE { Ok(0) } else { Err(Refused::TooLong) };
        };
        let line = seen[..end].strip_suffix(b"\r").ok_or(Refused::Ambiguous)?;
        if line.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(Refused::Ambiguous);
        }
        *self = match self {
            Self::Trailer if line.is_empty() => Self::Done,
            Self::Trailer => Self::Trailer,
            _ => {
                let digits = line.split(|b| *b == b';').next().unwrap_or_default();
                let good = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
                let length = if good { std::str::from_utf8(digits).ok() } else { None };
                let length = length.and_then(|text| u64::from_str_radix(text, 16).ok());
                match length.ok_or(Refused::Ambiguous)? {
                    0 => Self::Trailer,
                    length => Self::Content(length + 2),
                }
            }
        };
        Ok(end + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<Option<Head>, Refused> {
        read(text.replace('\n', "\r\n").as_bytes())
    }

    #[test]
    fn a_request_says_whom_it_is_for_and_where_it_ends() {
        let head =
            of("GET /a?b=c HTTP/1.1\nHost: Example.ORG:80\nContent-Length: 3\n\nabc").unwrap().unwrap();
        assert_eq!(
            (&*head.host, head.port, &*head.target, head.body),
            ("example.org", Some(80), "/a", Body::Length(3))
        );
        assert_eq!(head.length, "GET /a?b=c HTTP/1.1\nHost: Example.ORG:80\nContent-Length: 3\n\n".len() + 4);
        let head =
            of("POST http://a.b/x HTTP/1.1\nhost: a.b\ntransfer-encoding: Chunked\n\n").unwrap().unwrap();
        assert_eq!((&*head.host, &*head.target, head.body), ("a.b", "/x", Body::Chunks));
        assert_eq!(of("OPTIONS * HTTP/1.1\nHost: a.b\n\n").unwrap().unwrap().target, "*");
        assert_eq!(of("GET http://a.b?x HTTP/1.1\nHost: a.b\n\n").unwrap().unwrap().target, "/");
        let text = "GET / HTTP/1.1\r\nHost: a.b\r\n\r\n";
        assert!((0..text.len()).all(|length| read(&text.as_bytes()[..length]) == Ok(None)));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        use Refused::{Ambiguous, Host, NotHttp, Tunnel, Upgrade};
        for (text, why) in [
            ("GET / HTTP/1.1\n\n", Host),
            ("GET / HTTP/1.0\n\n", Host),
            ("GET / HTTP/1.1\nHost: a.b\nHost: a.b\n\n", Host),
            ("GET / HTTP/1.1\nHost: a.b, c.d\n\n", Host),
            ("GET / HTTP/1.1\nHost: a.b@c.d\n\n", Host),
            ("GET / HTTP/1.1\nHost: a.b:\n\n", Host),
            ("GET / HTTP/1.1\nHost: 192.0.2.1\n\n", Host),
            ("GET / HTTP/1.1\nHost: [::1]\n\n", Host),
            ("GET / HTTP/1.1\nHost: \n\n", Host),
            ("GET http://c.d/ HTTP/1.1\nHost: a.b\n\n", Host),
            ("GET http://a.b@c.d/ HTTP/1.1\nHost: a.b\n\n", Host),
            ("GET http://a.b:81/ HTTP/1.1\nHost: a.b\n\n", Host),
            ("CONNECT a.b:443 HTTP/1.1\nHost: a.b\n\n", Tunnel),
            ("PRI * HTTP/2.0\n\nSM\n\n", Upgrade),
            ("GET / HTTP/1.1\nHost: a.b\nUpgrade: h2c\n\n", Upgrade),
            ("GET https://a.b/ HTTP/1.1\nHost: a.b\n\n", NotHttp),
            ("GET  / HTTP/1.1\nHost: a.b\n\n", NotHttp),
            ("GET / HTTP/1.1 \nHost: a.b\n\n", NotHttp),
            ("GET / HTTP/0.9\nHost: a.b\n\n", NotHttp),
            ("GET c.d/ HTTP/1.1\nHost: a.b\n\n", NotHttp),
            ("GET / HTTP/1.1\nHost : a.b\n\n", Ambiguous),
            ("GET / HTTP/1.1\n Host: a.b\n\n", Ambiguous),
            ("GET / HTTP/1.1\nHost: a.b\n folded\n\n", Ambiguous),
            ("GET / HTTP/1.1\nHost: a.b\nnonsense\n\n", Ambiguous),
            ("GET / HTTP/1.1\nHost: a.b\nContent-Length: 1\nContent-Length: 1\n\n", Ambiguous),
            ("GET / HTTP/1.1\nHost: a.b\nContent-Length: +1\n\n", Ambiguous),
            ("GET / HTTP/1.1\nHost: a.b\nContent-Length: 1, 1\n\n", Ambiguous),
            ("GET / HTTP/1.1\nHost: a.b\nContent-Length: 1\nTransfer-Encoding: chunked\n\n", Ambiguous),
            ("GET / HTTP/1.1\nHost: a.b\nTransfer-Encoding: x, chunked\n\n", Ambiguous),
            ("GET / HTTP/1.1\nHost: a.b\nTransfer_Encoding: chunked\n\n", Ambiguous),
            ("GET / HTTP/1.0\nHost: a.b\nTransfer-Encoding: chunked\n\n", Ambiguous),
            ("GET / HTTP/1.1\nHost: a.b\0.c\n\n", Ambiguous),
        ] {
            assert_eq!(of(text), Err(why), "{text}");
        }
        for raw in [
            "GET / HTTP/1.1\nHost: a.b\n\n",
            "GET / HTTP/1.1\r\nHost: a.b\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nX: y\rz\r\n\r\n",
        ] {
            assert!(read(raw.as_bytes()).is_err(), "{raw:?}");
        }
        assert_eq!(read(&vec![b'a'; LONGEST]), Err(Refused::TooLong));
    }

    #[test]
    fn a_path_is_one_that_all_servers_see() {
        let path = |target: &str| {
            let head = Head {
                length: 0,
                host: String::new(),
                port: None,
                target: target.to_owned(),
                body: Body::Chunks,
            };
            head.path()
        };
        assert_eq!(path("/a/b").as_deref(), Some("/a/b"));
        assert_eq!(path("/a/").as_deref(), Some("/a/"));
        assert_eq!(path("/").as_deref(), Some("/"));
        assert_eq!(path("/%61%7E").as_deref(), Some("/a~"));
        for bad in [
            "/a/../b",
            "/a/./b",
            "/a//b",
            "/a/..",
            "/%2e%2e/b",
            "/a%2fb",
            "/a\\b",
            "/a%00",
            "/a;b",
            "/%zz",
            "/%6",
            "*",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    fn chunks(mut stream: &[u8]) -> Result<(Chunks, usize), Refused> {
        let (mut chunks, whole) = (Chunks::Line, stream.len());
        loop {
            let taken = chunks.step(stream)?;
            stream = &stream[taken..];
            if taken == 0 {
                return Ok((chunks, whole - stream.len()));
            }
        }
    }

    #[test]
    fn chunks_end_where_they_say() {
        let stream = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET /";
        assert_eq!(chunks(stream), Ok((Chunks::Done, stream.len() - 5)));
        for bad in [
            &b"3\nabc\r\n"[..],
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n\n",
            b" 3\r\n",
            b"0x3\r\n",
            b"-1\r\n",
            b"\r\n",
            b"1111111111111111\r\n",
        ] {
            assert_eq!(chunks(bad), Err(Refused::Ambiguous), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some(head)) = read(&[b"GET / HTTP/1.1\r\n", &bytes[..], b"\r\n\r\n"].concat()) {
                head.path();
            }
            chunks(&bytes).ok();
        }

        #[test]
        fn chunks_are_counted_alike_however_they_come(sizes in prop::collection::vec(1_usize..40, 0..6), cut in 1_usize..9) {
            let mut stream = Vec::new();
            for size in sizes {
                stream.extend_from_slice(format!("{size:x}\r\n{}\r\n", "z".repeat(size)).as_bytes());
            }
            stream.extend_from_slice(b"0\r\n\r\n");
            let (mut chunks, mut from, mut to) = (Chunks::Line, 0, 0);
            while chunks != Chunks::Done {
                let taken = chunks.step(&stream[from..to]).unwrap();
                from += taken;
                if taken == 0 {
                    prop_assert!(to < stream.len());
                    to = (to + cut).min(stream.len());
                }
            }
            prop_assert_eq!(from, stream.len());
        }
    }
}
