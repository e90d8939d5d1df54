//! The monitor's half of `local`: entries gather in memory for one call, then in the tail, then in blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use base::Timestamp;

use super::block::{FILE_HEAD, FileHead, HEAD, Mark, seal};
use super::journal::{Contents, Journal, end_of_blocks};
use super::{BLOCK, codec, seek, tail_path};
use crate::files::{is_removed, newer_than, rotate};
use crate::writer::LITTLE;
use crate::{Config, Stream};

/// Writes a log.
#[derive(Debug)]
pub(crate) struct LocalFile {
    config: Config,
    /// None before the first entry, and after an error or a clearing.
    open: Option<Open>,
    /// The number of the next entry; before the files were looked at, how many were dropped.
    next: u64,
    known: bool,
    latest: Timestamp,
    batch: Batch,
    /// What was freed is still with the C library.
    warm: bool,
}

/// Entries that are not written yet.
#[derive(Debug)]
struct Batch {
    /// Behind room for a block's head; or empty.
    body: Vec<u8>,
    count: u32,
    /// The time of the last one.
    time: Option<Timestamp>,
    latest: Timestamp,
}

impl Batch {
    const EMPTY: Self = Self { body: Vec::new(), count: 0, time: None, latest: Timestamp(i64::MIN) };
}

#[derive(Debug)]
struct Open {
    blocks: Option<Blocks>,
    journal: Journal,
}

/// The current file.
#[derive(Debug)]
struct Blocks {
    file: File,
    mark: Mark,
    size: u64,
}

impl LocalFile {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            open: None,
            next: 0,
            known: false,
            latest: Timestamp(i64::MIN),
            batch: Batch::EMPTY,
            warm: false,
        }
    }

    /// How many bytes wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.batch.body.len()
    }

    pub(crate) fn put(&mut self, stream: Stream, pieces: [&[u8]; 2], partial: bool, time: Timestamp) {
        let batch = &mut self.batch;
        if batch.body.is_empty() {
            batch.body.resize(HEAD, 0);
        }
        codec::encode(stream, pieces, partial, time, batch.time, &mut batch.body);
        batch.time = Some(time);
        batch.latest = batch.latest.max(time);
        batch.count += 1;
    }

    /// Gives up what waits. Its numbers stay unused: so a reader sees how many are missing.
    pub(crate) fn drop_batch(&mut self) {
        self.next = self.next.saturating_add(self.batch.count.into());
        self.batch = Batch::EMPTY;
    }

    /// Writes what waits; after an error it still waits.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.batch.count == 0 {
            return Ok(());
        }
        self.reopen_removed()?;
        let limit = self.tail_limit();
        if self.open.is_none() {
            let (open, next, latest) = restore(&self.config.path)?;
            self.next = if self.known { self.next.max(next) } else { self.next.saturating_add(next) };
            self.known = true;
            self.latest = self.latest.max(latest);
            self.open = Some(open);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let latest = self.latest.max(self.batch.latest);
        if open.journal.size + self.batch.body.len() as u64 >= limit {
            self.make_blocks(latest)?;
        } else {
            let mark = open.journal.mark(self.next, self.latest)?;
            let numbers = (self.next, self.batch.count);
            let block = seal(std::mem::take(&mut self.batch.body), mark, numbers, latest, false);
            let written = open.journal.append(&block);
            self.batch.body = block;
            written?;
        }
        self.next = self.next.saturating_add(self.batch.count.into());
        self.latest = latest;
        self.warm |= self.batch.body.len() > LITTLE;
        self.batch = Batch { body: std::mem::take(&mut self.batch.body), ..Batch::EMPTY };
        self.batch.body.clear();
        Ok(())
    }

    /// Whether memory is held in which blocks were made.
    pub(crate) fn is_warm(&self) -> bool {
        self.warm && self.batch.count == 0
    }

    pub(crate) fn rest(&mut self) {
        self.batch.body = Vec::new();
        self.warm = false;
    }

    /// The tail and what waits become blocks, and the tail is emptied.
    fn make_blocks(&mut self, latest: Timestamp) -> io::Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let mut runs = if open.journal.is_empty() { Vec::new() } else { open.journal.contents()? };
        self.warm = true;
        match runs.last_mut() {
            Some(run) if run.end() == self.next => {
                run.body.extend_from_slice(&self.batch.body[HEAD..]);
                run.count += self.batch.count;
                run.latest = latest;
            }
            _ => {
                let body = self.batch.body.clone();
                runs.push(Contents { first: self.next, count: self.batch.count, latest, body });
            }
        }
        let mut before = self.latest;
        for run in runs {
            self.write_block(run, before)?;
            before = latest;
        }
        // All is in blocks. Where the tail cannot be emptied, it is found and emptied when it is opened again.
        self.open = self.open.take().and_then(|mut open| open.journal.clear().is_ok().then_some(open));
        Ok(())
    }

    fn write_block(&mut self, run: Contents, before: Timestamp) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let first = run.first;
        let mark = open.blocks.as_ref().map_or(Mark::default(), |blocks| blocks.mark);
        let mut block = seal(run.body, mark, (run.first, run.count), run.latest, self.config.compress);
        let (most, files) = bounds(&self.config);
        let room = most.map_or(u64::MAX, |most| most.saturating_sub(tail_limit(most)));
        if let Some(blocks) = &open.blocks
            && blocks.size > FILE_HEAD as u64
            && blocks.size + block.len() as u64 > room
        {
            rotate(&self.config.path, files)?;
            open.blocks = None;
        }
        let blocks = match &mut open.blocks {
            Some(blocks) => blocks,
            none => {
                let blocks = Blocks::create(&self.config.path, first, before)?;
                super::block::mark_again(&mut block, blocks.mark);
                none.insert(blocks)
            }
        };
        blocks.append(&block)
    }

    /// Somebody may have removed files: then what is written would be nowhere.
    fn reopen_removed(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Some(blocks) = &open.blocks
            && is_removed(&blocks.file)?
        {
            open.blocks = None;
        }
        if is_removed(&open.journal.file)? {
            open.journal = Journal::open(&self.config.path)?.0;
        }
        Ok(())
    }

    fn tail_limit(&self) -> u64 {
        bounds(&self.config).0.map_or(BLOCK as u64, tail_limit)
    }
}

