//! `pull`: an image comes from a registry.
//!
//! Every layer is on its way at once: its bytes go from the network through the store's receiver, which
//! verifies and keeps them, into the unpacker. The name is written last, when all of it is here; a kill before
//! that leaves temporary files, which the next pull or load removes.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;

use base::progress::{Progress, Step};
use base::{Digest, Failure, Kind};
use image::{Document, Ingest, Layer, Reference, Resolved, choose_platform, classify, platform};
use registry::{BlobRequest, Client, Credentials, Location};
use rootfs::LayerStore;

use crate::error::{Error, Result};
use crate::unpack::unpack_from_store;
use crate::{Engine, ImageSummary};

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// `os/arch[/variant]`; none: this machine's.
    pub platform: Option<String>,
    /// Say nothing of single layers.
    pub quiet: bool,
}

/// What a pull brought.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The canonical reference: `docker.io/library/debian:12`.
    pub reference: String,
    /// The digest that the registry knows it by (of the index, where there is one).
    pub digest: Digest,
    /// New or not.
    pub status: PullStatus,
    /// The image.
    pub image: ImageSummary,
}

/// Whether a pull changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStatus {
    /// The name meant this image before.
    UpToDate,
    /// The name means another image now, or is new.
    Newer,
}

/// Why a pull failed, besides what its parts say.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error("cannot pull {reference}: {cause}")]
    Pull { reference: String, cause: Error },
    #[error("invalid platform `{0}`: want os/architecture[/variant], such as linux/arm64")]
    Platform(String),
    #[error("there is no image for {wanted} under that name; there is one for: {}", .offered.join(", "))]
    NoPlatform { wanted: String, offered: Vec<String> },
    #[error("an index within an index")]
    NestedIndex,
}

