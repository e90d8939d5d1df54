//! The monitor's half of `json-file`.
//!
//! Whole entries gather in one buffer that is written with one call, so a file never holds half an entry unless the disk
//! filled up in the middle of one: then it is cut off again, and the entries stay in the buffer for the next attempt. In a
//! flood, one buffer is written ([`Pen`]) while the next is filled.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use base::Timestamp;

use super::encoding;
use super::pen::Pen;
use crate::files::{is_removed, rotate};
use crate::writer::LITTLE;
use crate::{Config, Stream};

/// So much at once is a flood: all that fits into a pipe that nobody has widened.
const FLOOD: usize = 64 << 10;

/// Writes a log.
#[derive(Debug)]
pub(crate) struct JsonFile {
    config: Config,
    /// None before the first byte, and after an error that a new file may mend.
    file: Option<Arc<File>>,
    size: u64,
    out: Vec<u8>,
    /// In a flood.
    pen: Option<Pen>,
    /// An empty buffer, while the pen has none.
    spare: Vec<u8>,
    /// What is written behind the texts of this stream and time.
    trailer: (Stream, Timestamp, Vec<u8>),
    /// What is said of the container there.
    attributes: Vec<u8>,
}

impl JsonFile {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            attributes: encoding::attributes(&config.attributes),
            config,
            file: None,
            size: 0,
            out: Vec::new(),
            pen: None,
            spare: Vec::new(),
            trailer: (Stream::Stdout, Timestamp(0), Vec::new()),
        }
    }

    /// How many bytes wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn put(&mut self, stream: Stream, pieces: [&[u8]; 2], time: Timestamp) {
        let (of, at, trailer) = &mut self.trailer;
        if trailer.is_empty() || (*of, *at) != (stream, time) {
            trailer.clear();
            encoding::trailer(stream, &self.attributes, time, trailer);
            (*of, *at) = (stream, time);
        }
        encoding::encode(pieces, trailer, &mut self.out);
    }

    /// Gives up what waits.
    pub(crate) fn drop_batch(&mut self) {
        self.out = Vec::new();
    }

    /// Writes what waits; after an error it still waits. In a flood, it is only begun: see [`JsonFile::settle`].
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.settle()?;
        if self.out.is_empty() {
            return Ok(());
        }
        // Somebody may have removed the file: then what is written would be nowhere.
        if let Some(file) = &self.file
            && is_removed(file)?
        {
            self.file = None;
        }
        let full = self.config.max_size.is_some_and(|max| self.size + self.out.len() as u64 > max);
        if self.file.is_some() && self.size > 0 && full {
            rotate(&self.config.path, self.config.max_files)?;
            self.file = None;
            self.size = 0;
        }
        let file = if let Some(file) = &self.file {
            file.clone()
        } else {
            let (file, size) = open(&self.config)?;
            self.size = size;
            self.file.insert(Arc::new(file)).clone()
        };
        if self.out.len() >= FLOOD {
            if self.pen.is_none() {
                self.pen = Pen::take(write_whole);
            }
            // Where no thread may be made, it is written here.
            if let Some(pen) = &mut self.pen {
                let out = std::mem::replace(&mut self.out, std::mem::take(&mut self.spare));
                match pen.write(file.clone(), out) {
                    Ok(()) => return Ok(()),
                    Err(out) => (self.pen, self.out) = (None, out),
                }
            }
        }
        write_whole(&file, &self.out)?;
        self.size += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// Waits until what was begun is written. After an error it waits again, before all that has come since.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        let Some((mut bytes, outcome)) = self.pen.as_mut().and_then(Pen::wait) else { return Ok(()) };
        match outcome {
            Ok(()) => {
                self.size += bytes.len() as u64;
                bytes.clear();
                self.spare = bytes;
                Ok(())
            }
            Err(error) => {
                bytes.extend_from_slice(&self.out);
                self.out = bytes;
                Err(error)
            }
        }
    }

    /// Whether the buffers of a burst are still held.
    pub(crate) fn is_warm(&self) -> bool {
        self.pen.is_some() || self.out.is_empty() && self.out.capacity() > LITTLE
    }

    /// Gives up what only a burst needs. What could not be written waits on.
    pub(crate) fn rest(&mut self) -> io::Result<()> {
        let settled = self.settle();
        (self.pen, self.spare) = (None, Vec::new());
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        settled
    }
}

/// Appends all or nothing. Where half an entry that has made it cannot be cut off either, a reader skips it.
fn write_whole(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // By its length now: somebody who wants room may have emptied the file.
                if let (1.., Ok(now)) = (written, file.metadata()) {
                    file.set_len(now.len().saturating_sub(written as u64)).ok();
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Opens the log at its end. A torn last line, left by a crash, is closed, so that it spoils only itself.
fn open(config: &Config) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&config.path)?;
    let mut size = file.metadata()?.len();
    let mut last = [0];
    if size > 0 && file.read_at(&mut last, size - 1)? == 1 && last[0] != b'\n' {
        file.write_all(b"\n")?;
        size += 1;
    }
    Ok((file, size))
}
