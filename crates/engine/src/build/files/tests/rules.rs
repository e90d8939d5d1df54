//! What goes where, and what it looks like there.

use super::*;

#[test]
fn files_and_directories_go_where_dockerfiles_expect_them() {
    let files = ["a", "b", "d/x", "d/e/y"];
    for (sources, target, want) in [
        (&["a"][..], "/t", &["t"][..]),
        (&["a"], "/t/", &["t/", "t/a"]),
        (&["/a"], "/p/q/t", &["p/", "p/q/", "p/q/t"]),
        (&["a", "b"], "/t", &["t/", "t/a", "t/b"]),
        (&["d"], "/t", &["t/", "t/e/", "t/e/y", "t/x"]),
        (&["d/"], "/t/", &["t/", "t/e/", "t/e/y", "t/x"]),
        (&["d/e", "a"], "/", &["a", "y"]),
        (&["."], "/", &["a", "b", "d/", "d/e/", "d/e/y", "d/x"]),
        (&["?"], "/t/", &["t/", "t/a", "t/b", "t/e/", "t/e/y", "t/x"]),
        (&["d/*"], "/t/", &["t/", "t/x", "t/y"]),
        (&["*/e/[x-z]"], "/t/", &["t/", "t/y"]),
        (&["../a"], "/t", &["t"]),
        (&["nothing*"], "/t/", &[]),
    ] {
        let trees = Trees::with(&files);
        assert_eq!(trees.copied(sources, target), want, "{sources:?} {target}");
    }
}

#[test]
fn what_is_missing_is_an_error() {
    let trees = Trees::with(&["a"]);
    for sources in [&["b"][..], &["a/b"], &["a", "b"]] {
        let error = trees.apply(&copy(sources, "/t/")).unwrap_err();
        assert_eq!(error.kind(), base::Kind::NotFound, "{error}");
        assert!(trees.digest(&copy(sources, "/t/")).is_err());
    }
    assert_eq!(trees.apply(&copy(&["[]]"], "/t/")).unwrap_err().kind(), base::Kind::Invalid);
    let required = Change::Copy(graph::Copy { required: true, ..copy_of(&["b*"], "/t/") });
    assert!(trees.apply(&required).is_err() && trees.digest(&required).is_err());
}

#[test]
fn links_in_sources_and_targets_are_followed_where_buildkit_does() {
    let trees = Trees::with(&["d/x", "real"]);
    symlink("real", trees.from.join("link")).unwrap();
    symlink("/d", trees.from.join("dirlink")).unwrap();
    symlink("../real", trees.from.join("d/inner")).unwrap();
    symlink("/target/deep", trees.to.join("alias")).unwrap();
    trees.apply(&copy(&["link"], "/alias/")).unwrap();
    trees.apply(&copy(&["dirlink"], "/t")).unwrap();
    assert_eq!(
        trees.there(),
        ["alias", "t/", "t/inner", "t/x", "target/", "target/deep/", "target/deep/link"]
    );
    assert_eq!(fs::read(trees.to.join("target/deep/link")).unwrap(), b"real");
    assert_eq!(fs::read_link(trees.to.join("t/inner")).unwrap(), Path::new("../real"));
    // A file goes where the link leads, and the link stays.
    symlink("elsewhere", trees.to.join("file")).unwrap();
    trees.apply(&copy(&["real"], "/file")).unwrap();
    assert_eq!(fs::read(trees.to.join("elsewhere")).unwrap(), b"real");
    assert!(trees.stat("file").is_symlink());
}

#[test]
fn modes_times_and_owners() {
    let trees = Trees::with(&["d/x", "d/e/y"]);
    set_mode(&trees.from.join("d"), 0o700);
    set_mode(&trees.from.join("d/e"), 0o2750);
    set_mode(&trees.from.join("d/x"), 0o4751);
    for name in ["d/x", "d/e", "d"] {
        set_time(&trees.from.join(name), 1_000_000);
    }
    trees.apply(&copy(&["d"], "/t")).unwrap();
    let mode = |name: &str| trees.stat(name).mode() & 0o7777;
    // The directory itself is made, not copied.
    assert_eq!((mode("t"), mode("t/e"), mode("t/x")), (0o755, 0o2750, 0o4751));
    assert_eq!((trees.stat("t/x").mtime(), trees.stat("t/e").mtime()), (1_000_000, 1_000_000));
    assert!(trees.stat("t").mtime() > 1_000_000);
    // What is there takes on what the copy says, but for the top.
    set_mode(&trees.to.join("t"), 0o711);
    set_mode(&trees.to.join("t/e"), 0o711);
    trees.apply(&copy(&["d"], "/t")).unwrap();
    assert_eq!((mode("t"), mode("t/e")), (0o711, 0o2750));
    let chmod = |mode| Change::Copy(graph::Copy { mode: Some(mode), ..copy_of(&["d"], "/u") });
    trees.apply(&chmod(Mode::Octal(0o604))).unwrap();
    assert_eq!((mode("u/x"), mode("u/e"), mode("u/e/y")), (0o604, 0o604, 0o604));
    trees.apply(&chmod(Mode::Symbolic("u=rwX,go=rX".to_owned()))).unwrap();
    // As chmod(1): a directory keeps its set-id bits, a file does not.
    assert_eq!((mode("u/x"), mode("u/e"), mode("u/e/y")), (0o755, 0o2755, 0o644));
}

