//! `push`: an image goes to a registry. Its blobs first, all at once, then the documents that name them, the one with
//! the tag last: so that nobody ever finds a name there whose image is not whole.

use std::collections::HashSet;

use base::progress::{Progress, Step};
use base::{Digest, Failure, Kind};
use image::{Document, Reference, Resolved, Store, classify};
use oci::image::{Descriptor, media_type};
use registry::{Client, Location, Told, Upload};

use crate::Engine;
use crate::error::{Error, Result};
use crate::registries::remote;

/// What a push has left at the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The reference in familiar form.
    pub reference: String,
    /// The tag.
    pub tag: String,
    /// The digest that the registry knows it by.
    pub digest: Digest,
    /// The bytes of the document of that digest.
    pub size: u64,
}

/// Why a push failed, besides what its parts say.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("cannot push {reference}: {cause}")]
    Push { reference: String, cause: Error },
    #[error("there is no image `{0}` here")]
    NoImage(String),
    #[error("there is no image of the repository `{0}` here")]
    NoTags(String),
    #[error("`{0}` names a digest: an image is pushed under a tag")]
    NotATag(String),
    #[error("`{0}` names one image: all tags are those of a repository")]
    NotARepository(String),
}

impl Failure for PushError {
    fn kind(&self) -> Kind {
        match self {
            Self::Push { cause, .. } => cause.kind(),
            Self::NoImage(_) | Self::NoTags(_) => Kind::NotFound,
            Self::NotATag(_) | Self::NotARepository(_) => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Push { cause, .. } => cause.hints(),
            Self::NoImage(name) => vec![format!("give an image that name first: dhow tag IMAGE {name}")],
            Self::NoTags(_) => vec!["see `dhow images` for what is here".to_owned()],
            Self::NotATag(_) | Self::NotARepository(_) => {
                vec!["name a repository, or one tag of it".to_owned()]
            }
        }
    }
}

impl Engine {
    /// Pushes the image of this name, under it.
    pub fn push(&self, name: &str, progress: &dyn Progress) -> Result<Pushed> {
        let reference: Reference = name.parse()?;
        if reference.digest().is_some() {
            return Err(PushError::NotATag(name.to_owned()).into());
        }
        let image = self.image_store()?.resolve(&reference)?;
        let image = image.ok_or_else(|| PushError::NoImage(reference.to_string()))?;
        let client = self.registry_client()?;
        refer(&reference, progress);
        self.push_one(&client, &reference, &image, progress)
    }

    /// Pushes every tag that a repository has here, and tells of each.
    pub fn push_all_tags(
        &self,
        repository: &str,
        progress: &dyn Progress,
        mut each: impl FnMut(&Pushed),
    ) -> Result<()> {
        let name: Reference = repository.parse()?;
        if name.digest().is_some() || name.familiar_name() != repository && name.to_string() == repository {
            return Err(PushError::NotARepository(repository.to_owned()).into());
        }
        let mut images: Vec<(Reference, Resolved)> = Vec::new();
        for image in self.image_store()?.list()? {
            if let Ok(reference) = image.reference.parse::<Reference>()
                && reference.tag().is_some()
                && remote::location(&reference) == remote::location(&name)
            {
                images.push((reference, image));
            }
        }
        if images.is_empty() {
            return Err(PushError::NoTags(name.familiar_name()).into());
        }
        let client = self.registry_client()?;
        refer(&name, progress);
        for (reference, image) in images {
            each(&self.push_one(&client, &reference, &image, progress)?);
        }
        Ok(())
    }

    fn push_one(
        &self,
        client: &Client,
        reference: &Reference,
        image: &Resolved,
        progress: &dyn Progress,
    ) -> Result<Pushed> {
        let pushed = self
            .send(client, reference, image, progress)
            .map_err(|cause| PushError::Push { reference: reference.canonical(), cause })?;
        self.note_transfer("push", reference);
        Ok(pushed)
    }

