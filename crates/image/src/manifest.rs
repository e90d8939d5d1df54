//! Manifests, indexes and configurations: bytes from outside become values, or are refused.
//!
//! The same bytes must never be a manifest to one reader and an index to another (GHSA-5j5w-g665-5m35,
//! CVE-2021-41190): what has the fields of both, or calls itself other than the registry calls it, is refused.

use base::{Failure, Kind};
use oci::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The longest manifest, index or configuration that we read: the distribution specification asks registries
/// to take manifests of up to 4 MiB, and none is known to take more.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// What the bytes under a name are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and most are manifests")]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images by platform.
    Index(Index),
}

/// Why bytes are no manifest, index or configuration that we can use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// More than [`MAX_DOCUMENT`].
    #[error("it is larger than {} MiB", MAX_DOCUMENT >> 20)]
    TooLarge,
    /// Not the JSON that it should be.
    #[error("it is not the JSON of one")]
    Json(#[source] serde_json::Error),
    /// Docker's schema 1.
    #[error("it is in Docker's old schema 1, which carries no digests that could be verified")]
    Schema1,
    /// It could be read as a manifest and as an index.
    #[error("it is ambiguous: it has the fields of a manifest and of an index")]
    Ambiguous,
    /// It says that it is something else than its fields, or than the registry says.
    #[error("it is ambiguous: it is called `{called}`, but is {found}")]
    Contradiction {
        /// A media type.
        called: String,
        /// Another media type, or what the fields make it.
        found: String,
    },
    /// Neither a manifest's fields nor an index's.
    #[error("it is neither a manifest nor an index")]
    Neither,
    /// An artifact that is not an image.
    #[error("it is not a container image: its configuration is of type `{0}`")]
    NotAnImage(String),
    /// A layer that we cannot unpack.
    #[error("a layer is of type `{0}`, which we cannot unpack")]
    LayerType(String),
    /// Manifest and configuration do not fit together.
    #[error("it has {layers} layers, but its configuration tells of {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// For another system.
    #[error("it is an image for {0}, not for Linux")]
    System(String),
    /// Sizes that cannot be true.
    #[error("its sizes add up to more than there can be")]
    Sizes,
}

