//! Images of our own making.

use std::collections::BTreeMap;
use std::io::{self, Write};

use base::Digest;
use oci::image::{Descriptor, ImageConfig, Manifest, RootFs, media_type};
use serde::Serialize;

use crate::ingest::Temporary;
use crate::manifest::{self, Document, DocumentError};
use crate::store::{Error, Result};
use crate::{Ingest, Layer, Resolved};

/// Writes an image of these layers (uncompressed tars, lowest first) into the store; the configuration's diff
/// ids are filled in. The same input gives the same digests. The image has no name before [`Ingest::commit`].
pub fn image(ingest: &Ingest, layers: &[&[u8]], mut config: ImageConfig) -> Result<Resolved> {
    let layers: Vec<Descriptor> = layers
        .iter()
        .map(|tar| {
            let digest = put(ingest, tar)?;
            Ok(descriptor(media_type::LAYER, digest, tar.len()))
        })
        .collect::<Result<_>>()?;
    config.rootfs =
        RootFs { kind: "layers".to_owned(), diff_ids: layers.iter().map(|layer| layer.digest).collect() };
    let bytes = encode("configuration", &config)?;
    let config = descriptor(media_type::CONFIG, put(ingest, &bytes)?, bytes.len());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        artifact_type: None,
        config,
        layers,
        annotations: [].into(),
    };
    let manifest = put(ingest, &encode("manifest", &manifest)?)?;
    ingest.inspect(&manifest)
}

fn put(ingest: &Ingest, bytes: &[u8]) -> Result<Digest> {
    let digest = Digest::of(bytes);
    if !ingest.has_blob(&digest)? {
        ingest.write_blob(&digest, Some(bytes.len() as u64), bytes)?;
    }
    Ok(digest)
}

fn encode(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| {
        let source = DocumentError::Json(e);
        Error::Document { what, digest: Digest::of(b""), source }
    })
}

fn descriptor(media_type: &str, digest: Digest, size: usize) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: size as u64,
        platform: None,
        annotations: [].into(),
    }
}

/// A blob in the making, whose digest shows only at its end. Gone when dropped, unless it is kept.
pub struct NewBlob<'i> {
    ingest: &'i Ingest,
    file: Temporary,
}

impl<'i> NewBlob<'i> {
    /// An empty one.
    pub fn new(ingest: &'i Ingest) -> Result<Self> {
        Ok(Self { ingest, file: ingest.temporary()? })
    }

    /// Puts it into the store, synced. `digest` is what whoever wrote it has computed on the way.
    pub fn keep(self, digest: &Digest) -> Result<()> {
        // Before it is there, so that nobody collects it in between.
        self.ingest.protect(&[*digest])?;
        self.ingest.keep(self.file, digest)
    }
}

impl Write for NewBlob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The kind is kept, so that a full disk is told from other failures.
        self.file.append(bytes).map_err(|e| io::Error::new(e.source.kind(), e))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A layer that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewLayer {
    /// The digest of its blob.
    pub digest: Digest,
    /// The length of its blob.
    pub size: u64,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// `+gzip`, `+zstd`, or empty for a plain tar.
    pub suffix: &'static str,
}

/// Writes an image over another one (or over none): its layers, this one on top if there is one, and this
/// configuration, of which `rootfs` is filled in and all else is kept, also what we do not know. The image has no name
/// before [`Ingest::commit`].
pub fn over(
    ingest: &Ingest,
    base: Option<&Resolved>,
    layer: Option<NewLayer>,
    mut config: serde_json::Value,
) -> Result<Resolved> {
    let mut manifest = match base {
        Some(base) => manifest_of(ingest, base)?,
        None => Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            config: descriptor(media_type::CONFIG, Digest::of(b""), 0),
            layers: Vec::new(),
            annotations: [].into(),
            artifact_type: None,
        },
    };
    // The old manifest's speak of the old image.
    manifest.annotations.clear();
    let docker = manifest.config.media_type == media_type::DOCKER_CONFIG;
    let mut diff_ids: Vec<Digest> = base.iter().flat_map(|base| base.diff_ids()).collect();
    if let Some(layer) = layer {
        // Docker's types have the suffix after a dot, and none for zstd that all know: there the OCI's is as good.
        let media_type = match (docker, layer.suffix) {
            (true, "+gzip") => media_type::DOCKER_LAYER_GZIP.to_owned(),
            (true, "") => media_type::DOCKER_LAYER.to_owned(),
            (_, suffix) => format!("{}{suffix}", media_type::LAYER),
        };
        manifest.layers.push(descriptor(&media_type, layer.digest, layer.size as usize));
        diff_ids.push(layer.diff_id);
    }
    config["rootfs"] = serde_json::json!({ "type": "layers", "diff_ids": diff_ids });
    let bytes = encode("configuration", &config)?;
    manifest.config = descriptor(&manifest.config.media_type, put(ingest, &bytes)?, bytes.len());
    let manifest = put(ingest, &encode("manifest", &manifest)?)?;
    ingest.inspect(&manifest)
}

/// Writes an image of layers that are in the store (lowest first) with this configuration, of which `rootfs` is filled in,
/// and with annotations of its manifest. All of it has the OCI's types, whichever the layers came with. The image has no name
/// before [`Ingest::commit`]; the same input gives the same digests.
pub fn of_layers(
    ingest: &Ingest,
    layers: &[Layer],
    mut config: ImageConfig,
    annotations: BTreeMap<String, String>,
) -> Result<Resolved> {
    let diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids };
    let bytes = encode("configuration", &config)?;
    let layers = layers.iter().map(|layer| {
        let media_type = match &*layer.media_type {
            media_type::DOCKER_LAYER_GZIP => media_type::LAYER_GZIP,
            media_type::DOCKER_LAYER => media_type::LAYER,
            other => other,
        };
        descriptor(media_type, layer.digest, layer.size as usize)
    });
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        artifact_type: None,
        config: descriptor(media_type::CONFIG, put(ingest, &bytes)?, bytes.len()),
        layers: layers.collect(),
        annotations,
    };
    let manifest = put(ingest, &encode("manifest", &manifest)?)?;
    ingest.inspect(&manifest)
}

fn manifest_of(ingest: &Ingest, image: &Resolved) -> Result<Manifest> {
    let refused = |source| Error::Document { what: "manifest", digest: image.manifest, source };
    match manifest::classify(&ingest.store().read_blob(&image.manifest)?, None).map_err(refused)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(refused(DocumentError::Neither)),
    }
}
