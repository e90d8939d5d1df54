//! Layers as images have them, unpacked: what a container sees is what others make of the same image.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::Path;

use harness::containerd::Containerd;
use harness::entry::{Entry, GNU, V7, record};
use harness::image::Image;
use harness::tar::Tar;
use harness::tree::{differences, look};
use harness::{Dhow, Invocation, layout, soak};

/// `CAP_NET_BIND_SERVICE`, effective: version 2 of the attribute, and version 3 for the users of a namespace whose
/// root is 100000 (linux/capability.h).
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const CAPABILITY_3: &[u8] = b"\x01\0\0\x03\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xa0\x86\x01\0";

/// GNU's old sparse header: its descriptors, whether there are more, and the real size.
fn sparse_tail(regions: &[(u64, u64)], size: u64) -> Vec<u8> {
    let mut tail = vec![0; 41];
    for (offset, length) in regions {
        tail.extend(format!("{offset:011o}\0{length:011o}\0").into_bytes());
    }
    tail.resize(41 + 4 * 24, 0);
    tail.push(0);
    tail.extend(format!("{size:011o}\0").into_bytes());
    tail
}

/// One of everything that archives have, below `zoo`.
fn zoo() -> Tar {
    let long = format!("zoo/{}/{}", "d".repeat(120), "f".repeat(200));
    let target = "../".repeat(60) + "far";
    let e = Entry::default;
    let dir = |name: &'static [u8], mode| Entry { name, kind: b'5', mode, ..e() };
    let mut tar = Tar::new()
        .with(&dir(b"./", 0o755))
        .with(&dir(b"./zoo/", 0o755))
        .with(&Entry { name: b"zoo/v7", magic: V7, mode: 0o640, content: b"old", ..e() })
        .with(&Entry { name: b"zoo/v7-dir/", kind: 0, magic: V7, mode: 0o750, ..e() })
        .with(&Entry { name: b"zoo/v7-link", kind: b'1', magic: V7, link: b"zoo/v7", ..e() })
        .with(&Entry { name: b"zoo/v7-symlink", kind: b'2', magic: V7, link: b"v7", ..e() })
        .with(&dir(b"zoo/ustar-prefix", 0o755))
        .with(&Entry { name: b"ustar-name", tail: b"zoo/ustar-prefix", content: b"x", ..e() })
        .with_gnu_names(&Entry {
            name: format!("zoo/{}", "d".repeat(120)).as_bytes(),
            kind: b'5',
            mode: 0o755,
            ..e()
        })
        .with_gnu_names(&Entry { name: long.as_bytes(), content: b"long", ..e() })
        .with_gnu_names(&Entry {
            name: b"zoo/long-link",
            kind: b'2',
            mode: 0o777,
            link: target.as_bytes(),
            ..e()
        })
        .with(&Entry { name: b"zoo/latin-\xe9\xff", content: b"x", ..e() })
        .with(&Entry { name: b"zoo/with\nbreak", content: b"x", ..e() })
        .with(&Entry {
            name: b"zoo/owner",
            magic: GNU,
            uid: 3_000_000_000,
            gid: 3_000_001,
            mode: 0o6755,
            ..e()
        })
        .with(&Entry {
            name: b"zoo/pax-owner",
            pax: &[("uid", b"4000000000"), ("gid", b"77"), ("mtime", b"1234567890.123456789")],
            ..e()
        })
        .with(&Entry { name: b"zoo/before-1970", magic: GNU, mtime: -86_400, ..e() })
        .with(&Entry { name: b"zoo/before-1970-too", pax: &[("mtime", b"-1.25")], ..e() })
        .with(&Entry { name: b"zoo/after-2106", magic: GNU, mtime: 1 << 33, ..e() })
        .with(&dir(b"zoo/sticky", 0o1777))
        .with(&dir(b"zoo/setgid", 0o2775))
        .with(&Entry { name: b"zoo/setgid/file", content: b"root's group", ..e() })
        .with(&dir(b"zoo/closed", 0))
        .with(&Entry { name: b"zoo/closed/in", content: b"x", mode: 0, ..e() })
        .with(&Entry { name: b"zoo/fifo", kind: b'6', mode: 0o622, uid: 5, ..e() })
        .with(&Entry { name: b"zoo/null", kind: b'3', mode: 0o666, device: (1, 3), ..e() })
        .with(&Entry { name: b"zoo/disk", kind: b'4', mode: 0o660, gid: 6, device: (259, 70_000), ..e() })
        .with(&Entry { name: b"zoo/one", content: b"of three", ..e() })
        .with(&Entry { name: b"zoo/two", kind: b'1', link: b"zoo/one", ..e() })
        .with(&Entry { name: b"zoo/sticky/three", kind: b'1', link: b"./zoo/two", ..e() })
        .with(&Entry { name: b"zoo/link", kind: b'2', mode: 0o777, link: b"/nowhere/at/all", ..e() })
        .with(&Entry { name: b"zoo/link-again", kind: b'1', link: b"zoo/link", ..e() })
        .with(&Entry {
            name: b"zoo/capable",
            mode: 0o755,
            pax: &[
                ("SCHILY.xattr.security.capability", CAPABILITY),
                ("SCHILY.xattr.user.note", b"a=b\nc\0d"),
            ],
            ..e()
        })
        .with(&Entry {
            name: b"zoo/capable-in-a-namespace",
            mode: 0o4755,
            uid: 1000,
            pax: &[("SCHILY.xattr.security.capability", CAPABILITY_3)],
            ..e()
        })
        .with(&Entry {
            kind: b'5',
            mode: 0o755,
            pax: &[("SCHILY.xattr.user.note", b"1")],
            ..dir(b"zoo/noted", 0o700)
        })
        // Sparse, in the three formats of PAX.
        .with(&Entry {
            name: b"zoo/sparse-0.0",
            pax: &[
                ("GNU.sparse.size", b"5000"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"10"),
                ("GNU.sparse.numbytes", b"3"),
                ("GNU.sparse.offset", b"4096"),
                ("GNU.sparse.numbytes", b"2"),
            ],
            content: b"abcde",
            ..e()
        })
        .with(&Entry {
            name: b"zoo/GNUSparseFile.1/x",
            pax: &[
                ("GNU.sparse.size", b"5000"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.name", b"zoo/sparse-0.1"),
                ("GNU.sparse.map", b"10,3,4096,2"),
            ],
            content: b"abcde",
            ..e()
        });
    let mut map = b"2\n10\n3\n4096\n2\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(b"abcde");
    tar = tar.with(&Entry {
        name: b"zoo/GNUSparseFile.1/y",
        pax: &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"zoo/sparse-1.0"),
            ("GNU.sparse.realsize", b"5000"),
        ],
        content: &map,
        ..e()
    });
    // The last of several wins, whatever it is.
    tar.with(&Entry { name: b"zoo/twice", content: b"old", ..e() })
        .with(&Entry { name: b"zoo/twice", content: b"new", mode: 0o600, ..e() })
        .with(&Entry { name: b"zoo/file-then-dir", content: b"old", ..e() })
        .with(&dir(b"zoo/file-then-dir", 0o755))
        .with(&Entry { name: b"zoo/file-then-dir/in", content: b"new", ..e() })
        .with(&dir(b"zoo/dir-then-file", 0o755))
        .with(&Entry { name: b"zoo/dir-then-file", content: b"new", ..e() })
        .with(&Entry { name: b"zoo/link-then-file", kind: b'2', link: b"one", ..e() })
        .with(&Entry { name: b"zoo/link-then-file", content: b"new", ..e() })
        .with(&dir(b"zoo/dir-twice", 0o700))
        .with(&Entry { name: b"zoo/dir-twice/in", content: b"x", ..e() })
        .with(&Entry { uid: 9, mtime: 5, ..dir(b"zoo/dir-twice", 0o711) })
}

