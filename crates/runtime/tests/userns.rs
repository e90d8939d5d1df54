//! Mounts and devices of a container with a user namespace of its own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};

use common::{
    Scratch, bind, failure, kernel_at_least, linux, new, output, own_mounts, set_shared, start, tmpfs,
};
use oci::runtime::{Device, IdMapping, Namespace, NamespaceKind};
use runtime::Bundle;

const MAP: IdMapping = IdMapping { container_id: 0, host_id: 100_000, size: 65_536 };

fn in_user_namespace(scratch: &Scratch, script: &str) -> Bundle {
    let mut bundle = scratch.bundle(script);
    let linux = linux(&mut bundle);
    linux.namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
    (linux.uid_mappings, linux.gid_mappings) = (vec![MAP], vec![MAP]);
    // The container's root makes mount points in it.
    for name in ["", "dev", "tmp", "opt"] {
        fs::create_dir_all(scratch.root(name)).unwrap();
        chown(scratch.root(name), Some(100_000), Some(100_000)).unwrap();
    }
    bundle
}

#[test]
fn devices_are_the_hosts() {
    let scratch = Scratch::new("user-devices");
    let script = "for d in null zero full random urandom tty; do stat -c '%t:%T' /dev/$d; done; \
        stat -c '%F' /opt/pipe; echo lost >/dev/null; cat /proc/keys; stat -c %t:%T /proc/keys";
    let mut bundle = in_user_namespace(&scratch, script);
    linux(&mut bundle).masked_paths = vec!["/proc/keys".into()];
    linux(&mut bundle).devices = vec![
        Device { kind: "p".to_owned(), path: "/opt/pipe".into(), ..Device::default() },
        Device { kind: "c".to_owned(), path: "/dev/full".into(), major: 1, minor: 7, ..Device::default() },
    ];
    let expected = "1:3\n1:5\n1:7\n1:8\n1:9\n5:0\nfifo\n1:3\n";
    assert_eq!(output(&bundle), expected);
    // In the image's own /dev, twice: what is left there is found again.
    bundle.spec.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
    for _ in 0..2 {
        assert_eq!(output(&bundle), expected);
    }
}

#[test]
fn the_option_alone_means_the_containers_mapping() {
    let scratch = Scratch::new("user-idmap");
    own_mounts();
    let volume = scratch.dir("volume");
    tmpfs(&volume);
    fs::write(volume.join("file"), "").unwrap();
    chown(volume.join("file"), Some(10), Some(20)).unwrap();
    let script =
        "stat -c %u:%g /mnt/file /plain/file; touch /mnt/new && echo made; touch /plain/new 2>&1 || :";
    let mut bundle = in_user_namespace(&scratch, script);
    bundle.spec.mounts.push(bind(&volume, "/mnt", &["bind", "idmap"]));
    if !kernel_at_least(6, 3) {
        assert!(failure(&bundle).contains("cannot map the ids of the mount on /mnt"));
        return;
    }
    bundle.spec.mounts.push(bind(&volume, "/plain", &["bind"]));
    let text = output(&bundle);
    assert!(text.starts_with("10:20\n65534:65534\nmade\n") && text.contains("Permission denied"), "{text}");
    assert_eq!(fs::metadata(volume.join("new")).unwrap().uid(), 0);
}

#[test]
fn what_it_mounts_in_a_shared_volume_is_not_the_hosts_to_see() {
    let scratch = Scratch::new("user-shared");
    own_mounts();
    let volume = scratch.dir("volume");
    tmpfs(&volume);
    set_shared(&volume);
    for name in ["made", "late"] {
        fs::create_dir(volume.join(name)).unwrap();
    }
    let script = "mount -t tmpfs tmpfs /mnt/made && echo mounted; read line; ls /mnt/late";
    let mut bundle = in_user_namespace(&scratch, script);
    bundle.spec.mounts.push(bind(&volume, "/mnt", &["rbind", "rshared"]));
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let started = start(&bundle, read).map_err(|e| base::failure::chain(&*e)).unwrap();
    let theirs = format!("/proc/{}/mountinfo", started.pid());
    while !fs::read_to_string(&theirs).unwrap().contains(" /mnt/made ") {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let ours = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(ours.contains("/volume ") && !ours.contains("/volume/made"), "{ours}");
    tmpfs(&volume.join("late"));
    fs::write(volume.join("late/news"), "").unwrap();
    fs::File::from(write).write_all(b"\n").unwrap();
    let (code, text) = started.finish();
    assert_eq!((code, &*text), (0, "mounted\nnews\n"));
}

#[test]
fn sysfs_and_cgroups_of_namespaces_that_are_the_hosts_are_bound() {
    let scratch = Scratch::new("user-sysfs");
    let mut bundle =
        in_user_namespace(&scratch, "cat /proc/self/mountinfo; ls /sys/class/net /sys/fs/cgroup");
    linux(&mut bundle).namespaces.retain(|n| n.kind != NamespaceKind::Network);
    bundle.spec.mounts[3] = new("/sys", "sysfs", &["nosuid", "noexec", "nodev"]);
    bundle.spec.mounts.push(new("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]));
    let text = output(&bundle);
    for path in ["/sys", "/sys/fs/cgroup"] {
        let line = text.lines().rfind(|l| l.split(' ').nth(4) == Some(path)).unwrap();
        assert!(line.contains(" ro,nosuid,nodev,noexec"), "{line}");
    }
    assert!(text.contains("lo\n"), "{text}");
}

#[test]
fn tmpcopyup_keeps_owners_that_are_mapped() {
    let scratch = Scratch::new("user-copyup");
    fs::create_dir_all(scratch.root("opt/data")).unwrap();
    fs::write(scratch.root("opt/data/file"), "x").unwrap();
    chown(scratch.root("opt/data/file"), Some(100_007), Some(100_008)).unwrap();
    let mut bundle = in_user_namespace(&scratch, "stat -c %u:%g /opt/data/file");
    bundle.spec.mounts.push(new("/opt/data", "tmpfs", &["tmpcopyup"]));
    assert_eq!(output(&bundle), "7:8\n");
}
