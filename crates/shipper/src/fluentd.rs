//! The forward protocol of Fluentd, version 1, mode "Forward", with acknowledgements.
//!
//! ```text
//! we         [tag, [[time, record], …], {"chunk": id, "size": n}]
//! collector  {"ack": id}
//! ```
//!
//! One chunk is on its way at a time. Its id follows from what is in it: one that is sent again, because the connection
//! broke before it was acknowledged, has the same, so that a collector can tell that it has it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use base::Timestamp;
use rmp::{decode, encode};
use state::shipping::{Fluentd, Manifest};

use crate::journal::line_id;
use crate::link::{Link, Lost};
use crate::message::Message;
use crate::stream::Stream;

/// Longer than any id of a chunk.
const LONGEST_ACK: usize = 256;

/// A collector.
#[derive(Debug)]
pub(crate) struct Forward {
    stream: Stream,
    tag: String,
    id: String,
    /// What is the same in all records.
    fields: BTreeMap<String, String>,
    sub_second: bool,
    arrived: Option<u64>,
}

impl Forward {
    pub(crate) fn new(stream: Stream, manifest: &Manifest, fluentd: &Fluentd) -> Self {
        let mut fields = manifest.attributes.clone();
        fields.insert("container_id".to_owned(), manifest.id.to_string());
        fields.insert("container_name".to_owned(), format!("/{}", manifest.name));
        Self {
            stream,
            tag: manifest.tag.clone(),
            id: manifest.id.to_string(),
            fields,
            sub_second: fluentd.sub_second,
            arrived: None,
        }
    }

    fn try_send(&mut self, batch: &[Message]) -> io::Result<()> {
        if self.stream.is_closed()? {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "it has closed the connection"));
        }
        let chunk = self.chunk(batch);
        let bytes = self.encode(batch, &chunk)?;
        self.stream.send(&bytes)?;
        let acknowledged = read_ack(&mut self.stream)?;
        if acknowledged != chunk.as_bytes() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it has acknowledged another chunk than ours",
            ));
        }
        Ok(())
    }

    fn chunk(&self, batch: &[Message]) -> String {
        let (first, end) = (batch.first().map_or(0, |m| m.sequence), batch.last().map_or(0, Message::end));
        base::Digest::of(format!("{} {first} {end}", self.id).as_bytes()).hex()[..32].to_owned()
    }

    fn encode(&self, batch: &[Message], chunk: &str) -> io::Result<Vec<u8>> {
        let mut to = Vec::new();
        encode::write_array_len(&mut to, 3)?;
        encode::write_str(&mut to, &self.tag)?;
        encode::write_array_len(&mut to, batch.len() as u32)?;
        for message in batch {
            encode::write_array_len(&mut to, 2)?;
            self.write_time(message.time, &mut to)?;
            self.write_record(message, &mut to)?;
        }
        encode::write_map_len(&mut to, 2)?;
        encode::write_str(&mut to, "chunk")?;
        encode::write_str(&mut to, chunk)?;
        encode::write_str(&mut to, "size")?;
        encode::write_uint(&mut to, batch.len() as u64)?;
        Ok(to)
    }

    fn write_time(&self, time: Timestamp, to: &mut Vec<u8>) -> io::Result<()> {
        let seconds = time.0.div_euclid(1_000_000_000);
        if !self.sub_second {
            encode::write_sint(to, seconds)?;
            return Ok(());
        }
        // EventTime: seconds and nanoseconds, four bytes each.
        encode::write_ext_meta(to, 8, 0)?;
        to.extend_from_slice(&(seconds as u32).to_be_bytes());
        to.extend_from_slice(&(time.0.rem_euclid(1_000_000_000) as u32).to_be_bytes());
        Ok(())
    }

    fn write_record(&self, message: &Message, to: &mut Vec<u8>) -> io::Result<()> {
        let pieces = if message.piece.is_some() { 4 } else { 0 };
        let known = ["source", "log"].iter().filter(|key| self.fields.contains_key(**key)).count();
        let length = self.fields.len() - known + 2 + pieces;
        encode::write_map_len(to, length as u32)?;
        for (key, value) in self.fields.iter().filter(|(key, _)| !["source", "log"].contains(&key.as_str())) {
            encode::write_str(to, key)?;
            encode::write_str(to, value)?;
        }
        encode::write_str(to, "source")?;
        encode::write_str(to, message.source())?;
        encode::write_str(to, "log")?;
        // As fluent-logger does: a string of whatever bytes there were.
        encode::write_str_len(to, message.text.len() as u32)?;
        to.extend_from_slice(&message.text);
        if let Some(piece) = message.piece {
            let words = [
                ("partial_message", "true".to_owned()),
                ("partial_id", line_id(&self.id, piece.line)),
                ("partial_ordinal", piece.ordinal.to_string()),
                ("partial_last", piece.last.to_string()),
            ];
            for (key, value) in &words {
                encode::write_str(to, key)?;
                encode::write_str(to, value)?;
            }
        }
        Ok(())
    }
}

/// Reads `{"ack": id}`.
fn read_ack(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let strange = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it answers with {what} instead of an acknowledgement"),
        )
    };
    // What the connection says goes through as it is; the rest is about what was said.
    let wrong = |error: decode::ValueReadError| match error {
        decode::ValueReadError::InvalidMarkerRead(e) | decode::ValueReadError::InvalidDataRead(e) => e,
        decode::ValueReadError::TypeMismatch(_) => strange("something else"),
    };
    if decode::read_map_len(from).map_err(wrong)? != 1 {
        return Err(strange("another map"));
    }
    let mut text = |longest: usize| -> io::Result<Vec<u8>> {
        let length = decode::read_str_len(from).map_err(wrong)? as usize;
        if length > longest {
            return Err(strange("a very long word"));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text)?;
        Ok(text)
    };
    if text(LONGEST_ACK)? != b"ack" {
        return Err(strange("another word"));
    }
    text(LONGEST_ACK)
}

impl Link for Forward {
    fn send(&mut self, batch: &[Message]) -> Result<(), Lost> {
        self.try_send(batch).map_err(|source| Lost { arrived: self.arrived, source })?;
        self.arrived = batch.last().map(Message::end);
        Ok(())
    }

    fn arrived(&self) -> Option<u64> {
        self.arrived
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_acknowledgement_is_read() {
        assert_eq!(read_ack(&mut &b"\x81\xa3ack\xa4abcd"[..]).unwrap(), b"abcd");
        for bad in
            [&b"\x82\xa3ack"[..], b"\x81\xa3nak\xa1x", b"\x81\xa3ack\xdb\xff\xff\xff\xff", b"\x93", b""]
        {
            assert!(read_ack(&mut &bad[..]).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_harms_us(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_ack(&mut &bytes[..]);
        }
    }
}
