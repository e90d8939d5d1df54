//! Looking at the store piece by piece: what [`Store::list`] and its like take for an error is here a finding.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base::fs::{self, At};
use base::{Digest, Sha256Reader};
use state::lock::Lock;

use super::{Error, Result, Store, index, read_record};
use crate::{Reference, Resolved};

/// A file that should be a record.
#[derive(Debug)]
pub struct RecordFile {
    /// Where it is.
    pub path: PathBuf,
    /// The name that it is for, where the file's name tells.
    pub reference: Option<Reference>,
    /// What it says, or why it cannot be used.
    pub record: Result<Resolved>,
}

impl Store {
    /// Every file among the names of images, broken ones included.
    pub fn record_files(&self) -> Result<Vec<RecordFile>> {
        let mut files = Vec::new();
        for name in fs::names(&self.names)? {
            let path = self.names.join(&name);
            let reference = name.replace('+', "/").parse::<Reference>().ok().filter(|_| name.contains('+'));
            let record = match read_record(&path) {
                // Gone since it was listed.
                Ok(None) => continue,
                Ok(Some(record)) if self.record_path(&record) == path => Ok(record),
                Ok(Some(_)) => Err(Error::Record { path: path.clone(), source: None }),
                Err(e) => Err(e),
            };
            files.push(RecordFile { path, reference, record });
        }
        Ok(files)
    }

    /// Removes a record that cannot be used: nothing is known of its image any more.
    pub fn remove_record_file(&self, file: &RecordFile) -> Result<()> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        if matches!(read_record(&file.path), Ok(Some(record)) if self.record_path(&record) == file.path) {
            return Ok(()); // mended meanwhile
        }
        fs::remove_file(&file.path)?;
        Ok(fs::sync_dir(&self.names)?)
    }

    /// Reads a blob to its end: [`Error::DamagedBlob`] if it is not what its name says. `advance` is told of every
    /// byte.
    pub fn verify_blob(&self, digest: &Digest, advance: &dyn Fn(u64)) -> Result<()> {
        let (file, _) = self.open_blob(digest)?;
        let mut reader = Sha256Reader::new(file);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => advance(n as u64),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e).at("read", self.blob_path(digest)).map_err(Error::from),
            }
        }
        match reader.finish().0 {
            found if found == *digest => Ok(()),
            found => Err(Error::DamagedBlob { wanted: *digest, found }),
        }
    }

    /// What lies among the blobs and is none.
    pub fn strays(&self) -> Result<Vec<PathBuf>> {
        let dir = self.blobs_dir();
        let mut strays = Vec::new();
        for entry in list(&dir)? {
            let path = entry.at("list", &dir)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if Digest::from_hex(&name).is_err() || !path.is_file() {
                strays.push(path);
            }
        }
        strays.sort_unstable();
        Ok(strays)
    }

    /// Where a blob lies while it is fetched again. [`Store::strays`] tells of one that a kill left there.
    fn aside(&self, digest: &Digest) -> PathBuf {
        self.blobs_dir().join(format!(".damaged-{}", digest.hex()))
    }

    /// Moves a damaged blob out of the way, so that it is fetched again.
    pub fn set_aside(&self, digest: &Digest) -> Result<()> {
        match fs::rename(&self.blob_path(digest), &self.aside(digest)) {
            Err(e) if e.is_not_found() => Ok(()),
            other => Ok(other?),
        }
    }

    /// Ends that: removes the damaged one where a whole one has come, and puts it back where none has. True: one
    /// has come.
    pub fn settle(&self, digest: &Digest) -> Result<bool> {
        let (aside, path) = (self.aside(digest), self.blob_path(digest));
        if path.exists() {
            fs::remove_file(&aside)?;
            return Ok(true);
        }
        match fs::rename(&aside, &path) {
            Err(e) if e.is_not_found() => Ok(false),
            other => Ok(other.map(|()| false)?),
        }
    }

    /// Files and directories that dead writers left. What living ones are at is not among them.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let Some(_lock) = self.try_lock()? else { return Ok(Vec::new()) };
        let mut left = Vec::new();
        for dir in [&self.names, self.content()] {
            for entry in list(dir)? {
                let path = entry.at("list", dir)?.path();
                let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
                if hidden && path.is_file() {
                    left.push(path);
                }
            }
        }
        let ingests = self.content().join(crate::ingest::DIR);
        for name in fs::names(&ingests)? {
            let dir = ingests.join(name);
            if matches!(Lock::try_exclusive(&dir), Ok(Some(_))) {
                left.push(dir);
            }
        }
        left.sort_unstable();
        Ok(left)
    }

    /// Removes what [`Store::leftovers`] tells of.
    pub fn sweep(&self) -> Result<()> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        self.sweep_temporaries()?;
        crate::ingest::protected(self.content()).map(drop)
    }

    /// Whether `oci-layout` and `index.json` say what they should; which of them does not.
    pub fn stale_layout_files(&self) -> Result<Vec<&'static str>> {
        let Some(_lock) = self.try_lock()? else { return Ok(Vec::new()) };
        let mut stale = Vec::new();
        if !self.content().join("index.json").exists() && self.list()?.is_empty() {
            return Ok(stale); // nothing ever came in
        }
        if fs::read_if_exists(&self.content().join("oci-layout"))?.as_deref() != Some(index::LAYOUT) {
            stale.push("oci-layout");
        }
        if !self.index_is_current()? {
            stale.push("index.json");
        }
        Ok(stale)
    }

    /// Writes both anew.
    pub fn mend_layout_files(&self) -> Result<()> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        self.write_layout_file()?;
        self.write_index()
    }
}

fn list(dir: &Path) -> Result<impl Iterator<Item = io::Result<std::fs::DirEntry>>> {
    match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        other => Ok(Some(other.at("list", dir)?).into_iter().flatten()),
    }
}
