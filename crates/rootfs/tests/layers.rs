//! What layers mean: the OCI image specification's layer.md, entry by entry. Wants root.

mod common;

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use base::{Digest, Failure, Kind};
use common::{Header, Scratch, Tar, xattrs};
use rootfs::Error;

fn is_whiteout(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|stat| stat.file_type().is_char_device() && stat.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    xattrs(path).get("trusted.overlay.opaque").is_some_and(|value| value == b"y")
}

#[test]
fn whiteouts_become_overlays() {
    let scratch = Scratch::new();
    let tar = Tar::default()
        .dir("a")
        .file("a/.wh.gone", "")
        .dir("b")
        .file("b/.wh..wh..opq", "")
        .file("b/new", "new")
        .file("never/made/.wh.gone", "")
        .file(".wh..wh.aufs", "")
        .end();
    let root = scratch.unpack(&tar).unwrap();
    assert!(is_whiteout(&root.join("a/gone")) && is_whiteout(&root.join("never/made/gone")));
    assert!(is_opaque(&root.join("b")) && !is_opaque(&root.join("a")));
    assert!(!root.join("b/.wh..wh..opq").exists() && !root.join(".wh..wh.aufs").exists());
    scratch.check(1);
}

#[test]
fn a_whiteout_hides_only_what_is_below_whichever_comes_first() {
    let scratch = Scratch::new();
    let tar = Tar::default()
        .file(".wh.dir", "")
        .dir("dir")
        .file("dir/new", "new")
        .dir("other")
        .file("other/new", "new")
        .file(".wh.other", "")
        .file(".wh.file", "")
        .file("file", "new")
        .file("last", "new")
        .file(".wh.last", "")
        .end();
    let root = scratch.unpack(&tar).unwrap();
    for dir in ["dir", "other"] {
        assert!(is_opaque(&root.join(dir)) && root.join(dir).join("new").exists(), "{dir}");
    }
    for file in ["file", "last"] {
        assert_eq!(std::fs::read(root.join(file)).unwrap(), b"new");
    }
}

#[test]
fn a_whiteout_below_what_is_no_directory_says_nothing() {
    let scratch = Scratch::new();
    let tar = Tar::default()
        .dir("dir")
        .symlink("link", "dir")
        .file("link/.wh.x", "")
        .file("link/sub/.wh.x", "")
        .file("link/.wh..wh..opq", "")
        .file("file", "")
        .file("file/.wh.x", "")
        .file("early/.wh.x", "")
        .symlink("early", "dir")
        .end();
    let root = scratch.unpack(&tar).unwrap();
    assert_eq!(std::fs::read_dir(root.join("dir")).unwrap().count(), 0);
    assert!(!is_opaque(&root.join("dir")));
    assert!(std::fs::symlink_metadata(root.join("early")).unwrap().is_symlink());
}

#[test]
fn an_opaque_root_hides_the_layers_below() {
    let scratch = Scratch::new();
    let layers: Vec<Digest> = [
        Tar::default().file("one", "1").end(),
        Tar::default().file(".wh..wh..opq", "").file("two", "2").end(),
        Tar::default().file("three", "3").end(),
    ]
    .iter()
    .map(|tar| {
        scratch.unpack(tar).unwrap();
        Digest::of(tar)
    })
    .collect();
    let overlay = scratch.store.overlay(&layers, Path::new("/c")).unwrap();
    assert_eq!(overlay.lowers, [scratch.store.path(&layers[2]), scratch.store.path(&layers[1])]);
    assert_eq!(
        (overlay.upper.as_path(), overlay.work.as_path()),
        (Path::new("/c/upper"), Path::new("/c/work"))
    );
    let missing = scratch.store.overlay(&[Digest::of(b"x")], Path::new("/c")).unwrap_err();
    assert!(matches!(missing, Error::Missing(_)) && missing.kind() == Kind::NotFound);
    // However often a layer comes again, it is mounted once: the kernel takes no directory twice.
    let again = scratch.store.overlay(&vec![layers[0]; 63_873], Path::new("/c")).unwrap();
    assert_eq!(again.lowers, [scratch.store.path(&layers[0])]);
}

