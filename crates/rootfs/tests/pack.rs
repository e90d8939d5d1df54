//! What is packed: the same content the same bytes, all that a file is, and nothing of what is outside. Wants root.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Digest, Failure, Kind};
use common::{Scratch, assert_same, run, snapshot, xattrs};
use rootfs::Compression;
use rootfs::pack::{Packed, Source, pack, size};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

fn packed(tree: &Path, source: Source, compression: Compression) -> Result<(Vec<u8>, Packed), String> {
    let mut bytes = Vec::new();
    let dir = File::open(tree).unwrap();
    let packed =
        pack(dir.as_fd(), source, compression, 2, &mut bytes).map_err(|e| base::failure::chain(&e))?;
    assert_eq!((Digest::of(&bytes), bytes.len() as u64), (packed.digest, packed.size));
    Ok((bytes, packed))
}

fn layer(tree: &Path) -> (Vec<u8>, Packed) {
    packed(tree, Source::Layer, Compression::None).unwrap()
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A tree with one of everything.
fn zoo(root: &Path) {
    let special = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    write(&root.join("dir/sub/exact"), [b'x'; 512]);
    write(&root.join("dir/sub/big"), b"0123456789".repeat(200_000));
    write(&root.join("dir/empty"), "");
    std::fs::create_dir(root.join("closed")).unwrap();
    write(&root.join("closed/in"), "x");
    std::fs::hard_link(root.join("dir/sub/exact"), root.join("again")).unwrap();
    std::fs::hard_link(root.join("dir/sub/exact"), root.join("dir/and-again")).unwrap();
    symlink("dir/file", root.join("link")).unwrap();
    std::fs::hard_link(root.join("link"), root.join("link-again")).unwrap();
    symlink("../".repeat(60) + "f\u{e4}r", root.join("long-link")).unwrap();
    special("fifo", FileType::Fifo, 0);
    special("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    special("disk", FileType::BlockDevice, rustix::fs::makedev(259, 70_000));
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    for (name, bits) in [("suid", 0o4755), ("sgid", 0o2755), ("none", 0o000), ("all", 0o7777)] {
        write(&root.join(name), name);
        chown(root.join(name), Some(1000), Some(4_000_000_000)).unwrap();
        std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(bits)).unwrap();
    }
    std::fs::set_permissions(root.join("closed"), PermissionsExt::from_mode(0o000)).unwrap();
    write(&root.join(OsStr::from_bytes(b"latin-\xe9\xff")), "x");
    write(&root.join("name with\nnewline"), "x");
    let mut deep = root.to_owned();
    for _ in 0..8 {
        deep.push("n".repeat(99));
    }
    write(&deep.join("m".repeat(255)), "long");
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(16 << 20).unwrap();
    for i in 0..40 {
        sparse.write_at(b"data in a hole", i * 400_000 + 17).unwrap();
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (name, attribute, value) in [
        ("again", "user.note", &b"text"[..]),
        ("dir", "user.binary", b"a\0=b\n"),
        ("all", "security.capability", &capability),
    ] {
        rustix::fs::setxattr(root.join(name), attribute, value, XattrFlags::empty()).unwrap();
    }
    for (name, time) in
        [("dir/empty", "@-1.5"), ("again", "@1700000000.123456789"), ("link", "@99999999999.1")]
    {
        run("touch", &["--no-dereference", "--date", time, root.join(name).to_str().unwrap()]);
    }
}

fn tree(scratch: &Scratch) -> std::path::PathBuf {
    let tree = scratch.dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    tree
}

#[test]
fn what_is_unpacked_and_packed_again_is_the_same() {
    let scratch = Scratch::new();
    let tree = tree(&scratch);
    zoo(&tree);
    let (bytes, first) = layer(&tree);
    assert_eq!(first.digest, first.diff_id);
    let root = scratch.unpack(&bytes).unwrap();
    std::fs::remove_file(tree.join("socket")).unwrap();
    let mut lines = (snapshot(&tree), snapshot(&root));
    for lines in [&mut lines.0, &mut lines.1] {
        lines.remove(Path::new("")); // the root's time is its maker's
    }
    assert!(lines.0 == lines.1 && lines.0.len() > 30);
    assert_eq!(layer(&root), (bytes, first));
    for compression in [Compression::Gzip, Compression::Zstd] {
        let (bytes, packed) = packed(&root, Source::Layer, compression).unwrap();
        assert_eq!((packed.diff_id, packed.unpacked), (first.diff_id, first.size));
        assert_eq!(rootfs::sniff(&bytes), Ok(compression));
        let other = Scratch::new();
        other.store.unpack(&packed.diff_id, "", &bytes[..], &|_| {}).unwrap();
    }
    let total = size(File::open(&tree).unwrap().as_fd()).unwrap();
    assert_eq!(total, (16 << 20) + 2_000_000 + 512 + 4 + 4 + 4 + 4 + 3 + 1 + 1 + 1);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let scratch = Scratch::new();
    let tree = tree(&scratch);
    write(&tree.join("file"), (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    for compression in [Compression::Gzip, Compression::Zstd] {
        let of = |threads| {
            let dir = File::open(&tree).unwrap();
            pack(dir.as_fd(), Source::Layer, compression, threads, std::io::sink()).unwrap()
        };
        assert_eq!(of(1), of(3), "{compression}");
    }
}

#[test]
fn gnu_tar_reads_the_same() {
    let scratch = Scratch::new();
    let tree = tree(&scratch);
    zoo(&tree);
    std::fs::remove_file(tree.join("socket")).unwrap();
    let path = |name: &str| scratch.dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("archive"), layer(&tree).0).unwrap();
    std::fs::create_dir(path("theirs")).unwrap();
    let extract = ["-xpf", &path("archive"), "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C"];
    run("tar", &[&extract[..], &[&path("theirs")]].concat());
    for root in [&tree, Path::new(&path("theirs"))] {
        run("touch", &["--date=@0", root.to_str().unwrap()]);
    }
    assert_same(&tree, Path::new(&path("theirs")));
}

/// Changes of all kinds over a lower layer; `$1` is the merged root.
const CHANGE: &str =
    "cd $1; rm a/gone; rm -r replaced emptied; mkdir replaced emptied; echo new >replaced/new;
    echo changed >>a/kept; rm file-to-dir; mkdir file-to-dir; rm -r dir-to-link; ln -s a dir-to-link;
    chmod 700 a/sub; ln a/kept a/linked; mv a/old a/renamed; touch -d @1 a";

#[test]
fn what_a_container_wrote_becomes_a_layer() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.dir.path().join(name).to_str().unwrap().to_owned();
    for name in ["lower", "upper", "work", "merged", "one", "two"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    let lower = Path::new(&path("lower")).to_owned();
    for name in [
        "a/gone",
        "a/kept",
        "a/sub/x",
        "a/old/y",
        "replaced/1",
        "replaced/2",
        "emptied/1",
        "file-to-dir",
        "dir-to-link/z",
    ] {
        write(&lower.join(name), name);
    }
    let look = r"find . -mindepth 1 -printf '%p %y %m %U %G %T@ %l %n\n' | sort; find . -type f | sort | xargs sha256sum";
    let script = format!(
        "mount -t overlay o -o lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=off,metacopy=off $1; \
         (set -e; {CHANGE}; {look}) >{before}; umount $1",
        lower = path("lower"),
        upper = path("upper"),
        work = path("work"),
        before = path("before"),
    );
    let merged = path("merged");
    run("unshare", &["--mount", "--propagation=private", "sh", "-ec", &script, "sh", &merged]);
    let (base, _) = layer(&lower);
    let (change, packed) = layer(Path::new(&path("upper")));
    let names = String::from_utf8(run_tar_list(&scratch, &change)).unwrap();
    for name in ["a/.wh.gone", "a/.wh.old", "replaced/.wh..wh..opq", "emptied/.wh..wh..opq"] {
        assert!(names.lines().any(|line| line == name), "{name} in\n{names}");
    }
    assert!(!names.contains("replaced/1") && !names.contains("a/sub/x"));
    // the layers alone make the same root
    let lowers = [scratch.unpack(&change).unwrap(), scratch.unpack(&base).unwrap()];
    assert_eq!(layer(&lowers[0]).1, packed);
    let script = format!(
        "mount -t overlay o -o lowerdir={}:{} $1; cd $1; {look}",
        lowers[0].display(),
        lowers[1].display()
    );
    let after = run("unshare", &["--mount", "--propagation=private", "sh", "-ec", &script, "sh", &merged]);
    let before = std::fs::read_to_string(path("before")).unwrap();
    assert_eq!(before, String::from_utf8(after).unwrap());
    assert!(before.contains("./a/linked f 644") && before.lines().count() > 15, "{before}");
}

fn run_tar_list(scratch: &Scratch, archive: &[u8]) -> Vec<u8> {
    let path = scratch.dir.path().join("listed.tar");
    std::fs::write(&path, archive).unwrap();
    run("tar", &["-tf", path.to_str().unwrap()])
}

#[test]
fn what_a_layer_cannot_say_is_an_error_and_a_tree_can() {
    let scratch = Scratch::new();
    let tree = tree(&scratch);
    write(&tree.join("a/.wh.b"), "");
    let error = packed(&tree, Source::Layer, Compression::None).unwrap_err();
    assert!(error.starts_with("cannot pack `a/.wh.b`: in a layer the name would be a whiteout"), "{error}");
    assert!(packed(&tree, Source::Tree, Compression::None).is_ok());
    std::fs::remove_dir_all(tree.join("a")).unwrap();
    std::fs::create_dir(tree.join("moved")).unwrap();
    let redirect = "trusted.overlay.redirect";
    rustix::fs::setxattr(tree.join("moved"), redirect, b"/old", XattrFlags::empty()).unwrap();
    let dir = File::open(&tree).unwrap();
    let error = pack(dir.as_fd(), Source::Layer, Compression::None, 1, std::io::sink()).unwrap_err();
    assert_eq!((error.kind(), error.hints().len()), (Kind::Unsupported, 1));
    rustix::fs::removexattr(tree.join("moved"), redirect).unwrap();
    // somebody else's overlay in the container: its attributes are no content and mean nothing to us
    rustix::fs::setxattr(tree.join("moved"), "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    let root = scratch.unpack(&layer(&tree).0).unwrap();
    assert!(xattrs(&root.join("moved")).is_empty());
}

#[test]
fn gigabytes_of_holes_are_left_out() {
    let scratch = Scratch::new();
    let tree = tree(&scratch);
    let file = File::create(tree.join("sparse")).unwrap();
    file.set_len(5 << 30).unwrap();
    file.write_at(b"first", 1 << 30).unwrap();
    file.write_at(b"second", (4 << 30) + 5000).unwrap();
    File::create(tree.join("hole")).unwrap().set_len(2 << 30).unwrap();
    let (bytes, packed) = layer(&tree);
    assert!(bytes.len() < 20_000, "{}", bytes.len());
    let root = scratch.unpack(&bytes).unwrap();
    let theirs = scratch.dir.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let archive = scratch.dir.path().join("archive");
    std::fs::write(&archive, &bytes).unwrap();
    run("tar", &["-xpf", archive.to_str().unwrap(), "-C", theirs.to_str().unwrap()]);
    for root in [&root, &theirs] {
        let file = File::open(root.join("sparse")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5 << 30);
        for (text, at) in [(&b"first"[..], 1 << 30), (b"second", (4 << 30) + 5000)] {
            let mut found = vec![0; text.len()];
            file.read_exact_at(&mut found, at).unwrap();
            assert_eq!(found, text);
        }
        assert_eq!(std::fs::metadata(root.join("hole")).unwrap().len(), 2 << 30);
    }
    assert_eq!(layer(&root), (bytes, packed));
}

#[test]
fn a_root_that_is_not_as_usual_is_kept() {
    let scratch = Scratch::new();
    let tree = tree(&scratch);
    write(&tree.join("x"), "");
    let usual = layer(&tree).0.len();
    std::fs::set_permissions(&tree, PermissionsExt::from_mode(0o1700)).unwrap();
    chown(&tree, Some(7), Some(8)).unwrap();
    let (bytes, packed) = layer(&tree);
    assert!(bytes.len() > usual);
    let root = scratch.unpack(&bytes).unwrap();
    assert_eq!(snapshot(&root), snapshot(&tree));
    assert_eq!(layer(&root).1, packed);
}

#[test]
fn depth_costs_no_descriptors_and_ends_where_names_do() {
    let scratch = Scratch::new();
    let tree = tree(&scratch);
    let mut deep = tree.clone();
    for i in 0..900 {
        deep.push(if i % 2 == 0 { "ab" } else { "c" });
    }
    std::fs::create_dir_all(&deep).unwrap();
    write(&deep.join("end"), "x");
    write(&tree.join("zz"), "after");
    let (bytes, packed) = layer(&tree);
    let names = run_tar_list(&scratch, &bytes);
    assert!(names.ends_with(b"/end\nzz\n"));
    assert_eq!(layer(&scratch.unpack(&bytes).unwrap()).1, packed);
    // longer than a path can be
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
    let mut at = rustix::fs::openat(CWD, &deep, flags, Mode::empty()).unwrap();
    for _ in 0..20 {
        let name = "d".repeat(200);
        rustix::fs::mkdirat(&at, &*name, Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, &*name, flags, Mode::empty()).unwrap();
    }
    let error = self::packed(&tree, Source::Layer, Compression::None).unwrap_err();
    assert!(error.ends_with("its path is too long"), "{error}");
    base::fs::remove_dir_all(&tree).unwrap();
}

/// CVE-2018-15664 and its like: names that are exchanged while they are read.
#[test]
fn nobody_leads_the_walk_outside() {
    let scratch = Scratch::new();
    let tree = tree(&scratch);
    let outside = scratch.dir.path().join("outside");
    write(&outside.join("sub/secret"), "untouched");
    for i in 0..20 {
        write(&tree.join(format!("dir{i}/sub/file")), "inside");
        write(&tree.join(format!("file{i}")), "inside");
    }
    symlink(&outside, tree.join("0-link")).unwrap();
    symlink(outside.join("secret"), tree.join("0-file")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |a: &Path, b: &Path| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, a, CWD, b, flags).unwrap();
            };
            while !done.load(Ordering::Relaxed) {
                for i in 0..20 {
                    for _ in 0..2 {
                        exchange(&tree.join(format!("dir{i}")), &tree.join("0-link"));
                        exchange(&tree.join(format!("file{i}")), &tree.join("0-file"));
                    }
                }
            }
        });
        for _ in 0..300 {
            match packed(&tree, Source::Tree, Compression::None) {
                Ok((bytes, _)) => assert!(!bytes.windows(9).any(|bytes| bytes == b"untouched")),
                // a directory that was moved while we were in it
                Err(error) => assert!(error.contains("cannot pack"), "{error}"),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
