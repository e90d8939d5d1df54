//! What is digested.

use ::build::graph;
use base::{Digest, Hasher};
use rustix::fs::FileType;

use super::super::attributes::Attributes;
use super::{Item, Kind};

/// Changes when the records do.
const VERSION: &[u8] = b"dhow files 1";

/// What is digested: fields with their lengths, so that no two rows of fields are the same bytes.
pub(super) struct Record {
    hasher: Hasher,
    /// Small pieces, put together.
    bytes: Vec<u8>,
}

impl Record {
    pub(super) fn new() -> Self {
        let mut record = Self { hasher: Hasher::default(), bytes: Vec::with_capacity(8192) };
        record.text(VERSION);
        record
    }

    pub(super) fn text(&mut self, text: &[u8]) -> &mut Self {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text);
        self.flush(4096);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(super) fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.number(1).text(text.as_bytes()),
            None => self.number(0),
        }
    }

    pub(super) fn mode(&mut self, mode: Option<&graph::Mode>) -> &mut Self {
        match mode {
            Some(graph::Mode::Octal(bits)) => self.number(1).number(u64::from(*bits)),
            Some(graph::Mode::Symbolic(text)) => self.number(2).text(text.as_bytes()),
            None => self.number(0),
        }
    }

    pub(super) fn attributes(&mut self, attributes: &Attributes) -> &mut Self {
        self.number(attributes.len() as u64);
        for (name, value) in attributes {
            self.text(name).text(value);
        }
        self
    }

    pub(super) fn item(&mut self, path: &[u8], item: &Item) {
        self.text(path);
        let (uid, gid) = item.owner;
        self.number(u64::from(item.mode)).number(u64::from(uid) << 32 | u64::from(gid));
        match &item.kind {
            Kind::File { digest, size, .. } => self.text(b"f").number(*size).text(digest),
            Kind::Symlink(target) => self.text(b"l").text(target),
            Kind::Node(FileType::Fifo, _) => self.text(b"p"),
            Kind::Node(FileType::BlockDevice, number) => self.text(b"b").number(*number),
            Kind::Node(_, number) => self.text(b"c").number(*number),
            Kind::Directory(_) => self.text(b"d"),
        };
    }

    fn flush(&mut self, most: usize) {
        if self.bytes.len() > most {
            self.hasher.update(&self.bytes);
            self.bytes.clear();
        }
    }

    pub(super) fn finish(mut self) -> Digest {
        self.flush(0);
        self.hasher.finish().0
    }
}
