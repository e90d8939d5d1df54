//! The doors' half of `json-file`: the lines of all files of a log, oldest first.
//!
//! When the path names another file than the one being read, those newer than it are queued, and it is read to its
//! end first.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::encoding::Decoder;
use super::tail;
use crate::files::{Source, newer_than};
use crate::{Entry, Options};

const BLOCK: usize = 64 * 1024;
/// Longer than any entry (six bytes for each of a piece's 16 KiB); a longer line is no entry and is skipped.
pub(crate) const MAX_LINE: usize = 256 * 1024;

/// Reads a log.
pub(crate) struct JsonReader {
    path: PathBuf,
    current: Option<Source>,
    /// Files to read after the current one, oldest first.
    queue: VecDeque<Source>,
    decoder: Decoder,
    /// Bytes of the files, from `start` to `end`; the rest is room.
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    start: usize,
    /// Where the room begins.
    end: usize,
    /// Up to where it is known to hold no newline.
    searched: usize,
    /// The line being read has grown past [`MAX_LINE`]: skip to its end.
    skipping: bool,
}

impl JsonReader {
    pub(crate) fn open(path: &Path, options: &Options) -> io::Result<Self> {
        let mut queue = newer_than(path, None)?;
        if let Some(mut want) = options.tail {
            let mut first = queue.len();
            while first > 0 {
                let source = &mut queue[first - 1];
                let (position, found) = tail::find(&source.file, want)?;
                source.file.seek(SeekFrom::Start(position))?;
                first -= 1;
                want -= found;
                if want == 0 {
                    break;
                }
            }
            queue.drain(..first);
        }
        Ok(Self {
            path: path.to_owned(),
            current: queue.pop_front(),
            queue,
            decoder: Decoder::new(),
            buffer: Vec::new(),
            start: 0,
            end: 0,
            searched: 0,
            skipping: false,
        })
    }

    /// Reads the next line that is an entry; false where nothing is there now.
    pub(crate) fn next(&mut self, entry: &mut Entry) -> io::Result<bool> {
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.buffer[self.searched..self.end]) {
                let line = self.start..self.searched + length;
                self.start = line.end + 1;
                self.searched = self.start;
                let skipped = std::mem::take(&mut self.skipping);
                if !skipped && self.decoder.decode(&self.buffer[line], entry) {
                    return Ok(true);
                }
                continue;
            }
            if self.end - self.start > MAX_LINE {
                self.skipping = true;
                self.start = self.end;
            }
            self.searched = self.end;
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    /// Adds bytes to the buffer; false where there are none now.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            if self.read_block()? {
                return Ok(true);
            }
            if self.queue.is_empty() {
                self.queue = newer_than(&self.path, self.current.as_ref())?;
                // The file may have grown between the last read and its rotation.
                if !self.queue.is_empty() && self.read_block()? {
                    return Ok(true);
                }
            }
            let Some(next) = self.queue.pop_front() else { return self.begin_again() };
            self.current = Some(next);
            // An unfinished line of the old file will never be finished.
            self.forget_line();
        }
    }

    fn forget_line(&mut self) {
        (self.start, self.end, self.searched) = (0, 0, 0);
        self.skipping = false;
    }

    /// Somebody may have cut the file (`: > log.json`): then what comes is at its beginning.
    fn begin_again(&mut self) -> io::Result<bool> {
        let Some(source) = &mut self.current else { return Ok(false) };
        if source.file.metadata()?.len() >= source.file.stream_position()? {
            return Ok(false);
        }
        source.file.rewind()?;
        self.forget_line();
        self.read_block()
    }

    fn read_block(&mut self) -> io::Result<bool> {
        let Some(source) = &mut self.current else { return Ok(false) };
        if self.buffer.len() < self.end + BLOCK {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.searched -= self.start;
            self.start = 0;
            self.buffer.resize(self.buffer.len().max(self.end + BLOCK), 0);
        }
        let read = loop {
            match source.file.read(&mut self.buffer[self.end..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.end += read;
        Ok(read > 0)
    }
}
