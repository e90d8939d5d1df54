//! A blob on its way from a mirrored registry: written to a file as it comes, and read from there by everybody who
//! asked for it meanwhile.
//!
//! Readers get what is not verified yet; they check it themselves, as they would have to without us. The last bytes
//! they get only when all of them are what they should be, so that nobody takes a wrong blob for a whole one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use base::fs::{self, At};
use base::{Digest, Hasher};

use super::error::{Error, Result};

/// As much as is held back until the end is known.
const HELD_BACK: u64 = 1;
/// How long a reader waits for the next byte before it looks around.
const PATIENCE: Duration = Duration::from_mins(1);

/// A transfer.
#[derive(Debug)]
pub struct Transfer {
    digest: Digest,
    size: u64,
    path: PathBuf,
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    arrived: u64,
    ended: Option<std::result::Result<(), String>>,
}

impl Transfer {
    /// One that writes into this new file.
    pub(super) fn new(digest: Digest, size: u64, path: PathBuf) -> Result<Self> {
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&path).at("create", &path)?;
        Ok(Self { digest, size, path, file, state: Mutex::default(), changed: Condvar::new() })
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// The blob's size.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Waits until something has come, so that who is told that it comes is told the truth.
    ///
    /// # Errors
    /// If the transfer has failed before, or does not begin.
    pub(super) fn await_begin(&self) -> Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |state: &mut State| state.arrived == 0 && state.ended.is_none();
        let waited = self.changed.wait_timeout_while(state, PATIENCE, waiting);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        match &state.ended {
            Some(Err(why)) => Err(Error::Transfer(why.clone())),
            _ if timeout.timed_out() => Err(Error::Transfer("nothing came for a minute".to_owned())),
            _ => Ok(()),
        }
    }

    /// Fills `buffer` from this offset with what is there, after waiting for it; 0 at the end.
    ///
    /// # Errors
    /// If the transfer has failed, or stands still.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let available = loop {
            match &state.ended {
                Some(Ok(())) => break state.arrived,
                Some(Err(why)) => return Err(Error::Transfer(why.clone())),
                None if state.arrived.saturating_sub(HELD_BACK) > offset => break state.arrived - HELD_BACK,
                None => {}
            }
            let waited = self.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            if waited.1.timed_out() {
                return Err(Error::Transfer("nothing came for a minute".to_owned()));
            }
            state = waited.0;
        };
        drop(state);
        let wanted = buffer.len().min(available.saturating_sub(offset) as usize);
        let read = self.file.read_at(&mut buffer[..wanted], offset).at("read", &self.path)?;
        Ok(read)
    }

    /// Tells everybody how it has ended.
    pub(super) fn end(&self, how: std::result::Result<(), String>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(how);
        self.changed.notify_all();
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// What brings the bytes of a transfer.
#[derive(Default)]
pub(super) struct Filling {
    hasher: Hasher,
    arrived: u64,
}

impl Filling {
    /// The next bytes.
    pub(super) fn write(&mut self, transfer: &Transfer, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        transfer.file.write_all_at(bytes, self.arrived).at("write", &transfer.path)?;
        self.arrived += bytes.len() as u64;
        transfer.state.lock().unwrap_or_else(PoisonError::into_inner).arrived = self.arrived;
        transfer.changed.notify_all();
        Ok(())
    }

    /// All bytes are there: are they what they should be? The file is synced then.
    pub(super) fn finish(self, transfer: &Transfer) -> Result<()> {
        let (found, _) = self.hasher.finish();
        if found != transfer.digest {
            return Err(Error::Digest { wanted: transfer.digest, found });
        }
        Ok(transfer.file.sync_data().at("sync", &transfer.path)?)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // Where it succeeded, the blob has another name by now.
        fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(dir: &Path, content: &[u8], digest: Digest) -> Transfer {
        Transfer::new(digest, content.len() as u64, dir.join("coming")).unwrap()
    }

    fn fill(transfer: &Transfer, bytes: &[u8]) -> Result<()> {
        let mut filling = Filling::default();
        bytes.chunks(2).try_for_each(|piece| filling.write(transfer, piece))?;
        filling.finish(transfer)
    }

    #[test]
    fn readers_see_what_comes_and_the_end_when_it_is_true() {
        let dir = tempfile::tempdir().unwrap();
        let transfer = transfer(dir.path(), b"abcdef", Digest::of(b"abcdef"));
        fill(&transfer, b"abcdef").unwrap();
        let mut buffer = [0; 10];
        assert_eq!(transfer.read_at(0, &mut buffer).unwrap(), 5, "the last byte is held back");
        transfer.end(Ok(()));
        assert_eq!(transfer.read_at(5, &mut buffer).unwrap(), 1);
        assert_eq!(transfer.read_at(6, &mut buffer).unwrap(), 0);
    }

    #[test]
    fn what_is_not_what_it_should_be_never_ends_well() {
        let dir = tempfile::tempdir().unwrap();
        let transfer = transfer(dir.path(), b"abcdef", Digest::of(b"abcdef"));
        let error = fill(&transfer, b"abcdeX").unwrap_err();
        transfer.end(Err(error.to_string()));
        assert!(transfer.read_at(0, &mut [0; 10]).is_err());
        let path = transfer.path().to_owned();
        drop(transfer);
        assert!(!path.exists());
    }
}
