//! Images of our own making.

use base::Digest;
use oci::image::{Descriptor, ImageConfig, Manifest, RootFs, media_type};
use serde::Serialize;

use crate::manifest::DocumentError;
use crate::store::{Error, Result};
use crate::{Ingest, Resolved};

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
