//! Trees with one of everything, and what trees look like.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use base::Digest;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use crate::Invocation;

/// Makes a root file system with one of everything that an image can hold, and a busybox to run.
pub fn make(root: &Path) {
    let special = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    // where the runtime mounts, so that a container changes nothing
    for dir in ["bin", "dev", "etc", "proc", "sys", "dir/sub", "gone/deep", "emptied", "closed", "turned"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::copy(crate::image::busybox_path(), root.join("bin/busybox")).unwrap();
    for applet in ["sh", "rm", "mkdir", "ln", "chmod", "touch", "true", "sleep", "mv", "cat"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    for (name, content) in [
        ("etc/hostname", ""),
        ("etc/hosts", ""),
        ("etc/resolv.conf", ""),
        ("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
        ("dir/file", "content"),
        ("dir/empty", ""),
        ("gone/deep/file", "gone"),
        ("emptied/file", "gone"),
        ("closed/in", "x"),
        ("turned/file", "x"),
        ("name with\nnewline", "x"),
    ] {
        std::fs::write(root.join(name), content).unwrap();
    }
    std::fs::write(root.join("dir/sub/big"), b"0123456789".repeat(100_000)).unwrap();
    std::fs::write(root.join(OsStr::from_bytes(b"latin-\xe9\xff")), "x").unwrap();
    std::fs::hard_link(root.join("dir/file"), root.join("another")).unwrap();
    std::fs::hard_link(root.join("dir/file"), root.join("dir/sub/third")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    symlink("../".repeat(60) + "far", root.join("long-link")).unwrap();
    special("fifo", FileType::Fifo, 0);
    special("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    special("disk", FileType::BlockDevice, rustix::fs::makedev(259, 70_000));
    for (name, bits) in [("suid", 0o4755), ("sgid", 0o2755), ("none", 0o000), ("all", 0o7777)] {
        std::fs::write(root.join(name), name).unwrap();
        chown(root.join(name), Some(1000), Some(4_000_000_000)).unwrap();
        std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(bits)).unwrap();
    }
    let mut deep = root.to_owned();
    for _ in 0..8 {
        deep.push("n".repeat(99));
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("m".repeat(200)), "long").unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    for i in 0..8 {
        sparse.write_at(b"data in a hole", i * 1_000_000 + 17).unwrap();
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(root.join("all"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    std::fs::set_permissions(root.join("closed"), PermissionsExt::from_mode(0o700)).unwrap();
    Invocation::new("touch").args(&["-d", "@1700000000.123456789"]).arg(root.join("dir/file")).ok();
    Invocation::new("touch").args(&["-h", "-d", "@1600000000"]).arg(root.join("dangling")).ok();
}

/// What a container does to [`make`], so that its layer has whiteouts, opaque directories and changed types.
pub const CHANGE: &str = "rm /dir/empty /another; rm -r /gone /emptied /turned; mkdir /emptied; touch /emptied/new; \
    ln -s dir /turned; chmod 700 /dir/sub; ln /bin/busybox /bin/link; mkdir /gone; rm /suid; mkdir /suid; \
    touch -d @1000000000 /suid /gone";

/// How closely trees are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// All that a file is.
    Closely,
    /// Neither times nor attributes, which not every tool keeps.
    Roughly,
}

/// All that a tree is: a line per file. Its own root is left out.
pub fn snapshot(root: &Path, look: Look) -> BTreeMap<PathBuf, String> {
    let mut lines = BTreeMap::new();
    let mut links = BTreeMap::new();
    walk(root, root, look, &mut lines, &mut links);
    lines
}

fn walk(
    root: &Path,
    directory: &Path,
    look: Look,
    lines: &mut BTreeMap<PathBuf, String>,
    links: &mut BTreeMap<u64, PathBuf>,
) {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let kind = stat.file_type();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let what = if kind.is_dir() {
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("symlink {}", std::fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            format!("file {} {}", stat.size(), Digest::of(&std::fs::read(&path).unwrap()).short())
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else {
            format!("device {} {:x}", kind.is_char_device(), stat.rdev())
        };
        let first = links.entry(stat.ino()).or_insert_with(|| name.clone()).display().to_string();
        let (mode, uid, gid) = (stat.mode(), stat.uid(), stat.gid());
        let links_to = if kind.is_dir() { 0 } else { stat.nlink() };
        let more = match look {
            Look::Closely => format!("{}.{:09} {:?}", stat.mtime(), stat.mtime_nsec(), attributes(&path)),
            Look::Roughly => String::new(),
        };
        lines.insert(name, format!("{what} {mode:o} {uid}:{gid} {links_to} {first} {more}"));
        if kind.is_dir() {
            walk(root, &path, look, lines, links);
        }
    }
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&b| b == 0).filter(|name| !name.is_empty());
    let mut found: Vec<(String, Vec<u8>)> = names
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    found.sort();
    found
}

/// Fails unless two trees look the same, naming what differs.
#[track_caller]
pub fn assert_same(ours: &BTreeMap<PathBuf, String>, theirs: &BTreeMap<PathBuf, String>) {
    let differences: Vec<String> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .map(|name| {
            format!("{}\n  ours   {:?}\n  theirs {:?}", name.display(), ours.get(name), theirs.get(name))
        })
        .collect();
    let count = differences.len();
    assert!(differences.is_empty(), "{count} differences:\n{}", differences[..count.min(20)].join("\n"));
    assert!(ours.len() > 10, "there is nothing in it");
}

/// Unpacks an archive of a file system with GNU tar into a new directory.
#[track_caller]
pub fn extract(archive: &Path, into: &Path) {
    std::fs::create_dir(into).unwrap();
    let tar = Invocation::new("tar").args(&["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"]);
    tar.arg(archive).arg("-C").arg(into).ok();
}

/// Packs a file system with GNU tar, with all that it is. Holes are left out where `sparse` says so.
#[track_caller]
pub fn archive(root: &Path, file: &Path, sparse: bool) {
    let tar = Invocation::new("tar").args(&["--numeric-owner", "--xattrs", "--format=posix"]);
    let tar = if sparse { tar.arg("--sparse") } else { tar };
    tar.arg("-cf").arg(file).arg("-C").arg(root).arg(".").ok();
}
