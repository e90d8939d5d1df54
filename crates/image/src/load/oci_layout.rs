//! An OCI layout (image-layout.md), as a directory or in a tar archive. Docker's own archives are such since
//! version 25.

use base::Digest;
use oci::image::{Descriptor, ImageConfig, Index, Platform, media_type};

use super::files::{Files, shown};
use super::{CONTAINERD_NAME, Cause, Found, Pending, Plan, REF_NAME};
use crate::manifest::{self, Document, DocumentError};
use crate::platform::{self, choose_platform, display, is_image};
use crate::{Reference, classify};

const MAX_IMAGES: usize = 10_000;
/// An index may hold indexes. One level is usual, and nobody needs more than this.
const MAX_DEPTH: usize = 4;

pub(super) fn plan(files: &mut Files<'_>, wanted: Option<&Platform>) -> Result<Plan, Cause> {
    let platform = &wanted.cloned().unwrap_or_else(platform::host);
    let name = "index.json";
    let refused = |source| Cause::Document { name: name.to_owned(), source };
    let index = match classify(&files.document(name)?, Some(media_type::INDEX)).map_err(refused)? {
        Document::Index(index) => index,
        Document::Manifest(_) => return Err(refused(DocumentError::Neither)),
    };
    if index.manifests.len() > MAX_IMAGES {
        return Err(Cause::TooMany("ten thousand images"));
    }
    let mut plan = Plan::default();
    let mut done: Vec<Option<&str>> = Vec::new();
    for descriptor in index.manifests.iter().filter(|d| is_image(d)) {
        let name = name_of(descriptor);
        // One image for several platforms, listed flat: they share its name, or all have none.
        let same: Vec<Descriptor> =
            index.manifests.iter().filter(|d| is_image(d) && name_of(d) == name).cloned().collect();
        let flat = same.len() > 1 && same.iter().all(|d| d.platform.is_some());
        if flat && done.contains(&name) {
            continue;
        }
        if !flat && plan.leaves_out_only(files, descriptor, wanted) {
            continue;
        }
        let (manifest, source) = if flat {
            done.push(name);
            let group = Index { manifests: same, ..index.clone() };
            choose(files, &mut plan, &group, platform, 0)?
        } else {
            follow(files, &mut plan, descriptor, platform, 0)?
        };
        // Names by other tools' rules (a bare tag, `@1.0`) need not be names by ours; the image is loaded all
        // the same.
        let reference = name.and_then(|name| name.parse::<Reference>().ok());
        plan.found.push(Found { reference, manifest, source });
    }
    if plan.found.is_empty() {
        return Err(plan.nothing(wanted));
    }
    Ok(plan)
}

impl Plan {
    /// Leaves out an image that is for one platform alone, another than the one wanted; true if it is that. Whatever is
    /// wrong with it is told when it is followed.
    fn leaves_out_only(
        &mut self,
        files: &mut Files<'_>,
        descriptor: &Descriptor,
        wanted: Option<&Platform>,
    ) -> bool {
        let mut config = || {
            let document = files.document(&blob_name(&descriptor.digest)).ok()?;
            let Ok(Document::Manifest(manifest)) = classify(&document, Some(&descriptor.media_type)) else {
                return None;
            };
            let config = files.document(&blob_name(&manifest.config.digest)).ok()?;
            serde_json::from_slice::<ImageConfig>(&config).ok()
        };
        wanted.is_some() && config().is_some_and(|config| self.leaves_out(&config.platform, wanted))
    }
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    let annotation = |key| descriptor.annotations.get(key).map(String::as_str);
    annotation(CONTAINERD_NAME).or_else(|| annotation(REF_NAME))
}

/// The manifest that a descriptor leads to, and the index it went through, if any.
fn follow(
    files: &mut Files<'_>,
    plan: &mut Plan,
    descriptor: &Descriptor,
    platform: &Platform,
    depth: usize,
) -> Result<(Digest, Option<Digest>), Cause> {
    let name = blob_name(&descriptor.digest);
    let refused = |source| Cause::Document { name: name.clone(), source };
    check(files, descriptor)?;
    match classify(&files.document(&name)?, Some(&descriptor.media_type)).map_err(refused)? {
        Document::Index(index) => {
            plan.members.push(name);
            let (manifest, _) = choose(files, plan, &index, platform, depth + 1)?;
            Ok((manifest, Some(descriptor.digest)))
        }
        Document::Manifest(found) => {
            manifest::check_manifest(&found).map_err(refused)?;
            let config = blob_name(&found.config.digest);
            check(files, &found.config)?;
            plan.members.push(config.clone());
            for layer in &found.layers {
                let name = blob_name(&layer.digest);
                match files.place(&name)? {
                    // Its content shows what it is when it is unpacked.
                    Some(place) if place.size == layer.size => {
                        plan.pending.push(Pending { digest: layer.digest, name, place });
                    }
                    _ => {
                        check(files, layer)?;
                        plan.members.push(name);
                    }
                }
            }
            manifest::parse_config(&files.document(&config)?, &found)
                .map_err(|source| Cause::Document { name: config, source })?;
            plan.members.push(name);
            Ok((descriptor.digest, None))
        }
    }
}

fn choose(
    files: &mut Files<'_>,
    plan: &mut Plan,
    index: &Index,
    platform: &Platform,
    depth: usize,
) -> Result<(Digest, Option<Digest>), Cause> {
    if depth > MAX_DEPTH {
        return Err(Cause::TooMany("four indexes within each other"));
    }
    let chosen = choose_platform(index, platform).ok_or_else(|| {
        let offered = index.manifests.iter().filter(|d| is_image(d)).filter_map(|d| d.platform.as_ref());
        let offered: Vec<String> = offered.take(20).map(display).collect();
        Cause::NoPlatform { wanted: display(platform), offered: shown(&offered.join(", ")) }
    })?;
    follow(files, plan, chosen, platform, depth)
}

/// The blob must be there, and be what its descriptor says.
fn check(files: &mut Files<'_>, descriptor: &Descriptor) -> Result<(), Cause> {
    let name = blob_name(&descriptor.digest);
    let (found, size) = files.content(&name)?;
    if found != descriptor.digest {
        return Err(Cause::Digest { name, wanted: descriptor.digest, found });
    }
    if size != descriptor.size {
        return Err(Cause::Size { name, wanted: descriptor.size, found: size });
    }
    Ok(())
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
