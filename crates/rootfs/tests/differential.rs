//! Against others: GNU tar unpacks the same archives to the same trees, and umoci with overlay beneath us makes
//! the same root file system. Wants root, and the programs; without them a test says so and passes.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use base::Digest;
use common::{Scratch, assert_same, run};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

fn there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}

/// A tree with one of everything.
fn zoo(root: &Path) {
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let special = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    std::fs::create_dir_all(root.join("dir/sub/deep")).unwrap();
    std::fs::write(root.join("dir/file"), "content").unwrap();
    std::fs::write(root.join("dir/empty"), "").unwrap();
    std::fs::write(root.join("dir/sub/exact"), [b'x'; 512]).unwrap();
    std::fs::write(root.join("dir/sub/big"), b"0123456789".repeat(200_000)).unwrap();
    std::fs::hard_link(root.join("dir/file"), root.join("another")).unwrap();
    symlink("dir/file", root.join("link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    symlink("../".repeat(60) + "far", root.join("long-link")).unwrap();
    symlink("dir", root.join("dirlink")).unwrap();
    std::fs::hard_link(root.join("link"), root.join("link-again")).unwrap();
    special("fifo", FileType::Fifo, 0);
    special("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    special("disk", FileType::BlockDevice, rustix::fs::makedev(259, 70_000));
    for (name, bits) in [("suid", 0o4755), ("sgid", 0o2755), ("none", 0), ("all", 0o7777)] {
        std::fs::write(root.join(name), name).unwrap();
        chown(root.join(name), Some(1000), Some(4_000_000_000)).unwrap();
        mode(&root.join(name), bits);
    }
    std::fs::create_dir(root.join("sticky")).unwrap();
    mode(&root.join("sticky"), 0o1777);
    std::fs::create_dir(root.join("closed")).unwrap();
    std::fs::write(root.join("closed/in"), "x").unwrap();
    mode(&root.join("closed"), 0);
    std::fs::write(root.join(OsStr::from_bytes(b"latin-\xe9\xff")), "x").unwrap();
    std::fs::write(root.join("name with\nnewline"), "x").unwrap();
    let mut deep = root.to_owned();
    for _ in 0..8 {
        deep.push("n".repeat(99));
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("m".repeat(255)), "long").unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    for i in 0..40 {
        sparse.write_at(b"data in a hole", i * 250_000 + 17).unwrap();
    }
    let hole = std::fs::File::create(root.join("hole")).unwrap();
    hole.set_len(64 << 20).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (name, attribute, value) in [
        ("another", "user.note", &b"text"[..]),
        ("dir", "user.binary", b"a\0=b\n"),
        ("all", "security.capability", &capability),
    ] {
        rustix::fs::setxattr(root.join(name), attribute, value, XattrFlags::empty()).unwrap();
    }
}

#[test]
fn gnu_tar_unpacks_the_same() {
    if !there("tar") {
        return;
    }
    let scratch = Scratch::new();
    let tree = scratch.dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    zoo(&tree);
    let path = |name: &str| scratch.dir.path().join(name).to_str().unwrap().to_owned();
    for (i, options) in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--xattrs", "--xattrs-include=*"],
        &["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=1.0"],
    ]
    .into_iter()
    .enumerate()
    {
        let (archive, theirs) = (path("archive"), path(&format!("theirs{i}")));
        // The file that is all hole belongs to the formats that have holes.
        let mut create = vec!["--create", "--file", &archive, "--numeric-owner"];
        create.extend_from_slice(options);
        if !options.contains(&"--sparse") {
            create.push("--exclude=./hole");
        }
        let tree = path("tree");
        create.extend_from_slice(&["--directory", &tree, "."]);
        run("tar", &create);
        std::fs::create_dir(&theirs).unwrap();
        let extract = ["--extract", "--file", &archive, "--numeric-owner", "--same-permissions", "--xattrs"];
        run("tar", &[&extract[..], &["--xattrs-include=*", "--directory", &theirs]].concat());
        let bytes = std::fs::read(&archive).unwrap();
        let id = Digest::of(&bytes);
        scratch.store.unpack(&id, "", &bytes[..], &|_| {}).unwrap();
        assert_same(&scratch.store.path(&id), Path::new(&theirs));
        if options.contains(&"--sparse") {
            let allocated = std::os::unix::fs::MetadataExt::blocks(
                &std::fs::metadata(scratch.store.path(&id).join("hole")).unwrap(),
            );
            assert!(allocated < 100, "the hole is filled");
        }
    }
}

#[test]
fn a_real_tree_unpacks_the_same() {
    if !there("tar") {
        return;
    }
    let scratch = Scratch::new();
    let path = |name: &str| scratch.dir.path().join(name).to_str().unwrap().to_owned();
    let (archive, theirs) = (path("archive"), path("theirs"));
    // Something that every Debian has and that nobody writes to meanwhile.
    let what = ["usr/share/zoneinfo", "usr/sbin", "usr/lib/udev", "usr/share/perl5"];
    let what: Vec<&str> = what.into_iter().filter(|dir| Path::new("/").join(dir).exists()).collect();
    let create =
        ["--create", "--format=posix", "--numeric-owner", "--xattrs", "--file", &archive, "--directory=/"];
    run("tar", &[&create[..], &what].concat());
    std::fs::create_dir(&theirs).unwrap();
    run("tar", &["-xpf", &archive, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", &theirs]);
    let bytes = std::fs::read(&archive).unwrap();
    let id = Digest::of(&bytes);
    let packed = zstd::encode_all(&bytes[..], 1).unwrap();
    scratch.store.unpack(&id, "", &packed[..], &|_| {}).unwrap();
    let ours = scratch.store.path(&id);
    // What the archive has no entry for has the time of its making.
    for parent in ["", "usr", "usr/share", "usr/lib"] {
        for tree in [&ours, Path::new(&theirs)] {
            if tree.join(parent).is_dir() {
                run("touch", &["--date=@0", tree.join(parent).to_str().unwrap()]);
            }
        }
    }
    assert_same(&ours, Path::new(&theirs));
}

/// What a tree looks like to programs of its time, as lines.
const LOOK: &str = r#"cd "$1" && find . -mindepth 1 -printf '%p %y %m %U %G %T@ %l\n' | sort;
    find . -type f -print0 | sort -z | xargs -0 sha256sum"#;

#[test]
fn umoci_and_overlay_make_the_same_root() {
    if !there("umoci") || !there("tar") || !there("unshare") {
        return;
    }
    let scratch = Scratch::new();
    let path = |name: &str| scratch.dir.path().join(name).to_str().unwrap().to_owned();
    let tag = path("oci") + ":latest";
    run("umoci", &["init", "--layout", &path("oci")]);
    run("umoci", &["new", "--image", &tag]);
    // Each layer as the difference between two states of a tree, made by umoci itself.
    let bundle = path("bundle");
    run("umoci", &["unpack", "--image", &tag, &bundle]);
    let rootfs = Path::new(&bundle).join("rootfs");
    let step = |change: &dyn Fn()| {
        change();
        run("umoci", &["repack", "--refresh-bundle", "--image", &tag, &bundle]);
    };
    step(&|| zoo(&rootfs));
    step(&|| {
        std::fs::remove_file(rootfs.join("dir/empty")).unwrap();
        std::fs::remove_dir_all(rootfs.join("dir/sub")).unwrap();
        std::fs::write(rootfs.join("dir/file"), "changed").unwrap();
        std::fs::remove_file(rootfs.join("suid")).unwrap();
        std::fs::create_dir(rootfs.join("suid")).unwrap();
        std::fs::write(rootfs.join("suid/now-a-dir"), "x").unwrap();
    });
    step(&|| {
        std::fs::create_dir(rootfs.join("dir/sub")).unwrap();
        std::fs::write(rootfs.join("dir/sub/again"), "x").unwrap();
        std::fs::remove_dir_all(rootfs.join("closed")).unwrap();
        symlink("dir", rootfs.join("closed")).unwrap();
    });
    let read = |digest: &str| {
        let blob = Path::new(&path("oci")).join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
        std::fs::read(blob).unwrap()
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    // Without a JSON parser among our dependencies: digests are in order where they are wanted.
    let digests = |text: &str| -> Vec<String> {
        text.match_indices("sha256:").map(|(at, _)| text[at..at + 71].to_owned()).collect()
    };
    let index = std::fs::read(Path::new(&path("oci")).join("index.json")).unwrap();
    let manifest = digests(&text(&read(&digests(&text(&index))[0])));
    let config = text(&read(&manifest[0]));
    let diff_ids = digests(&config[config.find("diff_ids").unwrap()..]);
    let layers = &manifest[1..];
    assert_eq!((layers.len(), diff_ids.len()), (3, 3));
    let ids: Vec<Digest> = diff_ids.iter().map(|id| id.parse().unwrap()).collect();
    for (id, layer) in ids.iter().zip(layers) {
        scratch
            .store
            .unpack(id, "application/vnd.oci.image.layer.v1.tar+gzip", &read(layer)[..], &|_| {})
            .unwrap();
    }
    let overlay = scratch.store.overlay(&ids, scratch.dir.path()).unwrap();
    let theirs = path("theirs");
    run("umoci", &["raw", "unpack", "--image", &tag, &theirs]);
    let lowers: Vec<&str> = overlay.lowers.iter().map(|lower| lower.to_str().unwrap()).collect();
    let merged = path("merged");
    std::fs::create_dir(&merged).unwrap();
    let mount = format!("mount -t overlay overlay -o 'lowerdir={}' \"$1\" && {LOOK}", lowers.join(":"));
    let ours = run("unshare", &["--mount", "--propagation=private", "sh", "-ec", &mount, "sh", &merged]);
    let theirs = run("sh", &["-ec", LOOK, "sh", &theirs]);
    let (ours, theirs) = (String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
    for (our, their) in ours.lines().zip(theirs.lines()) {
        assert_eq!(our, their);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
    assert!(ours.contains("now-a-dir"));
}