#[test]
fn owners_are_the_targets_and_set_id_bits_stay() {
    if !is_root() {
        return;
    }
    let trees = Trees::with(&["d/x"]);
    std::os::unix::fs::chown(trees.from.join("d/x"), Some(7), Some(8)).unwrap();
    set_mode(&trees.from.join("d/x"), 0o6755);
    fs::create_dir(trees.to.join("etc")).unwrap();
    fs::write(trees.to.join("etc/passwd"), "root:x:0:0::/:\nme:x:1001:1002::/home/me:/bin/sh\n").unwrap();
    fs::write(trees.to.join("etc/group"), "us:x:1003:me\n").unwrap();
    for (owner, want) in [
        ("me", (1001, 1002)),
        ("me:us", (1001, 1003)),
        ("5", (5, 5)),
        ("5:6", (5, 6)),
        ("5:us", (5, 1003)),
        ("root", (0, 0)),
        ("nobody-of-ours:neither", (0, 0)),
    ] {
        let target = format!("/{owner}/t");
        let change = Change::Copy(graph::Copy { owner: Some(owner.to_owned()), ..copy_of(&["d"], &target) });
        trees.apply(&change).unwrap();
        for name in [owner.to_owned(), format!("{owner}/t"), format!("{owner}/t/x")] {
            let stat = trees.stat(&name);
            assert_eq!((stat.uid(), stat.gid()), want, "{name}");
        }
        assert_eq!(trees.stat(&format!("{owner}/t/x")).mode() & 0o7777, 0o6755);
    }
    trees.apply(&copy(&["d"], "/mine")).unwrap();
    assert_eq!(trees.stat("mine/x").uid(), 0);
    let kept = Trees { owners: Owners::Kept, ..trees };
    kept.apply(&copy(&["d"], "/kept")).unwrap();
    assert_eq!((kept.stat("kept/x").uid(), kept.stat("kept/x").gid()), (7, 8));
    let bad = Change::Copy(graph::Copy { owner: Some("4294967295".to_owned()), ..copy_of(&["d"], "/t") });
    assert!(kept.apply(&bad).is_err());
}

#[test]
fn nothing_is_newer_than_the_epoch() {
    let trees = Trees::with(&["d/x", "d/e/y", "old"]);
    set_time(&trees.from.join("old"), 1000);
    symlink("x", trees.from.join("d/l")).unwrap();
    fs::create_dir(trees.to.join("there")).unwrap();
    let epoch = Some(Timestamp(2_000_000_000_000));
    let write = Change::Write { target: "/w/f".to_owned(), content: b"x".to_vec(), owner: None, mode: None };
    let directory = Change::MakeDirectory { target: "/there/m/n".to_owned(), owner: None };
    for change in [copy(&["d"], "/t/u"), copy(&["old"], "/there/"), write, directory] {
        trees.apply_with(&change, epoch).unwrap();
    }
    for name in trees.there() {
        assert!(trees.stat(name.trim_end_matches('/')).mtime() <= 2000, "{name}");
    }
    assert_eq!(trees.stat("there/old").mtime(), 1000);
    assert_eq!(trees.stat("w/f").mode() & 0o7777, 0o644);
}

