//! What a registry must understand of a manifest: what it is, what it needs, whom it refers to.

use std::collections::BTreeMap;

use base::Digest;
use image::{Document, classify};
use oci::image::media_type;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};

/// The largest manifest: the specification asks for 4 MiB at least ("Pushing Manifests"), and no client takes more.
pub const MAX_MANIFEST: u64 = image::manifest::MAX_DOCUMENT;

/// A manifest's record, and what a list of referrers tells of it (a descriptor).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What kind of artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What was understood.
#[derive(Debug)]
pub(super) struct Understood {
    pub(super) described: Described,
    pub(super) subject: Option<Digest>,
    /// Blobs that it needs.
    pub(super) blobs: Vec<Digest>,
    /// The sizes that it says these have.
    pub(super) sizes: BTreeMap<Digest, u64>,
    /// Manifests that it needs.
    pub(super) manifests: Vec<Digest>,
}

/// What `classify` leaves aside.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rest {
    artifact_type: Option<String>,
    subject: Option<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digest,
}

/// Reads a manifest that calls itself (or is called) something. Bytes that could be taken for something else than they
/// are called are refused (CVE-2021-41190).
pub(super) fn understand(bytes: &[u8], content_type: Option<&str>) -> Result<Understood> {
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(Error::TooLarge(MAX_MANIFEST));
    }
    let refused = |e: &dyn std::error::Error| Error::Document(base::failure::chain(e));
    let document = classify(bytes, content_type).map_err(|e| refused(&e))?;
    let rest: Rest = serde_json::from_slice(bytes).map_err(|e| refused(&e))?;
    let said = content_type.map(|said| said.split(';').next().unwrap_or(said).trim().to_owned());
    let known = |said: &String| {
        [media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX]
            .contains(&&**said)
    };
    let said = said.filter(known);
    let mut sizes = BTreeMap::new();
    let (media_type, artifact_type, annotations, blobs, manifests) = match document {
        Document::Manifest(manifest) => {
            let own = manifest.media_type.or(said).unwrap_or_else(|| media_type::MANIFEST.to_owned());
            // "If the artifactType is missing, config.mediaType is used" (distribution specification, referrers).
            let kind =
                rest.artifact_type.filter(|kind| !kind.is_empty()).or(Some(manifest.config.media_type));
            let mut blobs = vec![manifest.config.digest];
            sizes.insert(manifest.config.digest, manifest.config.size);
            for layer in &manifest.layers {
                sizes.insert(layer.digest, layer.size);
                // These lie elsewhere, by their authors' wish.
                if !is_foreign(&layer.media_type) {
                    blobs.push(layer.digest);
                }
            }
            (own, kind, manifest.annotations, blobs, Vec::new())
        }
        Document::Index(index) => {
            let own = index.media_type.or(said).unwrap_or_else(|| media_type::INDEX.to_owned());
            let kind = rest.artifact_type.filter(|kind| !kind.is_empty());
            let manifests = index.manifests.iter().map(|descriptor| descriptor.digest).collect();
            (own, kind, index.annotations, Vec::new(), manifests)
        }
    };
    let digest = Digest::of(bytes);
    let size = bytes.len() as u64;
    let described = Described { media_type, digest, size, artifact_type, annotations };
    Ok(Understood { described, subject: rest.subject.map(|subject| subject.digest), blobs, sizes, manifests })
}

fn is_foreign(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest(extra: &str, layer: &str) -> String {
        let digest = Digest::of(b"x");
        format!(
            r#"{{"schemaVersion":2,{extra}"config":{{"mediaType":"application/x","digest":"{digest}","size":1}},
                "layers":[{{"mediaType":"{layer}","digest":"{}","size":2}}]}}"#,
            Digest::of(b"y")
        )
    }

    #[test]
    fn artifacts_are_understood_and_foreign_layers_not_asked_for() {
        let subject = Digest::of(b"s");
        let extra = format!(
            r#""mediaType":"{}","artifactType":"a/b","subject":{{"mediaType":"m","digest":"{subject}","size":3}},"#,
            media_type::MANIFEST
        );
        let text = manifest(&extra, media_type::LAYER);
        let found = understand(text.as_bytes(), Some(media_type::MANIFEST)).unwrap();
        assert_eq!(found.described.artifact_type.as_deref(), Some("a/b"));
        assert_eq!(found.subject, Some(subject));
        assert_eq!(found.blobs, [Digest::of(b"x"), Digest::of(b"y")]);
        let foreign = manifest("", "application/vnd.oci.image.layer.nondistributable.v1.tar");
        let found = understand(foreign.as_bytes(), None).unwrap();
        assert_eq!(found.blobs, [Digest::of(b"x")]);
        assert_eq!(found.described.artifact_type.as_deref(), Some("application/x"));
    }

    #[test]
    fn no_layers_are_none_however_they_are_written() {
        let config = format!(r#"{{"mediaType":"a/b","digest":"{}","size":1}}"#, Digest::of(b"x"));
        for layers in ["[]", "null"] {
            let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":{layers}}}"#);
            assert_eq!(understand(text.as_bytes(), None).unwrap().blobs, [Digest::of(b"x")], "{layers}");
        }
        let text = format!(r#"{{"schemaVersion":2,"config":{config}}}"#);
        assert!(understand(text.as_bytes(), None).is_err());
    }

    #[test]
    fn what_calls_itself_something_else_is_refused() {
        let own = format!(r#""mediaType":"{}","#, media_type::MANIFEST);
        let text = manifest(&own, media_type::LAYER);
        assert!(understand(text.as_bytes(), Some(media_type::INDEX)).is_err());
        assert!(understand(text.as_bytes(), Some(media_type::DOCKER_MANIFEST)).is_err());
        assert!(understand(b"{}", Some(media_type::MANIFEST)).is_err());
        let huge = vec![b' '; MAX_MANIFEST as usize + 1];
        assert!(matches!(understand(&huge, None), Err(Error::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..400, byte: u8, cut in 0usize..500, said in ".{0,20}") {
            let mut bytes = manifest(r#""artifactType":"a","#, media_type::LAYER).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            let _ = understand(&bytes, Some(&said));
        }
    }
}
