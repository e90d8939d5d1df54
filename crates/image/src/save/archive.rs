//! A plan becomes a tar archive: ustar, root's, of 1970. Stored blobs are copied by the kernel where it can.

use std::fs::File;
use std::io::{self, Read, Write};

use base::Digest;
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::plan::{Blob, Plan, member};
use super::{Error, Result};
use crate::Store;

/// A blob is copied in steps of this, so that progress shows.
const STEP: u64 = 16 << 20;

pub(super) fn write(store: &Store, plan: &Plan, mut out: &File, advance: &dyn Fn(u64)) -> Result<()> {
    let mut head = Vec::new();
    for (name, bytes) in &plan.files {
        header(&mut head, name, EntryType::Regular, bytes.len() as u64)?;
        head.extend_from_slice(bytes);
        head.resize(head.len().next_multiple_of(512), 0);
    }
    for name in ["blobs/", "blobs/sha256/"] {
        header(&mut head, name, EntryType::Directory, 0)?;
    }
    for (digest, blob) in &plan.blobs {
        let size = blob.size();
        header(&mut head, &member(digest), EntryType::Regular, size)?;
        out.write_all(&head).map_err(Error::Write)?;
        head.clear();
        copy(store, digest, blob, out, advance)?;
        head.resize((size.next_multiple_of(512) - size) as usize, 0);
    }
    head.resize(head.len() + 1024, 0);
    out.write_all(&head).map_err(Error::Write)
}

/// Writes a blob's bytes.
pub(super) fn copy(
    store: &Store,
    digest: &Digest,
    blob: &Blob,
    mut out: &File,
    advance: &dyn Fn(u64),
) -> Result<()> {
    match blob {
        Blob::Made(bytes) => out.write_all(bytes).map_err(Error::Write)?,
        Blob::Stored(wanted) => {
            let (file, found) = store.open_blob(digest)?;
            if found != *wanted {
                return Err(Error::Size { digest: *digest, wanted: *wanted, found });
            }
            let mut left = *wanted;
            while left > 0 {
                // Between files the kernel does it (copy_file_range, sendfile), without the bytes coming here.
                let copied = io::copy(&mut (&file).take(left.min(STEP)), &mut out).map_err(Error::Write)?;
                if copied == 0 {
                    return Err(Error::Size { digest: *digest, wanted: *wanted, found: wanted - left });
                }
                advance(copied);
                left -= copied;
            }
        }
        Blob::Unpacked(packed, _) => {
            let (file, _) = store.open_blob(packed)?;
            let failed = |source| Error::Decompress { digest: *packed, source };
            let mut decoder = zstd::stream::read::Decoder::new(file).map_err(failed)?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                let n = decoder.read(&mut buffer).map_err(failed)?;
                if n == 0 {
                    break;
                }
                out.write_all(&buffer[..n]).map_err(Error::Write)?;
                advance(n as u64);
            }
        }
    }
    Ok(())
}

fn header(out: &mut Vec<u8>, name: &str, kind: EntryType, size: u64) -> Result<()> {
    let mut builder = EntryBuilder::new_ustar();
    let mode = if kind == EntryType::Directory { 0o755 } else { 0o644 };
    builder.path(name).entry_type(kind);
    let fields = builder.mode(mode).and_then(|b| b.uid(0)).and_then(|b| b.gid(0)).and_then(|b| b.mtime(0));
    fields.and_then(|b| b.size(size)).map_err(|e| Error::Write(io::Error::other(e.to_string())))?;
    out.extend_from_slice(&builder.finish_bytes());
    Ok(())
}
