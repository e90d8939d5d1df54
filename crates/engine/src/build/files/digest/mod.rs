//! The key of a change: a digest of all that it brings.
//!
//! ```text
//! directories, one task each,        one record a file, in the order of names
//! on as many threads as pay      ──► path, type, mode, owner, digest of content ──► sha256
//! ```
//!
//! A file's own digest is of its bytes, and of its attributes, if it has any; it may be remembered from the last build
//! ([`Remembered`]). Hard links count, since they are kept: a further name is a link to the first.

mod record;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, PoisonError};

use ::build::graph::{self, Change, StepId};
use base::{Digest, Hasher, Timestamp};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use self::record::Record;
use super::attributes::{self, Attributes};
use super::choose::{Chosen, choose};
use super::error::shown;
use super::filter::{Above, Filter, Ruling, exclude};
use super::listing::{Listing, look, open_regular, os, reopen};
use super::mode::Chmod;
use super::put::Manner;
use super::remembered::version;
use super::tree::DEEPEST;
use super::{Error, Remembered, Source};
use crate::error::Result;

/// Bytes that are read of a file at a time.
const BUFFER: usize = 128 << 10;
/// More threads than this wait for the disk, or for each other.
const MOST_THREADS: usize = 4;

pub(super) fn of<'a>(change: &Change, source: &dyn Fn(StepId) -> Result<Source<'a>>) -> Result<Digest> {
    let mut record = Record::new();
    match change {
        Change::Copy(copy) => {
            let source = source(copy.from)?;
            record
                .text(b"copy")
                .text(copy.target.as_bytes())
                .optional(copy.owner.as_deref())
                .mode(copy.mode.as_ref());
            let into = copy.sources.len() > 1;
            record.number(u64::from(copy.unpack)).number(u64::from(into)).number(u64::from(copy.parents));
            copied(copy, &source, &mut record)?;
        }
        Change::Write { target, content, owner, mode } => {
            record
                .text(b"write")
                .text(target.as_bytes())
                .text(content)
                .optional(owner.as_deref())
                .mode(mode.as_ref());
        }
        Change::MakeDirectory { target, owner } => {
            record.text(b"directory").text(target.as_bytes()).optional(owner.as_deref());
        }
    }
    Ok(record.finish())
}

fn copied(copy: &graph::Copy, source: &Source<'_>, record: &mut Record) -> std::result::Result<(), Error> {
    // Names are the target's, which nobody has yet: they count as they are written.
    let owner = copy.owner.is_some().then_some((0, 0));
    let chmod = copy.mode.as_ref().map(Chmod::of).transpose()?;
    let manner = Manner { owner, owners: source.owners, chmod };
    for chosen in choose(copy, source)? {
        match chosen {
            Chosen::Directory { directory, path, include, required } => {
                let filter = Filter { ignore: source.ignore, exclude: exclude(&copy.exclude)?, include };
                record.text(b"tree");
                let whole = Whole {
                    manner: &manner,
                    filter: &filter,
                    remembered: source.remembered,
                    top: directory.as_fd(),
                };
                let lists = whole.lists(&path)?;
                let taken = Assembly { lists: &lists, record, links: HashMap::new(), taken: 0 }.all();
                if let Some(name) =
                    required.filter(|_| taken == 0 && copy.required && copy.exclude.is_empty())
                {
                    return Err(Error::Ignored(name));
                }
            }
            Chosen::File { above, name, called, path, .. } => {
                record.text(b"file");
                let mut buffer = vec![0; BUFFER];
                let reader = Reader { manner: &manner, remembered: source.remembered };
                let found = look(above.as_fd(), &name).map_err(|e| Error::source(&path, "look at", e))?;
                let found = found.ok_or_else(|| Error::NotFound(shown(&path)))?;
                if let Some(item) = reader.item(above.as_fd(), &name, found, &path, &mut buffer)? {
                    record.item(&called, &item);
                }
            }
        }
    }
    Ok(())
}

/// What is known of a file.
struct Item {
    name: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    kind: Kind,
    /// A directory that counts only with something in it.
    only_below: bool,
}

enum Kind {
    /// A file, and its identity if it has further names.
    File {
        digest: [u8; 32],
        size: u64,
        identity: Option<(u64, u64)>,
    },
    Symlink(Vec<u8>),
    /// A device, by its number, or a FIFO.
    Node(FileType, u64),
    /// The list of what is in it.
    Directory(usize),
}

/// What is in a directory.
#[derive(Default)]
struct List {
    /// The directory's own.
    attributes: Attributes,
    items: Vec<Item>,
}

/// Looks at files.
struct Reader<'r> {
    manner: &'r Manner,
    remembered: Option<&'r Remembered>,
}

