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
        let target = new_name(target)?;
        let image = self.find_image(source)?;
        self.image_store()?.tag(&target, &image)?;
        self.note_image("tag", &image.id.to_string(), &target.to_string());
        Ok(())
    }
}

/// A name that can be given to an image.
pub(crate) fn new_name(text: &str) -> Result<Reference> {
    let name: Reference = text.parse()?;
    if name.digest().is_some() {
        return Err(NotATag(name.to_string()).into());
    }
    Ok(name)
}
