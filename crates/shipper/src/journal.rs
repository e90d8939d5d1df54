//! What is said to systemd's journal, in its native protocol: fields, a line each, or with their length where they hold
//! line breaks. The names are Docker's.

use std::io::Write;

use logging::Stream;
use state::shipping::Manifest;

use crate::datagram::Datagram;
use crate::message::Message;

/// Writes messages.
#[derive(Debug)]
pub(crate) struct Journal {
    /// What is the same in all of them.
    fields: Vec<u8>,
    id: String,
}

impl Journal {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let mut fields = Vec::new();
        let id = manifest.id.as_str();
        // First: where somebody's label has one of these names, ours are what the journal takes for true.
        let ours = [
            ("CONTAINER_ID", manifest.id.short()),
            ("CONTAINER_ID_FULL", id),
            ("CONTAINER_NAME", &manifest.name),
            ("CONTAINER_TAG", &manifest.tag),
            ("IMAGE_NAME", &manifest.image),
            ("SYSLOG_IDENTIFIER", &manifest.tag),
            // Numbers go on over all runs of a container: it is one epoch.
            ("CONTAINER_LOG_EPOCH", id),
        ];
        for (name, value) in ours {
            field(name, value.as_bytes(), &mut fields);
        }
        for (key, value) in &manifest.attributes {
            let name = field_name(key);
            if !name.is_empty() && ours.iter().all(|(other, _)| *other != name) && name != "MESSAGE" {
                field(&name, value.as_bytes(), &mut fields);
            }
        }
        Self { fields, id: id.to_owned() }
    }
}

impl Datagram for Journal {
    fn encode(&self, message: &Message, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.fields);
        field("PRIORITY", if message.stream == Stream::Stderr { b"3" } else { b"6" }, to);
        field("CONTAINER_LOG_ORDINAL", message.end().to_string().as_bytes(), to);
        let mut time = Vec::new();
        logging::format_time(message.time, &mut time);
        field("SYSLOG_TIMESTAMP", &time, to);
        if let Some(piece) = message.piece {
            field("CONTAINER_PARTIAL_MESSAGE", b"true", to);
            field("CONTAINER_PARTIAL_ID", line_id(&self.id, piece.line).as_bytes(), to);
            field("CONTAINER_PARTIAL_ORDINAL", piece.ordinal.to_string().as_bytes(), to);
            field("CONTAINER_PARTIAL_LAST", if piece.last { b"true" } else { b"false" }, to);
        }
        field("MESSAGE", &message.text, to);
    }

    fn may_be_file(&self) -> bool {
        true
    }
}

/// What tells one long line apart from all others.
pub(crate) fn line_id(container: &str, line: u64) -> String {
    base::Digest::of(format!("{container} {line}").as_bytes()).hex()
}

fn field(name: &str, value: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        to.push(b'\n');
        let written = to.write_all(&(value.len() as u64).to_le_bytes());
        debug_assert!(written.is_ok(), "a vector takes everything");
    } else {
        to.push(b'=');
    }
    to.extend_from_slice(value);
    to.push(b'\n');
}

/// A name that the journal takes from somebody else: capitals, digits and lines, no line first (those are its own).
fn field_name(key: &str) -> String {
    let name: String = key
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .take(64)
        .collect();
    name.trim_start_matches(|c: char| c == '_' || c.is_ascii_digit()).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base::Timestamp;
    use state::shipping::{Destination, FORMAT, Journald};

    use super::*;
    use crate::message::Piece;

    #[test]
    fn fields_are_dockers() {
        let id = "0123456789ab".repeat(6)[..64].to_owned();
        let manifest = Manifest {
            format: FORMAT,
            id: id.parse().unwrap(),
            name: "box".to_owned(),
            image: "busybox".to_owned(),
            tag: "a tag".to_owned(),
            attributes: BTreeMap::from([
                ("com.example/team".to_owned(), "a\nb".to_owned()),
                ("container_name".to_owned(), "liar".to_owned()),
                ("_pid".to_owned(), "1".to_owned()),
            ]),
            destination: Destination::Journald(Journald { socket: "/x".into() }),
        };
        let journal = Journal::new(&manifest);
        let piece = Some(Piece { line: 4, ordinal: 2, last: true });
        let message = Message {
            sequence: 5,
            stream: Stream::Stderr,
            time: Timestamp(1_500_000_000),
            text: b"x\xff".to_vec(),
            piece,
        };
        let mut to = Vec::new();
        journal.encode(&message, &mut to);
        let mut expected = format!(
            "CONTAINER_ID=0123456789ab\nCONTAINER_ID_FULL={id}\nCONTAINER_NAME=box\nCONTAINER_TAG=a tag\n\
             IMAGE_NAME=busybox\nSYSLOG_IDENTIFIER=a tag\nCONTAINER_LOG_EPOCH={id}\nPID=1\n\
             COM_EXAMPLE_TEAM\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=3\nCONTAINER_LOG_ORDINAL=6\n\
             SYSLOG_TIMESTAMP=1970-01-01T00:00:01.5Z\nCONTAINER_PARTIAL_MESSAGE=true\nCONTAINER_PARTIAL_ID={}\n\
             CONTAINER_PARTIAL_ORDINAL=2\nCONTAINER_PARTIAL_LAST=true\nMESSAGE=x",
            line_id(&id, 4)
        )
        .into_bytes();
        expected.extend_from_slice(b"\xff\n");
        assert_eq!(to, expected, "{}", String::from_utf8_lossy(&to));
    }
}
