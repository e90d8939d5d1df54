//! What fuzz targets call: the parts that take foreign bytes, without what stands around them.

use std::io::BufReader;
use std::os::fd::OwnedFd;

use crate::archive::Archive;
use crate::{ApplyError, Limits};

/// What an archive says, in words, read through a buffer of so many bytes; at most `entries` entries and the error
/// that ended it.
pub fn read(bytes: &[u8], buffer: usize, entries: usize) -> Vec<String> {
    let mut archive = Archive::new(BufReader::with_capacity(buffer, bytes), Limits::default());
    let mut said = Vec::new();
    while said.len() < entries {
        match archive.next() {
            Ok(Some(entry)) => said.push(format!("{entry:?}")),
            Ok(None) => break,
            Err(error) => {
                said.push(format!("{error:?}"));
                break;
            }
        }
    }
    said
}

/// Unpacks an archive into the empty directory `root`.
pub fn unpack(bytes: &[u8], root: OwnedFd, limits: &Limits) -> Result<(), ApplyError> {
    crate::apply::unpack(Archive::new(bytes, *limits), root, limits)
}
