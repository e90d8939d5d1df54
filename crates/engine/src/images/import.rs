//! `import`: an archive of a root file system becomes an image of one layer.

use std::io::Read;
use std::path::PathBuf;

use base::progress::{Progress, Step};
use base::{Digest, Failure, Kind, Timestamp};
use image::write::{NewBlob, NewLayer, over};
use registry::Credentials;
use registry::download::{DownloadError, Watch};
use rootfs::Compression;
use rootfs::pack::{Packed, StreamError};
use serde_json::{Value, json};

use crate::Engine;
use crate::containers::inspect::rfc3339;
use crate::error::Result;
use crate::images::change::{self, Config};
use crate::images::tag;

/// Where the archive is.
#[derive(Debug, Clone)]
pub enum ImportSource {
    /// A file.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// On the web: `http://` or `https://`.
    Url(String),
}

impl ImportSource {
    /// As it is told, without a password.
    fn shown(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Stdin => "-".to_owned(),
            Self::Url(url) => without_login(url),
        }
    }
}

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The new image's name; none: it gets none.
    pub reference: Option<String>,
    /// What for.
    pub message: Option<String>,
    /// Instructions of a Dockerfile that change the configuration.
    pub changes: Vec<String>,
    /// `os/arch[/variant]`; none: this machine's.
    pub platform: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot import {origin}")]
struct ImportError {
    origin: String,
    source: Unreadable,
}

#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Archive(#[from] StreamError),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl Failure for ImportError {
    fn kind(&self) -> Kind {
        match &self.source {
            Unreadable::Archive(e) => e.kind(),
            Unreadable::Download(e) => e.kind(),
            Unreadable::Thread(_) => Kind::Exhausted,
        }
    }

    fn hints(&self) -> Vec<String> {
        match &self.source {
            Unreadable::Archive(e) => e.hints(),
            Unreadable::Download(e) => e.hints(),
            Unreadable::Thread(e) => base::processes::hints(e, &[]),
        }
    }
}

impl Engine {
    /// Makes an image of an archive, which may be compressed. Returns the image's id.
    pub fn import(
        &self,
        source: &ImportSource,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Digest> {
        let name = options.reference.as_deref().map(tag::new_name).transpose()?;
        let platform = crate::images::pull::platform_of(options.platform.as_deref())?;
        let mut execution = Config::new();
        change::apply(&mut execution, &options.changes)?;
        let origin = source.shown();
        let store = self.image_store()?;
        self.layer_store().sweep()?;
        let ingest = store.ingest()?;
        let mut blob = NewBlob::new(&ingest)?;
        let (threads, limits) = (crate::system::info::processors() as usize, self.config.unpack.limits());
        let mut pack = |archive: &mut dyn Read| rootfs::pack::layer_of(archive, threads, &limits, &mut blob);
        let packed = match source {
            ImportSource::Path(path) => pack(&mut base::fs::open(path)?).map_err(Unreadable::from),
            ImportSource::Stdin => pack(&mut std::io::stdin().lock()).map_err(Unreadable::from),
            ImportSource::Url(url) => {
                downloaded(&self.registry_client_with(Credentials::default())?, url, &origin, progress, pack)
            }
        };
        let (packed, compression) =
            packed.map_err(|source| ImportError { origin: origin.clone(), source })?;
        blob.keep(&packed.digest)?;
        let suffix = if compression == Compression::Zstd { "+zstd" } else { "+gzip" };
        let layer = NewLayer { digest: packed.digest, size: packed.size, diff_id: packed.diff_id, suffix };
        let now = rfc3339(Timestamp::now());
        let comment = options.message.clone().unwrap_or_else(|| format!("Imported from {origin}"));
        let mut config = json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "created": now,
            "config": Value::Object(execution),
            "history": [{ "created": now, "comment": comment }],
        });
        if let Some(variant) = platform.variant {
            config["variant"] = Value::from(variant);
        }
        let image = over(&ingest, None, Some(layer), config)?;
        self.unpack_new(&ingest, &image, self.config.unpack.limits(), progress)?;
        let id = ingest.commit(name.as_ref(), &image.manifest, None)?.id;
        let shown = id.to_string();
        self.note_image("import", &shown, &name.map_or(shown.clone(), |name| name.to_string()));
        Ok(id)
    }
}

/// Packs what comes from the web while it comes.
fn downloaded(
    client: &registry::Client,
    url: &str,
    origin: &str,
    progress: &dyn Progress,
    pack: impl FnOnce(&mut dyn Read) -> std::result::Result<(Packed, Compression), StreamError>,
) -> std::result::Result<(Packed, Compression), Unreadable> {
    let (mut reader, mut writer) = std::io::pipe().map_err(StreamError::Read)?;
    std::thread::scope(|scope| {
        let fetching = move || {
            let watch = Watched { origin, progress };
            client.download(url, &mut writer, &watch)?;
            progress.end(origin, Step::Download);
            Ok(())
        };
        let fetched = std::thread::Builder::new().name("download".to_owned()).spawn_scoped(scope, fetching);
        let fetched = fetched.map_err(Unreadable::Thread)?;
        let packed = pack(&mut reader);
        // Whoever writes to it waits no more.
        drop(reader);
        match fetched.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            // What we would not read is the archive's fault.
            Ok(()) | Err(DownloadError::Write(_)) => Ok(packed?),
            // An archive that breaks off in the middle is the download's.
            Err(error) => Err(error.into()),
        }
    })
}

struct Watched<'w> {
    origin: &'w str,
    progress: &'w dyn Progress,
}

impl Watch for Watched<'_> {
    fn begins(&self, total: Option<u64>) {
        self.progress.begin(self.origin, Step::Download, total);
    }

    fn came(&self, bytes: u64) {
        self.progress.advance(self.origin, bytes);
    }
}

/// An address without a name and a password before its host.
fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        assert_eq!(without_login("https://me:secret@h:1/a@b?c"), "https://h:1/a@b?c");
        assert_eq!(without_login("http://h/x.tar"), "http://h/x.tar");
    }
}
