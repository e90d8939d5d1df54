//! One entry of a log.

use std::sync::Arc;

use base::Timestamp;

use crate::{Attributes, Stream};

/// One entry, as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in all that the container has ever said, from 0 on. Always 0 where the format has none
    /// ([`JsonFile`](crate::Format::JsonFile)).
    pub sequence: u64,
    /// Which stream it came from.
    pub stream: Stream,
    /// When.
    pub time: Timestamp,
    /// The bytes, with their newline; without one it is a piece of a longer line, or the last of its stream.
    pub text: Vec<u8>,
    /// The line goes on in the next entry of the same stream.
    pub partial: bool,
    /// What the log says of the container with it.
    pub attributes: Arc<Attributes>,
}

impl Entry {
    /// Nearly always they are the ones before, which costs a comparison.
    pub(crate) fn set_attributes(&mut self, attributes: &Arc<Attributes>) {
        if !Arc::ptr_eq(&self.attributes, attributes) {
            self.attributes = attributes.clone();
        }
    }

    /// One to read into.
    pub(crate) fn empty() -> Self {
        Self {
            sequence: 0,
            stream: Stream::Stdout,
            time: Timestamp(0),
            text: Vec::new(),
            partial: false,
            attributes: Arc::default(),
        }
    }
}
