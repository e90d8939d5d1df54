//! The few numbers of a group that are looked at every second: its files are opened once and read again.
//!
//! One thing is not in any group of v1 that a container is in: what it reads from disks and writes to them. Its
//! processes are asked for that; the kernel adds what ended ones did to those that waited for them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::parse::{block_v1, device};
use crate::cgroup::group::Group;
use crate::cgroup::hierarchy::Controller;
use crate::cgroup::in_force::limit;

/// Longer than any of these files.
const LONGEST: usize = 64 * 1024;
/// Of more processes than these not all are asked.
const MOST_PROCESSES: usize = 256;

/// A group that is looked at again and again.
#[derive(Debug)]
pub struct Meter {
    cpu: Option<Source>,
    memory: Option<Source>,
    memory_details: Option<Source>,
    memory_limit: Option<Source>,
    processes: Option<Source>,
    block: Block,
    v2: bool,
}

/// What it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Nanoseconds of processor time.
    pub cpu: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of those that hold files and were not used lately.
    pub inactive_file: u64,
    /// The limit of memory; none: unlimited.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes read from disks.
    pub block_read: u64,
    /// Bytes written to them.
    pub block_written: u64,
}

#[derive(Debug)]
enum Block {
    /// In the group.
    Group(Source),
    /// By process.
    Processes(Source, RefCell<HashMap<u32, File>>),
    /// Nobody counts.
    Nowhere,
}

/// A file that is read from its beginning each time. Where there are no more descriptors it is opened each time.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    file: Option<File>,
}

impl Source {
    /// None where there is no such file.
    fn open(directory: &Path, file: &str) -> Option<Self> {
        let path = directory.join(file);
        match File::open(&path) {
            Ok(file) => Some(Self { path, file: is_spare(&file).then_some(file) }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(Self { path, file: None }),
        }
    }

    fn read<'b>(&self, buffer: &'b mut Vec<u8>) -> io::Result<&'b str> {
        let text = match &self.file {
            Some(file) => again(file, buffer)?,
            None => again(&File::open(&self.path)?, buffer)?,
        };
        Ok(text)
    }

    fn number(&self, buffer: &mut Vec<u8>) -> io::Result<u64> {
        Ok(self.read(buffer)?.trim().parse().unwrap_or(0))
    }
}

/// Whether a descriptor can be kept, without those running out that come and go.
pub fn is_spare(file: &impl AsRawFd) -> bool {
    const LEFT: u64 = 64;
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    u64::try_from(file.as_raw_fd()).is_ok_and(|n| n.saturating_add(LEFT) < most)
}

/// The whole file, which is short.
fn again<'b>(file: &File, buffer: &'b mut Vec<u8>) -> io::Result<&'b str> {
    buffer.resize(LONGEST, 0);
    let mut length = 0;
    while length < LONGEST {
        match file.read_at(&mut buffer[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
        // These files are handed out in whole pages; a short one was the last.
        if length < 4096 {
            break;
        }
    }
    Ok(std::str::from_utf8(&buffer[..length]).unwrap_or_default())
}

impl Group {
    /// Opens what is read again and again.
    pub fn meter(&self) -> Meter {
        let v2 = self.directories.iter().any(|d| d.v2);
        let place = |controller| self.place(controller).map(|directory| directory.path.as_path());
        let open = |controller, v1: &str, unified: &str| {
            Source::open(place(controller)?, if v2 { unified } else { v1 })
        };
        let block = if v2 { "io.stat" } else { "blkio.throttle.io_service_bytes_recursive" };
        let by_process = || Source::open(&self.whole()?.path, "cgroup.procs");
        Meter {
            cpu: open(Controller::Cpuacct, "cpuacct.usage", "cpu.stat"),
            memory: open(Controller::Memory, "memory.usage_in_bytes", "memory.current"),
            memory_details: open(Controller::Memory, "memory.stat", "memory.stat"),
            memory_limit: open(Controller::Memory, "memory.limit_in_bytes", "memory.max"),
            processes: open(Controller::Pids, "pids.current", "pids.current"),
            block: match (place(Controller::Io).and_then(|path| Source::open(path, block)), by_process()) {
                (Some(source), _) => Block::Group(source),
                (None, Some(source)) => Block::Processes(source, RefCell::default()),
                (None, None) => Block::Nowhere,
            },
            v2,
        }
    }
}

impl Meter {
    /// Reads; none where the group is gone.
    pub fn read(&self, buffer: &mut Vec<u8>) -> Option<Reading> {
        self.try_read(buffer).ok()
    }

    fn try_read(&self, buffer: &mut Vec<u8>) -> io::Result<Reading> {
        let mut reading = Reading::default();
        if self.cpu.is_none() && self.processes.is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(source) = &self.cpu {
            let text = source.read(buffer)?;
            reading.cpu = if self.v2 {
                field(text, "usage_usec").saturating_mul(1000)
            } else {
                text.trim().parse().unwrap_or(0)
            };
        }
        if let Some(source) = &self.memory {
            reading.memory = source.number(buffer)?;
        }
        if let Some(source) = &self.memory_details {
            let key = if self.v2 { "inactive_file" } else { "total_inactive_file" };
            reading.inactive_file = field(source.read(buffer)?, key);
        }
        if let Some(source) = &self.memory_limit {
            reading.memory_limit = limit(source.read(buffer)?.trim());
        }
        if let Some(source) = &self.processes {
            reading.pids = source.number(buffer)?;
        }
        (reading.block_read, reading.block_written) = match &self.block {
            Block::Group(source) if self.v2 => devices_v2(source.read(buffer)?),
            Block::Group(source) => devices_v1(source.read(buffer)?),
            Block::Processes(source, open) => {
                let list: Vec<u32> = source
                    .read(buffer)?
                    .lines()
                    .take(MOST_PROCESSES)
                    .filter_map(|line| line.parse().ok())
                    .collect();
                of_processes(&list, &mut open.borrow_mut(), buffer)
            }
            Block::Nowhere => (0, 0),
        };
        Ok(reading)
    }
}

/// The number behind a word that begins a line.
fn field(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn devices_v2(text: &str) -> (u64, u64) {
    let mut sums = (0_u64, 0_u64);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next().and_then(device).is_none() {
            continue;
        }
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => sums.0 = sums.0.saturating_add(value),
                "wbytes" => sums.1 = sums.1.saturating_add(value),
                _ => {}
            }
        }
    }
    sums
}

