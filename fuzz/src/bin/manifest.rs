//! Manifests, indexes and configurations, as registries and archives bring them: bytes are refused in words of one line,
//! or are one document whoever reads them, which comes back as itself, and whose sizes and counts are true. Never a panic.
//!
//! An input is JSON: the content type that a registry claims, the document, a configuration, and the platform that is wanted.
#![no_main]

use image::manifest::{self, MAX_DOCUMENT};
use image::{Document, DocumentError, artifact_type, choose_platform, classify, platform};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use oci::image::Manifest;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Raw, so that names that occur twice, and numbers that fit nowhere, arrive as they are.
#[derive(Deserialize)]
struct Input<'i> {
    #[serde(rename = "type")]
    content_type: Option<String>,
    #[serde(borrow)]
    document: &'i RawValue,
    #[serde(borrow)]
    config: Option<&'i RawValue>,
    platform: Option<String>,
}

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    fuzz::mutate::json(data, size, most, seed).unwrap_or_else(|| fuzzer_mutate(data, size, most))
});

/// What a user would read.
fn said(error: &DocumentError) {
    let text = base::failure::chain(error);
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
}

fn image(manifest: &Manifest, config: Option<&RawValue>) {
    assert!(!manifest::own_type(manifest).is_empty());
    if let Err(error) = manifest::check_manifest(manifest) {
        return said(&error);
    }
    assert!(artifact_type(manifest).is_none() && manifest.config.size <= MAX_DOCUMENT);
    let sizes = || manifest.layers.iter().map(|layer| u128::from(layer.size));
    assert!(sizes().sum::<u128>() + u128::from(manifest.config.size) <= i64::MAX as u128);
    let Some(config) = config else { return };
    let config = match manifest::parse_config(config.get().as_bytes(), manifest) {
        Ok(config) => config,
        Err(error) => return said(&error),
    };
    assert_eq!(config.rootfs.diff_ids.len(), manifest.layers.len());
    assert!(["", "linux"].contains(&&*config.platform.os));
    let written = serde_json::to_vec(&config).expect("what was read can be written");
    let again = manifest::parse_config(&written, manifest).expect("what was written can be read");
    assert_eq!(again, config, "it comes back as something else");
}

fuzz_target!(|data: &[u8]| {
    let Ok(input) = serde_json::from_slice::<Input<'_>>(data) else { return };
    let bytes = input.document.get().as_bytes();
    let document = match classify(bytes, input.content_type.as_deref()) {
        Ok(document) => document,
        Err(error) => return said(&error),
    };
    // What a registry says of it may only refuse it: nobody reads the same bytes as something else.
    assert_eq!(classify(bytes, None).expect("nothing is said against it"), document);
    let written = match &document {
        Document::Manifest(manifest) => {
            image(manifest, input.config);
            serde_json::to_vec(manifest)
        }
        Document::Index(index) => {
            let wanted = input.platform.as_deref().and_then(platform::parse);
            let wanted = wanted.unwrap_or_else(platform::host);
            let shown = platform::display(&wanted);
            assert_eq!(platform::parse(&shown).as_ref(), Some(&wanted), "{shown}");
            if let Some(chosen) = choose_platform(index, &wanted) {
                assert!(index.manifests.iter().any(|one| std::ptr::eq(one, chosen)));
            }
            serde_json::to_vec(index)
        }
    };
    let written = written.expect("what was read can be written");
    assert_eq!(classify(&written, None).expect("what was written can be read"), document);
});