#[test]
fn the_last_of_several_entries_wins() {
    let scratch = Scratch::new();
    let tar = Tar::default()
        .file("file", "old")
        .file("file", "new")
        .file("becomes-dir", "x")
        .dir("becomes-dir")
        .file("becomes-dir/in", "x")
        .dir("becomes-file")
        .file("becomes-file/in/deep", "x")
        .file("becomes-file", "x")
        .symlink("becomes-dir-too", "nowhere")
        .dir("becomes-dir-too")
        .dir("kept")
        .file("kept/in", "x")
        .dir("kept")
        .file("linked", "x")
        .hard_link("link", "linked")
        .hard_link("link", "linked")
        .hard_link("linked", "linked")
        .file("replaced", "y")
        .hard_link("replaced", "link")
        .end();
    let root = scratch.unpack(&tar).unwrap();
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    assert_eq!((&*read("file"), &*read("becomes-file"), &*read("becomes-dir/in")), ("new", "x", "x"));
    assert!(std::fs::symlink_metadata(root.join("becomes-dir-too")).unwrap().is_dir());
    assert_eq!((&*read("kept/in"), &*read("replaced")), ("x", "x"));
    assert_eq!(std::fs::metadata(root.join("linked")).unwrap().nlink(), 3);
}

#[test]
fn links_inside_the_layer_are_followed_inside_the_layer() {
    let scratch = Scratch::new();
    let tar = Tar::default()
        .dir("usr")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/relative", "x")
        .symlink("absolute", "/usr/lib")
        .file("absolute/file", "x")
        .symlink("up", "../../../../usr/lib")
        .file("up/third", "x")
        .end();
    let root = scratch.unpack(&tar).unwrap();
    for name in ["relative", "file", "third"] {
        assert!(root.join("usr/lib").join(name).is_file(), "{name}");
    }
    // However it was reached, it has one time: the archive's.
    assert_eq!(std::fs::metadata(root.join("usr/lib")).unwrap().mtime(), 1_500_000_000);
    scratch.check(1);
}

#[test]
fn all_that_a_file_has_is_kept_in_the_right_order() {
    let scratch = Scratch::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = "d/".repeat(150) + "file";
    let tar = Tar::default()
        .add(
            Header {
                name: b"suid",
                mode: 0o6755,
                uid: 1234,
                gid: 77,
                pax: &[
                    ("mtime", b"-1.25"),
                    ("SCHILY.xattr.security.capability", &capability),
                    ("SCHILY.xattr.user.note", b"a=b\nc\0d"),
                    ("uid", b"4000000000"),
                ],
                ..Header::default()
            },
            b"content",
        )
        .add(Header { name: b"tmp", kind: b'5', mode: 0o1777, ..Header::default() }, b"")
        .file("tmp/late", "makes the directory younger")
        .add(Header { name: b"pipe", kind: b'6', mode: 0o622, uid: 5, ..Header::default() }, b"")
        .add(Header { name: b"null", kind: b'3', mode: 0o666, device: (1, 3), ..Header::default() }, b"")
        .add(
            Header { name: b"disk", kind: b'4', mode: 0o660, gid: 6, device: (8, 17), ..Header::default() },
            b"",
        )
        .add(Header { name: b"x", pax: &[("path", long.as_bytes())], ..Header::default() }, b"long")
        .add(Header { name: b"x", pax: &[("path", b"not-\xff-utf8")], ..Header::default() }, b"")
        .add(Header { name: b"old-style-dir/", kind: 0, mode: 0o700, ..Header::default() }, b"")
        .add(Header { name: b"./", kind: b'5', mode: 0o750, uid: 9, ..Header::default() }, b"")
        .end();
    let root = scratch.unpack(&tar).unwrap();
    let stat = std::fs::metadata(root.join("suid")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o6755, 4_000_000_000, 77));
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (-2, 750_000_000));
    let attributes = xattrs(&root.join("suid"));
    assert_eq!(attributes["user.note"], b"a=b\nc\0d");
    assert_eq!(attributes["security.capability"], capability);
    let tmp = std::fs::metadata(root.join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 1_500_000_000));
    let special = |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap();
    assert!(special("pipe").file_type().is_fifo() && special("pipe").mode() & 0o7777 == 0o622);
    assert_eq!((special("null").rdev(), special("disk").rdev()), (0x103, 0x811));
    assert_eq!(std::fs::read(root.join(long)).unwrap(), b"long");
    assert!(root.join("old-style-dir").is_dir());
    let top = std::fs::metadata(&root).unwrap();
    assert_eq!((top.mode() & 0o7777, top.uid(), top.mtime()), (0o750, 9, 1_500_000_000));
    let names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name.as_encoded_bytes() == b"not-\xff-utf8"));
}