    fn send(
        &self,
        client: &Client,
        reference: &Reference,
        image: &Resolved,
        progress: &dyn Progress,
    ) -> Result<Pushed> {
        let store = self.image_store()?;
        // Nobody collects what we are about to read.
        let ingest = store.ingest()?;
        ingest.protect(&image.blobs().collect::<Vec<_>>())?;
        let location = remote::location(reference);
        let parcel = Parcel::of(&store, image)?;
        let mut uploads = Vec::new();
        for blob in &parcel.blobs {
            let (digest, size) = (blob.digest, blob.size);
            let mount_from = store.origin(&digest, &location.host, &location.repository)?;
            uploads.push(Upload { digest, size, mount_from });
        }
        let at_once = self.config.pull.max_uploads as usize;
        let open = |upload: &Upload| store.open_blob(&upload.digest).map(|(file, _)| file);
        client.upload(&location, &uploads, at_once, &open, &|upload, told| show(progress, upload, told))?;

        let tag = reference.tag().unwrap_or("latest");
        let (top, rest) = parcel.documents.split_last().ok_or_else(|| PushError::NoImage(tag.to_owned()))?;
        for document in rest {
            if !client.has_manifest(&location, &document.digest)? {
                let name = document.digest.to_string();
                client.put_manifest(&location, &name, &document.media_type, &document.bytes)?;
            }
        }
        client.put_manifest(&location, tag, &top.media_type, &top.bytes)?;
        store.remember_origin(&location.host, &location.repository, uploads.iter().map(|u| u.digest))?;
        Ok(Pushed {
            reference: reference.to_string(),
            tag: tag.to_owned(),
            digest: top.digest,
            size: top.bytes.len() as u64,
        })
    }
}

fn refer(reference: &Reference, progress: &dyn Progress) {
    let Location { host, repository } = remote::location(reference);
    progress.note(&format!("The push refers to repository [{host}/{repository}]"));
}

fn show(progress: &dyn Progress, upload: &Upload, told: Told) {
    let id = upload.digest.short();
    let step = |step| {
        progress.begin(&id, step, Some(upload.size));
        progress.end(&id, step);
    };
    match told {
        Told::Exists => step(Step::Uploaded),
        Told::Mounted => step(Step::Mount),
        Told::Begun => progress.begin(&id, Step::Upload, Some(upload.size)),
        Told::Sent(bytes) => progress.advance(&id, bytes),
        Told::Arrived => progress.end(&id, Step::Upload),
    }
}

/// A manifest or index.
struct Paper {
    digest: Digest,
    media_type: String,
    bytes: Vec<u8>,
}

/// What goes to the registry.
#[derive(Default)]
struct Parcel {
    blobs: Vec<Descriptor>,
    /// What is named stands before what names it.
    documents: Vec<Paper>,
}

impl Parcel {
    /// The index with all that it leads to, where all of it is here; else the image alone.
    fn of(store: &Store, image: &Resolved) -> Result<Self> {
        if let Some(source) = image.source {
            let mut whole = Self::default();
            if whole.add(store, &source, None, &mut HashSet::new())? {
                return Ok(whole);
            }
        }
        let mut parcel = Self::default();
        if parcel.add(store, &image.manifest, Some(&image.media_type), &mut HashSet::new())? {
            return Ok(parcel);
        }
        // Something is missing: the store says what.
        store.read_blob(&image.manifest)?;
        let missing = image.blobs().find(|digest| store.open_blob(digest).is_err());
        Err(image::store::Error::MissingBlob(missing.unwrap_or(image.manifest)).into())
    }

    /// Adds a document and what it names; false if something of that is not here.
    fn add(
        &mut self,
        store: &Store,
        digest: &Digest,
        called: Option<&str>,
        seen: &mut HashSet<Digest>,
    ) -> Result<bool> {
        if !seen.insert(*digest) {
            return Ok(true);
        }
        let bytes = match store.read_blob(digest) {
            Err(image::store::Error::MissingBlob(_)) => return Ok(false),
            other => other?,
        };
        let own = match classify(&bytes, called)? {
            Document::Index(index) => {
                for child in &index.manifests {
                    if !self.add(store, &child.digest, Some(&child.media_type), seen)? {
                        return Ok(false);
                    }
                }
                index.media_type.unwrap_or_else(|| media_type::INDEX.to_owned())
            }
            Document::Manifest(manifest) => {
                let own = image::manifest::own_type(&manifest).to_owned();
                for blob in std::iter::once(manifest.config).chain(manifest.layers) {
                    // What may not be distributed the registry does not take.
                    if is_foreign(&blob.media_type) || !seen.insert(blob.digest) {
                        continue;
                    }
                    if store.open_blob(&blob.digest).is_err() {
                        return Ok(false);
                    }
                    self.blobs.push(blob);
                }
                own
            }
        };
        let media_type = called.map_or(own, str::to_owned);
        self.documents.push(Paper { digest: *digest, media_type, bytes });
        Ok(true)
    }
}

fn is_foreign(media_type: &str) -> bool {
    media_type.contains("nondistributable") || media_type.contains(".foreign.")
}
