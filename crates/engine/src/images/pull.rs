//! `pull`: an image comes from a registry.
//!
//! First the documents ([`wanted`]): what the name stands for, and which blobs that needs. Then those that are not
//! here, all at once ([`crate::images::fetch`]). The name is written last, when all of it is here; a kill before that leaves
//! what has come, for the next try.

mod wanted;

use base::progress::Progress;
use base::{Digest, Failure, Kind};
use image::{Document, Reference, Resolved, choose_platform, classify, platform};
use oci::image::Platform;
use registry::{Client, Location};
use rootfs::LayerStore;

use crate::error::{Error, Result};
use crate::images::fetch::fetch;
use crate::registries::remote;
use crate::{Engine, ImageSummary};

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// `os/arch[/variant]`; none: this machine's.
    pub platform: Option<String>,
    /// Fetch the images for all other platforms of the index, too.
    pub all_platforms: bool,
}

/// What a pull brought.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The canonical reference: `docker.io/library/debian:12`.
    pub reference: String,
    /// The digest that the registry knows it by (of the index, where there is one).
    pub digest: Digest,
    /// New or not.
    pub status: PullStatus,
    /// The image.
    pub image: ImageSummary,
}

/// Whether a pull changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStatus {
    /// The name meant this image before.
    UpToDate,
    /// The name means another image now, or is new.
    Newer,
}

/// Why a pull failed, besides what its parts say.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error("cannot pull {reference}: {cause}")]
    Pull { reference: String, cause: Error },
    #[error("invalid platform `{0}`: want os/architecture[/variant], such as linux/arm64")]
    Platform(String),
    #[error("there is no image for {wanted} under that name; there is one for: {}", .offered.join(", "))]
    NoPlatform { wanted: String, offered: Vec<String> },
    #[error("an index within an index")]
    NestedIndex,
    #[error("more than {0} documents in one index")]
    TooMany(usize),
    #[error("`{0}` names one image: all tags are those of a repository")]
    NotARepository(String),
    #[error("the repository {0} has no tags")]
    NoTags(String),
}

impl Failure for PullError {
    fn kind(&self) -> Kind {
        match self {
            Self::Pull { cause, .. } => cause.kind(),
            Self::Platform(_) | Self::NotARepository(_) => Kind::Invalid,
            Self::NoPlatform { .. } | Self::NoTags(_) => Kind::NotFound,
            Self::NestedIndex | Self::TooMany(_) => Kind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Pull { cause, .. } => cause.hints(),
            Self::NoPlatform { offered, .. } => {
                offered.first().map(|p| format!("ask for one of them: --platform {p}")).into_iter().collect()
            }
            Self::NotARepository(_) => vec!["leave the tag away".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// A pull under way.
struct Pull<'p> {
    engine: &'p Engine,
    client: &'p Client,
    location: Location,
    platform: Platform,
    all_platforms: bool,
    progress: &'p dyn Progress,
}

impl Engine {
    /// Pulls an image, all its layers at once.
    pub fn pull(&self, reference: &str, options: &PullOptions, progress: &dyn Progress) -> Result<Pulled> {
        let reference: Reference = reference.parse()?;
        let client = self.registry_client()?;
        let pulled = self.pulling(&reference, options, &client, progress)?.run(&reference)?;
        self.keep_to_budget(&[pulled.image.id], progress);
        Ok(pulled)
    }

    /// Pulls every tag of a repository, and tells of each.
    pub fn pull_all_tags(
        &self,
        repository: &str,
        options: &PullOptions,
        progress: &dyn Progress,
        mut each: impl FnMut(&Pulled),
    ) -> Result<()> {
        let reference: Reference = repository.parse()?;
        if reference.digest().is_some() || repository.ends_with(&format!(":{}", tag(&reference))) {
            return Err(PullError::NotARepository(repository.to_owned()).into());
        }
        let client = self.registry_client()?;
        let tags = client.tags(&remote::location(&reference))?;
        if tags.is_empty() {
            return Err(PullError::NoTags(reference.familiar_name()).into());
        }
        let pull = self.pulling(&reference, options, &client, progress)?;
        let mut arrived = Vec::new();
        for tag in tags {
            let tagged: Reference = format!("{}:{tag}", reference.familiar_name()).parse()?;
            let pulled = pull.run(&tagged)?;
            arrived.push(pulled.image.id);
            each(&pulled);
        }
        self.keep_to_budget(&arrived, progress);
        Ok(())
    }

    fn pulling<'p>(
        &'p self,
        reference: &Reference,
        options: &PullOptions,
        client: &'p Client,
        progress: &'p dyn Progress,
    ) -> Result<Pull<'p>> {
        let platform = platform_of(options.platform.as_deref())?;
        let location = remote::location(reference);
        let all_platforms = options.all_platforms;
        Ok(Pull { engine: self, client, location, platform, all_platforms, progress })
    }

    /// The store of unpacked layers.
    pub(crate) fn layer_store(&self) -> LayerStore {
        LayerStore::open(&self.instance.layers(), &self.instance.removing())
            .with_limits(self.config.unpack.limits())
    }

    /// The store of images.
    pub(crate) fn image_store(&self) -> Result<image::Store> {
        Ok(image::Store::open(&self.instance)?)
    }
}

/// The platform that a user names; none: this machine's.
pub(crate) fn platform_of(text: Option<&str>) -> Result<oci::image::Platform> {
    match text {
        Some(text) => Ok(platform::parse(text).ok_or_else(|| PullError::Platform(text.to_owned()))?),
        None => Ok(platform::host()),
    }
}

impl Pull<'_> {
    fn run(&self, reference: &Reference) -> Result<Pulled> {
        self.progress.note(&format!("{}: Pulling from {}", tag(reference), reference.repository()));
        let pulled = self
            .named(reference)
            .map_err(|cause| PullError::Pull { reference: reference.canonical(), cause })?;
        self.engine.note_transfer("pull", reference);
        Ok(pulled)
    }

