//! The registry of local images: what is pushed becomes one, and each one can be pulled.
//!
//! The repository `NAME` with the tag `TAG` is what `dhow run NAME:TAG` would run: `team/app`, `debian` (the same as
//! `library/debian`), `ghcr.io/team/app`. The name of a local image is the truth: a tag follows it, and goes with it.
//! Blobs lie on disk once, whoever has them (see `tree`). What can be no local image (an artifact, an image for other
//! machines alone) has a tag of its own.

use base::progress::Silent;
use base::{Digest, Failure, Kind};
use image::manifest::check_manifest;
use image::{Document, Reference, Resolved, Store, choose_platform, classify, platform};
use rootfs::LayerStore;

use super::Registry;
use super::document::understand;
use super::error::{Error, Result};
use super::manifests::Tagged;
use super::name::{Repository, Tag};
use crate::images::unpack::unpack_from_store;

/// The stores of local images.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) store: Store,
    pub(super) layers: LayerStore,
}

/// Why a manifest cannot become a local image: a reason for people, or an error.
enum Refusal {
    Reason(String),
    Error(crate::Error),
}

impl<F: Failure> From<F> for Refusal {
    fn from(failure: F) -> Self {
        Self::of(failure.into())
    }
}

impl Refusal {
    /// What is wrong with the image is its own business; what is wrong with the machine is the registry's.
    fn of(error: crate::Error) -> Self {
        match error.kind() {
            Kind::Exhausted | Kind::Permission | Kind::Internal => Self::Error(error),
            _ => Self::Reason(error.to_string()),
        }
    }
}

impl Local {
    fn reference(repository: &Repository, tag: &Tag) -> Option<Reference> {
        format!("{repository}:{tag}").parse().ok()
    }

    pub(super) fn find(&self, repository: &Repository, tag: &Tag) -> Result<Option<Resolved>> {
        match Self::reference(repository, tag) {
            Some(reference) => Ok(self.store.resolve(&reference)?),
            None => Ok(None),
        }
    }

    /// The images of a repository, each with its tag if it has one.
    fn images(&self, repository: &Repository) -> Result<Vec<(Reference, Resolved)>> {
        let Ok(wanted) = repository.as_str().parse::<Reference>() else { return Ok(Vec::new()) };
        let same = |r: &Reference| r.registry() == wanted.registry() && r.repository() == wanted.repository();
        let named = |record: Resolved| Some((record.reference.parse::<Reference>().ok()?, record));
        Ok(self.store.list()?.into_iter().filter_map(named).filter(|(r, _)| same(r)).collect())
    }

    /// The tags of a repository's images.
    pub(super) fn tags(&self, repository: &Repository) -> Result<Vec<Tag>> {
        let images = self.images(repository)?;
        Ok(images.iter().filter_map(|(reference, _)| reference.tag()?.parse().ok()).collect())
    }

    /// The repositories of all images, in their familiar form.
    pub(super) fn repositories(&self) -> Result<Vec<Repository>> {
        let name = |r: Resolved| r.reference.parse::<Reference>().ok()?.familiar_name().parse().ok();
        Ok(self.store.list()?.into_iter().filter_map(name).collect())
    }
}

impl Registry {
    /// What a tag means.
    pub(super) fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Digest> {
        let unknown = || self.no_manifest(repository, &super::Name::Tag(tag.clone()));
        let tagged = self.tagged(repository, tag)?;
        let Some(local) = &self.local else { return tagged.map(|t| t.digest).ok_or_else(unknown) };
        match (local.find(repository, tag)?, tagged) {
            (Some(image), tagged) => self.follow(repository, tag, &image, tagged.as_ref()),
            (None, Some(tagged)) if !tagged.local => Ok(tagged.digest),
            (None, _) => Err(unknown()),
        }
    }

    /// Makes a tag mean the local image of its name.
    fn follow(
        &self,
        repository: &Repository,
        tag: &Tag,
        image: &Resolved,
        tagged: Option<&Tagged>,
    ) -> Result<Digest> {
        // The index that it came from, where all of that is here; else the image alone.
        let indexed = image.source.filter(|source| self.tree.manifest(repository, source).exists());
        let wanted = Tagged { digest: indexed.unwrap_or(image.manifest), local: true };
        if tagged != Some(&wanted) || !self.tree.manifest(repository, &wanted.digest).exists() {
            self.adopt(repository, image)?;
            let _alone = self.alone_in(repository)?;
            // Who pushes to the tag at this moment has the last word: it writes the tag, then the name, and if there can
            // be no name, takes the old one away.
            let now = self.local.as_ref().map_or(Ok(None), |local| local.find(repository, tag))?;
            if now.is_some_and(|now| now.manifest == image.manifest && now.source == image.source) {
                self.write_tag(repository, tag, &wanted)?;
            }
        }
        Ok(wanted.digest)
    }

