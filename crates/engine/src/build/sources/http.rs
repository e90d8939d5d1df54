//! Files from the web: kept for the next build, which asks whether they have changed.
//!
//! ```text
//! STORE/http/<digest of the address>/    its lock: one fetch at a time
//!     body                               as it came
//!     state.json                         its version, and its digest
//! WORK/http<n>/<name>                    the same file, for this build
//! ```

use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ::build::graph::Http;
use base::fs::{At, Durability};
use base::{Digest, Failure, Hasher, Kind};
use registry::Client;
use registry::download::{DownloadError, Version, Wanted, Watch};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use serde::{Deserialize, Serialize};
use state::lock::Lock;

use super::git::{Places, shown};
use super::hold;
use crate::build::cancel::Cancel;

/// Nobody adds a larger file to an image; a server could send for ever.
const LARGEST: u64 = 64 << 30;
/// Only its owner's, as BuildKit has it; `--chmod` says otherwise.
const MODE: u32 = 0o600;

/// A file from the web.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// A directory with nothing else in it, open for reading.
    pub(crate) root: OwnedFd,
}

/// Why a file from the web cannot be had. No error has a login in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("cannot fetch {url}")]
    Download { url: String, source: Box<DownloadError> },
    #[error("{url} has the digest {found}, not {wanted}")]
    Checksum { url: String, wanted: String, found: Digest },
    #[error("the build was interrupted")]
    Interrupted,
    #[error("`{0}` is no name of a file")]
    Name(String),
    #[error(transparent)]
    File(#[from] base::fs::Error),
}

impl Failure for HttpError {
    fn kind(&self) -> Kind {
        match self {
            Self::Download { source, .. } => source.kind(),
            Self::Checksum { .. } => Kind::Corrupt,
            Self::Name(_) | Self::Interrupted => Kind::Invalid,
            Self::File(e) => e.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Download { source, .. } => source.hints(),
            Self::Checksum { found, .. } => {
                vec![format!("if that is the file you want, write --checksum={found}")]
            }
            Self::Name(_) => vec!["name the file: end the target without a slash".to_owned()],
            Self::Interrupted => Vec::new(),
            Self::File(e) => e.hints(),
        }
    }
}

/// What is known of the body.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    etag: Option<String>,
    modified: Option<String>,
    digest: Option<Digest>,
}

type Result<T> = std::result::Result<T, HttpError>;

/// Fetches a file, unless it is here and has not changed.
pub(crate) fn fetch(http: &Http, places: Places<'_>, client: &Client, cancel: &Cancel) -> Result<Fetched> {
    if matches!(&*http.name, "" | "." | "..") || http.name.contains(['/', '\0']) {
        return Err(HttpError::Name(http.name.escape_debug().take(200).collect()));
    }
    let (body, _lock) = kept(&http.url, http.checksum.as_deref(), places, client, cancel)?;
    let directory = fresh(places.work)?;
    let path = directory.join(&http.name);
    if fs::hard_link(&body, &path).is_err() {
        // Another file system, or too many names.
        let time = fs::metadata(&body).and_then(|stat| stat.modified()).at("look at", &body)?;
        fs::copy(&body, &path).at("copy", &body)?;
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(time))
            .at("set the time of", &path)?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, &directory, flags, Mode::empty()).at("open", &directory)?;
    Ok(Fetched { root })
}

/// The same for what is read at once.
pub(crate) fn open(url: &str, places: Places<'_>, client: &Client, cancel: &Cancel) -> Result<File> {
    let (body, ..) = kept(url, None, places, client, cancel)?;
    Ok(base::fs::open(&body)?)
}

/// As long as the build goes on. A file that is fetched is shown when it is there.
struct Going<'c>(&'c Cancel);

impl Watch for Going<'_> {
    fn begins(&self, _: Option<u64>) {}

    fn came(&self, _: u64) {}

    fn goes_on(&self) -> bool {
        self.0.check().is_ok()
    }
}

