//! Device nodes, default and listed, whatever `/dev` is. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{Scratch, bind, failure, linux, new, output, own_mounts, run};
use oci::runtime::Device;
use runtime::Bundle;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

fn device(kind: &str, path: &str, major: i64, minor: i64) -> Device {
    Device { kind: kind.to_owned(), path: path.into(), major, minor, ..Device::default() }
}

/// Without mounts below `/dev` and on it.
fn without_dev(scratch: &Scratch, script: &str) -> Bundle {
    let mut bundle = scratch.bundle(script);
    bundle.spec.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
    bundle
}

const DEFAULTS: &str = "for d in null zero full random urandom tty; do stat -c '%n %a %t:%T' /dev/$d; done; \
    for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; echo lost >/dev/null";

const EXPECTED: &str = "/dev/null 666 1:3\n/dev/zero 666 1:5\n/dev/full 666 1:7\n/dev/random 666 1:8\n\
    /dev/urandom 666 1:9\n/dev/tty 666 5:0\n\
    /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";

#[test]
fn the_default_devices_are_there_with_and_without_a_mount_on_dev() {
    let scratch = Scratch::new("defaults");
    assert_eq!(output(&scratch.bundle(DEFAULTS)), EXPECTED);
    assert_eq!(output(&without_dev(&scratch, DEFAULTS)), EXPECTED);
    // Once more: they are in the image now.
    assert_eq!(output(&without_dev(&scratch, DEFAULTS)), EXPECTED);
}

#[test]
fn an_image_whose_dev_is_a_symlink_gets_nothing_done_outside() {
    let scratch = Scratch::new("devlink");
    let outside = scratch.dir("outside");
    fs::remove_dir(scratch.root("dev")).unwrap();
    let up = "../".repeat(12);
    symlink(format!("{up}{}", outside.display()), scratch.root("dev")).unwrap();
    fs::create_dir_all(scratch.root("").join(outside.strip_prefix("/").unwrap())).unwrap();
    // CVE-2026-41579.
    assert_eq!(output(&without_dev(&scratch, DEFAULTS)), EXPECTED);
    let mut bundle = scratch.bundle(DEFAULTS);
    linux(&mut bundle).devices.push(device("c", "/dev/sub/fuse", 10, 229));
    assert_eq!(output(&bundle), EXPECTED);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn devices_lie_anywhere_with_their_modes_and_owners() {
    let scratch = Scratch::new("anywhere");
    let script = "stat -c '%n %a %u:%g %t:%T %F' /dev/fuse /dev/net/tun /opt/x/disk /opt/pipe /dev/zero /opt";
    let mut bundle = scratch.bundle(script);
    linux(&mut bundle).devices = vec![
        Device { file_mode: Some(0o640), uid: Some(7), gid: Some(8), ..device("c", "/dev/fuse", 10, 229) },
        device("u", "/dev/net/tun", 10, 200),
        Device { file_mode: Some(0o100_600), ..device("b", "/opt/x/disk", 8, 1) },
        Device { gid: Some(9), ..device("p", "/opt/pipe", 0, 0) },
        // A default one may be described differently.
        Device { file_mode: Some(0o600), ..device("c", "/dev/zero", 1, 5) },
        device("c", "/dev/ptmx", 5, 2),
    ];
    assert_eq!(
        output(&bundle),
        "/dev/fuse 640 7:8 a:e5 character special file\n\
         /dev/net/tun 666 0:0 a:c8 character special file\n\
         /opt/x/disk 600 0:0 8:1 block special file\n\
         /opt/pipe 666 0:9 0:0 fifo\n\
         /dev/zero 600 0:0 1:5 character special file\n\
         /opt 755 0:0 0:0 directory\n"
    );
}

#[test]
fn a_node_that_is_there_is_fine_and_anything_else_is_an_error() {
    let scratch = Scratch::new("there");
    let with = |path: &str| {
        let mut bundle = scratch.bundle("stat -c %t:%T /there/same");
        linux(&mut bundle).devices.push(device("c", path, 1, 3));
        bundle
    };
    fs::create_dir(scratch.root("there")).unwrap();
    let node = |name: &str, kind: FileType, minor: u32| {
        let path = scratch.root("there").join(name);
        mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), makedev(1, minor)).unwrap();
    };
    node("same", FileType::CharacterDevice, 3);
    node("block", FileType::BlockDevice, 3);
    node("other", FileType::CharacterDevice, 5);
    fs::write(scratch.root("there/file"), "").unwrap();
    let secret = scratch.path("secret");
    symlink(&secret, scratch.root("there/link")).unwrap();
    assert_eq!(output(&with("/there/same")), "1:3\n");
    for name in ["block", "other", "file", "link"] {
        let error = failure(&with(&format!("/there/{name}")));
        assert!(error.contains(&format!("/there/{name}: something else is there")), "{error}");
    }
    assert!(!secret.exists());
    let mut bundle = scratch.bundle(":");
    linux(&mut bundle).devices.push(device("x", "/dev/x", 1, 3));
    assert!(failure(&bundle).contains("/dev/x"));
}

