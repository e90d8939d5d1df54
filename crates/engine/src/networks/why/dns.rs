//! A question for addresses as a container's resolver asks it (RFC 1035).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// These addresses; none: the name has none of that kind.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// The server could not find out, or does not want to: its code.
    Refused(u8),
    /// Nobody answered.
    Silent,
}

/// A little longer than our name server tries.
const PATIENCE: Duration = Duration::from_secs(5);
const A: u16 = 1;
const AAAA: u16 = 28;

/// Asks a server for the addresses of a name, of IPv4 and, if it has none, of IPv6. From where the thread is.
pub(super) fn ask(server: SocketAddr, name: &str) -> io::Result<Answer> {
    match ask_for(server, name, A)? {
        Answer::Addresses(none) if none.is_empty() => ask_for(server, name, AAAA),
        other => Ok(other),
    }
}

fn ask_for(server: SocketAddr, name: &str, kind: u16) -> io::Result<Answer> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(server)?;
    let id = (std::process::id() as u16) ^ kind;
    let Some(question) = question(id, name, kind) else { return Ok(Answer::NoSuchName) };
    socket.send(&question)?;
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Answer::Silent);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                if let Some(answer) = read(id, &buffer[..length]) {
                    return Ok(answer);
                }
            }
            Err(_) => return Ok(Answer::Silent),
        }
    }
}

fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    const RECURSION: u8 = 1;
    let mut message = id.to_be_bytes().to_vec();
    message.extend([RECURSION, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    Some(message)
}

/// What a message answers to the question of this number; none where it is no answer to it.
fn read(id: u16, message: &[u8]) -> Option<Answer> {
    const RESPONSE: u8 = 0x80;
    let half = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    if half(0)? != id || message.get(2)? & RESPONSE == 0 {
        return None;
    }
    match message.get(3)? & 15 {
        0 => {}
        3 => return Some(Answer::NoSuchName),
        code => return Some(Answer::Refused(code)),
    }
    let mut at = 12;
    for _ in 0..half(4)? {
        at = behind_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..half(6)? {
        at = behind_name(message, at)?;
        let (kind, length) = (half(at)?, usize::from(half(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        match kind {
            A => found.extend(<[u8; 4]>::try_from(data).ok().map(IpAddr::from)),
            AAAA => found.extend(<[u8; 16]>::try_from(data).ok().map(IpAddr::from)),
            _ => {}
        }
        at += 10 + length;
    }
    Some(Answer::Addresses(found))
}

/// Where a name ends, which may end by pointing elsewhere.
fn behind_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_read() {
        let mut message = question(7, "web.back", A).unwrap();
        message[2] |= 0x80;
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 5, 0, 2]);
        assert_eq!(read(7, &message), Some(Answer::Addresses(vec![IpAddr::from([10, 5, 0, 2])])));
        assert_eq!(read(8, &message), None);
        message[3] = 3;
        assert_eq!(read(7, &message), Some(Answer::NoSuchName));
        assert_eq!(question(7, "a..b", A), None);
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if bytes.len() > 3 {
                bytes[..4].copy_from_slice(&[0, 7, 0x80, 0]);
            }
            read(7, &bytes);
        }
    }
}
