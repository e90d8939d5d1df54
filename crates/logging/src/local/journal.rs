//! The tail: the newest entries, a block a write, until they become one compressed block elsewhere.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base::Timestamp;

use super::block::{FILE_HEAD, FileHead, HEAD, Head, Mark, open};
use super::cursor::Cursor;

/// The name of the tail of the log at `path`.
pub(crate) fn tail_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".tail");
    PathBuf::from(name)
}

/// The tail, as its writer sees it.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) file: File,
    mark: Mark,
    /// How many bytes it has; 0: not even a head.
    pub(super) size: u64,
}

/// The entries of a tail.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) latest: Timestamp,
    /// Behind room for a head.
    pub(super) body: Vec<u8>,
}

impl Contents {
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.count.into())
    }
}

impl Journal {
    /// Opens it, or makes one; and what was in it when somebody wrote last: its head, and the end of its last block.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<FileHead>, Option<Head>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(tail_path(path))?;
        let Some(head) = FileHead::read(&file)? else {
            file.set_len(0)?;
            return Ok((Self { file, mark: Mark::default(), size: 0 }, None, None));
        };
        let (size, last) = end_of_blocks(&file, &head)?;
        file.set_len(size)?;
        Ok((Self { file, mark: head.mark, size }, Some(head), last))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.size <= FILE_HEAD as u64
    }

    /// The mark of what is appended to it. `first` and `latest` are the first entry's, should it need a head.
    pub(super) fn mark(&mut self, first: u64, latest: Timestamp) -> io::Result<Mark> {
        if self.size == 0 {
            let head = FileHead::new(first, latest)?;
            self.file.write_all_at(&head.to_bytes(), 0)?;
            self.mark = head.mark;
            self.size = FILE_HEAD as u64;
        }
        Ok(self.mark)
    }

    pub(super) fn append(&mut self, block: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(block, self.size) {
            // Where it cannot be cut off, it is written over, or has no checksum that fits.
            self.file.set_len(self.size).ok();
            return Err(error);
        }
        self.size += block.len() as u64;
        Ok(())
    }

    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.size = 0;
        Ok(())
    }

    /// What it holds, read back: its writer remembers nothing while it is idle. The numbers are without gaps: where one
    /// is, only what follows it is read, and none where nothing can be.
    pub(super) fn contents(&self) -> io::Result<Vec<Contents>> {
        let mut runs: Vec<Contents> = Vec::new();
        let Some(head) = FileHead::read(&self.file)? else { return Ok(runs) };
        let (mut cursor, mut stored, mut raw) = (Cursor::new(&head), Vec::new(), Vec::new());
        while cursor.offset < self.size {
            let Some(head) = cursor.head(&self.file)? else { break };
            if !open(&self.file, cursor.offset, &head, &mut stored, &mut raw)? {
                break;
            }
            cursor.pass(&head);
            match runs.last_mut() {
                Some(run) if run.end() == head.first => {
                    run.body.extend_from_slice(&raw);
                    run.count += head.count;
                    run.latest = head.latest;
                }
                _ => {
                    let mut body = vec![0; HEAD];
                    body.extend_from_slice(&raw);
                    let Head { first, count, latest, .. } = head;
                    runs.push(Contents { first, count, latest, body });
                }
            }
        }
        Ok(runs)
    }
}

/// Where the last whole block of a file ends, and its head. What follows is torn.
pub(super) fn end_of_blocks(file: &File, head: &FileHead) -> io::Result<(u64, Option<Head>)> {
    let (mut stored, mut raw) = (Vec::new(), Vec::new());
    let mut blocks = super::cursor::Backwards::new(file, head)?;
    while let Some((offset, head)) = blocks.next()? {
        if open(file, offset, &head, &mut stored, &mut raw)? {
            return Ok((offset + head.length(), Some(head)));
        }
    }
    Ok((FILE_HEAD as u64, None))
}
