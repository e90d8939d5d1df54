//! What is different where the runtime itself has no rights but in a user namespace. Each test runs itself again in a
//! new one (`unshare(1)`): making one needs a process with a single thread.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use common::{Scratch, linux, new, output};
use oci::runtime::{Device, NamespaceKind};

/// True in the new namespace; otherwise runs the test of this name there.
fn inside(test: &str) -> bool {
    const MARK: &str = "DHOW_TEST_INSIDE";
    if std::env::var_os(MARK).is_some() {
        // Not a shell: one that finds its two user ids different, because they are mapped between its two questions,
        // gives up its rights.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return true;
    }
    let _nobody_copies = common::COPYING.read();
    let mut child = Command::new("unshare")
        .args(["--user", "--mount", "--keep-caps"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ours = fs::read_link("/proc/self/ns/user").unwrap();
    while fs::read_link(format!("/proc/{}/ns/user", child.id())).unwrap() == ours {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", child.id()), "0 0 65536").unwrap();
    }
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let done = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[test]
fn devices_are_the_hosts_where_none_can_be_made() {
    if !inside("devices_are_the_hosts_where_none_can_be_made") {
        return;
    }
    let scratch = Scratch::new("nodes");
    let script = "stat -c '%n %t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /opt/zero /opt/z; \
        echo lost >/dev/null; stat -c %t:%T /proc/keys";
    let mut bundle = scratch.bundle(script);
    linux(&mut bundle).masked_paths = vec!["/proc/keys".into()];
    let device = |path: &str| Device {
        kind: "c".to_owned(),
        path: path.into(),
        major: 1,
        minor: 5,
        ..Device::default()
    };
    // Neither is there on the host; it knows devices by their numbers too, where udev runs.
    if std::path::Path::new("/dev/char/1:5").exists() {
        linux(&mut bundle).devices = vec![device("/opt/zero"), device("/opt/z")];
        let text = output(&bundle);
        assert!(text.ends_with("/opt/zero 1:5\n/opt/z 1:5\n1:3\n"), "{text}");
        return;
    }
    let mut small = scratch.bundle(&script.replace(" /opt/zero /opt/z", ""));
    linux(&mut small).masked_paths = vec!["/proc/keys".into()];
    linux(&mut small).devices = vec![device("/dev/zero")];
    let defaults =
        "/dev/null 1:3\n/dev/zero 1:5\n/dev/full 1:7\n/dev/random 1:8\n/dev/urandom 1:9\n/dev/tty 5:0\n1:3\n";
    assert_eq!(output(&small), defaults);
    linux(&mut bundle).devices = vec![device("/opt/zero")];
    assert!(common::failure(&bundle).contains("cannot make the device /opt/zero"));
    // The same without a mount on /dev: empty files of an earlier time are taken.
    for _ in 0..2 {
        small.spec.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
        assert_eq!(output(&small), defaults);
    }
}

#[test]
fn sysfs_is_the_hosts_where_the_network_is() {
    if !inside("sysfs_is_the_hosts_where_the_network_is") {
        return;
    }
    let scratch = Scratch::new("sysfs");
    let mut bundle =
        scratch.bundle("ls /sys/class/net | grep -c . ; mkdir /sys/fs/x 2>&1 || :; cat /proc/self/mountinfo");
    linux(&mut bundle)
        .namespaces
        .retain(|n| n.kind != NamespaceKind::Network && n.kind != NamespaceKind::Ipc);
    bundle.spec.mounts[3] = new("/sys", "sysfs", &["nosuid", "noexec", "nodev"]);
    if std::path::Path::new("/dev/mqueue").exists() {
        bundle.spec.mounts.push(new("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    }
    let text = output(&bundle);
    assert!(text.contains("Read-only file system"), "{text}");
    let line = text.lines().find(|l| l.split(' ').nth(4) == Some("/sys")).unwrap();
    assert!(line.contains(" ro,nosuid,nodev,noexec"), "{line}");
}

#[test]
fn cgroups_are_seen_where_no_namespace_of_them_is_made() {
    if !inside("cgroups_are_seen_where_no_namespace_of_them_is_made") {
        return;
    }
    let scratch = Scratch::new("cgroups");
    let mut bundle = scratch.bundle("ls /sys/fs/cgroup; cat /proc/self/mountinfo");
    bundle.spec.mounts.push(new("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]));
    let text = output(&bundle);
    let line = text.lines().find(|l| l.split(' ').nth(4) == Some("/sys/fs/cgroup")).unwrap();
    assert!(line.contains(" ro,nosuid,nodev,noexec"), "{line}");
    assert!(text.contains("memory\n") || text.contains("cgroup.procs\n"), "{text}");
}
