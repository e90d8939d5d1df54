//! Looking at a store from outside: is all that it claims to have whole?

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base::Digest;

/// Every blob is what its name says; else a line for each that is not.
pub fn broken_blobs(root: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    for entry in std::fs::read_dir(root.join("content/blobs/sha256")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let found = Digest::of(&std::fs::read(entry.path()).unwrap_or_default());
        if found.hex() != name {
            broken.push(format!("blob {name} has the digest {found}"));
        }
    }
    broken
}

/// The layers that are there, each with a digest over the whole tree: names, types, modes, owners, links, contents.
pub fn layers(root: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(root.join("layers")).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| {
            let mut description = String::new();
            describe(&entry.path(), "", &mut description);
            (entry.file_name().to_string_lossy().into_owned(), Digest::of(description.as_bytes()).to_string())
        })
        .collect()
}

fn describe(directory: &Path, prefix: &str, description: &mut String) {
    use std::fmt::Write;
    let mut entries: Vec<_> = std::fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        let content = if metadata.is_symlink() {
            std::fs::read_link(entry.path()).unwrap_or_default().display().to_string()
        } else if metadata.is_file() {
            Digest::of(&std::fs::read(entry.path()).unwrap_or_default()).to_string()
        } else {
            String::new()
        };
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        writeln!(description, "{name} {mode:o} {uid}:{gid} {} {content}", metadata.rdev()).ok();
        if metadata.is_dir() {
            describe(&entry.path(), &name, description);
        }
    }
}