impl Reader<'_> {
    /// Anything but a directory; none if it has gone, or is nothing for images.
    fn item(
        &self,
        above: BorrowedFd<'_>,
        name: &[u8],
        mut stat: Stat,
        path: &[u8],
        buffer: &mut [u8],
    ) -> std::result::Result<Option<Item>, Error> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let known = self.remembered.and_then(|remembered| remembered.get(&stat));
                let digest = match known {
                    Some(digest) => digest,
                    None => match self.read(above, name, path, buffer)? {
                        Some((digest, now)) => {
                            stat = now;
                            digest
                        }
                        None => return Ok(None),
                    },
                };
                let identity = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
                Kind::File { digest, size: stat.st_size.unsigned_abs(), identity }
            }
            FileType::Symlink => match rustix::fs::readlinkat(above, os(name), Vec::new()) {
                Err(Errno::NOENT) => return Ok(None),
                other => {
                    Kind::Symlink(other.map_err(|e| Error::source(path, "read the link", e))?.into_bytes())
                }
            },
            FileType::Fifo => Kind::Node(FileType::Fifo, 0),
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => Kind::Node(kind, stat.st_rdev),
            _ => return Ok(None),
        };
        let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { self.manner.mode_of(&stat) };
        let owner = self.manner.owner_of(&stat);
        Ok(Some(Item { name: name.to_vec(), mode, owner, kind, only_below: false }))
    }

    fn read(
        &self,
        above: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        buffer: &mut [u8],
    ) -> std::result::Result<Option<([u8; 32], Stat)>, Error> {
        let began = Timestamp::now();
        let (file, stat) = match open_regular(above, name) {
            Err(Errno::NOENT | Errno::AGAIN | Errno::LOOP | Errno::NXIO) => return Ok(None),
            other => other.map_err(|e| Error::source(path, "open", e))?,
        };
        let found = attributes::read(file.as_fd());
        let found = found.map_err(|e| Error::source(path, "read the attributes of", e))?;
        let digest = digest_of(&file, buffer).map_err(|e| Error::source(path, "read", e))?;
        let digest = if found.is_empty() { digest } else { with_attributes(&digest, &found) };
        if let Some(remembered) = self.remembered {
            let after = rustix::fs::fstat(&file).map_err(|e| Error::source(path, "look at", e))?;
            if version(&after) == version(&stat) {
                remembered.put(&stat, began, digest);
            }
        }
        Ok(Some((digest, stat)))
    }
}

