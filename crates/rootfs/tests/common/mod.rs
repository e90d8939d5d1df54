//! What the tests share: archives made byte by byte, and trees that can be compared.
#![expect(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test file uses some of it")]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use base::Digest;
use rootfs::LayerStore;

/// A store in a directory of its own, with a file beside it that no archive may touch.
pub(crate) struct Scratch {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: LayerStore,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// In memory: for tests that unpack hundreds of layers, each of which is synced.
    pub(crate) fn in_memory() -> Self {
        Self::within(Path::new("/dev/shm"))
    }

    fn within(place: &Path) -> Self {
        let dir = tempfile::tempdir_in(place).unwrap();
        for sub in ["layers", "removing", "outside"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        std::fs::write(dir.path().join("outside/secret"), "untouched").unwrap();
        let store = LayerStore::open(&dir.path().join("layers"), &dir.path().join("removing"));
        Self { dir, store }
    }

    /// Unpacks an uncompressed archive under its own digest.
    pub(crate) fn unpack(&self, tar: &[u8]) -> Result<PathBuf, String> {
        let id = Digest::of(tar);
        match self.store.unpack(&id, "application/vnd.oci.image.layer.v1.tar", tar, &|_| {}) {
            Ok(_) => Ok(self.store.path(&id)),
            Err(e) => Err(base::failure::chain(&e)),
        }
    }

    /// Asserts that nothing but whole layers is left, and nothing outside was touched.
    pub(crate) fn check(&self, layers: usize) {
        let count = |sub: &str| std::fs::read_dir(self.dir.path().join(sub)).unwrap().count();
        assert_eq!((count("layers"), count("removing"), count("outside")), (layers, 0, 1));
        let secret = self.dir.path().join("outside/secret");
        assert_eq!(std::fs::read(&secret).unwrap(), b"untouched");
        let stat = std::fs::metadata(&secret).unwrap();
        assert_eq!((stat.nlink(), stat.mode() & 0o7777, stat.uid()), (1, 0o644, 0));
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 3);
    }
}

/// An archive in the making. Says whatever it is told to.
#[derive(Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// A header that can lie.
#[derive(Clone)]
pub(crate) struct Header<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
    pub(crate) link: &'a [u8],
    pub(crate) device: (u32, u32),
    pub(crate) size: Option<u64>,
    pub(crate) pax: &'a [(&'a str, &'a [u8])],
}

impl Default for Header<'_> {
    fn default() -> Self {
        Self {
            name: b"",
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_500_000_000,
            link: b"",
            device: (0, 0),
            size: None,
            pax: &[],
        }
    }
}

impl Tar {
    pub(crate) fn add(mut self, header: Header<'_>, content: &[u8]) -> Self {
        if !header.pax.is_empty() {
            let mut records = Vec::new();
            for (key, value) in header.pax {
                let rest = key.len() + value.len() + 3;
                let mut length = rest + 1;
                while length != rest + length.to_string().len() {
                    length = rest + length.to_string().len();
                }
                records.extend_from_slice(format!("{length} {key}=").as_bytes());
                records.extend_from_slice(value);
                records.push(b'\n');
            }
            let x = Header { name: b"PaxHeaders/x", kind: b'x', ..Header::default() };
            self = self.raw(&x, &records);
        }
        self.raw(&header, content)
    }

    fn raw(mut self, header: &Header<'_>, content: &[u8]) -> Self {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &header.name[..header.name.len().min(100)]);
        put(100, format!("{:07o}\0", header.mode).as_bytes());
        put(108, format!("{:07o}\0", header.uid).as_bytes());
        put(116, format!("{:07o}\0", header.gid).as_bytes());
        put(124, format!("{:011o}\0", header.size.unwrap_or(content.len() as u64)).as_bytes());
        put(136, format!("{:011o}\0", header.mtime).as_bytes());
        put(148, b"        ");
        put(156, &[header.kind]);
        put(157, &header.link[..header.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}\0", header.device.0).as_bytes());
        put(337, format!("{:07o}\0", header.device.1).as_bytes());
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.add(Header { name: name.as_bytes(), ..Header::default() }, content.as_bytes())
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.add(Header { name: name.as_bytes(), kind: b'5', mode: 0o755, ..Header::default() }, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.add(
            Header {
                name: name.as_bytes(),
                kind: b'2',
                link: target.as_bytes(),
                mode: 0o777,
                ..Header::default()
            },
            b"",
        )
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.add(
            Header { name: name.as_bytes(), kind: b'1', link: target.as_bytes(), ..Header::default() },
            b"",
        )
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// All that a tree is, as text to compare: a line per file.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut lines = BTreeMap::new();
    let mut links = BTreeMap::new();
    walk(root, root, true, &mut lines, &mut links);
    lines
}

/// The same without how many names each file has: names may lie elsewhere.
pub(crate) fn snapshot_without_counts(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut lines = BTreeMap::new();
    let mut links = BTreeMap::new();
    walk(root, root, false, &mut lines, &mut links);
    lines
}

fn walk(
    root: &Path,
    path: &Path,
    counts: bool,
    lines: &mut BTreeMap<PathBuf, String>,
    links: &mut BTreeMap<u64, PathBuf>,
) {
    let stat = std::fs::symlink_metadata(path).unwrap();
    let kind = stat.file_type();
    let name = path.strip_prefix(root).unwrap().to_owned();
    let what = if kind.is_dir() {
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("symlink {}", std::fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        format!("file {} {}", stat.size(), Digest::of(&std::fs::read(path).unwrap()).short())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        format!("device {} {:x}", kind.is_char_device(), stat.rdev())
    };
    let first = links.entry(stat.ino()).or_insert_with(|| name.clone()).clone();
    let line = format!(
        "{what} {:o} {}:{} {}.{:09} {} {} {:?}",
        stat.mode(),
        stat.uid(),
        stat.gid(),
        stat.mtime(),
        stat.mtime_nsec(),
        if kind.is_dir() || !counts { 0 } else { stat.nlink() },
        first.display(),
        xattrs(path),
    );
    lines.insert(name, line);
    if kind.is_dir() {
        let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        for child in names {
            walk(root, &child, counts, lines, links);
        }
    }
}

/// The extended attributes of a file, by name; without the note that the store writes for itself.
pub(crate) fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut found = BTreeMap::new();
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        if name == b"trusted.overlay.dhow" {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        found.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    found
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = std::process::Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Asserts that two trees are the same, naming what differs.
pub(crate) fn assert_same(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (snapshot(ours), snapshot(theirs));
    let mut differences = Vec::new();
    for name in ours.keys().chain(theirs.keys()) {
        if ours.get(name) != theirs.get(name) {
            differences.push(format!(
                "{}\n  ours   {:?}\n  theirs {:?}",
                String::from_utf8_lossy(name.as_os_str().as_bytes()),
                ours.get(name),
                theirs.get(name)
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences[..differences.len().min(20)].join("\n")
    );
    assert!(ours.len() > 1);
}
