//! `dhow volume create`.

use clap::Parser;
use engine::VolumeOptions;

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::flags::label::Label;
use crate::globals::Context;
use crate::output;

/// Make a volume.
#[derive(Debug, Parser)]
#[command(name = "volume create")]
pub(crate) struct Arguments {
    /// Its driver (there is one: local)
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// Put a label on it
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<Label>,
    /// An option of the driver: type, device, o
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<Label>,
    /// Its name, in an old form
    #[arg(long = "name", value_name = "NAME", hide = true)]
    old_name: Option<String>,
    /// Its name; none: one is invented
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let name = match (self.name, self.old_name) {
            (Some(_), Some(_)) => {
                return Err(Error::Usage {
                    message: "volume create: two names: give it as an argument, or with --name".to_owned(),
                    hints: Vec::new(),
                });
            }
            (name, old) => name.or(old).filter(|name| !name.is_empty()),
        };
        let map = |pairs: Vec<Label>| pairs.into_iter().map(|Label(key, value)| (key, value)).collect();
        let options = VolumeOptions {
            name,
            driver: Some(self.driver),
            options: map(self.opt),
            labels: map(self.label),
        };
        let name = context.engine()?.create_volume(&options).map_err(Error::Engine)?;
        output::line(&name).map(|()| 0)
    }
}
