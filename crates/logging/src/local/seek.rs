//! Where a reader begins: by number, by time, or by how many are to come.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use base::Timestamp;
use base::fs::At;

use super::block::FileHead;
use super::cursor::{Backwards, Cursor};
use super::tail_path;
use crate::files::{Source, newer_than};

/// The numbers of the entries that a log of [`Format::Local`](crate::Format::Local) still has: from the oldest to the
/// one that comes next. What is missing between is not told. A log that does not exist (yet) has none.
pub fn sequences(path: &Path) -> base::fs::Result<Range<u64>> {
    sequences_of(path).at("read the log", path)
}

fn sequences_of(path: &Path) -> io::Result<Range<u64>> {
    let tail = tail_blocks(path)?;
    let files = newer_than(path, None)?;
    let mut first = None;
    for source in &files {
        let Some(head) = FileHead::read(&source.file)? else { continue };
        let mut cursor = Cursor::new(&head);
        cursor.seek(&source.file, |_| true)?;
        if let Some(block) = cursor.head(&source.file)? {
            first = Some(block.first);
            break;
        }
    }
    let (end, _) = end_of(&files, &tail)?;
    let first = first.or_else(|| tail.blocks.first().map(|block| block.start));
    Ok(first.map_or(end, |first| first.min(end))..end)
}

/// The number that comes next, and the latest time of all before.
pub(super) fn end(path: &Path) -> io::Result<(u64, Timestamp)> {
    let tail = tail_blocks(path)?;
    end_of(&newer_than(path, None)?, &tail)
}

/// The number of the entry at which the last `want` of them begin.
pub(super) fn last(path: &Path, want: u64) -> io::Result<u64> {
    // The tail first: what becomes a block meanwhile is seen in both, and counted once, but not in neither.
    let tail = tail_blocks(path)?;
    let files = newer_than(path, None)?;
    let (end, _) = end_of(&files, &tail)?;
    let mut counter = Counter { begin: end, want };
    // Unless it ends where all ends, it has become a block.
    let fresh = tail.blocks.last().is_some_and(|block| block.end == end);
    if fresh && tail.blocks.iter().rev().any(|block| counter.count(block)) {
        return Ok(counter.begin);
    }
    for source in files.iter().rev() {
        let Some(head) = FileHead::read(&source.file)? else { continue };
        let mut blocks = Backwards::new(&source.file, &head)?;
        while let Some((_, block)) = blocks.next()? {
            if counter.count(&(block.first..block.end())) {
                return Ok(counter.begin);
            }
        }
    }
    Ok(counter.begin)
}

/// Counts entries from the last one on.
struct Counter {
    /// The number of the earliest that was counted.
    begin: u64,
    /// How many more.
    want: u64,
}

impl Counter {
    /// Counts those of a block that are earlier than what was counted; true if it is enough.
    fn count(&mut self, block: &Range<u64>) -> bool {
        let end = block.end.min(self.begin);
        let taken = end.saturating_sub(block.start).min(self.want);
        if taken > 0 {
            self.begin = end - taken;
            self.want -= taken;
        }
        self.want == 0
    }
}

/// Leaves of `files` (oldest first) those from the one on in which the entry `number` is, or would be.
pub(super) fn from_number(files: &mut VecDeque<Source>, number: u64) -> io::Result<Option<Cursor>> {
    begin(files, |head| head.first <= number, |block| block.end() > number)
}

/// Leaves of `files` those from the one on in which the first entry of `time` or later is, or would be.
pub(super) fn from_time(files: &mut VecDeque<Source>, time: Timestamp) -> io::Result<Option<Cursor>> {
    begin(files, |head| head.latest < time, |block| block.latest >= time)
}

fn begin(
    files: &mut VecDeque<Source>,
    may_hold: impl Fn(&FileHead) -> bool,
    wanted: impl Fn(&super::block::Head) -> bool,
) -> io::Result<Option<Cursor>> {
    for n in (0..files.len()).rev() {
        let Some(head) = FileHead::read(&files[n].file)? else { continue };
        if may_hold(&head) {
            files.drain(..n);
            let mut cursor = Cursor::new(&head);
            cursor.seek(&files[0].file, wanted)?;
            return Ok(Some(cursor));
        }
    }
    Ok(None)
}

struct Tail {
    head: Option<FileHead>,
    /// The numbers in its blocks.
    blocks: Vec<Range<u64>>,
    latest: Timestamp,
}

fn tail_blocks(path: &Path) -> io::Result<Tail> {
    let mut tail = Tail { head: None, blocks: Vec::new(), latest: Timestamp(i64::MIN) };
    let file = match File::open(tail_path(path)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(tail),
        other => other?,
    };
    tail.head = FileHead::read(&file)?;
    let Some(head) = &tail.head else { return Ok(tail) };
    tail.latest = head.latest;
    let mut cursor = Cursor::new(head);
    loop {
        match cursor.head(&file)? {
            Some(block) => {
                tail.blocks.push(block.first..block.end());
                tail.latest = tail.latest.max(block.latest);
                cursor.pass(&block);
            }
            None if cursor.skip_rubbish(&file)? => {}
            None => return Ok(tail),
        }
    }
}

/// The number behind all entries, and the latest time.
fn end_of(files: &VecDeque<Source>, tail: &Tail) -> io::Result<(u64, Timestamp)> {
    let mut end = tail.head.map_or(0, |head| head.first);
    end = end.max(tail.blocks.last().map_or(0, |block| block.end));
    let mut latest = tail.latest;
    for source in files.iter().rev() {
        if let Some(head) = FileHead::read(&source.file)? {
            let last = Backwards::new(&source.file, &head)?.next()?.map(|(_, block)| block);
            end = end.max(last.map_or(head.first, |block| block.end()));
            latest = latest.max(last.map_or(head.latest, |block| block.latest));
            break;
        }
    }
    Ok((end, latest))
}
