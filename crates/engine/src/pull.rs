//! `pull`: an image comes from a registry.

use base::Digest;
use base::progress::Progress;

use crate::error::{Result, unbuilt};
use crate::{Engine, ImageSummary};

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// `os/arch[/variant]`; none: this machine's.
    pub platform: Option<String>,
    /// Say nothing of single layers.
    pub quiet: bool,
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

impl Engine {
    /// Pulls an image, all its layers at once.
    pub fn pull(&self, _reference: &str, _options: &PullOptions, _progress: &dyn Progress) -> Result<Pulled> {
        Err(unbuilt("pull"))
    }
}