/// What others refuse to unpack, though Go reads it: files of the types "contiguous" and GNU's sparse, and a header with
/// defaults for all that follows, as git-archive puts in front, which is to be ignored.
fn refused_by_others() -> Tar {
    let e = Entry::default;
    let defaults = [record("comment", b"0123456789abcdef"), record("uid", b"12")].concat();
    Tar::new()
        .with(&Entry { name: b"pax_global_header", kind: b'g', content: &defaults, ..e() })
        .with(&Entry { name: b"zoo/contiguous", kind: b'7', content: b"seven", ..e() })
        .with(&Entry {
            name: b"zoo/sparse-s",
            kind: b'S',
            magic: GNU,
            tail: &sparse_tail(&[(512, 3), (1 << 20, 2)], (1 << 20) + 100),
            content: b"abcde",
            ..e()
        })
}

/// Layers that change each other: (what lies below, what lies on top).
fn changes() -> (Tar, Tar) {
    let e = Entry::default;
    let dir = |name: &'static [u8], mode, uid| Entry { name, kind: b'5', mode, uid, mtime: 1000, ..e() };
    let mut below = Tar::new();
    for name in [
        &b"zoo/kept"[..],
        b"zoo/whited",
        b"zoo/opaque-first",
        b"zoo/opaque-last",
        b"zoo/opaque-deep",
        b"zoo/opaque-deep/sub",
        b"zoo/to-file",
        b"zoo/to-link",
        b"zoo/again",
        b"zoo/parent",
        b"zoo/parent/of",
    ] {
        let inside = [name, b"/old"].concat();
        below = below
            .with(&Entry { name, kind: b'5', mode: 0o1750, uid: 7, gid: 8, mtime: 1000, ..e() })
            .with(&Entry { name: &inside, content: b"old", ..e() });
    }
    below = below
        .with(&Entry { name: b"zoo/from-file", content: b"old", ..e() })
        .with(&Entry { name: b"zoo/from-link", kind: b'2', link: b"kept", ..e() })
        .with(&Entry { name: b"zoo/single", content: b"old", ..e() });
    let top = Tar::new()
        .with(&Entry { name: b"zoo/.wh.whited", ..e() })
        .with(&Entry { name: b"zoo/.wh.single", ..e() })
        .with(&dir(b"zoo/kept", 0o755, 1))
        .with(&Entry { name: b"zoo/kept/.wh.old", ..e() })
        .with(&dir(b"zoo/opaque-first", 0o755, 1))
        .with(&Entry { name: b"zoo/opaque-first/.wh..wh..opq", ..e() })
        .with(&Entry { name: b"zoo/opaque-first/new", content: b"new", ..e() })
        .with(&dir(b"zoo/opaque-deep", 0o755, 1))
        .with(&Entry { name: b"zoo/opaque-deep/.wh..wh..opq", ..e() })
        .with(&dir(b"zoo/opaque-deep/sub", 0o755, 1))
        .with(&Entry { name: b"zoo/opaque-deep/sub/new", content: b"new", ..e() })
        .with(&Entry { name: b"zoo/to-file", content: b"new", ..e() })
        .with(&Entry { name: b"zoo/to-link", kind: b'2', mode: 0o777, link: b"kept", ..e() })
        .with(&dir(b"zoo/from-file", 0o755, 1))
        .with(&Entry { name: b"zoo/from-file/new", content: b"new", ..e() })
        .with(&dir(b"zoo/from-link", 0o755, 1))
        .with(&Entry { name: b"zoo/from-link/new", content: b"new", ..e() })
        .with(&Entry { name: b"zoo/.wh.again", ..e() })
        .with(&dir(b"zoo/again", 0o711, 1))
        .with(&Entry { name: b"zoo/again/new", content: b"new", ..e() })
        // Without entries for the directories above it, whose look is then that of the layer below.
        .with(&Entry { name: b"zoo/parent/of/new", content: b"new", ..e() })
        .with(&Entry { name: b"zoo/parent/of/.wh.old", ..e() });
    (below, top)
}

