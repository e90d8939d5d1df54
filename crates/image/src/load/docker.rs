//! What `docker save` writes: `manifest.json` names each image's configuration, tags and layers. There is no
//! manifest in our sense; one is made, so that the image is the same to us as a pulled one.

use base::Digest;
use oci::image::{Descriptor, ImageConfig, Manifest, Platform, media_type};
use serde::Deserialize;

use super::files::{Files, shown};
use super::{Cause, Found, Pending, Plan};
use crate::Reference;
use crate::manifest::{self, DocumentError};

const MAX_IMAGES: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn plan(files: &mut Files<'_>, wanted: Option<&Platform>) -> Result<Plan, Cause> {
    let name = "manifest.json";
    let refused = |source| Cause::Document { name: name.to_owned(), source };
    let items: Vec<Item> =
        serde_json::from_slice(&files.document(name)?).map_err(|e| refused(DocumentError::Json(e)))?;
    if items.is_empty() {
        return Err(Cause::Empty);
    }
    if items.len() > MAX_IMAGES {
        return Err(Cause::TooMany("ten thousand images"));
    }
    let mut plan = Plan::default();
    for item in items {
        image(files, item, wanted, &mut plan)?;
    }
    if plan.found.is_empty() {
        return Err(plan.nothing(wanted));
    }
    Ok(plan)
}

fn image(files: &mut Files<'_>, item: Item, wanted: Option<&Platform>, plan: &mut Plan) -> Result<(), Cause> {
    let refused = |source| Cause::Document { name: shown(&item.config), source };
    let config_bytes = files.document(&item.config)?;
    // Before it is checked against the layers.
    let told = serde_json::from_slice::<ImageConfig>(&config_bytes).ok();
    if told.as_ref().is_some_and(|told| plan.leaves_out(&told.platform, wanted)) {
        return Ok(());
    }
    let mut layers = Vec::new();
    let mut members = Vec::new();
    for (index, name) in item.layers.iter().flatten().enumerate() {
        let diff_id = told.as_ref().and_then(|told| told.rootfs.diff_ids.get(index).copied());
        let (place, digest) = (files.place(name)?, told_digest(files, name, diff_id)?);
        let (digest, size) = if let (Some(place), Some(digest)) = (place, digest) {
            plan.pending.push(Pending { digest, name: shown(name), place });
            (digest, place.size)
        } else {
            members.push(name.clone());
            files.content(name)?
        };
        let media_type = match *files.head(name)? {
            [0x1f, 0x8b, ..] => media_type::LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] => media_type::LAYER_ZSTD,
            _ => media_type::LAYER,
        };
        let media_type = media_type.to_owned();
        layers.push(Descriptor { media_type, digest, size, platform: None, annotations: [].into() });
    }
    let (config_digest, config_size) = files.content(&item.config)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor {
            media_type: media_type::CONFIG.to_owned(),
            digest: config_digest,
            size: config_size,
            platform: None,
            annotations: [].into(),
        },
        layers,
        annotations: [].into(),
    };
    manifest::check_manifest(&manifest).map_err(refused)?;
    let config = manifest::parse_config(&config_bytes, &manifest).map_err(refused)?;
    // A plain layer's own digest is what the configuration must tell of it; a compressed one shows it only when
    // it is unpacked.
    for ((layer, wanted), name) in
        manifest.layers.iter().zip(&config.rootfs.diff_ids).zip(item.layers.iter().flatten())
    {
        if layer.media_type == media_type::LAYER && layer.digest != *wanted {
            return Err(Cause::Digest { name: shown(name), wanted: *wanted, found: layer.digest });
        }
    }
    let bytes = serde_json::to_vec(&manifest).map_err(|e| refused(DocumentError::Json(e)))?;
    let digest = Digest::of(&bytes);
    let tags: Vec<String> = item.repo_tags.unwrap_or_default();
    if tags.is_empty() {
        plan.found.push(Found { reference: None, manifest: digest, source: None });
    }
    for tag in tags {
        let reference: Reference = tag.parse().map_err(Cause::Name)?;
        plan.found.push(Found { reference: Some(reference), manifest: digest, source: None });
    }
    plan.documents.push(bytes);
    plan.members.push(item.config);
    plan.members.extend(members);
    Ok(())
}

/// The digest that a layer must have: one that is not compressed has that which the configuration tells, any other its
/// name's, if that is a blob's (Docker since version 25, and we).
fn told_digest(files: &mut Files<'_>, name: &str, diff_id: Option<Digest>) -> Result<Option<Digest>, Cause> {
    if !super::archive::is_compressed(&files.head(name)?) {
        return Ok(diff_id);
    }
    Ok(name.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok()))
}
