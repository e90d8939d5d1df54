//! The content of files, and their holes.
//!
//! Holes are written as the zeros that they read as, which compress well: Docker and Podman (tar-split) cannot give a
//! layer with sparse files back, and then neither save nor push the image. Only of a file with a gigabyte of them, which
//! nobody could store otherwise, they are left out.
//!
//! A hole is told by its content, not by what the file system says of it: that only saves reading. So what is
//! unpacked elsewhere and packed again has the same holes.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Bytes of a file without a place on the disk from which on it is written as a sparse one.
pub(crate) const HOLES: u64 = 1 << 30;
/// Zeros are looked for in steps of this, the usual block.
const BLOCK: u64 = 4096;
/// Fewer zeros between two regions than this are content too.
const GAP: u64 = 64 << 10;
/// More regions than this become fewer, larger ones.
const REGIONS: usize = 10_000;

/// Copies `length` bytes from `offset` on. A file that has become shorter is filled up with zeros: its length is
/// written already.
pub(crate) fn copy(
    file: BorrowedFd<'_>,
    mut offset: u64,
    length: u64,
    buffer: &mut [u8],
    out: &mut impl Write,
) -> Result<(), CopyError> {
    let end = offset + length;
    while offset < end {
        let most = buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        let n = match rustix::io::pread(file, &mut buffer[..most], offset) {
            Ok(0) => {
                buffer[..most].fill(0);
                most
            }
            Ok(n) => n,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(CopyError::Read(e.into())),
        };
        out.write_all(&buffer[..n]).map_err(CopyError::Write)?;
        offset += n as u64;
    }
    Ok(())
}

/// Which side failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// The regions of a file that are not all zeros: offset and length, in order, apart by [`GAP`] at least. Where the file
/// ends in a hole, an empty one at its end.
pub(crate) fn regions(file: BorrowedFd<'_>, size: u64, buffer: &mut [u8]) -> io::Result<Vec<(u64, u64)>> {
    let mut regions = Regions { list: Vec::new(), gap: GAP };
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            // It does not tell: all may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            other => other?,
        };
        let hole = match rustix::fs::seek(file, SeekFrom::Hole(data)) {
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => size,
            other => other?,
        };
        // Steps are counted from the file's beginning.
        let data = data / BLOCK * BLOCK;
        let end = hole.next_multiple_of(BLOCK).min(size);
        scan(file, data.max(at), end, buffer, &mut regions)?;
        at = end;
    }
    // GNU tar finds the file's length in the map, and a map of nothing would be taken for no map.
    if regions.list.last().is_none_or(|(offset, length)| offset + length < size) {
        regions.list.push((size, 0));
    }
    Ok(regions.list)
}

fn scan(
    file: BorrowedFd<'_>,
    mut at: u64,
    end: u64,
    buffer: &mut [u8],
    regions: &mut Regions,
) -> io::Result<()> {
    let room = buffer.len() / BLOCK as usize * BLOCK as usize;
    while at < end {
        let want = room.min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let mut have = 0;
        while have < want {
            match rustix::io::pread(file, &mut buffer[have..want], at + have as u64) {
                Ok(0) => return Ok(()),
                Ok(n) => have += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        for block in buffer[..have].chunks(BLOCK as usize) {
            if block.iter().any(|&b| b != 0) {
                regions.add(at, block.len() as u64);
            }
            at += block.len() as u64;
        }
    }
    Ok(())
}

struct Regions {
    list: Vec<(u64, u64)>,
    gap: u64,
}

impl Regions {
    fn add(&mut self, offset: u64, length: u64) {
        match self.list.last_mut() {
            Some((last, had)) if offset - (*last + *had) < self.gap => *had = offset + length - *last,
            _ => self.list.push((offset, length)),
        }
        while self.list.len() > REGIONS {
            self.gap *= 2;
            let list = std::mem::take(&mut self.list);
            for (offset, length) in list {
                match self.list.last_mut() {
                    Some((last, had)) if offset - (*last + *had) < self.gap => *had = offset + length - *last,
                    _ => self.list.push((offset, length)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    fn found(size: u64, data: &[u64]) -> Vec<(u64, u64)> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for &at in data {
            file.write_at(b"x", at).unwrap();
        }
        regions(file.as_fd(), size, &mut vec![0; 64 << 10]).unwrap()
    }

    #[test]
    fn holes_are_what_is_zero() {
        assert_eq!(found(10 << 20, &[]), [(10 << 20, 0)]);
        assert_eq!(
            found(10 << 20, &[0, 5 << 20, (5 << 20) + 20_000]),
            [(0, 4096), (5 << 20, 20_480), (10 << 20, 0)]
        );
        assert_eq!(found((10 << 20) + 5, &[(10 << 20) + 4]), [(10 << 20, 5)]);
        // written, and zero all the same
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![0; 4 << 20], 0).unwrap();
        file.write_at(b"x", 3 << 20).unwrap();
        let regions = regions(file.as_fd(), 4 << 20, &mut vec![0; 64 << 10]).unwrap();
        assert_eq!(regions, [(3 << 20, 4096), (4 << 20, 0)]);
    }

    #[test]
    fn regions_without_end_become_fewer() {
        let mut regions = Regions { list: Vec::new(), gap: GAP };
        for n in 0..100_000 {
            regions.add(n * 2 * GAP, BLOCK);
        }
        assert!(regions.list.len() <= REGIONS);
        assert!(regions.list.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0));
        assert_eq!(regions.list[0].0, 0);
        let (last, length) = regions.list[regions.list.len() - 1];
        assert_eq!(last + length, 99_999 * 2 * GAP + BLOCK);
    }

    #[test]
    fn a_file_that_shrank_is_filled_up() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        let mut out = Vec::new();
        copy(file.as_fd(), 1, 4, &mut [0; 16], &mut out).unwrap();
        assert_eq!(out, b"bc\0\0");
    }
}