impl Failure for DocumentError {
    fn kind(&self) -> Kind {
        match self {
            Self::Schema1 | Self::NotAnImage(_) | Self::LayerType(_) | Self::System(_) => Kind::Unsupported,
            _ => Kind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Schema1 => {
                vec!["push the image again with a current tool, which writes schema 2 or OCI".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// Only what tells the documents apart. A field that occurs twice is an error of serde's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

/// Tells a manifest from an index, and refuses what could be read as both. `content_type` is what the registry
/// (or the descriptor that points here) says it is.
pub fn classify(bytes: &[u8], content_type: Option<&str>) -> Result<Document, DocumentError> {
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(DocumentError::TooLarge);
    }
    // Parameters (`; charset=utf-8`) do not matter, and general types say nothing.
    let said = content_type.map(|t| t.split(';').next().unwrap_or(t).trim()).filter(|t| class(t).is_some());
    if said.is_some_and(|t| class(t) == Some(Class::Schema1)) {
        return Err(DocumentError::Schema1);
    }
    refuse_list(bytes)?;
    let probe: Probe = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
    if probe.schema_version == Some(1) || probe.fs_layers.is_some() {
        return Err(DocumentError::Schema1);
    }
    let found = match (probe.manifests.is_some(), probe.config.is_some() || probe.layers.is_some()) {
        (true, true) => return Err(DocumentError::Ambiguous),
        (true, false) => Class::Index,
        (false, true) => Class::Manifest,
        (false, false) => return Err(DocumentError::Neither),
    };
    for called in [said, probe.media_type.as_deref()].into_iter().flatten() {
        if class(called) != Some(found) {
            return Err(DocumentError::Contradiction {
                called: called.chars().take(100).collect(),
                found: if found == Class::Index { "an index" } else { "a manifest" }.to_owned(),
            });
        }
    }
    if let (Some(said), Some(own)) = (said, probe.media_type)
        && said != own
    {
        return Err(DocumentError::Contradiction { called: said.to_owned(), found: own });
    }
    match found {
        Class::Index => serde_json::from_slice(bytes).map(Document::Index),
        _ => serde_json::from_slice(bytes).map(Document::Manifest),
    }
    .map_err(DocumentError::Json)
}

/// To serde a list of values is as good as an object of named ones; to everybody else it is none of these
/// documents.
fn refuse_list(bytes: &[u8]) -> Result<(), DocumentError> {
    match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'[') => Err(DocumentError::Neither),
        _ => Ok(()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Manifest,
    Index,
    Schema1,
}

fn class(media_type: &str) -> Option<Class> {
    match media_type {
        media_type::MANIFEST | media_type::DOCKER_MANIFEST => Some(Class::Manifest),
        media_type::INDEX | media_type::DOCKER_INDEX => Some(Class::Index),
        media_type::DOCKER_SCHEMA1 | "application/vnd.docker.distribution.manifest.v1+json" => {
            Some(Class::Schema1)
        }
        _ => None,
    }
}

/// Whether we can unpack such a layer. Compression is told by the bytes themselves, so the suffix is free.
fn is_layer(media_type: &str) -> bool {
    let base = media_type.split_once('+').map_or(media_type, |(base, _)| base);
    let suffix = &media_type[base.len()..];
    match base {
        media_type::LAYER | "application/vnd.oci.image.layer.nondistributable.v1.tar" => {
            matches!(suffix, "" | "+gzip" | "+zstd")
        }
        _ => [
            media_type::DOCKER_LAYER,
            media_type::DOCKER_LAYER_GZIP,
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ]
        .contains(&media_type),
    }
}

/// The media type that a descriptor of this manifest should carry.
pub fn own_type(manifest: &Manifest) -> &str {
    match manifest.media_type.as_deref() {
        Some(own) => own,
        None if manifest.config.media_type == media_type::DOCKER_CONFIG => media_type::DOCKER_MANIFEST,
        None => media_type::MANIFEST,
    }
}

/// What kind of artifact a manifest is; `None`: it is an image.
pub fn artifact_type(manifest: &Manifest) -> Option<&str> {
    let config = &*manifest.config.media_type;
    let image = [media_type::CONFIG, media_type::DOCKER_CONFIG].contains(&config);
    (!image).then(|| manifest.artifact_type.as_deref().unwrap_or(config))
}

/// Checks that a manifest is an image whose layers we can unpack; before anything of it is fetched.
pub fn check_manifest(manifest: &Manifest) -> Result<(), DocumentError> {
    let Descriptor { media_type: config, size, .. } = &manifest.config;
    if artifact_type(manifest).is_some() {
        return Err(DocumentError::NotAnImage(config.chars().take(100).collect()));
    }
    if *size > MAX_DOCUMENT {
        return Err(DocumentError::TooLarge);
    }
    if let Some(other) = manifest.layers.iter().find(|l| !is_layer(&l.media_type)) {
        return Err(DocumentError::LayerType(other.media_type.chars().take(100).collect()));
    }
    total_size(manifest).map(drop)
}

/// The bytes of configuration and layers.
pub(crate) fn total_size(manifest: &Manifest) -> Result<u64, DocumentError> {
    let mut sizes = manifest.layers.iter().map(|l| l.size);
    sizes
        .try_fold(manifest.config.size, u64::checked_add)
        .filter(|sum| i64::try_from(*sum).is_ok())
        .ok_or(DocumentError::Sizes)
}

/// Reads a configuration and checks that it belongs to this manifest.
pub fn parse_config(bytes: &[u8], manifest: &Manifest) -> Result<ImageConfig, DocumentError> {
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(DocumentError::TooLarge);
    }
    refuse_list(bytes)?;
    let config: ImageConfig = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(DocumentError::LayerCount { layers, diff_ids });
    }
    if !matches!(&*config.platform.os, "" | "linux") {
        return Err(DocumentError::System(config.platform.os.chars().take(40).collect()));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Digest;
    use proptest::prelude::*;

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":3}}"#, Digest::of(b"abc"))
    }

    fn manifest(extra: &str) -> String {
        let (config, layer) = (descriptor(media_type::CONFIG), descriptor(media_type::LAYER_GZIP));
        format!(r#"{{"schemaVersion":2,{extra}"config":{config},"layers":[{layer}]}}"#)
    }

    fn index(extra: &str) -> String {
        format!(r#"{{"schemaVersion":2,{extra}"manifests":[{}]}}"#, descriptor(media_type::MANIFEST))
    }

    #[test]
    fn documents_are_told_by_their_fields() {
        for content_type in [None, Some(media_type::MANIFEST), Some("application/json; charset=utf-8")] {
            assert!(matches!(classify(manifest("").as_bytes(), content_type), Ok(Document::Manifest(_))));
        }
        let with_parameter = format!("{}; charset=utf-8", media_type::INDEX);
        for content_type in [None, Some(media_type::INDEX), Some(&*with_parameter), Some("text/plain")] {
            assert!(matches!(classify(index("").as_bytes(), content_type), Ok(Document::Index(_))));
        }
    }

    #[test]
    fn what_could_be_both_is_refused() {
        let both = index(&format!(r#""layers":[],"config":{},"#, descriptor(media_type::CONFIG)));
        for (text, content_type) in [
            (both.clone(), None),
            (both, Some(media_type::MANIFEST)),
            (manifest(""), Some(media_type::INDEX)),
            (index(""), Some(media_type::DOCKER_MANIFEST)),
            (manifest(&format!(r#""mediaType":"{}","#, media_type::INDEX)), None),
            (index(&format!(r#""mediaType":"{}","#, media_type::MANIFEST)), None),
            (
                manifest(&format!(r#""mediaType":"{}","#, media_type::DOCKER_MANIFEST)),
                Some(media_type::MANIFEST),
            ),
            (manifest(r#""config":{},"#), None),
        ] {
            assert!(classify(text.as_bytes(), content_type).is_err(), "{text} as {content_type:?}");
        }
    }

    #[test]
    fn schema_1_html_and_giants_are_refused_with_their_reason() {
        let schema1 = br#"{"schemaVersion":1,"name":"x","tag":"y","fsLayers":[],"history":[]}"#;
        assert!(matches!(classify(schema1, None), Err(DocumentError::Schema1)));
        assert!(matches!(classify(b"{}", Some(media_type::DOCKER_SCHEMA1)), Err(DocumentError::Schema1)));
        assert!(matches!(classify(b"<html>", None), Err(DocumentError::Json(_))));
        assert!(matches!(classify(b" [2]", None), Err(DocumentError::Neither)));
        assert!(matches!(classify(b"{}", None), Err(DocumentError::Neither)));
        assert!(matches!(classify(&vec![b' '; (4 << 20) + 1], None), Err(DocumentError::TooLarge)));
    }

    #[test]
    fn artifacts_and_strange_layers_are_no_images() {
        let Ok(Document::Manifest(good)) = classify(manifest("").as_bytes(), None) else { panic!() };
        check_manifest(&good).unwrap();
        let mut artifact = good.clone();
        artifact.config.media_type = "application/vnd.cncf.helm.config.v1+json".to_owned();
        assert!(matches!(check_manifest(&artifact), Err(DocumentError::NotAnImage(_))));
        let mut encrypted = good.clone();
        encrypted.layers[0].media_type.push_str("+encrypted");
        assert!(matches!(check_manifest(&encrypted), Err(DocumentError::LayerType(_))));
        let mut huge = good.clone();
        huge.layers[0].size = u64::MAX - 1;
        assert!(matches!(check_manifest(&huge), Err(DocumentError::Sizes)));
        let config = br#"{"os":"windows","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert!(matches!(
            parse_config(config, &good),
            Err(DocumentError::LayerCount { layers: 1, diff_ids: 0 })
        ));
        let none = Manifest { layers: Vec::new(), ..good };
        assert!(matches!(parse_config(config, &none), Err(DocumentError::System(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), said in ".{0,20}") {
            let _ = classify(&bytes, Some(&said));
        }

        #[test]
        fn cut_or_changed_documents_do_not_panic(cut in 0usize..400, at in 0usize..400, byte: u8) {
            let mut bytes = manifest("").into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            if let Ok(Document::Manifest(manifest)) = classify(&bytes, None) {
                let _ = check_manifest(&manifest);
            }
        }
    }
}
