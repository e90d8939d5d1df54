//! `tag`: one more name for an image.

use base::{Failure, Kind};
use image::Reference;

use crate::Engine;
use crate::error::Result;

#[derive(Debug, thiserror::Error)]
#[error("`{0}` names a digest, and a digest cannot be given")]
struct NotATag(String);

impl Failure for NotATag {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Engine {
    /// Makes `target` mean the image that `source` means.
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let target: Reference = target.parse()?;
        if target.digest().is_some() {
            return Err(NotATag(target.to_string()).into());
        }
        let image = self.find_image(source)?;
        self.image_store()?.tag(&target, &image)?;
        Ok(())
    }
}