fn digest_of(file: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<[u8; 32]> {
    let mut hasher = Hasher::default();
    loop {
        match rustix::io::read(file, &mut *buffer) {
            Ok(0) => return Ok(*hasher.finish().0.as_bytes()),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

fn with_attributes(digest: &[u8; 32], attributes: &Attributes) -> [u8; 32] {
    let mut record = Record::new();
    record.text(b"attributes").text(digest).attributes(attributes);
    *record.finish().as_bytes()
}

/// A directory that is being read.
struct Whole<'w> {
    manner: &'w Manner,
    filter: &'w Filter<'w>,
    remembered: Option<&'w Remembered>,
    top: BorrowedFd<'w>,
}

/// One directory of it.
struct Task {
    list: usize,
    /// In the source's root; and where the part begins that is below the top.
    path: Vec<u8>,
    cut: usize,
    depth: usize,
    above: Above,
}

#[derive(Default)]
struct Work {
    tasks: Vec<Task>,
    /// Threads that have one.
    busy: usize,
    lists: usize,
    done: BTreeMap<usize, List>,
    failed: Option<Error>,
}

impl Whole<'_> {
    /// The lists of all directories, the top's first.
    fn lists(&self, path: &[u8]) -> std::result::Result<BTreeMap<usize, List>, Error> {
        let cut = if path.is_empty() { 0 } else { path.len() + 1 };
        let task = Task { list: 0, path: path.to_vec(), cut, depth: 1, above: self.filter.top(path) };
        let work = Mutex::new(Work { tasks: vec![task], lists: 1, ..Work::default() });
        let ready = Condvar::new();
        // The first directory shows whether there is more.
        self.some(&work, &ready, 1);
        let more = {
            let work = work.lock().unwrap_or_else(PoisonError::into_inner);
            work.failed.is_none() && !work.tasks.is_empty() && work.lists > 1
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        if more {
            std::thread::scope(|scope| {
                for _ in 1..threads {
                    let run = || self.some(&work, &ready, usize::MAX);
                    let started =
                        std::thread::Builder::new().name("digest".to_owned()).spawn_scoped(scope, run);
                    // Alone it takes longer.
                    if started.is_err() {
                        break;
                    }
                }
                self.some(&work, &ready, usize::MAX);
            });
        }
        let work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
        match work.failed {
            Some(error) => Err(error),
            None => Ok(work.done),
        }
    }

    /// Does tasks until there are no more, or so many.
    fn some(&self, work: &Mutex<Work>, ready: &Condvar, most: usize) {
        let mut buffer = vec![0; BUFFER];
        let mut done = 0;
        let mut held = work.lock().unwrap_or_else(PoisonError::into_inner);
        while done < most && held.failed.is_none() {
            let Some(task) = held.tasks.pop() else {
                if held.busy == 0 {
                    break;
                }
                held = ready.wait(held).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            held.busy += 1;
            drop(held);
            let mut below = Vec::new();
            let list = self.one(&task, &mut below, &mut buffer);
            done += 1;
            held = work.lock().unwrap_or_else(PoisonError::into_inner);
            held.busy -= 1;
            match list {
                Ok(mut list) => {
                    // Their lists have numbers now.
                    let first = held.lists;
                    held.lists += below.len();
                    for item in &mut list.items {
                        if let Kind::Directory(number) = &mut item.kind {
                            *number += first;
                        }
                    }
                    for (index, task) in below.iter_mut().enumerate() {
                        task.list = first + index;
                    }
                    held.tasks.append(&mut below);
                    held.done.insert(task.list, list);
                }
                Err(error) => held.failed = Some(error),
            }
            ready.notify_all();
        }
    }

    fn one(&self, task: &Task, below: &mut Vec<Task>, buffer: &mut [u8]) -> std::result::Result<List, Error> {
        let directory = match self.open(&task.path[task.cut.min(task.path.len())..]) {
            // Gone, or no directory any more.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if task.depth > 1 => return Ok(List::default()),
            other => other.map_err(|e| Error::source(&task.path, "open", e))?,
        };
        let listing = Listing::read(directory.as_fd()).map_err(|e| Error::source(&task.path, "list", e))?;
        let attributes = attributes::read(directory.as_fd());
        let attributes = attributes.map_err(|e| Error::source(&task.path, "read the attributes of", e))?;
        let mut list = List { attributes, items: Vec::with_capacity(listing.len()) };
        let reader = Reader { manner: self.manner, remembered: self.remembered };
        let mut path = task.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        let start = path.len();
        for (name, kind) in listing.iter() {
            path.truncate(start);
            path.extend_from_slice(name);
            let is_directory = kind == FileType::Directory;
            let (ruling, above) = self.filter.judge(&path, task.cut, is_directory, &task.above);
            if ruling == Ruling::Skip || (ruling == Ruling::Below && !is_directory) {
                continue;
            }
            let stat = look(directory.as_fd(), name).map_err(|e| Error::source(&path, "look at", e))?;
            let Some(stat) = stat else { continue };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                list.items.extend(reader.item(directory.as_fd(), name, stat, &path, buffer)?);
                continue;
            }
            if task.depth == DEEPEST {
                return Err(Error::Deep(shown(&path), DEEPEST));
            }
            list.items.push(Item {
                name: name.to_vec(),
                mode: self.manner.mode_of(&stat),
                owner: self.manner.owner_of(&stat),
                kind: Kind::Directory(below.len()),
                only_below: ruling == Ruling::Below,
            });
            let (path, cut, depth) = (path.clone(), task.cut, task.depth + 1);
            below.push(Task { list: 0, path, cut, depth, above });
        }
        Ok(list)
    }

    fn open(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        if path.is_empty() {
            return reopen(self.top);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(self.top, os(path), flags, Mode::empty(), plain) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }
}

/// Lists become one row of records.
struct Assembly<'l, 'r> {
    lists: &'l BTreeMap<usize, List>,
    record: &'r mut Record,
    /// The first name of files that have several.
    links: HashMap<(u64, u64), Vec<u8>>,
    taken: u64,
}

impl<'l> Assembly<'l, '_> {
    /// Returns how many files there are.
    fn all(mut self) -> u64 {
        let Some(top) = self.lists.get(&0) else { return 0 };
        let mut path = Vec::new();
        // Directories on the way down whose record is not written yet, and where their path ends.
        let mut waiting: Vec<(usize, &'l Item)> = Vec::new();
        let mut levels = vec![(top, 0, 0)];
        while let Some((list, next, length)) = levels.last_mut() {
            path.truncate(*length);
            let Some(item) = list.items.get(*next) else {
                levels.pop();
                if waiting.last().is_some_and(|(end, _)| *end == path.len()) {
                    waiting.pop();
                }
                continue;
            };
            *next += 1;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&item.name);
            let below = match item.kind {
                Kind::Directory(number) => self.lists.get(&number),
                _ => None,
            };
            if item.only_below {
                waiting.push((path.len(), item));
            } else {
                for (end, above) in waiting.drain(..) {
                    self.one(&path[..end], above);
                }
                self.one(&path, item);
            }
            if let Some(list) = below {
                levels.push((list, 0, path.len()));
            }
        }
        self.taken
    }

    fn one(&mut self, path: &[u8], item: &Item) {
        self.taken += 1;
        match &item.kind {
            Kind::File { identity: Some(identity), .. } => {
                if let Some(first) = self.links.get(identity) {
                    self.record.text(b"link").text(path).text(first);
                    return;
                }
                self.links.insert(*identity, path.to_vec());
            }
            Kind::Directory(number) => {
                self.record.item(path, item);
                if let Some(list) = self.lists.get(number) {
                    self.record.attributes(&list.attributes);
                }
                return;
            }
            _ => {}
        }
        self.record.item(path, item);
    }
}
