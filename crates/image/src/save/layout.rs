//! A plan becomes the directory of an OCI layout.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base::fs::At;

use super::plan::{Plan, member};
use super::{Error, Result, archive};
use crate::Store;

pub(super) fn write(store: &Store, plan: &Plan, path: &Path, advance: &dyn Fn(u64)) -> Result<()> {
    claim(path)?;
    base::fs::create_dir_all(&path.join("blobs/sha256"), 0o755)?;
    for (digest, blob) in &plan.blobs {
        let file = create(&path.join(member(digest)))?;
        archive::copy(store, digest, blob, &file, advance)?;
    }
    // Whoever finds an index finds all that it names.
    for (name, bytes) in plan.files.iter().rev() {
        let file = path.join(name);
        base::fs::create_new(&file, bytes, 0o644)?;
    }
    Ok(())
}

/// Makes the directory, which must be new or empty.
fn claim(path: &Path) -> Result<()> {
    base::fs::create_dir_all(path, 0o755)?;
    let mut entries = std::fs::read_dir(path).at("list", path)?;
    if entries.next().is_some() {
        return Err(Error::NotEmpty(path.to_owned()));
    }
    Ok(())
}

fn create(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).at("create", path)?)
}