/// The body, as it is now.
fn kept(
    url: &str,
    checksum: Option<&str>,
    places: Places<'_>,
    client: &Client,
    cancel: &Cancel,
) -> Result<(PathBuf, Lock)> {
    let own = places.store.join("http").join(Digest::of(url.as_bytes()).hex());
    let lock = hold(&own, cancel)?.ok_or(HttpError::Interrupted)?;
    let (body, state_file) = (own.join("body"), own.join("state.json"));
    let state = whole(&state_file, &body).unwrap_or_default();
    if let (Some(digest), Some(wanted)) = (state.digest, checksum)
        && digest.to_string() == wanted
    {
        return Ok((body, lock));
    }
    let unless = Version { etag: state.etag, modified: state.modified };
    let coming = own.join("coming");
    let mut out = Hashed { file: create(&coming)?, hasher: Hasher::default() };
    let wanted = Wanted { unless, most: Some(LARGEST) };
    let came = client.download_unless(url, &wanted, &mut out, &Going(cancel));
    let came = came.map_err(|source| match source {
        DownloadError::Stopped => HttpError::Interrupted,
        source => HttpError::Download { url: shown(url), source: Box::new(source) },
    });
    let digest = match (came, state.digest) {
        (Ok(Some(came)), _) => {
            let (digest, _) = out.hasher.finish();
            set_time(&coming, came.version.modified.as_deref())?;
            // Without a state there is no body: so nobody takes the old one's for the new one's.
            base::fs::remove_file(&state_file)?;
            base::fs::rename(&coming, &body)?;
            let Version { etag, modified } = came.version;
            let state =
                serde_json::to_vec(&State { etag, modified, digest: Some(digest) }).unwrap_or_default();
            base::fs::write_atomic(&state_file, &state, Durability::Volatile)?;
            digest
        }
        (Ok(None), Some(digest)) => digest,
        (Ok(None), None) => {
            let source = Box::new(DownloadError::Changed { host: shown(url) });
            return Err(HttpError::Download { url: shown(url), source });
        }
        (Err(error), _) => {
            base::fs::remove_file(&coming).ok();
            return Err(error);
        }
    };
    base::fs::remove_file(&coming)?;
    match checksum {
        Some(wanted) if digest.to_string() != wanted => {
            Err(HttpError::Checksum { url: shown(url), wanted: wanted.to_owned(), found: digest })
        }
        _ => Ok((body, lock)),
    }
}

/// What is known of a body that is still as it came.
fn whole(state: &Path, body: &Path) -> Option<State> {
    let state: State = serde_json::from_slice(&base::fs::read_if_exists(state).ok()??).ok()?;
    let mut hasher = HashWriter(Hasher::default());
    std::io::copy(&mut BufReader::with_capacity(1 << 20, File::open(body).ok()?), &mut hasher).ok()?;
    (state.digest == Some(hasher.0.finish().0)).then_some(state)
}

fn create(path: &Path) -> Result<File> {
    base::fs::remove_file(path)?;
    Ok(File::options().write(true).create_new(true).mode(MODE).open(path).at("create", path)?)
}

/// When the server says that it was changed; at the beginning of time, where it says nothing.
fn set_time(path: &Path, modified: Option<&str>) -> Result<()> {
    let parsed = modified.and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    let time = Timespec { tv_sec: parsed.map_or(0, |time| time.timestamp().as_second()), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).at("set the time of", path)?)
}

fn fresh(work: &Path) -> Result<PathBuf> {
    for number in 0_u32.. {
        let path = work.join(format!("http{number}"));
        match fs::DirBuilder::new().mode(0o755).create(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => return Ok(other.map(|()| path.clone()).at("create the directory", &path)?),
        }
    }
    Ok(work.to_owned())
}

struct Hashed {
    file: File,
    hasher: Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

struct HashWriter(Hasher);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