#[test]
fn a_bind_of_the_hosts_dev_is_left_as_it_is() {
    let scratch = Scratch::new("hostdev");
    own_mounts();
    let dev = scratch.dir("hostdev");
    common::tmpfs(&dev);
    fs::write(dev.join("marker"), "").unwrap();
    let mut bundle = without_dev(&scratch, "ls /dev; stat -c %t:%T /opt/null");
    bundle.spec.mounts.push(bind(&dev, "/dev", &["rbind"]));
    linux(&mut bundle).devices = vec![device("c", "/dev/fuse", 10, 229), device("c", "/opt/null", 1, 3)];
    assert_eq!(output(&bundle), "marker\n1:3\n");
    assert_eq!(fs::read_dir(&dev).unwrap().count(), 1);
}

#[test]
fn the_console_is_the_terminal_also_in_the_images_dev() {
    let scratch = Scratch::new("console");
    // CVE-2025-52565: the terminal would be bound over what the link leads to.
    let outside = scratch.path("outside");
    fs::write(&outside, "").unwrap();
    symlink("/etc/target", scratch.root("dev/console")).unwrap();
    fs::write(scratch.root("etc/target"), "untouched").unwrap();
    let script = "[ -c /dev/console ] && echo fine >/dev/console; cat /etc/target; readlink /dev/ptmx";
    let mut bundle = without_dev(&scratch, script);
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    bundle.spec.mounts.push(new("/dev/pts", "devpts", &pts));
    bundle.spec.process.as_mut().unwrap().terminal = true;
    let (code, text) = run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
    assert_eq!((code, &*text), (0, "fine\r\nuntouchedpts/ptmx\r\n"));
    assert!(Path::new(&scratch.root("dev/console")).metadata().unwrap().is_file());
}

#[test]
fn a_remount_of_dev_changes_it_and_no_more() {
    for (kind, options) in [("none", &["bind", "remount", "ro"][..]), ("tmpfs", &["remount", "ro"])] {
        let scratch = Scratch::new("remount");
        let mut bundle = scratch.bundle("ls /dev; grep ' /dev ' /proc/self/mountinfo; touch /dev/x");
        bundle.spec.mounts.push(new("/dev", kind, options));
        linux(&mut bundle).devices.push(device("c", "/dev/fuse", 10, 229));
        let (code, text) = run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
        assert_eq!(code, 1, "{options:?}: it is read-only: {text}");
        let names: Vec<_> = text.lines().collect();
        assert!(names.contains(&"fuse") && names.contains(&"null"), "{options:?}: {text}");
        assert!(text.contains(" /dev ro,"), "{options:?}: {text}");
    }
    // In their order, each with all that it says.
    let scratch = Scratch::new("remount-twice");
    let mut bundle = scratch.bundle("grep ' /dev ' /proc/self/mountinfo; touch /dev/x");
    bundle.spec.mounts.push(new("/dev", "none", &["bind", "remount", "ro"]));
    bundle.spec.mounts.push(new("/dev", "none", &["bind", "remount", "rw", "noexec"]));
    let text = output(&bundle);
    assert!(text.contains(" /dev rw,") && text.contains("noexec"), "{text}");
}
