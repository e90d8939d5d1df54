//! `rmi --platform`: of an image that is here for several platforms, one goes.
//!
//! The one that runs here is what its name stands for: it goes with the name only.

use std::collections::HashSet;

use base::{Digest, Failure, Kind};
use image::{Document, Resolved, Store, classify, platform};
use oci::image::{Descriptor, Platform};

use crate::error::Result;
use crate::{Engine, Removed};

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("invalid platform `{0}`: want os/architecture[/variant], such as linux/arm64")]
    Invalid(String),
    #[error("the image {image} is not here for {wanted}, but for {}", .found.join(", "))]
    Other { image: String, found: Vec<String>, wanted: String },
    #[error("the image {image} for {wanted} is the one that runs here")]
    Own { image: String, wanted: String },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::Invalid,
            Self::Other { .. } => Kind::NotFound,
            Self::Own { .. } => Kind::Conflict,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Own { image, .. } => vec![format!("remove it for all platforms: dhow rmi {image}")],
            _ => Vec::new(),
        }
    }
}

/// What asking for one platform comes down to.
pub(crate) enum Scope {
    /// The image is for this one alone.
    Whole,
    /// These went; others stay.
    Part(Vec<Removed>),
}

impl Engine {
    /// Takes one platform out of an image, under the name that `image` stands for. What nothing needs any more is
    /// the caller's to collect.
    pub(crate) fn remove_platform(&self, image: &Resolved, name: &str, wanted: &str) -> Result<Scope> {
        let platform = platform::parse(wanted).ok_or_else(|| Error::Invalid(wanted.to_owned()))?;
        let store = self.image_store()?;
        let others = others(&store, image);
        let (going, staying): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(of, _)| is_for(of, &platform));
        let own = is_for(&image.config.platform, &platform);
        if own && staying.is_empty() && going.is_empty() {
            return Ok(Scope::Whole);
        }
        if going.is_empty() {
            let (name, wanted) = (name.to_owned(), platform::display(&platform));
            if own {
                return Err(Error::Own { image: name, wanted }.into());
            }
            let mut found = vec![platform::display(&image.config.platform)];
            found.extend(staying.iter().map(|(of, _)| platform::display(of)));
            return Err(Error::Other { image: name, found, wanted }.into());
        }
        let mut kept: HashSet<Digest> = image.layers.iter().map(|l| l.digest).collect();
        kept.extend([image.manifest, image.id]);
        kept.extend(staying.iter().flat_map(|(_, blobs)| blobs));
        let gone: HashSet<Digest> = going.iter().flat_map(|(_, blobs)| blobs).copied().collect();
        store.retain_others(image, |digest| kept.contains(digest) || !gone.contains(digest))?;
        let manifests = going.iter().filter_map(|(_, blobs)| blobs.first());
        Ok(Scope::Part(manifests.copied().map(Removed::Deleted).collect()))
    }
}

/// The images for other platforms that are here: of each its platform and its blobs, the manifest first.
fn others(store: &Store, image: &Resolved) -> Vec<(Platform, Vec<Digest>)> {
    let document =
        |digest: &Digest| store.read_blob(digest).ok().and_then(|bytes| classify(&bytes, None).ok());
    let Some(Document::Index(index)) = image.source.as_ref().and_then(document) else { return Vec::new() };
    let here = index.manifests.into_iter().filter(|d| image.others.contains(&d.digest));
    here.filter_map(|Descriptor { digest, platform, .. }| match document(&digest) {
        Some(Document::Manifest(manifest)) => {
            let content = std::iter::once(&manifest.config).chain(&manifest.layers).map(|d| d.digest);
            Some((platform?, std::iter::once(digest).chain(content).collect()))
        }
        _ => None,
    })
    .collect()
}

fn is_for(of: &Platform, wanted: &Platform) -> bool {
    // As if somebody had written it: `linux/arm64` is `linux/arm64/v8`.
    let of = platform::parse(&platform::display(of)).unwrap_or_else(|| of.clone());
    of.os == wanted.os
        && of.architecture == wanted.architecture
        && (wanted.variant.is_none() || of.variant == wanted.variant)
}
