//! gzip (RFC 1952) by several threads, always with the same bytes for the same input.
//!
//! The input is cut into pieces of a fixed length; each is compressed by itself, with the end of the one before as
//! its dictionary, and ends at a byte's boundary (an empty stored block), so that they can be put together as one
//! stream, in one member. How many threads there are changes nothing but the time.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// A piece. Larger ones compress no better, and each costs memory: about two and a half of them per thread.
const PIECE: usize = 256 << 10;
/// Deflate looks no further back.
const WINDOW: usize = 32 << 10;
/// zlib's own default.
const LEVEL: Compression = Compression::new(6);
/// Magic, deflate, no flags, no time, no extra flags, Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// An empty last block (fixed codes).
const END: [u8; 2] = [3, 0];

/// A writer that compresses.
pub(super) struct Gzip<W: Write> {
    out: W,
    piece: Vec<u8>,
    /// The end of the piece before.
    window: Vec<u8>,
    crc: Crc,
    workers: Workers,
}

struct Job {
    window: Vec<u8>,
    piece: Vec<u8>,
    answer: Sender<io::Result<Vec<u8>>>,
}

/// Threads that take jobs from one queue. What they make is awaited in the order of the jobs.
struct Workers {
    queue: Option<SyncSender<Job>>,
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    most: usize,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Write> Gzip<W> {
    pub(super) fn new(mut out: W, threads: usize) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        let workers = Workers::start(threads.max(1))?;
        Ok(Self { out, piece: Vec::with_capacity(PIECE), window: Vec::new(), crc: Crc::new(), workers })
    }

    fn submit(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.crc.update(&piece);
        let next = piece[piece.len().saturating_sub(WINDOW)..].to_vec();
        let window = std::mem::replace(&mut self.window, next);
        if let Some(done) = self.workers.submit(window, piece)? {
            self.out.write_all(&done)?;
        }
        Ok(())
    }

    /// Writes what is left, and gives the writer back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.piece.is_empty() {
            self.submit()?;
        }
        while let Some(done) = self.workers.next()? {
            self.out.write_all(&done)?;
        }
        self.out.write_all(&END)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..n]);
        if self.piece.len() == PIECE {
            self.submit()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Workers {
    fn start(count: usize) -> io::Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(1);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut failure = None;
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let jobs = Arc::clone(&jobs);
                let work = move || {
                    loop {
                        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok(Job { window, piece, answer }) = job else { return };
                        // Whoever asked may have given up.
                        answer.send(deflate(&window, &piece)).ok();
                    }
                };
                std::thread::Builder::new().name("gzip".to_owned()).spawn(work)
            })
            .map_while(|thread| thread.map_err(|error| failure = Some(error)).ok())
            .collect();
        if let (true, Some(error)) = (threads.is_empty(), failure) {
            return Err(base::processes::no_thread(&error));
        }
        Ok(Self { queue: Some(queue), pending: VecDeque::new(), most: count + 1, threads })
    }

    /// Hands a piece over; gives what became of the oldest one, once enough are on the way.
    fn submit(&mut self, window: Vec<u8>, piece: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        let (answer, result) = channel();
        let sent = self.queue.as_ref().is_some_and(|queue| queue.send(Job { window, piece, answer }).is_ok());
        if !sent {
            return Err(io::Error::other("the compressing threads are gone"));
        }
        self.pending.push_back(result);
        if self.pending.len() > self.most { self.next() } else { Ok(None) }
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(oldest) = self.pending.pop_front() else { return Ok(None) };
        oldest.recv().unwrap_or_else(|_| Err(io::Error::other("a compressing thread is gone"))).map(Some)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // One that panicked has told so by the answer that is missing.
            thread.join().ok();
        }
    }
}

/// One piece, to a byte's boundary.
fn deflate(window: &[u8], piece: &[u8]) -> io::Result<Vec<u8>> {
    let mut deflater = Compress::new(LEVEL, false);
    if !window.is_empty() {
        deflater.set_dictionary(window).map_err(io::Error::other)?;
    }
    let mut out = Vec::with_capacity(piece.len() / 2 + 1024);
    loop {
        let rest = &piece[deflater.total_in() as usize..];
        let status = deflater.compress_vec(rest, &mut out, FlushCompress::Sync).map_err(io::Error::other)?;
        // Room that is left over means that nothing waits inside.
        if deflater.total_in() as usize == piece.len() && out.len() < out.capacity() {
            return Ok(out);
        }
        if status == Status::StreamEnd {
            return Err(io::Error::other("the compressor has stopped"));
        }
        out.reserve(64 << 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn gzip(input: &[u8], threads: usize) -> Vec<u8> {
        let mut gzip = Gzip::new(Vec::new(), threads).unwrap();
        gzip.write_all(input).unwrap();
        gzip.finish().unwrap()
    }

    /// Text that repeats, and bytes that do not.
    fn input(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        (0..length)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if i % 100_000 < 50_000 { b"layers of an image "[i % 19] } else { (state >> 33) as u8 }
            })
            .collect()
    }

    #[test]
    fn any_number_of_threads_makes_one_stream_of_the_same_bytes() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 12_345] {
            let input = input(length);
            let packed = gzip(&input, 1);
            assert_eq!(packed, gzip(&input, 3), "{length}");
            let mut unpacked = Vec::new();
            // One member alone: what would follow it is not read.
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == input, "{length}");
        }
    }

    #[test]
    fn it_packs_about_as_well_as_one_thread_would() {
        let input = b"usr/share/doc/package/changelog.Debian.gz ".repeat(50_000);
        let mut whole = flate2::write::GzEncoder::new(Vec::new(), LEVEL);
        whole.write_all(&input).unwrap();
        assert!(gzip(&input, 2).len() < whole.finish().unwrap().len() * 3 / 2);
    }
}