fn devices_v1(text: &str) -> (u64, u64) {
    let mut sums = (0_u64, 0_u64);
    for entry in block_v1(text) {
        match &*entry.operation {
            "Read" => sums.0 = sums.0.saturating_add(entry.value),
            "Write" => sums.1 = sums.1.saturating_add(entry.value),
            _ => {}
        }
    }
    sums
}

/// `/proc/PID/io` of each. One that ends meanwhile has its numbers in those of another.
fn of_processes(list: &[u32], open: &mut HashMap<u32, File>, buffer: &mut Vec<u8>) -> (u64, u64) {
    open.retain(|pid, _| list.contains(pid));
    let mut sums = (0_u64, 0_u64);
    for &pid in list {
        let once;
        let file = if let Some(file) = open.get(&pid) {
            file
        } else {
            let Ok(file) = File::open(format!("/proc/{pid}/io")) else { continue };
            if is_spare(&file) {
                open.entry(pid).or_insert(file)
            } else {
                once = file;
                &once
            }
        };
        match again(file, buffer) {
            Ok(text) => {
                sums.0 = sums.0.saturating_add(field(text, "read_bytes:"));
                sums.1 = sums.1.saturating_add(field(text, "write_bytes:"));
            }
            // It ended, and its number may be another's: that one is opened next time.
            Err(_) => {
                open.remove(&pid);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_whole_words() {
        let text = "cache 1\ninactive_file 2\ntotal_inactive_file 3\n";
        assert_eq!((field(text, "inactive_file"), field(text, "total_inactive_file")), (2, 3));
        assert_eq!((field(text, "file"), field("", "x"), field("x y", "x")), (0, 0, 0));
        assert_eq!(field("rchar: 5\nread_bytes: 7\n", "read_bytes:"), 7);
    }

    #[test]
    fn disks_are_added_up() {
        assert_eq!(devices_v2("8:0 rbytes=1 wbytes=2 rios=9\n8:16 rbytes=10 wbytes=20\n"), (11, 22));
        assert_eq!(devices_v1("8:0 Read 1\n8:0 Write 2\n8:16 Read 10\n8:0 Total 99\nTotal 99\n"), (11, 2));
    }

    #[test]
    fn a_file_is_read_again_from_its_beginning() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("n"), "5\n").unwrap();
        let source = Source::open(place.path(), "n").unwrap();
        let mut buffer = Vec::new();
        assert_eq!(source.number(&mut buffer).unwrap(), 5);
        std::fs::write(place.path().join("n"), "7\n").unwrap();
        assert_eq!(source.number(&mut buffer).unwrap(), 7);
        assert!(Source::open(place.path(), "nope").is_none());
    }

    #[test]
    fn our_own_process_has_read_something() {
        let mut open = HashMap::new();
        let mut buffer = Vec::new();
        of_processes(&[std::process::id(), u32::MAX], &mut open, &mut buffer);
        assert!(open.len() <= 1);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(8:0 (Read|Write|rbytes=[0-9]{1,25}|x) ?[0-9]{0,25}\n){0,5}.{0,40}") {
            devices_v1(&text);
            devices_v2(&text);
            field(&text, "8:0");
        }
    }
}
