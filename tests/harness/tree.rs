//! What a tree is, as text to compare: whoever unpacked it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use base::Digest;

/// A line for each file below `root`: its type, content, mode, owner, time, links, device and attributes.
pub fn look(root: &Path) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut links = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    // In the order of names, so that of several names of a file the same is the first.
    while let Some(path) = pending.pop() {
        let stat = path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let kind = stat.file_type();
        let what = if kind.is_dir() {
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("symlink {}", std::fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii())
        } else if kind.is_file() {
            format!("file {} {}", stat.size(), Digest::of(&std::fs::read(&path).unwrap()).short())
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else {
            format!("device {} {:x}", kind.is_char_device(), stat.rdev())
        };
        let first = links.entry(stat.ino()).or_insert_with(|| name.clone()).clone();
        let links =
            if kind.is_dir() { String::new() } else { format!("{} names from {first}", stat.nlink()) };
        let line = format!(
            "{what} {:o} {}:{} {}.{:09} {links} {:?}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.mtime(),
            stat.mtime_nsec(),
            attributes(&path)
        );
        lines.insert(name, line);
        if kind.is_dir() {
            let mut names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).collect();
            names.sort_by(|a, b| b.cmp(a));
            pending.extend(names);
        }
    }
    lines
}

fn attributes(path: &Path) -> BTreeMap<String, String> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut found = BTreeMap::new();
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
        found.insert(name.escape_ascii().to_string(), value[..length].escape_ascii().to_string());
    }
    found
}

/// What differs between two trees, as lines to read; the names of all that does.
pub fn differences(
    ours: &BTreeMap<String, String>,
    theirs: &BTreeMap<String, String>,
) -> (Vec<String>, String) {
    let mut names: Vec<String> = ours.keys().chain(theirs.keys()).cloned().collect();
    names.sort();
    names.dedup();
    names.retain(|name| ours.get(name) != theirs.get(name));
    let line =
        |name: &String| format!("{name}\n  ours   {:?}\n  theirs {:?}", ours.get(name), theirs.get(name));
    let text = names.iter().map(line).collect::<Vec<_>>().join("\n");
    (names, text)
}