#[test]
fn access_lists_are_those_of_the_archive_and_no_others() {
    // Everybody, the user 1000, the group, the mask, others (linux/posix_acl_xattr.h).
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 6, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let scratch = Scratch::new();
    let pax: &[(&str, &[u8])] = &[("SCHILY.xattr.system.posix_acl_default", &list)];
    let own: &[(&str, &[u8])] = &[("SCHILY.xattr.system.posix_acl_access", &list)];
    let tar = Tar::default()
        .add(Header { name: b"dir", kind: b'5', mode: 0o755, pax, ..Header::default() }, b"")
        .file("dir/plain", "x")
        .dir("dir/sub")
        .file("dir/sub/plain", "x")
        .add(Header { name: b"dir/own", mode: 0o675, pax: own, ..Header::default() }, b"x")
        .end();
    let root = scratch.unpack(&tar).unwrap();
    let names = |path: &str| xattrs(&root.join(path)).into_keys().collect::<Vec<_>>();
    assert_eq!(names("dir"), ["system.posix_acl_default"]);
    for path in ["dir/plain", "dir/sub", "dir/sub/plain"] {
        assert_eq!(names(path), [""; 0], "{path}");
    }
    assert_eq!(std::fs::metadata(root.join("dir/plain")).unwrap().mode() & 0o777, 0o644);
    assert_eq!(xattrs(&root.join("dir/own"))["system.posix_acl_access"], list);
}

#[test]
fn attributes_in_libarchives_notation_count_where_there_is_no_other() {
    let scratch = Scratch::new();
    let pax: &[(&str, &[u8])] = &[
        ("LIBARCHIVE.xattr.user.both", b"bm90IHRoaXM"),
        ("SCHILY.xattr.user.both", b"this"),
        ("LIBARCHIVE.xattr.user.a%20b", b"YWxvbmU"),
        ("LIBARCHIVE.xattr.trusted.overlay.opaque", b"eQ"),
    ];
    let tar = Tar::default().add(Header { name: b"f", pax, ..Header::default() }, b"").end();
    let found = xattrs(&scratch.unpack(&tar).unwrap().join("f"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((&found["user.both"][..], &found["user.a b"][..]), (&b"this"[..], &b"alone"[..]));
}

#[test]
fn a_long_name_ends_at_its_first_zero() {
    let scratch = Scratch::new();
    let long = |tar: Tar, kind, text: &[u8]| {
        tar.add(Header { name: b"././@LongLink", kind, ..Header::default() }, text)
    };
    let tar = long(long(Tar::default(), b'L', b"long/name\0\0\0\0"), b'K', b"target\0junk\0");
    let tar = tar.symlink("short", "x").end();
    let root = scratch.unpack(&tar).unwrap();
    assert_eq!(std::fs::read_link(root.join("long/name")).unwrap(), Path::new("target"));
}

#[test]
fn policy_of_the_host_is_not_taken_from_an_archive() {
    let scratch = Scratch::new();
    let pax: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.mine", b"1"),
        ("SCHILY.xattr.security.selinux", b"system_u:object_r:shadow_t:s0"),
        ("SCHILY.xattr.user.fine", b"1"),
    ];
    let tar = Tar::default()
        .add(Header { name: b"dir", kind: b'5', mode: 0o755, pax, ..Header::default() }, b"")
        .add(Header { name: b"file", pax, ..Header::default() }, b"")
        .end();
    let root = scratch.unpack(&tar).unwrap();
    for name in ["dir", "file"] {
        assert_eq!(xattrs(&root.join(name)).into_keys().collect::<Vec<_>>(), ["user.fine"]);
    }
}

#[test]
fn every_compression_unpacks_whatever_the_label_and_a_wrong_content_is_refused() {
    let scratch = Scratch::new();
    let big = "0123456789abcdef".repeat(100_000);
    let tar = Tar::default().file("big", &big).end();
    let id = Digest::of(&tar);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar).unwrap();
    let gzip = encoder.finish().unwrap();
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    for blob in [&gzip, &zstd, &tar] {
        for media_type in ["application/vnd.docker.image.rootfs.diff.tar.gzip", "application/x-tar", ""] {
            let seen = std::cell::Cell::new(0);
            let fresh =
                scratch.store.unpack(&id, media_type, &blob[..], &|n| seen.set(seen.get() + n)).unwrap();
            assert!(fresh);
            assert_eq!(seen.get(), blob.len() as u64);
            assert_eq!(std::fs::read(scratch.store.path(&id).join("big")).unwrap(), big.as_bytes());
            assert!(!scratch.store.unpack(&id, media_type, &blob[..], &|_| {}).unwrap());
            assert_eq!(scratch.store.list().unwrap(), [id]);
            scratch.store.remove(&id).unwrap();
            assert!(!scratch.store.has(&id));
        }
    }
    for (blob, want) in [
        (&gzip[..gzip.len() / 2], "the gzip stream is broken"),
        (&zstd[..zstd.len() / 2], "the zstd stream is broken"),
        (&tar[..512 * 300], "the archive ends too early"),
        (&tar[..512], "not what the image's configuration names"),
        (&b"\xfd7zXZ\0\0\0"[..], "compressed with xz"),
        (&b"<html>502 Bad Gateway</html>"[..], "the archive ends too early"),
    ] {
        let error = scratch.store.unpack(&id, "", blob, &|_| {}).unwrap_err();
        let text = base::failure::chain(&error);
        assert!(matches!(error.kind(), Kind::Corrupt | Kind::Unsupported), "{text}");
        // A plain blob that was cut has the wrong digest as well; which of the two is said is a race.
        assert!(text.contains(want) || text.contains("not what the image's"), "{text}");
    }
    let other = Digest::of(b"something else");
    let error = scratch.store.unpack(&other, "", &gzip[..], &|_| {}).unwrap_err();
    assert!(base::failure::chain(&error).contains("the content has the digest"), "{error}");
    scratch.check(0);
}

