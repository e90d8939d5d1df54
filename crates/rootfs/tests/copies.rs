//! Copies into directories: what they keep, what they refuse, and what they never touch.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use base::Root;
use proptest::prelude::*;
use rootfs::Limits;
use rootfs::copy::{self, CopyError, Manner, Place, Refusal};
use tempfile::TempDir;

fn open(path: &Path) -> File {
    File::open(path).unwrap()
}

fn copy(from: &Path, name: &str, to: &Path) -> Result<copy::Copied, CopyError> {
    let place = Place::on_host(open(to).into());
    copy::copy(open(from).as_fd(), name.as_bytes(), place, Manner::default(), &|_| {})
}

/// An archive of these entries: name, type, link.
fn archive(entries: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, link) in entries {
        let mut header = [0; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name);
        for (at, text) in [(100, "0000644"), (108, "0000000"), (116, "0000000"), (124, "00000000000")] {
            put(at, text.as_bytes());
        }
        put(136, b"10000000000");
        put(156, &[*kind]);
        put(157, link);
        put(257, b"ustar\x0000");
        put(148, b"        ");
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend_from_slice(&header);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn unpack(bytes: &[u8], place: Place) -> Result<copy::Copied, CopyError> {
    copy::unpack(bytes, place, Manner::default(), Limits::default(), &|_| {})
}

/// A root with a directory that links lead into, out of and around; and what is outside.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("place/real")).unwrap();
        fs::create_dir_all(root.join("elsewhere")).unwrap();
        fs::create_dir_all(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/file"), "outside").unwrap();
        let outside = dir.path().join("outside");
        for (name, target) in [
            ("relative", "real"),
            ("absolute", "/elsewhere"),
            ("out", outside.to_str().unwrap()),
            ("up", "../../outside"),
        ] {
            symlink(target, root.join("place").join(name)).unwrap();
        }
        Self { dir }
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    fn in_container(&self) -> Place {
        let root = Root::open(&self.root()).unwrap();
        Place::in_container(open(&self.root().join("place")).into(), root, Path::new("/place"))
    }

    fn on_host(&self) -> Place {
        Place::on_host(open(&self.root().join("place")).into())
    }

    #[track_caller]
    fn assert_outside_untouched(&self) {
        let outside = self.dir.path().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "outside");
        assert_eq!(fs::metadata(outside.join("file")).unwrap().nlink(), 1);
        let mut names: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["outside", "root"]);
    }
}

#[test]
fn links_in_a_container_lead_inside_and_links_on_a_host_nowhere() {
    let world = World::new();
    let inside = |name: &[u8]| unpack(&archive(&[(name, b'0', b"")]), world.in_container());
    inside(b"relative/a").unwrap();
    inside(b"absolute/b").unwrap();
    assert!(world.root().join("place/real/a").exists() && world.root().join("elsewhere/b").exists());
    for name in [&b"out/file"[..], b"up/file", b"out/new"] {
        inside(name).unwrap_err();
        world.assert_outside_untouched();
    }
    for name in [&b"relative/c"[..], b"absolute/c", b"out/c", b"up/c"] {
        let refused = unpack(&archive(&[(name, b'0', b"")]), world.on_host());
        assert!(matches!(refused, Err(CopyError::Entry { source: Refusal::Link, .. })), "{refused:?}");
        world.assert_outside_untouched();
    }
    let over = |kind, name: &[u8]| unpack(&archive(&[(name, kind, b"x")]), world.on_host());
    assert!(matches!(over(b'5', b"out"), Err(CopyError::Entry { source: Refusal::OverFile, .. })));
    assert!(matches!(over(b'2', b"real"), Err(CopyError::Entry { source: Refusal::OverDirectory, .. })));
    over(b'0', b"out").unwrap();
    assert!(world.root().join("place/out").symlink_metadata().unwrap().is_file(), "the link is replaced");
    world.assert_outside_untouched();
}

#[test]
fn times_of_directories_are_kept_however_often_they_are_come_back_to() {
    let world = World::new();
    let names: Vec<String> = (0..100).map(|n| format!("d{n}")).collect();
    let files: Vec<String> = names.iter().map(|name| format!("{name}/file")).collect();
    let mut entries: Vec<(&[u8], u8, &[u8])> = names.iter().map(|n| (n.as_bytes(), b'5', &b""[..])).collect();
    entries.extend(files.iter().map(|n| (n.as_bytes(), b'0', &b""[..])));
    unpack(&archive(&entries), world.on_host()).unwrap();
    for name in names {
        assert_eq!(fs::metadata(world.root().join("place").join(name)).unwrap().mtime(), 0o10_000_000_000);
    }
}

#[test]
fn trees_of_any_depth_are_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&to).unwrap();
    let deep = "d/".repeat(1500);
    Root::open(dir.path()).unwrap().create_dir_all(&Path::new("from").join(deep)).unwrap();
    copy(&from, "copy", &to).unwrap();
    let mut depth = 0;
    let mut at = open(&to.join("copy"));
    while let Ok(next) = rustix::fs::openat(&at, "d", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()) {
        at = File::from(next);
        depth += 1;
    }
    assert_eq!(depth, 1500);
    base::fs::remove_dir_all(&from).unwrap();
    base::fs::remove_dir_all(&to).unwrap();
}

#[test]
fn nothing_is_written_where_the_kernel_shows_itself() {
    let refused =
        unpack(&archive(&[(b"comm", b'0', b"")]), Place::on_host(open(Path::new("/proc/self")).into()));
    assert!(matches!(refused, Err(CopyError::Entry { source: Refusal::Kernels, .. })), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever an archive holds, what is outside stays as it is.
    #[test]
    fn no_archive_leads_out(entries in proptest::collection::vec(
        ("(/|\\./|\\.\\./|a/|out/|up/|relative/|absolute/){0,3}(a|b|out|up|real|file|\\.|\\.\\.)",
         prop_oneof![Just(b'0'), Just(b'1'), Just(b'2'), Just(b'5'), Just(b'6')],
         "(/|\\.\\./|out/|up/){0,3}(a|outside|file)"), 1..12),
        in_container in any::<bool>()) {
        let world = World::new();
        let place = if in_container { world.in_container() } else { world.on_host() };
        let entries: Vec<(&[u8], u8, &[u8])> =
            entries.iter().map(|(name, kind, link)| (name.as_bytes(), *kind, link.as_bytes())).collect();
        unpack(&archive(&entries), place).ok();
        world.assert_outside_untouched();
    }
}
