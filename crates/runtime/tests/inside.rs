//! Sources that are found inside of something ([`runtime::Inside`]). Needs root, and a real file system for overlay.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::skip::can;
use common::{Scratch, bind, failure, output};
use runtime::{Bundle, Inside};

/// A mount on `/mnt` of what is at `path` inside.
fn mounted(scratch: &Scratch, inside: &Inside, path: &str, script: &str) -> Bundle {
    let mut bundle = scratch.bundle(script);
    // The place for a file is made as one.
    let place = if script == "cat /file" { "/file" } else { "/mnt" };
    bundle.spec.mounts.push(bind(Path::new(path), place, &["rbind", "rro"]));
    bundle.inside.insert(PathBuf::from(place), inside.clone());
    bundle
}

#[test]
fn a_path_in_a_directory_never_leads_out_of_it() {
    let scratch = Scratch::new("inside");
    let outside = scratch.dir("outside");
    fs::write(outside.join("secret"), "outside").unwrap();
    let root = scratch.dir("volume");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/file"), "inside").unwrap();
    symlink(&outside, root.join("out")).unwrap();
    symlink("../../../../../../../../..", root.join("up")).unwrap();
    symlink("/a/b", root.join("absolute")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    let inside = Inside::Directory(root.clone());
    for path in ["a/b", "up/a/b", "absolute", "/a/../../a/b"] {
        assert_eq!(output(&mounted(&scratch, &inside, path, "cat /mnt/file")), "inside", "{path}");
    }
    assert_eq!(output(&mounted(&scratch, &inside, "absolute/file", "cat /file")), "inside");
    for path in ["out", "out/secret", "magic", "nope", "../outside"] {
        let error = failure(&mounted(&scratch, &inside, path, ":"));
        assert!(error.contains("/mnt") && error.contains(path), "{error}");
    }
    // And the directory is one, not a link to another.
    let link = scratch.path("link");
    symlink(&outside, &link).unwrap();
    failure(&mounted(&scratch, &Inside::Directory(link), ".", ":"));
}

#[test]
fn layers_are_seen_as_overlay_shows_them() {
    let scratch = Scratch::new("inside-layers");
    let (top, bottom) = (scratch.dir("top"), scratch.dir("bottom"));
    fs::create_dir_all(top.join("srv")).unwrap();
    fs::create_dir_all(bottom.join("srv")).unwrap();
    fs::write(top.join("srv/one"), "top").unwrap();
    fs::write(bottom.join("srv/one"), "bottom").unwrap();
    fs::write(bottom.join("srv/two"), "below").unwrap();
    symlink("/../../../srv", top.join("link")).unwrap();
    let place = rustix::fs::statfs(&top).unwrap().f_type;
    // Overlay on overlay has its own ideas.
    if !can(place != 0x794c_7630, "stack layers on an overlay") {
        return;
    }
    let both = Inside::Layers(vec![top.clone(), bottom]);
    for path in [".", "/"] {
        let script = "cat /mnt/srv/one /mnt/srv/two; touch /mnt/srv/x 2>/dev/null || echo -n no";
        assert_eq!(output(&mounted(&scratch, &both, path, script)), "topbelowno", "{path}");
    }
    assert_eq!(output(&mounted(&scratch, &both, "link", "ls /mnt")), "one\ntwo\n");
    assert_eq!(output(&mounted(&scratch, &both, "srv/two", "cat /file")), "below");
    failure(&mounted(&scratch, &both, "nope", ":"));
    let one = Inside::Layers(vec![top]);
    let script = "cat /mnt/one; touch /mnt/x 2>/dev/null || echo -n no";
    assert_eq!(output(&mounted(&scratch, &one, "srv", script)), "topno");
    failure(&mounted(&scratch, &Inside::Layers(Vec::new()), ".", ":"));
}
