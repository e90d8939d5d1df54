//! The doors' half of `local`: blocks of all files, then the tail, put in order by their numbers.
//!
//! Nothing is locked, so what the reader has just looked for in the files may have been in the tail, and be in the files
//! now. Its number tells: where the tail begins later than expected, or is empty, the files are looked at once more.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::block::{FileHead, Head, Mark, open};
use super::codec::Decoder;
use super::cursor::Cursor;
use super::{seek, tail_path};
use crate::files::{Source, newer_than};
use crate::{Entry, Options};

/// Reads a log.
pub(crate) struct LocalReader {
    path: PathBuf,
    current: Option<Source>,
    /// The place in the current file; none where it has no head (yet).
    cursor: Option<Cursor>,
    /// Files to read after the current one, oldest first.
    queue: VecDeque<Source>,
    /// The place in the tail, while that has this mark.
    tail: Option<(Mark, Cursor)>,
    /// The number of the entry that is wanted next.
    next: u64,
    block: Block,
    stored: Vec<u8>,
}

/// A block whose entries are being read.
#[derive(Default)]
struct Block {
    body: Vec<u8>,
    decoder: Decoder,
    sequence: u64,
    left: u32,
}

impl LocalReader {
    pub(crate) fn open(path: &Path, options: &Options) -> io::Result<Self> {
        let mut next = options.from_sequence.unwrap_or(0);
        if let Some(want) = options.tail {
            next = next.max(seek::last(path, want)?);
        }
        let mut queue = newer_than(path, None)?;
        let mut cursor = if next > 0 { seek::from_number(&mut queue, next)? } else { None };
        if cursor.is_none()
            && let Some(since) = options.since
        {
            cursor = seek::from_time(&mut queue, since)?;
        }
        let current = queue.pop_front();
        Ok(Self {
            path: path.to_owned(),
            current,
            cursor,
            queue,
            tail: None,
            next,
            block: Block::default(),
            stored: Vec::new(),
        })
    }

    /// Reads the next entry; false where nothing is there now.
    pub(crate) fn next(&mut self, entry: &mut Entry) -> io::Result<bool> {
        loop {
            while self.block.left > 0 {
                if self.block.decoder.next(&self.block.body, entry).is_none() {
                    // A block with the right checksum that is none: no writer of ours.
                    self.block.left = 0;
                    break;
                }
                let sequence = self.block.sequence;
                self.block.sequence += 1;
                self.block.left -= 1;
                if sequence >= self.next {
                    self.next = sequence + 1;
                    entry.sequence = sequence;
                    return Ok(true);
                }
            }
            if !(self.take_from_files()? || self.take_from_tail()?) {
                return Ok(false);
            }
        }
    }

    /// Takes the next block from the files.
    fn take_from_files(&mut self) -> io::Result<bool> {
        loop {
            if self.take_from_current()? {
                return Ok(true);
            }
            if self.queue.is_empty() {
                self.queue = newer_than(&self.path, self.current.as_ref())?;
                // The file may have grown between the last look and its rotation.
                if !self.queue.is_empty() && self.take_from_current()? {
                    return Ok(true);
                }
            }
            let Some(source) = self.queue.pop_front() else { return Ok(false) };
            self.current = Some(source);
            self.cursor = None;
        }
    }

    fn take_from_current(&mut self) -> io::Result<bool> {
        let Some(source) = &self.current else { return Ok(false) };
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            none => {
                let Some(head) = FileHead::read(&source.file)? else { return Ok(false) };
                none.insert(Cursor::new(&head))
            }
        };
        self.block.take(&source.file, cursor, self.next, u64::MAX, &mut self.stored)
    }

    /// Takes the next block from the tail.
    fn take_from_tail(&mut self) -> io::Result<bool> {
        let file = match File::open(tail_path(&self.path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        if let Some(head) = FileHead::read(&file)? {
            let same = self.tail.take().filter(|(mark, _)| *mark == head.mark);
            let (_, cursor) = self.tail.insert(same.unwrap_or_else(|| (head.mark, Cursor::new(&head))));
            if self.block.take(&file, cursor, self.next, self.next, &mut self.stored)? {
                return Ok(true);
            }
        }
        // It is empty, or goes on later: then what is wanted has become a block by now, or is lost.
        if self.take_from_files()? {
            return Ok(true);
        }
        let Some((_, cursor)) = &mut self.tail else { return Ok(false) };
        Ok(self.block.take(&file, cursor, self.next, u64::MAX, &mut self.stored)?
            || self.take_from_files()?)
    }
}

impl Block {
    /// Takes the next block of a file in which there are entries from `next` on. One that begins after `most` is left
    /// there.
    fn take(
        &mut self,
        file: &File,
        cursor: &mut Cursor,
        next: u64,
        most: u64,
        stored: &mut Vec<u8>,
    ) -> io::Result<bool> {
        loop {
            let Some(head) = cursor.head(file)? else {
                if cursor.skip_rubbish(file)? {
                    continue;
                }
                return Ok(false);
            };
            if head.end() <= next {
                cursor.pass(&head);
                continue;
            }
            if head.first > most {
                return Ok(false);
            }
            if !open(file, cursor.offset, &head, stored, &mut self.body)? {
                if cursor.skip_rubbish(file)? {
                    continue;
                }
                return Ok(false);
            }
            cursor.pass(&head);
            let Head { first, count, .. } = head;
            *self = Self {
                body: std::mem::take(&mut self.body),
                decoder: Decoder::default(),
                sequence: first,
                left: count,
            };
            return Ok(true);
        }
    }
}
