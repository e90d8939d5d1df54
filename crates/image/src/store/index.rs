//! `index.json`: what other tools read of the store. Names are the truth, and it is written from them, under the
//! lock, by rename: a reader sees all of the old one or all of the new.
//!
//! A name whose index is here with all that it points to stands for the index, else for the one image of it that
//! is: a tool that is told of an index takes for granted that what is in it can be read.

use std::collections::{BTreeMap, HashSet};

use base::Digest;
use base::fs::{self, Durability};
use oci::image::{Descriptor, Index, Platform, media_type};

use super::{Error, Result, Store};
use crate::manifest::{Document, classify};
use crate::{Reference, Resolved};

/// What `oci-layout` says.
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// How deep indexes lie in indexes.
const DEEPEST: u32 = 4;

impl Store {
    /// Writes it anew. A crash before it is written leaves an old one, which only others can notice; the next
    /// change of a name, or collection of garbage, mends it. The caller holds the lock.
    pub(crate) fn write_index(&self) -> Result<()> {
        let text = self.index_text()?;
        Ok(fs::write_atomic(&self.content().join("index.json"), &text, Durability::Synced)?)
    }

    /// Whether others see what there is. The caller holds the lock.
    pub(crate) fn index_is_current(&self) -> Result<bool> {
        let text = self.index_text()?;
        Ok(fs::read_if_exists(&self.content().join("index.json"))?.is_some_and(|now| now == text))
    }

    /// What `index.json` says a name is: how a record that is broken can be made again.
    pub fn listed(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let Some(bytes) = fs::read_if_exists(&self.content().join("index.json"))? else { return Ok(None) };
        let Ok(Document::Index(index)) = classify(&bytes, None) else { return Ok(None) };
        let name = reference.canonical();
        let named = |d: &Descriptor| d.annotations.get(crate::load::REF_NAME) == Some(&name);
        Ok(index.manifests.into_iter().find(named))
    }

    fn index_text(&self) -> Result<Vec<u8>> {
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::INDEX.to_owned()),
            manifests: self.list()?.into_iter().map(|record| self.descriptor(record)).collect(),
            annotations: BTreeMap::new(),
        };
        let path = self.content().join("index.json");
        serde_json::to_vec(&index).map_err(|e| Error::Record { path, source: Some(e) })
    }

    fn descriptor(&self, record: Resolved) -> Descriptor {
        let annotations = if record.reference.is_empty() {
            BTreeMap::new()
        } else {
            BTreeMap::from([
                (crate::load::REF_NAME.to_owned(), record.reference.clone()),
                (crate::load::CONTAINERD_NAME.to_owned(), record.reference.clone()),
            ])
        };
        if let Some(source) = record.source
            && let Some((media_type, size)) = self.whole_index(&source, &record.blobs().collect(), DEEPEST)
        {
            return Descriptor { media_type, digest: source, size, platform: None, annotations };
        }
        Descriptor {
            media_type: record.media_type,
            digest: record.manifest,
            size: record.manifest_size,
            platform: record
                .artifact
                .is_none()
                .then_some(Platform { os_version: None, ..record.config.platform }),
            annotations,
        }
    }

    /// The media type and size of an index that is here with all that it points to. `kept`: what its name needs;
    /// anything else may be here now, and goes with the next collection.
    fn whole_index(&self, digest: &Digest, kept: &HashSet<Digest>, depth: u32) -> Option<(String, u64)> {
        let bytes = self.read_blob(digest).ok()?;
        let Document::Index(index) = classify(&bytes, None).ok()? else { return None };
        let here = |digest: &Digest| kept.contains(digest) && self.blob_path(digest).exists();
        // First the cheap question, which mostly settles it.
        let whole = depth > 0
            && index.manifests.iter().all(|child| here(&child.digest))
            && index.manifests.iter().all(|child| {
                match self.read_blob(&child.digest).ok().and_then(|bytes| classify(&bytes, None).ok()) {
                    Some(Document::Manifest(manifest)) => {
                        here(&manifest.config.digest) && manifest.layers.iter().all(|l| here(&l.digest))
                    }
                    Some(Document::Index(_)) => self.whole_index(&child.digest, kept, depth - 1).is_some(),
                    None => false,
                }
            });
        let media_type = index.media_type.unwrap_or_else(|| media_type::INDEX.to_owned());
        whole.then_some((media_type, bytes.len() as u64))
    }
}
