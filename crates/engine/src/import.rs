//! `import`: an archive of a root file system becomes an image of one layer.

use std::io::Read;
use std::path::PathBuf;

use base::progress::Progress;
use base::{Digest, Failure, Kind, Timestamp};
use image::write::{NewBlob, NewLayer, over};
use rootfs::Compression;
use serde_json::{Value, json};

use crate::change::{self, Config};
use crate::error::Result;
use crate::inspect::rfc3339;
use crate::{Engine, tag};

/// Where the archive is.
#[derive(Debug, Clone)]
pub enum ImportSource {
    /// A file.
    Path(PathBuf),
    /// Standard input.
    Stdin,
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
    source: rootfs::pack::StreamError,
}

impl Failure for ImportError {
    fn kind(&self) -> Kind {
        self.source.kind()
    }

    fn hints(&self) -> Vec<String> {
        self.source.hints()
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
        let platform = crate::pull::platform_of(options.platform.as_deref())?;
        let mut execution = Config::new();
        change::apply(&mut execution, &options.changes)?;
        let (origin, mut reader): (String, Box<dyn Read>) = match source {
            ImportSource::Path(path) => (path.display().to_string(), Box::new(base::fs::open(path)?)),
            ImportSource::Stdin => ("-".to_owned(), Box::new(std::io::stdin().lock())),
        };
        let store = self.image_store()?;
        self.layer_store().sweep()?;
        let ingest = store.ingest()?;
        let mut blob = NewBlob::new(&ingest)?;
        let threads = crate::info::processors() as usize;
        let (packed, compression) =
            rootfs::pack::layer_of(&mut reader, threads, &self.config.unpack.limits(), &mut blob)
                .map_err(|source| ImportError { origin: origin.clone(), source })?;
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
        Ok(ingest.commit(name.as_ref(), &image.manifest, None)?.id)
    }
}
