//! A way through one file of blocks: on to the next, past rubbish, or to a place found by bisection.

use std::fs::File;
use std::io;

use super::block::{FILE_HEAD, FileHead, HEAD, Head, Mark, read_at};

/// How much is read at once where a mark is looked for.
const WINDOW: usize = 64 * 1024;
/// Bisection ends where so few bytes are left: from there on heads are read one by one.
const NEAR: u64 = 128 * 1024;

/// A place in a file, at which a block begins.
#[derive(Debug)]
pub(super) struct Cursor {
    mark: Mark,
    pub(super) offset: u64,
    /// Behind `offset` is rubbish, in which up to here no block begins.
    searched: u64,
    /// What is here was looked at again, after a later block was seen.
    doubted: u64,
}

impl Cursor {
    /// The first block of a file.
    pub(super) fn new(head: &FileHead) -> Self {
        Self { mark: head.mark, offset: FILE_HEAD as u64, searched: 0, doubted: 0 }
    }

    /// The head of the block at this place, if there is one.
    pub(super) fn head(&self, file: &File) -> io::Result<Option<Head>> {
        head_at(file, self.offset, self.mark)
    }

    /// Goes past a block.
    pub(super) fn pass(&mut self, head: &Head) {
        self.offset += head.length();
    }

    /// Here is no whole block: goes on to the next one, if one follows. Else stays, since one may be in the making; and
    /// where one follows, stays for another look first, since this one may have been.
    pub(super) fn skip_rubbish(&mut self, file: &File) -> io::Result<bool> {
        let from = self.searched.max(self.offset + 1);
        let end = file.metadata()?.len();
        if let Some((at, _)) = find(file, from, end, self.mark)? {
            if self.doubted == self.offset {
                self.offset = at;
            } else {
                self.doubted = self.offset;
            }
            return Ok(true);
        }
        // A head may be cut off at the end.
        self.searched = from.max(end.saturating_sub(HEAD as u64));
        Ok(false)
    }

    /// Goes to the first block of which `wanted` is true, which must then be true of all that follow; or to the end.
    pub(super) fn seek(&mut self, file: &File, wanted: impl Fn(&Head) -> bool) -> io::Result<()> {
        let mut high = file.metadata()?.len();
        while high.saturating_sub(self.offset) > NEAR {
            let middle = self.offset + (high - self.offset) / 2;
            match find(file, middle, high, self.mark)? {
                Some((at, head)) if !wanted(&head) => self.offset = at + head.length(),
                _ => high = middle,
            }
        }
        loop {
            match self.head(file)? {
                Some(head) if wanted(&head) => return Ok(()),
                Some(head) => self.pass(&head),
                None if self.skip_rubbish(file)? => {}
                None => return Ok(()),
            }
        }
    }
}

/// The blocks of a file from its end to its beginning.
pub(super) struct Backwards<'a> {
    file: &'a File,
    mark: Mark,
    /// Blocks that begin from here on were seen.
    offset: u64,
}

impl<'a> Backwards<'a> {
    pub(super) fn new(file: &'a File, head: &FileHead) -> io::Result<Self> {
        Ok(Self { file, mark: head.mark, offset: file.metadata()?.len() })
    }

    /// The block before, and where it is.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Head)>> {
        let finder = memchr::memmem::FinderRev::new(&self.mark);
        let mut window = vec![0; WINDOW];
        // Most blocks are much shorter than a window.
        let mut step = WINDOW as u64 / 4;
        let mut high = self.offset;
        while high > FILE_HEAD as u64 {
            let low = high.saturating_sub(step).max(FILE_HEAD as u64);
            let read = read_at(self.file, &mut window[..(high - low) as usize], low)?;
            let mut bytes = &window[..read];
            while let Some(at) = finder.rfind(bytes) {
                let place = low + at as u64;
                if let Some(head) = head_at(self.file, place, self.mark)? {
                    self.offset = place;
                    return Ok(Some((place, head)));
                }
                bytes = &bytes[..at + self.mark.len() - 1];
            }
            // A mark may lie across the window's beginning, but not across that of a block that was seen.
            high = if low > FILE_HEAD as u64 { low + self.mark.len() as u64 - 1 } else { low };
            step = WINDOW as u64;
        }
        self.offset = FILE_HEAD as u64;
        Ok(None)
    }
}

/// The first block that begins at `from` or later, and before `to`.
fn find(file: &File, from: u64, to: u64, mark: Mark) -> io::Result<Option<(u64, Head)>> {
    let finder = memchr::memmem::Finder::new(&mark);
    let mut window = vec![0; WINDOW];
    let mut low = from;
    while low < to {
        let read = read_at(file, &mut window, low)?;
        let mut start = 0;
        while let Some(at) = finder.find(&window[start..read]) {
            let place = low + (start + at) as u64;
            if place >= to {
                return Ok(None);
            }
            if let Some(head) = head_at(file, place, mark)? {
                return Ok(Some((place, head)));
            }
            start += at + 1;
        }
        if read < WINDOW {
            break;
        }
        // A mark may lie across the end of the window.
        low += (WINDOW - mark.len() + 1) as u64;
    }
    Ok(None)
}

fn head_at(file: &File, offset: u64, mark: Mark) -> io::Result<Option<Head>> {
    let mut bytes = [0; HEAD];
    if read_at(file, &mut bytes, offset)? < HEAD {
        return Ok(None);
    }
    Ok(Head::parse(&bytes, mark))
}
