//! What runs in it, as whom, and in which surroundings.

use std::path::PathBuf;

use clap::Args;
use state::options::ContainerOptions;

use crate::error::Result;
use crate::flags::environment;
use crate::flags::label::{self, Label};

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Replace the image's entrypoint
    #[arg(long, value_name = "PROGRAM", help_heading = "Process")]
    entrypoint: Option<String>,
    /// Set an environment variable, or pass yours on
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    env: Vec<String>,
    /// Set the environment variables of a file
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    env_file: Vec<String>,
    /// Run as this user
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Process")]
    user: Option<String>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR", help_heading = "Process")]
    workdir: Option<PathBuf>,
    /// Set its host name
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Process")]
    hostname: Option<String>,
    /// Set its NIS domain name
    #[arg(long, value_name = "NAME", help_heading = "Process")]
    domainname: Option<String>,
    /// Run in a further group
    #[arg(long, value_name = "GROUP", help_heading = "Process")]
    group_add: Vec<String>,
    /// Put a label on it
    #[arg(short, long, value_name = "KEY[=VALUE]", help_heading = "Process")]
    label: Vec<Label>,
    /// Put the labels of a file on it
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    label_file: Vec<String>,
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) -> Result<()> {
        options.entrypoint = self.entrypoint.map(|program| vec![program]);
        options.env = environment::resolve(&self.env_file, &self.env)?;
        options.user = self.user;
        options.working_dir = self.workdir;
        options.hostname = self.hostname;
        options.domainname = self.domainname.filter(|name| !name.is_empty());
        options.groups = self.group_add;
        // Those of files first: what is said on the command line counts.
        options.labels = label::read_files(&self.label_file)?;
        options.labels.extend(self.label.into_iter().map(|Label(key, value)| (key, value)));
        Ok(())
    }
}
