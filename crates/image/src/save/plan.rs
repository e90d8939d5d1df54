//! What goes into an archive: decided first, so that its documents can stand before the layers.

use std::collections::{BTreeMap, HashSet};

use base::{Digest, Sha256Reader};
use oci::image::{Descriptor, Index, Manifest, Platform, media_type};
use serde::Serialize;

use super::{Error, Format, Result, Wanted};
use crate::load::{CONTAINERD_NAME, REF_NAME};
use crate::manifest::{Document, DocumentError, classify};
use crate::{Ingest, Reference, Resolved, Store, store};

/// The `oci-layout` file (image-layout.md).
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The members of an archive, in their order.
#[derive(Default)]
pub(super) struct Plan {
    /// Files by name.
    pub(super) files: Vec<(String, Vec<u8>)>,
    /// Blobs by digest, each once.
    pub(super) blobs: Vec<(Digest, Blob)>,
}

/// Where a blob's bytes come from.
pub(super) enum Blob {
    /// Made here.
    Made(Vec<u8>),
    /// The store, as they are: so many.
    Stored(u64),
    /// This blob of the store, decompressed: then so many.
    Unpacked(Digest, u64),
}

impl Blob {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Made(bytes) => bytes.len() as u64,
            Self::Stored(size) | Self::Unpacked(_, size) => *size,
        }
    }
}

/// An image of Docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Plan {
    pub(super) fn new(ingest: &Ingest, images: &[Wanted], format: Format) -> Result<Self> {
        let mut collector =
            Collector { ingest, seen: HashSet::new(), documents: Vec::new(), layers: Vec::new() };
        let (mut descriptors, mut items) = (Vec::new(), Vec::new());
        for Wanted { image, names } in images {
            let (top, manifest) = match format {
                Format::Docker if image.layers.iter().any(|layer| is_zstd(&layer.media_type)) => {
                    collector.unpacked(image)?
                }
                _ => collector.stored(image)?,
            };
            items.push(Item {
                config: member(&manifest.config.digest),
                repo_tags: tags(names),
                layers: manifest.layers.iter().map(|layer| member(&layer.digest)).collect(),
            });
            if names.is_empty() {
                descriptors.push(top.clone());
            }
            descriptors.extend(names.iter().map(|name| named(&top, name, format)));
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::INDEX.to_owned()),
            manifests: descriptors,
            annotations: BTreeMap::new(),
        };
        let mut files = vec![("index.json".to_owned(), json("index", &index)?)];
        if format == Format::Docker {
            files.push(("manifest.json".to_owned(), json("manifest", &items)?));
        }
        files.push(("oci-layout".to_owned(), LAYOUT.to_vec()));
        let Collector { mut documents, layers, .. } = collector;
        documents.extend(layers);
        Ok(Self { files, blobs: documents })
    }
}

/// The name of a blob in an archive.
pub(super) fn member(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn is_zstd(media_type: &str) -> bool {
    media_type.ends_with("zstd")
}

/// Docker knows tags alone, in their short form.
fn tags(names: &[Reference]) -> Option<Vec<String>> {
    let tags: Vec<String> =
        names.iter().filter(|name| name.digest().is_none()).map(ToString::to_string).collect();
    (!tags.is_empty()).then_some(tags)
}

/// Docker and containerd write the tag alone under the specification's key, and the whole name under one of their own.
fn named(top: &Descriptor, name: &Reference, format: Format) -> Descriptor {
    let mut descriptor = top.clone();
    let short = match (format, name.tag()) {
        (Format::Docker, Some(tag)) if name.digest().is_none() => tag.to_owned(),
        _ => name.canonical(),
    };
    descriptor.annotations.insert(CONTAINERD_NAME.to_owned(), name.canonical());
    descriptor.annotations.insert(REF_NAME.to_owned(), short);
    descriptor
}

fn json(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| {
        let source = DocumentError::Json(e);
        Error::Store(store::Error::Document { what, digest: Digest::of(b""), source })
    })
}

struct Collector<'i> {
    ingest: &'i Ingest,
    seen: HashSet<Digest>,
    documents: Vec<(Digest, Blob)>,
    layers: Vec<(Digest, Blob)>,
}

