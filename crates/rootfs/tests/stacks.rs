//! Layers that are made of layers: the kernel's overlay must show of them what it shows, or would show if it took so
//! many, of the layers themselves. Wants root.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base::Digest;
use common::{Header, Scratch, Tar, snapshot_without_counts};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// An overlay of these directories, topmost first, mounted nowhere: it goes with its descriptor.
fn overlay(lowers: &[PathBuf]) -> OwnedFd {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    let empty = PathBuf::from("/proc/self/fdinfo");
    // One directory alone is no overlay.
    let filler = (lowers.len() == 1).then_some(&empty);
    for lower in lowers.iter().chain(filler) {
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", lower).unwrap();
    }
    rustix::mount::fsconfig_create(&context).unwrap();
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

fn place(mount: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}/.", mount.as_raw_fd()).into()
}

fn shown(mount: &OwnedFd) -> BTreeMap<PathBuf, String> {
    snapshot_without_counts(&place(mount))
}

fn unpack(scratch: &Scratch, layers: Vec<Tar>) -> Vec<Digest> {
    let unpack = |tar: Tar| {
        let bytes = tar.end();
        scratch.unpack(&bytes).unwrap();
        Digest::of(&bytes)
    };
    layers.into_iter().map(unpack).collect()
}

/// The overlay as it is started with.
fn started(scratch: &Scratch, layers: &[Digest]) -> OwnedFd {
    overlay(&scratch.store.overlay(layers, Path::new("/c")).unwrap().lowers)
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

/// A layer with entries for all that it has, and a few changes of a small tree.
fn random_layer(dice: &mut Dice, number: usize) -> Tar {
    let mut tar = Tar::default().add(
        Header { name: b"number", mode: 0o600, mtime: 1000 + number as u64, ..Header::default() },
        number.to_string().as_bytes(),
    );
    for _ in 0..=dice.roll(3) {
        let mut path = String::new();
        for _ in 0..dice.roll(3) {
            path.push_str(["a/", "b/", "c/"][dice.roll(3) as usize]);
            let mode = 0o700 + dice.roll(64) as u32;
            let mtime = dice.roll(1 << 30);
            let header = Header { name: path.as_bytes(), kind: b'5', mode, mtime, ..Header::default() };
            tar = tar.add(header, b"");
        }
        let last = ["a", "b", "c", "d"][dice.roll(4) as usize];
        tar = match dice.roll(8) {
            0 | 1 => tar.file(&format!("{path}.wh.{last}"), ""),
            2 => tar.file(&format!("{path}.wh..wh..opq"), ""),
            3 => tar.symlink(&format!("{path}{last}"), "elsewhere"),
            4 => {
                let one = format!("{path}{last}");
                tar.file(&one, "linked").hard_link(&format!("{path}link"), &one)
            }
            _ => tar.file(&format!("{path}{last}"), &number.to_string()),
        };
    }
    tar
}

/// The top of a stack may not be opaque: all below would be gone.
fn opens_all(tar: &Tar) -> bool {
    !tar.0.chunks(512).any(|block| block.starts_with(b".wh..wh..opq\0"))
}

#[test]
fn what_is_merged_shows_the_same() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for count in [520, 700] {
        let scratch = Scratch::in_memory();
        let mut layers = Vec::new();
        while layers.len() < count {
            layers.extend(Some(random_layer(&mut dice, layers.len())).filter(opens_all));
        }
        let layers = unpack(&scratch, layers);
        // An overlay can be a layer of another: the kernel itself stacks more than it takes.
        let mut paths: Vec<PathBuf> = layers.iter().rev().map(|layer| scratch.store.path(layer)).collect();
        let low = overlay(&paths.split_off(350));
        paths.push(place(&low));
        let theirs = shown(&overlay(&paths));
        scratch.store.prepare(&layers).unwrap();
        let merged = 2 + usize::from(count > 626);
        scratch.check(count + merged - 1);
        assert_eq!(shown(&started(&scratch, &layers)), theirs);
        assert!(theirs.len() > 10, "{theirs:?}");
        // It stays as long as somebody needs it, and is made again.
        scratch.store.sweep_derived([&layers[..]]).unwrap();
        scratch.check(count + merged - 1);
        scratch.store.sweep_derived([&layers[..100]]).unwrap();
        scratch.check(count);
        assert_eq!(shown(&started(&scratch, &layers)), theirs);
    }
}

