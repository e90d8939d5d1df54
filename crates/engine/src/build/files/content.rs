//! The bytes of a file, into another: shared with it where the file system can, else copied by the kernel, else by us. Holes
//! stay holes.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

/// Up to this, reading and writing costs less than asking for anything better.
const SMALL: u64 = 64 << 10;
/// Bytes that are read at a time.
const BUFFER: usize = 256 << 10;

/// Copies contents, and learns what this pair of file systems can do.
pub(super) struct Contents {
    buffer: Vec<u8>,
    clone: bool,
    by_kernel: bool,
}

/// Which side failed.
#[derive(Debug)]
pub(super) enum Failed {
    Read(Errno),
    Write(Errno),
}

impl Contents {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER], clone: true, by_kernel: true }
    }

    /// Copies all of `from`, whose `stat` this is, to the empty file `to`. What is added to it meanwhile is left out; where it
    /// has become shorter, so is the copy.
    pub(super) fn copy(&mut self, from: impl AsFd, stat: &Stat, to: impl AsFd) -> Result<(), Failed> {
        let (from, to) = (from.as_fd(), to.as_fd());
        let size = stat.st_size.unsigned_abs();
        if size == 0 {
            return Ok(());
        }
        let is_sparse = stat.st_blocks.unsigned_abs().saturating_mul(512) < size;
        if size <= SMALL && !is_sparse {
            return self.range(from, 0, size, to);
        }
        if self.clone {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                Err(_) => self.clone = false,
            }
        }
        if !is_sparse {
            return self.quick_range(from, 0, size, to);
        }
        let mut at = 0;
        while at < size {
            let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
                other => other.map_err(Failed::Read)?,
            };
            let hole = match rustix::fs::seek(from, SeekFrom::Hole(data)) {
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => size,
                other => other.map_err(Failed::Read)?,
            };
            if data >= size {
                break;
            }
            // Whoever makes holes just now must not keep us here.
            let end = hole.max(data + 1).min(size);
            self.quick_range(from, data, end - data, to)?;
            at = end;
        }
        rustix::fs::ftruncate(to, size).map_err(Failed::Write)
    }

    fn quick_range(
        &mut self,
        from: BorrowedFd<'_>,
        at: u64,
        length: u64,
        to: BorrowedFd<'_>,
    ) -> Result<(), Failed> {
        let (mut read, mut written, mut left) = (at, at, length);
        while self.by_kernel && left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), most) {
                // The file has become shorter; or the kernel cannot do it here, which reading shows.
                Ok(0) => break,
                Ok(n) => left -= n as u64,
                Err(Errno::INTR) => {}
                Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(Failed::Write(e)),
                Err(_) => self.by_kernel = false,
            }
        }
        self.range(from, at + (length - left), left, to)
    }

    fn range(
        &mut self,
        from: BorrowedFd<'_>,
        mut at: u64,
        mut left: u64,
        to: BorrowedFd<'_>,
    ) -> Result<(), Failed> {
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = match rustix::io::pread(from, &mut self.buffer[..most], at) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(Failed::Read(e)),
            };
            let mut done = 0;
            while done < n {
                match rustix::io::pwrite(to, &self.buffer[done..n], at + done as u64) {
                    Ok(0) => return Err(Failed::Write(Errno::IO)),
                    Ok(wrote) => done += wrote,
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(Failed::Write(e)),
                }
            }
            at += n as u64;
            left -= n as u64;
        }
        Ok(())
    }
}