impl Collector<'_> {
    fn store(&self) -> &Store {
        self.ingest.store()
    }

    /// An image as it is in the store. The descriptor is that of its index, if all that the index names is here.
    fn stored(&mut self, image: &Resolved) -> Result<(Descriptor, Manifest)> {
        let bytes = self.store().read_blob(&image.manifest)?;
        let manifest = parse_manifest(&image.manifest, &bytes)?;
        self.manifest(image.manifest, bytes, &manifest)?;
        let top = match image.source {
            Some(index) => self.whole_index(&index)?,
            None => None,
        };
        Ok((top.unwrap_or_else(|| descriptor(image, image.manifest, image.manifest_size)), manifest))
    }

    fn manifest(&mut self, digest: Digest, bytes: Vec<u8>, manifest: &Manifest) -> Result<()> {
        for (blob, is_layer) in
            [(&manifest.config, false)].into_iter().chain(manifest.layers.iter().map(|layer| (layer, true)))
        {
            if !self.ingest.has_blob(&blob.digest)? {
                return Err(store::Error::MissingBlob(blob.digest).into());
            }
            if self.seen.insert(blob.digest) {
                let list = if is_layer { &mut self.layers } else { &mut self.documents };
                list.push((blob.digest, Blob::Stored(blob.size)));
            }
        }
        self.made(digest, bytes);
        Ok(())
    }

    fn made(&mut self, digest: Digest, bytes: Vec<u8>) {
        if self.seen.insert(digest) {
            self.documents.push((digest, Blob::Made(bytes)));
        }
    }

    /// An index of several platforms, if all of it is here.
    fn whole_index(&mut self, digest: &Digest) -> Result<Option<Descriptor>> {
        if !self.ingest.has_blob(digest)? {
            return Ok(None);
        }
        let bytes = self.store().read_blob(digest)?;
        let Ok(Document::Index(index)) = classify(&bytes, None) else { return Ok(None) };
        let mut all = Vec::new();
        for one in &index.manifests {
            if !self.ingest.has_blob(&one.digest)? {
                return Ok(None);
            }
            let bytes = self.store().read_blob(&one.digest)?;
            let Ok(Document::Manifest(manifest)) = classify(&bytes, None) else { return Ok(None) };
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                if !self.ingest.has_blob(&blob.digest)? {
                    return Ok(None);
                }
            }
            all.push((one.digest, bytes, manifest));
        }
        let media_type = index.media_type.clone().unwrap_or_else(|| media_type::INDEX.to_owned());
        for (digest, bytes, manifest) in all {
            self.manifest(digest, bytes, &manifest)?;
        }
        let size = bytes.len() as u64;
        self.made(*digest, bytes);
        Ok(Some(Descriptor {
            media_type,
            digest: *digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }))
    }

    /// An image whose zstd layers are decompressed, under a manifest that says so.
    fn unpacked(&mut self, image: &Resolved) -> Result<(Descriptor, Manifest)> {
        let mut manifest = parse_manifest(&image.manifest, &self.store().read_blob(&image.manifest)?)?;
        let mut sizes = BTreeMap::new();
        for (layer, diff_id) in manifest.layers.iter_mut().zip(image.diff_ids()) {
            if !is_zstd(&layer.media_type) {
                continue;
            }
            let packed = layer.digest;
            if !self.ingest.has_blob(&packed)? {
                return Err(store::Error::MissingBlob(packed).into());
            }
            let docker = image.media_type == media_type::DOCKER_MANIFEST;
            let plain = if docker { media_type::DOCKER_LAYER } else { media_type::LAYER };
            plain.clone_into(&mut layer.media_type);
            layer.digest = diff_id;
            layer.size = unpacked_size(self.store(), &packed, &diff_id)?;
            layer.annotations.clear();
            sizes.insert(diff_id, Blob::Unpacked(packed, layer.size));
        }
        for layer in manifest.layers.iter().chain([&manifest.config]) {
            let blob = match sizes.remove(&layer.digest) {
                Some(unpacked) => unpacked,
                None if self.seen.contains(&layer.digest) => continue,
                None if self.ingest.has_blob(&layer.digest)? => Blob::Stored(layer.size),
                None => return Err(store::Error::MissingBlob(layer.digest).into()),
            };
            if self.seen.insert(layer.digest) {
                let is_config = layer.digest == manifest.config.digest;
                let list = if is_config { &mut self.documents } else { &mut self.layers };
                list.push((layer.digest, blob));
            }
        }
        let bytes = json("manifest", &manifest)?;
        let digest = Digest::of(&bytes);
        let top = descriptor(image, digest, bytes.len() as u64);
        self.made(digest, bytes);
        Ok((top, manifest))
    }
}

fn parse_manifest(digest: &Digest, bytes: &[u8]) -> Result<Manifest> {
    let refused = |source| Error::Store(store::Error::Document { what: "manifest", digest: *digest, source });
    match classify(bytes, None).map_err(refused)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(refused(DocumentError::Neither)),
    }
}

fn descriptor(image: &Resolved, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: image.media_type.clone(),
        digest,
        size,
        platform: Some(Platform { os_version: None, ..image.config.platform.clone() }),
        annotations: BTreeMap::new(),
    }
}

/// The length of a layer when decompressed, and that it is the right one.
fn unpacked_size(store: &Store, packed: &Digest, diff_id: &Digest) -> Result<u64> {
    let (file, _) = store.open_blob(packed)?;
    let failed = |source| Error::Decompress { digest: *packed, source };
    let decoder = zstd::stream::read::Decoder::new(file).map_err(failed)?;
    let mut reader = Sha256Reader::new(decoder);
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(failed)?;
    let (found, size) = reader.finish();
    if found == *diff_id {
        Ok(size)
    } else {
        Err(store::Error::DamagedBlob { wanted: *diff_id, found }.into())
    }
}