#[test]
fn directories_without_an_entry_look_as_the_layers_below_have_them() {
    let scratch = Scratch::in_memory();
    let dir = |tar: Tar, name: &str, mode, uid| {
        tar.add(Header { name: name.as_bytes(), kind: b'5', mode, uid, mtime: 77, ..Header::default() }, b"")
    };
    let mut base = Tar::default();
    for (name, mode) in
        [("tmp", 0o1777), ("a", 0o750), ("a/b", 0o700), ("gone", 0o711), ("new", 0o711), ("emptied", 0o711)]
    {
        base = dir(base, name, mode, 5);
    }
    let layers = unpack(
        &scratch,
        vec![
            base.file("emptied/x", "x").file("gone/x", "x"),
            Tar::default().file("tmp/x", "x").file("a/b/c/d", "x").file("other/x", "x"),
            // An entry after the file; one again without; a whiteout and then something new of that name.
            dir(Tar::default().file("a/late", "x"), "a", 0o755, 6).file("gone/.wh.x", ""),
            Tar::default().file("a/b/more", "x").file(".wh.new", "").file("new/x", "x"),
            Tar::default().file("emptied/.wh..wh..opq", "").file("emptied/y", "y"),
        ],
    );
    scratch.store.prepare(&layers).unwrap();
    scratch.check(6);
    let mount = started(&scratch, &layers);
    let look = |name: &str| {
        let stat = std::fs::metadata(place(&mount).join(name)).unwrap();
        (stat.mode() & 0o7777, stat.uid(), stat.mtime())
    };
    assert_eq!(look("tmp"), (0o1777, 5, 77));
    assert_eq!(look("a"), (0o755, 6, 77));
    assert_eq!(look("a/b"), (0o700, 5, 77));
    assert_eq!(look("gone"), (0o711, 5, 77));
    assert_eq!(look("emptied"), (0o711, 5, 77), "what it had is gone, not what it is");
    for name in ["a/b/c", "other", "new"] {
        assert_eq!((look(name).0, look(name).1), (0o755, 0), "{name}");
    }
    let there = |name: &str| place(&mount).join(name).exists();
    assert!(there("a/b/c/d") && there("a/b/more") && there("emptied/y") && there("new/x"));
    assert!(!there("gone/x") && !there("emptied/x"));

    // Alone, or where nothing is wrong, there is nothing to add.
    let lowers = |layers: &[Digest]| scratch.store.overlay(layers, Path::new("/c")).unwrap().lowers.len();
    assert_eq!(lowers(&layers[1..2]), 1);
    assert_eq!(lowers(&[layers[1], layers[0]]), 2);
    assert_eq!(lowers(&layers[..2]), 3);
    scratch.store.sweep_derived([&layers[..2]]).unwrap();
    scratch.check(6);
    scratch.store.sweep_derived([]).unwrap();
    scratch.check(5);
}

/// Overlay lists a directory that is in one layer alone as it is.
#[test]
fn a_whiteout_with_nothing_below_it_is_not_listed() {
    let scratch = Scratch::in_memory();
    let top = Tar::default().dir("new").file("new/.wh.x", "").file("new/y", "y").file("implied/.wh.x", "");
    let opaque = top.dir("o").file("o/.wh..wh..opq", "").file("o/.wh.x", "");
    let layers = unpack(&scratch, vec![Tar::default().dir("o").file("o/x", "x"), opaque]);
    let mount = started(&scratch, &layers);
    for (name, count) in [("new", 1), ("implied", 0), ("o", 0)] {
        let names: Vec<_> = std::fs::read_dir(place(&mount).join(name)).unwrap().collect();
        assert_eq!(names.len(), count, "{name}: {names:?}");
    }
}

#[test]
fn parents_are_found_through_what_is_merged() {
    let scratch = Scratch::in_memory();
    let mut layers =
        vec![Tar::default().add(
            Header { name: b"dir", kind: b'5', mode: 0o1770, uid: 9, mtime: 5, ..Header::default() },
            b"",
        )];
    for i in 0..600 {
        layers.push(Tar::default().file(&format!("dir/{i}"), "x"));
    }
    let layers = unpack(&scratch, layers);
    let mount = started(&scratch, &layers);
    let stat = std::fs::metadata(place(&mount).join("dir")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.mtime()), (0o1770, 9, 5));
    assert_eq!(std::fs::read_dir(place(&mount).join("dir")).unwrap().count(), 600);
}
