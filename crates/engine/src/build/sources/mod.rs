//! Where a build's files come from: contexts, Git repositories, files from the web.

pub(crate) mod context;
mod error;
pub(crate) mod git;
pub(crate) mod http;

use std::fs::File;
use std::os::fd::OwnedFd;

use ::build::graph::Git;

pub(crate) use self::error::Error;
pub(crate) use self::git::{Places, shown as without_login};
use crate::error::Result;

/// Fetches contexts that are elsewhere.
pub(crate) struct Fetcher<'a> {
    pub(crate) places: Places<'a>,
    pub(crate) client: &'a registry::Client,
    /// Is told of files from the web.
    pub(crate) watch: &'a dyn registry::download::Watch,
}

impl context::Fetch for Fetcher<'_> {
    fn http(&self, url: &str) -> Result<File> {
        Ok(http::open(url, self.places, self.client, self.watch)?)
    }

    fn git(&self, git: &Git) -> Result<(OwnedFd, String)> {
        let fetched = git::fetch(git, self.places, false)?;
        Ok((fetched.root, fetched.commit))
    }
}
