//! What fuzz targets call: files of the format `local` whose checksums fit, whatever is in them.

use base::Timestamp;

use crate::local::fuzzing::{FileHead, HEAD, seal};

const MARK: [u8; 8] = *b"any mark";

/// The head of a file.
pub fn head(first: u64, latest: i64) -> Vec<u8> {
    FileHead { mark: MARK, first, latest: Timestamp(latest) }.to_bytes().to_vec()
}

/// A block of the same file: the body is what is said to be so many entries.
pub fn block(first: u64, count: u32, latest: i64, body: &[u8], compress: bool) -> Vec<u8> {
    let body = [&[0; HEAD], body].concat();
    seal(body, MARK, (first, count), Timestamp(latest), compress)
}
