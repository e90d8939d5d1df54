//! Where a build's files come from: contexts, Git repositories, files from the web.

pub(crate) mod context;
mod error;
pub(crate) mod git;
pub(crate) mod http;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use ::build::graph::Git;
use base::fs;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use state::lock::Lock;

pub(crate) use self::error::Error;
pub(crate) use self::git::{Places, shown as without_login};
use crate::error::Result;

/// Has a directory for what is fetched from one address alone, and notes that it is used.
pub(crate) fn hold(own: &Path) -> fs::Result<Lock> {
    let lock = Lock::exclusive_made(own)?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    // Only a collection asks: where it cannot be noted, it seems older than it is.
    rustix::fs::futimens(&lock, &Timestamps { last_access: now, last_modification: now }).ok();
    Ok(lock)
}

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
