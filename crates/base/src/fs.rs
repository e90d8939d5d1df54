//! File access whose errors name the path and what was attempted.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind, kind_of_io};

/// A failed file operation: what, on which path, why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct Error {
    /// What was attempted, as a verb phrase.
    pub action: &'static str,
    /// The path it was attempted on.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        kind_of_io(&self.source)
    }

    fn hints(&self) -> Vec<String> {
        crate::space::hints(&self.source, &self.path)
    }
}

impl Error {
    /// True where the cause is that the file does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The result of a file operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds path and action to an I/O result.
pub trait At<T> {
    /// `action` is a verb phrase that fits after "cannot": "read", "create the directory".
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error { action, path: path.as_ref().to_owned(), source: e.into() })
    }
}

/// Whether a write must survive a power cut once the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Live state: gone or old after a crash is fine, torn is not.
    Volatile,
    /// Images, volumes, networks: synced, with the directory, before the call returns.
    Synced,
}

/// The whole content of a file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).at("read", path)
}

/// The whole content of a file, `None` if there is none.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    match File::open(path).and_then(read_to_end) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).at("read", path),
    }
}

/// The rest of a file. Most of ours are short: the room is there before it is read, and nobody is asked how long it is (as
/// `File` itself would).
pub(crate) fn read_to_end(file: File) -> io::Result<Vec<u8>> {
    const SHORT: usize = 4096;
    let mut bytes = Vec::with_capacity(SHORT);
    file.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens for reading.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).at("open", path)
}

/// Makes a directory that must not exist yet; `mode` as chmod takes it, less the umask.
pub fn create_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().mode(mode).create(path).at("create the directory", path)
}

/// Makes a directory and its missing parents; fine if it exists.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().mode(mode).recursive(true).create(path).at("create the directory", path)
}

/// Makes a new file with this content. Atomic against other creators: only one wins, the others get
/// `AlreadyExists`; but a reader may see it half-written. Where the disk is full, there is no file.
pub fn create_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).at("create", path)?;
    let written = file.write_all(content).at("write", path);
    if written.is_err() {
        // Best effort: the error being reported matters more than the leftover.
        fs::remove_file(path).ok();
    }
    written
}

/// Replaces a file by write and rename: a reader sees the old content or the new, never a mixture, and so
/// does whoever looks after a crash.
pub fn write_atomic(path: &Path, content: &[u8], durability: Durability) -> Result<()> {
    let (temporary, mut file) = beside(path)?;
    let written = (|| {
        file.write_all(content).at("write", &temporary)?;
        if durability == Durability::Synced {
            file.sync_data().at("sync", &temporary)?;
        }
        fs::rename(&temporary, path).at("replace", path)
    })();
    if written.is_err() {
        // Best effort: the error being reported matters more than the leftover.
        fs::remove_file(&temporary).ok();
    } else if durability == Durability::Synced
        && let Some(parent) = path.parent()
    {
        sync_dir(parent)?;
    }
    written
}

/// A new file beside a path, whose name starts with a dot. It is unique among those who live, by process and call, so that
/// two writers never share one; who was killed may have left one of our number, which is passed over.
fn beside(path: &Path) -> Result<(PathBuf, File)> {
    loop {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.{}", std::process::id(), counter()));
        let temporary = path.with_file_name(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.at("create", &temporary).map(|file| (temporary, file)),
        }
    }
}

fn counter() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Makes renames and creations in a directory durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).at("sync the directory", path)
}

/// Renames within one file system.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).at("rename", from)
}

/// Removes a file; fine if it is gone already. True if it was there.
pub fn remove_file(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true).at("remove", path),
    }
}

/// Removes a tree; fine if it is gone already. Never follows a symlink nor crosses a mount, and takes trees of
/// any depth.
pub fn remove_dir_all(path: &Path) -> Result<()> {
    match crate::remove::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove the directory", path),
    }
}

/// The names in a directory, sorted, without those that start with a dot (temporary files); empty if the
/// directory does not exist.
pub fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", path)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.at("list", path)?.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_path() {
        let error = read(Path::new("/nope/never")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nope/never");
        assert!(error.is_not_found());
    }

    #[test]
    fn an_atomic_write_replaces_and_leaves_no_temporary() {
        let dir = std::env::temp_dir().join(format!("dhow-base-fs-{}", std::process::id()));
        create_dir_all(&dir, 0o700).unwrap();
        let file = dir.join("record");
        write_atomic(&file, b"one", Durability::Volatile).unwrap();
        write_atomic(&file, b"two", Durability::Synced).unwrap();
        assert_eq!(read(&file).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        // A dead process of our number has left some.
        for n in 0..50 {
            std::fs::write(dir.join(format!(".record.{}.{n}", std::process::id())), "").unwrap();
        }
        write_atomic(&file, b"three", Durability::Volatile).unwrap();
        assert_eq!(read(&file).unwrap(), b"three");
        remove_dir_all(&dir).unwrap();
    }
}