    /// Gives a repository all of a local image.
    fn adopt(&self, repository: &Repository, image: &Resolved) -> Result<()> {
        let Some(local) = &self.local else { return Ok(()) };
        let _held = self.tree.hold()?;
        let bytes = local.store.read_blob(&image.manifest)?;
        let understood = understand(&bytes, Some(&image.media_type))?;
        self.tree.ensure(repository)?;
        for digest in &understood.blobs {
            let file = local.store.blob_file(digest).ok_or_else(|| self.no_blob(repository, digest))?;
            self.tree.keep(repository, digest, &file)?;
        }
        self.keep_manifest(repository, &understood, &bytes)
    }

    /// Adopts the local image whose manifest this is. False if there is none in this repository.
    pub(super) fn adopt_digest(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let Some(local) = &self.local else { return Ok(false) };
        let images = local.images(repository)?;
        match images.into_iter().find(|(_, image)| image.manifest == *digest) {
            Some((_, image)) => self.adopt(repository, &image).map(|()| true),
            None => Ok(false),
        }
    }

    /// Gives a repository a blob that one of its local images has. The caller holds the tree.
    pub(super) fn lend_local(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let Some(local) = &self.local else { return Ok(false) };
        let has = |(_, image): &(Reference, Resolved)| image.blobs().any(|blob| blob == *digest);
        match local.store.blob_file(digest) {
            Some(file) if local.images(repository)?.iter().any(has) => {
                self.tree.ensure(repository)?;
                self.tree.keep(repository, digest, &file).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Makes a local image of what a tag means. Ok(false): nobody wants one; else why it cannot be one.
    pub(super) fn become_local(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<std::result::Result<bool, String>> {
        let Some(local) = &self.local else { return Ok(Ok(false)) };
        match self.commit(local, repository, tag, digest) {
            Ok(()) => Ok(Ok(true)),
            Err(Refusal::Error(error)) => Err(Error::Upstream(error)),
            Err(Refusal::Reason(why)) => {
                // The name would mean an image that the tag does not mean any more.
                self.forget_local(repository, tag)?;
                Ok(Err(why))
            }
        }
    }

    fn commit(
        &self,
        local: &Local,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
    ) -> std::result::Result<(), Refusal> {
        let reason = |text: &str| Refusal::Reason(text.to_owned());
        let reference =
            Local::reference(repository, tag).ok_or_else(|| reason("its name is none of an image"))?;
        let read = |digest: &Digest| base::fs::read(&self.tree.own_blob(repository, digest));
        let (target, source) = match classify(&read(digest)?, None)? {
            Document::Manifest(_) => (*digest, None),
            Document::Index(index) => {
                let chosen = choose_platform(&index, &platform::host());
                let chosen = chosen.ok_or_else(|| reason("it has no image for this machine"))?;
                (chosen.digest, Some(*digest))
            }
        };
        let Document::Manifest(manifest) = classify(&read(&target)?, None)? else {
            return Err(reason("it is an index of indexes"));
        };
        check_manifest(&manifest)?;
        let ingest = local.store.ingest()?;
        let blobs = manifest.layers.iter().map(|layer| layer.digest);
        for blob in [target, manifest.config.digest].into_iter().chain(blobs).chain(source) {
            ingest.adopt(&blob, &self.tree.own_blob(repository, &blob))?;
        }
        let image = ingest.inspect(&target)?;
        ingest.protect(&image.diff_ids().collect::<Vec<_>>())?;
        local.layers.sweep()?;
        let mut packed = image.layers.clone();
        packed.retain(|layer| !local.layers.has(&layer.diff_id));
        packed.sort_by_key(|layer| layer.diff_id);
        packed.dedup_by_key(|layer| layer.diff_id);
        unpack_from_store(&local.store, &local.layers, &packed, &Silent).map_err(Refusal::of)?;
        ingest.commit(Some(&reference), &target, source.as_ref())?;
        Ok(())
    }

    /// Takes the name of the local image away that a tag follows. False if there is none.
    pub(super) fn forget_local(&self, repository: &Repository, tag: &Tag) -> Result<bool> {
        let Some(local) = &self.local else { return Ok(false) };
        match local.find(repository, tag)? {
            Some(image) => Ok(local.store.untag(&image)?),
            None => Ok(false),
        }
    }
}