/// What a container of the image has below `zoo`.
fn ours(dhow: &Dhow, image: &str) -> BTreeMap<String, String> {
    let id = dhow.ok(&["run", "--detach", "--network", "none", image, "sleep", "1000"]);
    let tree = look(Path::new(&format!("/proc/{}/root/zoo", dhow.pid(&id))));
    dhow.ok(&["rm", "--force", &id]);
    tree
}

#[test]
fn every_oddity_is_unpacked_as_umoci_and_containerd_do() {
    let dhow = Dhow::empty("unpack");
    let (below, top) = changes();
    let image = Image::busybox("docker.io/library/zoo:latest");
    let image = image.with_layer(zoo()).with_layer(below).with_layer(top);
    let directory = dhow.scratch().join("layout");
    layout::write(&image, &directory, &["zstd", "-q", "-3"]);
    dhow.ok(&["load", "--quiet", "--input", directory.to_str().unwrap()]);
    let ours = ours(&dhow, "zoo");
    assert!(ours.len() > 60, "{ours:#?}");

    // umoci, which unpacks one layer upon another; of gzip alone.
    let (gzip, theirs) = (dhow.scratch().join("gzip"), dhow.scratch().join("umoci"));
    layout::write(&image, &gzip, &["gzip", "-1"]);
    let name = format!("{}:zoo", gzip.display());
    Invocation::new("umoci").args(&["raw", "unpack", "--image", &name]).arg(&theirs).ok();
    let (names, text) = differences(&ours, &look(&theirs.join("zoo")));
    assert_eq!(names, [""; 0], "umoci:\n{text}");

    let containerd = Containerd::start();
    let archive = containerd.machine().file("image.tar");
    std::fs::write(&archive, image.docker_archive()).unwrap();
    containerd.ok(&["image", "import", &archive]);
    let place = containerd.machine().file("mount");
    std::fs::create_dir(&place).unwrap();
    containerd.ok(&["image", "mount", &image.name, &place]);
    let theirs = look(&containerd.machine().root().join(&place[1..]).join("zoo"));
    containerd.ok(&["image", "unmount", &place]);
    let (names, text) = differences(&ours, &theirs);
    // Why, and what we follow: docs/layers.md.
    let known = ["", "again/old", "before-1970", "before-1970-too", "parent", "parent/of", "v7", "v7-link"];
    assert_eq!(names, known, "containerd:\n{text}");
}