#[test]
fn layers_are_spread_over_the_disk() {
    let scratch = Scratch::new();
    scratch.unpack(&Tar::default().file("x", "").end()).unwrap();
    let layers = std::fs::File::open(scratch.dir.path().join("layers")).unwrap();
    // Of file systems that do not know it nothing is wanted.
    let flags = rustix::fs::IFlags::TOPDIR;
    let knows = |file: &std::fs::File| rustix::fs::ioctl_setflags(file, flags).is_ok();
    let found = rustix::fs::ioctl_getflags(&layers);
    assert!(found.is_ok_and(|found| found.contains(flags)) || !knows(&layers));
}

#[test]
fn two_unpackers_of_one_layer_both_succeed() {
    let scratch = Scratch::new();
    let mut tar = Tar::default();
    for i in 0..300 {
        tar = tar.file(&format!("dir/{i}"), "x");
    }
    let tar = tar.end();
    let id = Digest::of(&tar);
    let fresh: usize = std::thread::scope(|scope| {
        let unpackers: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| scratch.store.unpack(&id, "", &tar[..], &|_| {}).unwrap() as usize))
            .collect();
        unpackers.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(fresh, 1);
    assert_eq!(std::fs::read_dir(scratch.store.path(&id).join("dir")).unwrap().count(), 300);
    scratch.check(1);
}

#[test]
fn a_sweep_takes_leftovers_and_leaves_who_is_at_work() {
    let scratch = Scratch::new();
    let layers = scratch.dir.path().join("layers");
    std::fs::create_dir_all(layers.join(".unpack-1-1/half")).unwrap();
    std::fs::create_dir_all(scratch.dir.path().join("removing/x/y")).unwrap();
    let tar = Tar::default().file("file", "x").end();
    let id = Digest::of(&tar);
    // The blob calls the sweep in the middle of its own unpacking.
    struct Sweeping<'a>(&'a [u8], &'a rootfs::LayerStore);
    impl std::io::Read for Sweeping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1.sweep().unwrap();
            self.0.read(buffer)
        }
    }
    assert!(scratch.store.unpack(&id, "", Sweeping(&tar, &scratch.store), &|_| {}).unwrap());
    rootfs::sweep_removing(&scratch.dir.path().join("removing")).unwrap();
    scratch.check(1);
}

#[test]
fn an_error_of_the_blobs_giver_is_told_as_such() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the connection was reset"))
        }
    }
    let scratch = Scratch::new();
    let id = Digest::of(b"");
    let head = Tar::default().file("file", "x").end();
    let error =
        scratch.store.unpack(&id, "", std::io::Read::chain(&head[..700], Failing), &|_| {}).unwrap_err();
    let text = base::failure::chain(&error);
    assert!(text.ends_with("cannot read the blob: the connection was reset"), "{text}");
    scratch.check(0);
}
