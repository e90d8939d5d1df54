//! Reading and writing the files of a group, and the order in which limits are written.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::Error;
use super::limits::{Need, Write};

/// Writes the whole of a cgroup's file at once, as the kernel wants it.
pub(super) fn write_to(
    directory: impl rustix::fd::AsFd,
    file: impl rustix::path::Arg,
    content: &[u8],
) -> Result<(), Errno> {
    let file = openat(directory, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write_all(file.as_fd(), content)
}

fn write_all(file: BorrowedFd<'_>, content: &[u8]) -> Result<(), Errno> {
    loop {
        match rustix::io::write(file, content) {
            Err(Errno::INTR) => {}
            // A write to these files is taken whole or not at all.
            other => return other.map(|_| ()),
        }
    }
}

pub(super) fn read_text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Writes limits to a group. What the kernel finds contradictory may only be so until another file has been written:
/// memory above the old limit of memory and swap, a quota above the new period's share, a burst above the old
/// quota. So that is tried again after the rest, as long as anything moves.
///
/// `repair` is asked once where a file is missing, and says whether it is worth trying again.
pub(super) fn write_limits(
    directory: &OwnedFd,
    writes: &[Write],
    mut repair: impl FnMut() -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut repaired = false;
    let mut waiting: Vec<&Write> = Vec::new();
    for write in writes {
        let mut written = write_one(directory, write);
        if written == Err(Errno::NOENT) && !repaired && write.need != Need::Moot {
            repaired = true;
            if repair()? {
                written = write_one(directory, write);
            }
        }
        if written == Err(Errno::INVAL) {
            waiting.push(write);
        } else {
            judge(write, written)?;
        }
    }
    loop {
        let before = waiting.len();
        let mut refused = None;
        let mut still = Vec::new();
        for write in waiting {
            match write_one(directory, write) {
                Err(Errno::INVAL) => {
                    refused.get_or_insert(write);
                    still.push(write);
                }
                other => judge(write, other)?,
            }
        }
        match refused {
            None => return Ok(()),
            Some(write) if still.len() == before => return judge(write, Err(Errno::INVAL)),
            Some(_) => waiting = still,
        }
    }
}

fn write_one(directory: &OwnedFd, write: &Write) -> Result<(), Errno> {
    match (write_to(directory, &*write.file, write.value.as_bytes()), &write.otherwise) {
        (Err(Errno::NOENT), Some((file, value))) => write_to(directory, *file, value.as_bytes()),
        (other, _) => other,
    }
}

fn judge(write: &Write, written: Result<(), Errno>) -> Result<(), Error> {
    match written {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) if write.need != Need::Asked => Ok(()),
        Err(Errno::NOENT) => {
            Err(Error::Missing { limit: write.limit.clone(), controller: controller_of(write) })
        }
        Err(source) => Err(Error::Limit {
            limit: write.limit.clone(),
            value: write.value.clone(),
            source: io::Error::from(source),
        }),
    }
}

/// By the kernel's name: what stands before the first dot of a file's name.
pub(super) fn controller_of(write: &Write) -> Cow<'static, str> {
    match &write.file {
        Cow::Borrowed(_) => Cow::Borrowed(write.controller.v1_name()),
        Cow::Owned(file) => Cow::Owned(file.split('.').next().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::hierarchy::Controller;

    fn write(file: &'static str, value: &str) -> Write {
        Write {
            controller: Controller::Memory,
            file: file.into(),
            value: value.to_owned(),
            otherwise: Some(("other", "else".to_owned())),
            need: Need::Asked,
            limit: "memory limit".into(),
        }
    }

    #[test]
    fn another_file_takes_the_place_of_a_missing_one() {
        let place = tempfile::tempdir().unwrap();
        let directory = open_directory(place.path()).unwrap();
        let writes = [write("one", "1")];
        let mut asked = 0;
        let error = write_limits(&directory, &writes, || {
            asked += 1;
            Ok(false)
        });
        assert!(matches!(error, Err(Error::Missing { .. })) && asked == 1);
        std::fs::write(place.path().join("other"), "").unwrap();
        write_limits(&directory, &writes, || Ok(false)).unwrap();
        assert_eq!(read_text(&place.path().join("other")).unwrap(), "else");
    }
}
