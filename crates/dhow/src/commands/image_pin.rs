//! `dhow image pin` and `dhow image unpin`.

use clap::Parser;

use crate::commands::{Run, each};
use crate::error::Result;
use crate::globals::Context;
use crate::output;

/// Keep images whatever their budget and `image prune` say; without one, list those that are kept so.
#[derive(Debug, Parser)]
#[command(name = "image pin")]
pub(crate) struct Pin {
    /// The images
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Take pins of images away.
#[derive(Debug, Parser)]
#[command(name = "image unpin")]
pub(crate) struct Unpin {
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Run for Pin {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        if self.images.is_empty() {
            let pins = engine.pinned_images()?;
            return output::text(&pins.iter().flat_map(|pin| [pin, "\n"]).collect::<String>()).map(|()| 0);
        }
        each::one_by_one(&self.images, |name| engine.pin_image(name))
    }
}

impl Run for Unpin {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let mut code = 0;
        let text = each::one_by_one(&self.images, |name| {
            Ok(if engine.unpin_image(name)? { name.to_owned() } else { format!("{name} was not pinned") })
        })?;
        code |= text;
        Ok(code)
    }
}