#[test]
fn files_replace_files_but_never_directories() {
    let trees = Trees::with(&["a", "d/a", "d/b/c"]);
    fs::create_dir(trees.to.join("a")).unwrap();
    // Into the directory.
    assert_eq!(trees.copied(&["a"], "/a"), ["a/", "a/a"]);
    let error = trees.apply(&copy(&["d"], "/")).unwrap_err();
    assert!(error.to_string().contains("cannot replace the directory"), "{error}");
    fs::write(trees.to.join("b"), "").unwrap();
    fs::remove_dir_all(trees.to.join("a")).unwrap();
    let error = trees.apply(&copy(&["d"], "/")).unwrap_err();
    assert!(error.to_string().contains("no directory"), "{error}");
    let error = trees.apply(&copy(&["a"], "/b/c")).unwrap_err();
    assert!(error.to_string().contains("no directory"), "{error}");
    // A link that is there is replaced inside of what is copied.
    fs::remove_file(trees.to.join("b")).unwrap();
    fs::write(trees.to.join("kept"), "kept").unwrap();
    fs::remove_file(trees.to.join("a")).unwrap();
    symlink("kept", trees.to.join("a")).unwrap();
    trees.apply(&copy(&["d"], "/")).unwrap();
    assert_eq!(fs::read(trees.to.join("kept")).unwrap(), b"kept");
    assert_eq!(fs::read(trees.to.join("a")).unwrap(), b"d/a");
}

#[test]
fn what_dockerignore_leaves_out_is_not_there() {
    let trees = Trees::with(&["a", "b", "d/x", "d/keep/y", "d/z", "e/f"]).ignoring("b\nd\n!d/keep\ne/*\n");
    assert_eq!(trees.copied(&["."], "/"), ["a", "d/", "d/keep/", "d/keep/y", "e/"]);
    for path in ["b", "d/x", "e/f"] {
        let error = trees.apply(&copy(&[path], "/t")).unwrap_err();
        assert!(error.to_string().contains(".dockerignore"), "{error}");
    }
    assert_eq!(trees.copied(&["d"], "/q").iter().filter(|name| name.starts_with('q')).count(), 3);
    symlink("b", trees.from.join("link")).unwrap();
    assert!(trees.apply(&copy(&["link"], "/t")).is_err(), "through a link neither");
    assert_eq!(trees.copied(&["[bd]/*"], "/w/").iter().filter(|name| name.starts_with('w')).count(), 2);
}

#[test]
fn parts_are_left_out() {
    let trees = Trees::with(&["a.txt", "b.md", "d/x.txt", "d/y.md", "d/e/z.txt"]);
    let without = |sources: &[&str], exclude: &[&str]| {
        let exclude = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
        Change::Copy(graph::Copy { exclude, ..copy_of(sources, "/t/") })
    };
    trees.apply(&without(&["*"], &["*.txt"])).unwrap();
    assert_eq!(trees.there(), ["t/", "t/b.md", "t/e/", "t/e/z.txt", "t/y.md"]);
    fs::remove_dir_all(trees.to.join("t")).unwrap();
    trees.apply(&without(&["."], &["**/*.txt", "!d/x.txt"])).unwrap();
    assert_eq!(trees.there(), ["t/", "t/b.md", "t/d/", "t/d/e/", "t/d/x.txt", "t/d/y.md"]);
}

#[test]
fn parents_come_along() {
    let files = ["a/b/c", "a/b/d", "a/x", "e/b/c"];
    let kept = |sources: &[&str]| {
        let trees = Trees::with(&files);
        set_mode(&trees.from.join("a"), 0o711);
        let change = Change::Copy(graph::Copy { parents: true, ..copy_of(sources, "/t") });
        trees.apply(&change).unwrap();
        trees.digest(&change).unwrap();
        (trees.there(), trees)
    };
    let (found, trees) = kept(&["a/b/c"]);
    assert_eq!(found, ["t/", "t/a/", "t/a/b/", "t/a/b/c"]);
    assert_eq!(trees.stat("t/a").mode() & 0o777, 0o711);
    assert_eq!(kept(&["a/./b/c"]).0, ["t/", "t/b/", "t/b/c"]);
    assert_eq!(kept(&["./a/./b"]).0, ["t/", "t/b/", "t/b/c", "t/b/d"]);
    assert_eq!(kept(&["*/b/c"]).0, ["t/", "t/a/", "t/a/b/", "t/a/b/c", "t/e/", "t/e/b/", "t/e/b/c"]);
    assert_eq!(kept(&["**/d"]).0, ["t/", "t/a/", "t/a/b/", "t/a/b/d"]);
    let trees = Trees::with(&files);
    let missing = Change::Copy(graph::Copy { parents: true, ..copy_of(&["a/q"], "/t") });
    assert_eq!(trees.apply(&missing).unwrap_err().kind(), base::Kind::NotFound);
}