impl Failure for PullError {
    fn kind(&self) -> Kind {
        match self {
            Self::Pull { cause, .. } => cause.kind(),
            Self::Platform(_) => Kind::Invalid,
            Self::NoPlatform { .. } => Kind::NotFound,
            Self::NestedIndex => Kind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Pull { cause, .. } => cause.hints(),
            Self::NoPlatform { offered, .. } => {
                offered.first().map(|p| format!("ask for one of them: --platform {p}")).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Engine {
    /// Pulls an image, all its layers at once.
    pub fn pull(&self, reference: &str, options: &PullOptions, progress: &dyn Progress) -> Result<Pulled> {
        let reference: Reference = reference.parse()?;
        let wanted = match &options.platform {
            Some(text) => platform::parse(text).ok_or_else(|| PullError::Platform(text.clone()))?,
            None => platform::host(),
        };
        self.pull_platform(&reference, &wanted, progress)
            .map_err(|cause| PullError::Pull { reference: reference.canonical(), cause }.into())
    }

    fn pull_platform(
        &self,
        reference: &Reference,
        wanted: &oci::image::Platform,
        progress: &dyn Progress,
    ) -> Result<Pulled> {
        let store = self.image_store()?;
        let before = store.resolve(reference)?;
        let client = Client::new(registry::Settings { credentials: credentials()?, ..Default::default() })?;
        let location =
            Location { host: reference.registry().to_owned(), repository: reference.repository().to_owned() };
        let ingest = store.ingest()?;
        self.layer_store().sweep()?;

        let by = reference
            .digest()
            .map_or_else(|| reference.tag().unwrap_or("latest").to_owned(), std::string::ToString::to_string);
        let top = client.manifest(&location, &by)?;
        ingest.write_blob(&top.digest, Some(top.bytes.len() as u64), &top.bytes[..])?;
        let (manifest, source) = match classify(&top.bytes, top.media_type.as_deref())? {
            Document::Manifest(_) => (top.digest, None),
            Document::Index(index) => {
                let chosen = choose_platform(&index, wanted).ok_or_else(|| {
                    let offered = index.manifests.iter().filter_map(|d| d.platform.as_ref());
                    PullError::NoPlatform {
                        wanted: platform::display(wanted),
                        offered: offered.filter(|p| p.os != "unknown").map(platform::display).collect(),
                    }
                })?;
                if !ingest.has_blob(&chosen.digest)? {
                    let answer = client.manifest(&location, &chosen.digest.to_string())?;
                    ingest.write_blob(&chosen.digest, Some(chosen.size), &answer.bytes[..])?;
                }
                (chosen.digest, Some(top.digest))
            }
        };
        let image = pull_configuration(&client, &location, &ingest, &manifest)?;
        self.pull_layers(&client, &location, &ingest, &image, progress)?;
        let image = ingest.commit(Some(reference), &manifest, source.as_ref())?;
        let same = before.is_some_and(|before| before.id == image.id);
        Ok(Pulled {
            reference: reference.canonical(),
            digest: top.digest,
            status: if same { PullStatus::UpToDate } else { PullStatus::Newer },
            image: crate::images::summary(&image, Vec::new()),
        })
    }

    fn pull_layers(
        &self,
        client: &Client,
        location: &Location,
        ingest: &Ingest,
        image: &Resolved,
        progress: &dyn Progress,
    ) -> Result<()> {
        let layers = self.layer_store();
        ingest.protect(&image.layers.iter().flat_map(|l| [l.digest, l.diff_id]).collect::<Vec<_>>())?;
        let mut missing: HashMap<Digest, &Layer> = HashMap::new();
        let mut requests = Vec::new();
        let mut packed = Vec::new();
        for layer in &image.layers {
            if !ingest.has_blob(&layer.digest)? {
                // The same layer may be in an image twice; it is fetched once.
                if missing.insert(layer.digest, layer).is_none() {
                    progress.begin(&layer.digest.short(), Step::Download, Some(layer.size));
                    requests.push(BlobRequest { digest: layer.digest, size: layer.size });
                }
            } else if layers.has(&layer.diff_id) {
                progress.begin(&layer.digest.short(), Step::Exists, Some(layer.size));
                progress.end(&layer.digest.short(), Step::Exists);
            } else {
                packed.push(layer.clone());
            }
        }
        let sink = |request: &BlobRequest, reader: &mut dyn Read| -> std::result::Result<(), SinkError> {
            let layer = missing.get(&request.digest).copied().ok_or(SinkError::Unasked(request.digest))?;
            receive(ingest, &layers, layer, reader, progress).map_err(SinkError::Layer)
        };
        client.blobs(location, &requests, &sink)?;
        unpack_from_store(ingest.store(), &layers, &packed, progress)
    }

    /// The store of unpacked layers.
    pub(crate) fn layer_store(&self) -> LayerStore {
        LayerStore::open(&self.instance.layers(), &self.instance.removing())
    }

    /// The store of images.
    pub(crate) fn image_store(&self) -> Result<image::Store> {
        Ok(image::Store::open(&self.instance)?)
    }
}

/// The image's configuration, and with it what its layers are when unpacked.
fn pull_configuration(
    client: &Client,
    location: &Location,
    ingest: &Ingest,
    manifest: &Digest,
) -> Result<Resolved> {
    let bytes = ingest.store().read_blob(manifest)?;
    let Document::Manifest(parsed) = classify(&bytes, None)? else {
        return Err(PullError::NestedIndex.into());
    };
    let config = BlobRequest { digest: parsed.config.digest, size: parsed.config.size };
    if !ingest.has_blob(&config.digest)? {
        let bytes = client.small_blob(location, &config)?;
        ingest.write_blob(&config.digest, Some(config.size), &bytes[..])?;
    }
    Ok(ingest.inspect(manifest)?)
}

/// One layer, from the network to its place.
fn receive(
    ingest: &Ingest,
    layers: &LayerStore,
    layer: &Layer,
    reader: &mut dyn Read,
    progress: &dyn Progress,
) -> Result<()> {
    let id = layer.digest.short();
    let counted = Counted { inner: reader, id: &id, progress };
    let mut receiver = ingest.receive(&layer.digest, Some(layer.size), counted)?;
    let unpacked = if layers.has(&layer.diff_id) {
        Ok(false)
    } else {
        layers.unpack(&layer.diff_id, &layer.media_type, &mut receiver, &|_| {})
    };
    if let Err(error) = unpacked {
        // Bytes that are not what they claim to be explain a layer that cannot be unpacked: say that.
        return Err(match receiver.finish() {
            Err(mismatch) if mismatch.kind() == Kind::Corrupt => mismatch.into(),
            _ => error.into(),
        });
    }
    receiver.finish()?;
    progress.end(&id, Step::Download);
    Ok(())
}

/// Tells of every byte that passes.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    id: &'a str,
    progress: &'a dyn Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.advance(self.id, n as u64);
        Ok(n)
    }
}

/// A failure on the way from the network to the disk, as the registry client passes it through.
#[derive(Debug, thiserror::Error)]
enum SinkError {
    #[error("{0}")]
    Layer(Error),
    #[error("the blob {0} was not asked for")]
    Unasked(Digest),
}

impl Failure for SinkError {
    fn kind(&self) -> Kind {
        match self {
            Self::Layer(error) => error.kind(),
            Self::Unasked(_) => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Layer(error) => error.hints(),
            Self::Unasked(_) => Vec::new(),
        }
    }
}

/// The user's logins, where Docker keeps them.
fn credentials() -> Result<Credentials> {
    let dir = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    match dir.or_else(home) {
        Some(dir) => Ok(Credentials::from_docker_config(&dir.join("config.json"))?),
        None => Ok(Credentials::default()),
    }
}
