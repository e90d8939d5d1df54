//! What callers give us to read: files and standard input, as far as they have a reasonable size.

use std::io::Read;
use std::path::Path;

use base::fs::At as _;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::error::Error;

/// More than any configuration has, in bytes. A device would be read until memory runs out.
const LARGEST: u64 = 64 << 20;

/// A regular file. None if there is no such file; anything else is an error, at once: a pipe nobody writes to would
/// be waited for forever.
pub(crate) fn regular(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at("read", path)?,
    };
    let stat = fstat(&file).at("look at", path)?;
    let size = stat.st_size.cast_unsigned();
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => up_to_the_largest(std::fs::File::from(file), path, size).map(Some),
        // In the kernel's words.
        FileType::Directory => Err(Errno::ISDIR).at("read", path).map_err(Error::File),
        _ => Err(Error::Config(format!("{} is not a regular file", path.display()))),
    }
}

/// A file that a flag names; it may be a pipe, as the shell's `<(…)` is.
pub(crate) fn named(path: &Path) -> Result<Vec<u8>, Error> {
    up_to_the_largest(base::fs::open(path)?, path, 0)
}

/// Standard input.
pub(crate) fn standard() -> Result<Vec<u8>, Error> {
    up_to_the_largest(std::io::stdin().lock(), Path::new("standard input"), 0)
}

fn up_to_the_largest(from: impl Read, path: &Path, expected: u64) -> Result<Vec<u8>, Error> {
    // One more than the file has: then its end is seen without another allocation.
    let mut bytes = Vec::with_capacity(expected.min(LARGEST) as usize + 1);
    from.take(LARGEST + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::Config(format!("{} has more than {} MiB", path.display(), LARGEST >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(regular(&path).unwrap().is_none());
        std::fs::write(&path, "text").unwrap();
        assert_eq!(regular(&path).unwrap().unwrap(), b"text");
        assert!(matches!(regular(dir.path()), Err(Error::File(_))));
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(matches!(regular(&pipe), Err(Error::Config(_))));
        assert!(matches!(regular(Path::new("/dev/zero")), Err(Error::Config(_))));
    }

    #[test]
    fn nothing_is_read_without_end() {
        assert_eq!(named(Path::new("/dev/null")).unwrap(), b"");
        assert!(matches!(named(Path::new("/dev/zero")), Err(Error::Config(_))));
    }
}