#[test]
fn hard_links_and_holes_and_attributes_stay() {
    let trees = Trees::with(&["d/a", "d/e/z"]);
    fs::hard_link(trees.from.join("d/a"), trees.from.join("d/e/b")).unwrap();
    fs::hard_link(trees.from.join("d/a"), trees.from.join("d/c")).unwrap();
    let sparse = File::create(trees.from.join("d/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (64 << 20) - 3).unwrap();
    let kept =
        rustix::fs::setxattr(trees.from.join("d/a"), "user.kept", b"value", rustix::fs::XattrFlags::empty());
    trees.apply(&copy(&["d"], "/t")).unwrap();
    let stat = trees.stat("t/a");
    assert_eq!((stat.nlink(), stat.ino()), (3, trees.stat("t/e/b").ino()));
    assert_eq!(stat.ino(), trees.stat("t/c").ino());
    let stat = trees.stat("t/sparse");
    assert_eq!(stat.len(), 64 << 20);
    assert!(stat.blocks() < 2048);
    assert!(fs::read(trees.to.join("t/sparse")).unwrap().ends_with(b"\0end"));
    if kept.is_ok() {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(trees.to.join("t/a"), "user.kept", &mut value).unwrap();
        assert_eq!(&value[..length], b"value");
    }
    // Again, over what is there.
    trees.apply(&copy(&["d"], "/t")).unwrap();
    assert_eq!(trees.stat("t/a").nlink(), 3);
}

#[test]
fn large_files_are_copied_whole() {
    let trees = Trees::new();
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| ((n * 7) >> 3) as u8).collect();
    fs::write(trees.from.join("large"), &content).unwrap();
    trees.apply(&copy(&["large"], "/t")).unwrap();
    assert!(fs::read(trees.to.join("t")).unwrap() == content);
}

#[test]
fn capabilities_stay() {
    if !is_root() {
        return;
    }
    let trees = Trees::with(&["a"]);
    // vfs_cap_data of cap_net_raw+ep, version 2.
    let value = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let set = rustix::fs::setxattr(
        trees.from.join("a"),
        "security.capability",
        &value,
        rustix::fs::XattrFlags::empty(),
    );
    if set.is_err() {
        return;
    }
    let change = Change::Copy(graph::Copy { owner: Some("5".to_owned()), ..copy_of(&["a"], "/t") });
    trees.apply(&change).unwrap();
    let mut found = [0; 32];
    let length = rustix::fs::getxattr(trees.to.join("t"), "security.capability", &mut found).unwrap();
    assert_eq!(&found[..length], value);
}

#[test]
fn archives_are_unpacked_by_add_alone() {
    let trees = Trees::with(&["in/x", "text"]);
    let tar = |name: &str, flag: &str| {
        let status = std::process::Command::new("tar")
            .args([flag, trees.from.join(name).to_str().unwrap(), "-C", trees.from.to_str().unwrap(), "in"])
            .status();
        assert!(status.unwrap().success());
    };
    tar("a.tar", "-cf");
    tar("a.tar.gz", "-czf");
    let mut compressed = vec!["a.tar", "a.tar.gz"];
    for (name, program, flag) in [("a.tar.xz", "xz", "-cJf"), ("a.tar.bz2", "bzip2", "-cjf")] {
        if std::process::Command::new(program).arg("--version").output().is_ok() {
            tar(name, flag);
            compressed.push(name);
        }
    }
    let add =
        |source: &str, target: &str| Change::Copy(graph::Copy { unpack: true, ..copy_of(&[source], target) });
    for (source, target) in [("a.tar", "/t"), ("a.tar.gz", "/u/"), ("text", "/v/")] {
        trees.apply(&add(source, target)).unwrap();
    }
    trees.apply(&copy(&["a.tar"], "/w/")).unwrap();
    assert_eq!(
        trees.there(),
        ["t/", "t/in/", "t/in/x", "u/", "u/in/", "u/in/x", "v/", "v/text", "w/", "w/a.tar"]
    );
}

#[test]
fn here_documents_and_working_directories() {
    let trees = Trees::new();
    symlink("real/place", trees.to.join("link")).unwrap();
    let write = |target: &str, mode| Change::Write {
        target: target.to_owned(),
        content: b"text\n".to_vec(),
        owner: Some("3:4".to_owned()).filter(|_| is_root()),
        mode,
    };
    trees.apply(&write("/link/f", Some(Mode::Octal(0o4711)))).unwrap();
    trees.apply(&write("/link/f", None)).unwrap();
    assert_eq!(trees.stat("real/place/f").mode() & 0o7777, 0o644);
    assert!(trees.apply(&write("/link", None)).is_err());
    let owner = Some("3:4".to_owned()).filter(|_| is_root());
    trees.apply(&Change::MakeDirectory { target: "/w/x".to_owned(), owner }).unwrap();
    trees.apply(&Change::MakeDirectory { target: "/link".to_owned(), owner: None }).unwrap();
    assert!(trees.apply(&Change::MakeDirectory { target: "/link/f".to_owned(), owner: None }).is_err());
    assert_eq!(trees.there(), ["link", "real/", "real/place/", "real/place/f", "w/", "w/x/"]);
    if is_root() {
        for name in ["real", "real/place/f", "w", "w/x"] {
            assert_eq!((trees.stat(name).uid(), trees.stat(name).gid()), (3, 4), "{name}");
        }
    }
}

/// What Docker 20.10 (`DOCKER_BUILDKIT=1 docker build --output type=tar`) makes of these instructions, as `tar -tv` lists it.
#[test]
fn images_look_as_those_of_docker_build() {
    if !is_root() {
        return;
    }
    let trees = Trees::with(&["a", "d/b", "d/e/c", "multi/1", "multi/2"]);
    for (name, mode) in [("d", 0o700), ("d/b", 0o4755), ("d/e", 0o2750)] {
        set_mode(&trees.from.join(name), mode);
    }
    symlink("a", trees.from.join("link")).unwrap();
    symlink("d", trees.from.join("dlink")).unwrap();
    symlink("/tmp", trees.from.join("d/abs")).unwrap();
    fs::hard_link(trees.from.join("d/b"), trees.from.join("d/hard")).unwrap();
    fs::create_dir(trees.to.join("etc")).unwrap();
    fs::write(trees.to.join("etc/passwd"), "root:x:0:0::/:\nme:x:1001:1002::/:\n").unwrap();
    fs::write(trees.to.join("etc/group"), "us:x:1003:\n").unwrap();
    let chown = |owner: &str, source: &str, target: &str| {
        Change::Copy(graph::Copy { owner: Some(owner.to_owned()), ..copy_of(&[source], target) })
    };
    for change in [
        chown("me:us", "a", "/p/q/owned"),
        chown("me", "d", "/chowned"),
        chown("5", "a", "/five"),
        chown("zz:yy", "a", "/unknown"),
        copy(&["d"], "/plain"),
        copy(&["multi/*"], "/single"),
        copy(&["dlink"], "/vialink"),
        copy(&["link"], "/linked"),
        copy(&["nomatch*"], "/nothing/"),
        copy(&["a/"], "/slash"),
        copy(&["a"], "/plain/abs/x"),
        copy(&["a"], "/vialink/e"),
        Change::MakeDirectory { target: "/wd/sub".to_owned(), owner: Some("33".to_owned()) },
    ] {
        trees.apply(&change).unwrap();
    }
    let lines: Vec<String> = trees
        .there()
        .iter()
        .filter(|name| !name.starts_with("etc"))
        .map(|name| {
            let stat = trees.stat(name.trim_end_matches('/'));
            format!("{:o} {}/{} {name}", stat.mode() & 0o7777, stat.uid(), stat.gid())
        })
        .collect();
    let want = "\
755 1001/1002 chowned/
777 1001/1002 chowned/abs
4755 1001/1002 chowned/b
2750 1001/1002 chowned/e/
644 1001/1002 chowned/e/c
4755 1001/1002 chowned/hard
644 5/5 five
644 0/0 linked
755 1001/1003 p/
755 1001/1003 p/q/
644 1001/1003 p/q/owned
755 0/0 plain/
777 0/0 plain/abs
4755 0/0 plain/b
2750 0/0 plain/e/
644 0/0 plain/e/c
4755 0/0 plain/hard
644 0/0 single
644 0/0 slash
755 0/0 tmp/
644 0/0 tmp/x
644 0/0 unknown
755 0/0 vialink/
777 0/0 vialink/abs
4755 0/0 vialink/b
2750 0/0 vialink/e/
644 0/0 vialink/e/a
644 0/0 vialink/e/c
4755 0/0 vialink/hard
755 33/33 wd/
755 33/33 wd/sub/";
    assert_eq!(lines.join("\n"), want);
    assert_eq!(fs::read(trees.to.join("single")).unwrap(), b"multi/2");
}