/// Dice, the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A few changes of a small tree: whiteouts, and files, half of them without entries for the directories above.
fn random_layer(dice: &mut Dice) -> Tar {
    let mut tar = Tar::new();
    for whiteout in [true, false] {
        for _ in 0..=dice.roll(3) {
            let mut path = "zoo/".to_owned();
            let entries = dice.roll(2) == 0;
            for _ in 0..dice.roll(4) {
                path.push_str(["a/", "b/", "c/"][dice.roll(3) as usize]);
                if entries {
                    let (mode, uid) = (0o700 + dice.roll(64) as u32, dice.roll(1000));
                    let mtime = dice.roll(1 << 30).cast_signed();
                    let name = path.as_bytes();
                    tar = tar.with(&Entry { name, kind: b'5', mode, uid, mtime, ..Entry::default() });
                }
            }
            let name = match (whiteout, dice.roll(6)) {
                (true, 0) if entries => format!("{path}.wh..wh..opq"),
                (true, 1..3) => format!("{path}.wh.{}", ["a", "b", "c"][dice.roll(3) as usize]),
                (true, _) => format!("{path}.wh.{}", ["x", "y"][dice.roll(2) as usize]),
                (false, _) => format!("{path}{}", ["x", "y"][dice.roll(2) as usize]),
            };
            let content = name.as_bytes();
            tar = tar.with(&Entry {
                name: name.as_bytes(),
                content: if whiteout { b"" } else { content },
                ..Entry::default()
            });
        }
    }
    tar
}

/// What cannot be the same is taken out. Where something changed in a directory without an entry, umoci's is as old as
/// that; and a whiteout below directories that nobody has leaves these, empty.
fn comparable(ours: &mut BTreeMap<String, String>, theirs: &mut BTreeMap<String, String>) {
    let is_new = |line: &str| {
        let time = line.split(' ').find(|word| word.len() > 18 && word.contains('.'));
        let seconds = time.and_then(|time| time.split('.').next()?.parse::<u64>().ok());
        seconds.is_some_and(|seconds| seconds > 1_700_000_000)
    };
    let without_time = |line: &str| line.split(' ').filter(|word| !word.contains('.')).collect::<String>();
    ours.retain(|name, line| {
        theirs.contains_key(name) || !(line.starts_with("directory 40755 0:0") && is_new(line))
    });
    for (name, line) in theirs {
        if line.starts_with("directory") && is_new(line) {
            *line = without_time(line);
            if let Some(line) = ours.get_mut(name) {
                *line = without_time(line);
            }
        }
    }
}