    fn named(&self, reference: &Reference) -> Result<Pulled> {
        let store = self.engine.image_store()?;
        let before = store.resolve(reference)?;
        let pulled = |image: &Resolved, digest, status| Pulled {
            reference: reference.canonical(),
            digest,
            status,
            image: crate::images::list::summary(image, Vec::new()),
        };
        let trees = self.engine.layer_store();
        // Also where nothing is to be done: this sweeps what killed ones left.
        let ingest = store.ingest()?;
        trees.sweep()?;
        self.engine.settle_layers();
        if let Some(image) = &before
            && let Some(digest) = self.unchanged(&store, image, reference)?
        {
            return Ok(pulled(image, digest, PullStatus::UpToDate));
        }
        let wanted = self.wanted(&ingest, &by(reference), before.as_ref())?;
        let at_once = self.engine.config.pull.max_downloads as usize;
        let jobs = self.jobs(&ingest, &trees, &wanted)?;
        fetch(self.client, &self.location, &ingest, &trees, jobs, at_once, self.progress)?;
        let image =
            ingest.commit_with(Some(reference), &wanted.manifest, wanted.source.as_ref(), &wanted.others)?;
        store.remember_origin(
            &self.location.host,
            &self.location.repository,
            image.layers.iter().map(|layer| layer.digest),
        )?;
        let same = before.is_some_and(|before| before.id == image.id && before.others == image.others);
        let status = if same { PullStatus::UpToDate } else { PullStatus::Newer };
        Ok(pulled(&image, wanted.source.unwrap_or(wanted.manifest), status))
    }

    /// The digest that the registry knows `image` by, if the name still means that there and nothing of it is
    /// missing here: one request, of a kind that registries do not count as a pull.
    fn unchanged(
        &self,
        store: &image::Store,
        image: &Resolved,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        let trees = self.engine.layer_store();
        if self.all_platforms || !store.is_whole(image) || !image.diff_ids().all(|id| trees.has(&id)) {
            return Ok(None);
        }
        let known = image.source.unwrap_or(image.manifest);
        if !self.is_for_platform(store, image) {
            return Ok(None);
        }
        let now = match reference.digest() {
            Some(digest) => Some(*digest),
            None => match self.client.manifest_digest(&self.location, tag(reference)) {
                // The whole question gets the better answer: which tags there are instead.
                Err(error) if error.kind() == Kind::NotFound => None,
                other => other?,
            },
        };
        Ok(now.filter(|now| *now == known))
    }

    /// Whether the wanted platform's image is the one that was chosen from the index before.
    fn is_for_platform(&self, store: &image::Store, image: &Resolved) -> bool {
        let Some(source) = image.source else { return true };
        let index = store.read_blob(&source).ok().and_then(|bytes| classify(&bytes, None).ok());
        match index {
            Some(Document::Index(index)) => {
                choose_platform(&index, &self.platform).is_some_and(|chosen| chosen.digest == image.manifest)
            }
            _ => false,
        }
    }
}

/// What the registry is asked for: the digest, where the reference has one.
fn by(reference: &Reference) -> String {
    reference.digest().map_or_else(|| tag(reference).to_owned(), Digest::to_string)
}

fn tag(reference: &Reference) -> &str {
    reference.tag().unwrap_or("latest")
}