/// How large the tail may grow where files have at most `most` bytes.
fn tail_limit(most: u64) -> u64 {
    (most / 4).min(BLOCK as u64)
}

/// How large a file may grow, and how many there may be: two at least, of half the size, for a single one would go all
/// at once.
fn bounds(config: &Config) -> (Option<u64>, u32) {
    match (config.max_size, config.max_files) {
        (Some(most), ..2) => (Some(most / 2), 2),
        (most, files) => (most, files),
    }
}

impl Blocks {
    /// The file at the path: what is there is kept where it is one of ours.
    fn create(path: &Path, first: u64, latest: Timestamp) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if let Some(head) = FileHead::read(&file)? {
            let (size, _) = end_of_blocks(&file, &head)?;
            file.set_len(size)?;
            return Ok(Self { file, mark: head.mark, size });
        }
        file.set_len(0)?;
        let head = FileHead::new(first, latest)?;
        file.write_all_at(&head.to_bytes(), 0)?;
        Ok(Self { file, mark: head.mark, size: FILE_HEAD as u64 })
    }

    fn append(&mut self, block: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(block, self.size) {
            // Where it cannot be cut off, a reader finds no checksum that fits.
            self.file.set_len(self.size).ok();
            return Err(error);
        }
        self.size += block.len() as u64;
        Ok(())
    }
}

/// Finds out where the log at `path` ends: what number comes next, and the latest time in it.
fn restore(path: &Path) -> io::Result<(Open, u64, Timestamp)> {
    // Numbers of blocks that cannot be read are not given twice.
    let (known, _) = seek::end(path)?;
    let (mut next, mut latest) = (0, Timestamp(i64::MIN));
    // From the newest to the oldest, up to the first that can tell.
    for source in newer_than(path, None)?.iter().rev() {
        if let Some(head) = FileHead::read(&source.file)? {
            let last = end_of_blocks(&source.file, &head)?.1;
            (next, latest) = last.map_or((head.first, head.latest), |last| (last.end(), last.latest));
            break;
        }
    }
    let (mut journal, head, last) = Journal::open(path)?;
    match (head, last) {
        // The block that was made of it is written: only the emptying is missing.
        (_, Some(last)) if last.end() <= next => journal.clear()?,
        (_, Some(last)) => (next, latest) = (last.end(), latest.max(last.latest)),
        (Some(head), None) => (next, latest) = (next.max(head.first), latest.max(head.latest)),
        (None, None) => {}
    }
    next = next.max(known);
    let blocks = if path.exists() { Some(Blocks::create(path, next, latest)?) } else { None };
    Ok((Open { blocks, journal }, next, latest))
}

/// Replaces the tail of a log by an empty one, which remembers what number comes next.
pub(crate) fn start_over(path: &Path) -> io::Result<()> {
    let (next, latest) = seek::end(path)?;
    let tail = tail_path(path);
    let mut new = tail.clone().into_os_string();
    new.push(".new");
    fs::remove_file(&new).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all_at(&FileHead::new(next, latest)?.to_bytes(), 0)?;
    fs::rename(new, tail)
}