#[test]
fn layers_upon_layers_look_as_umoci_unpacks_them() {
    let seed = harness::random(u64::MAX) | 1;
    let mut dice = Dice(seed);
    for round in 0..soak(3, 200) {
        let dhow = Dhow::empty("random");
        let mut image = Image::busybox("zoo:latest").with_layer(Tar::new().dir("zoo/", 0o755));
        for _ in 0..12 {
            image = image.with_layer(random_layer(&mut dice));
        }
        let (directory, theirs) = (dhow.scratch().join("layout"), dhow.scratch().join("umoci"));
        layout::write(&image, &directory, &["gzip", "-1"]);
        dhow.ok(&["load", "--quiet", "--input", directory.to_str().unwrap()]);
        let name = format!("{}:zoo", directory.display());
        Invocation::new("umoci").args(&["raw", "unpack", "--image", &name]).arg(&theirs).ok();
        let (mut ours, mut theirs) = (ours(&dhow, "zoo"), look(&theirs.join("zoo")));
        comparable(&mut ours, &mut theirs);
        let (names, text) = differences(&ours, &theirs);
        assert_eq!(names, [""; 0], "seed {seed}, round {round}:\n{text}");
    }
}

#[test]
fn what_others_refuse_is_unpacked_as_go_reads_it() {
    let dhow = Dhow::empty("refused");
    dhow.load(&Image::busybox("img").with_layer(refused_by_others()));
    let tree = ours(&dhow, "img");
    let mut sparse = vec![0; (1 << 20) + 100];
    sparse[512..515].copy_from_slice(b"abc");
    sparse[1 << 20..(1 << 20) + 2].copy_from_slice(b"de");
    for (name, content) in [("contiguous", &b"seven"[..]), ("sparse-s", &sparse)] {
        let want = format!(
            "file {} {} 100644 0:0 1500000000.000000000 1 names from {name} {{}}",
            content.len(),
            base::Digest::of(content).short()
        );
        assert_eq!(tree[name], want);
    }
    assert_eq!(tree.len(), 3);
}

#[test]
fn an_image_of_600_layers_runs() {
    let dhow = Dhow::empty("deep");
    let mut image = Image::busybox("deep:latest").with_layer(
        Tar::new().dir("deep/", 0o1777).dir("deep/whole/", 0o755).file("deep/whole/0", 0o600, "0"),
    );
    for number in 2..600 {
        let mut layer = Tar::new().file(&format!("deep/{number}"), 0o644, number.to_string());
        // Every fifth is taken away three layers later, and once all of a directory.
        if number % 5 == 0 {
            layer = layer.file(&format!("deep/.wh.{}", number - 3), 0o644, "");
        }
        if number == 300 {
            layer = layer.dir("deep/whole/", 0o700).file("deep/whole/.wh..wh..opq", 0o644, "").file(
                "deep/whole/1",
                0o600,
                "1",
            );
        }
        image = image.with_layer(layer);
    }
    dhow.load(&image);
    let script = "ls /deep | wc -l; ls /deep/whole; stat -c %a /deep /deep/whole; cat /deep/599; \
                  test ! -e /deep/592 && test -e /deep/598 && echo; echo new >/deep/3 && cat /deep/3";
    let run = ["run", "--rm", "--network", "none", "deep", "sh", "-ec", script];
    let text = dhow.ok(&run);
    // 598 files, of which 119 are gone, and the directory
    assert_eq!(text, "480\n1\n1777\n700\n599\nnew");
    let derived = || {
        let names = std::fs::read_dir(dhow.root().join("layers")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.contains('-'))
            .map(|name| dhow.root().join("layers").join(name))
            .collect::<Vec<_>>()
    };
    assert_eq!(derived().len(), 2, "one of merged layers, one of parents: {:?}", derived());
    // What is lost is made again.
    for path in derived() {
        std::fs::remove_dir_all(path).unwrap();
    }
    assert_eq!(dhow.ok(&run), text);
    dhow.ok(&["rmi", "deep"]);
    assert_eq!(std::fs::read_dir(dhow.root().join("layers")).unwrap().count(), 0);
}
