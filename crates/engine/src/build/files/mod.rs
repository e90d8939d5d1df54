//! What `COPY`, `ADD`, here-documents and `WORKDIR` do to a tree, and what of it decides whether it has been done before.
//!
//! ```text
//! sources ─► choose ─► walk ─┬─► put       the files, in the target
//!            wildcards,      │
//!            links           └─► digest    names, types, modes, owners, attributes, bytes: the key
//! ```
//!
//! The rules are BuildKit's (its file operations, and fsutil's copy beneath them). Neither tree is trusted: a context may be
//! changed while it is read, a stage's files are whatever its commands made. A path is therefore walked name by name, each
//! opened in the directory that is held open and never followed: what a symlink says is read, and means what it would mean
//! with that tree as the root (`resolve`). Only what is a regular file is opened to be read, so that no FIFO holds us up.

mod attributes;
mod choose;
mod content;
mod digest;
mod error;
mod filter;
mod glob;
pub(in crate::build) mod listing;
mod mode;
mod owner;
mod put;
mod remembered;
pub(in crate::build) mod resolve;
mod target;
mod tree;

use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicUsize;

use ::build::graph::{Change, StepId};
use ::build::ignore::Patterns;
use base::{Digest, Timestamp};

pub(crate) use self::error::Error;
pub(crate) use self::remembered::Remembered;
use crate::error::Result;

/// A step's files, as changes of another step see them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Their root, a directory (`O_PATH` will do).
    pub(crate) root: BorrowedFd<'a>,
    /// What is not there for the build: the context's `.dockerignore`.
    pub(crate) ignore: Option<&'a Patterns>,
    /// Where digests of files are kept; for directories that outlive the build, and are large.
    pub(crate) remembered: Option<&'a Remembered>,
    /// To whom copies belong that no `--chown` says otherwise of.
    pub(crate) owners: Owners,
    /// Counts devices, which are left out then: for who copies to where they would be the machine's.
    pub(crate) devices: Option<&'a AtomicUsize>,
}

/// To whom copies belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// To root: who builds is nobody in the image. For contexts, Git and HTTP.
    Root,
    /// To whom the originals belong: for images and stages.
    Kept,
    /// To root, whose programs with set-id bits none becomes by that: for directories of this machine.
    Exported,
}

impl<'a> Source<'a> {
    /// A directory of the one who builds.
    pub(crate) fn context(
        root: BorrowedFd<'a>,
        ignore: Option<&'a Patterns>,
        remembered: Option<&'a Remembered>,
    ) -> Self {
        Self { root, ignore, remembered, owners: Owners::Root, devices: None }
    }

    /// The file system of an image or a stage.
    pub(crate) fn tree(root: BorrowedFd<'a>) -> Self {
        Self { root, ignore: None, remembered: None, owners: Owners::Kept, devices: None }
    }
}

/// The key of a change's content: what will be there afterwards, as far as it comes from the change and its source. Names,
/// types, modes, owners (as they are written in `--chown`), attributes and bytes count; times, inodes and the place where
/// the source lies do not. So equal files have equal keys wherever they are, and whenever they were made.
///
/// # Errors
/// What is to be copied is missing, or cannot be read.
pub(crate) fn digest<'a>(change: &Change, source: &dyn Fn(StepId) -> Result<Source<'a>>) -> Result<Digest> {
    digest::of(change, source)
}

/// Does the changes to the tree below `target`, an open directory. With an `epoch`, nothing that is written or touched is
/// newer than that.
///
/// Who caches the result by [`digest()`] should ask for that again afterwards: a context can change while it is copied, and then
/// the key is not that of what was copied. (With a [`Remembered`] the second time costs little.)
///
/// # Errors
/// What is to be copied is missing, or cannot be read; the target has something in the way; the disk is full.
pub(crate) fn apply<'a>(
    changes: &[Change],
    source: &dyn Fn(StepId) -> Result<Source<'a>>,
    target: BorrowedFd<'_>,
    epoch: Option<Timestamp>,
) -> Result<()> {
    put::all(changes, source, target, epoch)
}

#[cfg(test)]
mod tests;
