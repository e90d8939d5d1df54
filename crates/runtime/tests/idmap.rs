//! Mounts with mapped ids. Needs root; most are made of a tmpfs, which can be mapped since Linux 6.3.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use common::skip::can;
use common::{Scratch, bind, failure, kernel_at_least, new, output, own_mounts, tmpfs};
use oci::runtime::{IdMapping, Mount};

const SHIFT: IdMapping = IdMapping { container_id: 0, host_id: 5000, size: 1000 };

fn tmpfs_can_be_mapped() -> bool {
    can(kernel_at_least(6, 3), "tmpfs with mapped ids (Linux 6.3)")
}

fn mapped(mount: Mount) -> Mount {
    Mount { uid_mappings: vec![SHIFT], gid_mappings: vec![SHIFT], ..mount }
}

/// A volume with a file of user 10, and a mount in it with the same.
fn volume(scratch: &Scratch) -> PathBuf {
    let volume = scratch.dir("volume");
    tmpfs(&volume);
    let inner = scratch.dir("volume/inner");
    tmpfs(&inner);
    for file in [volume.join("file"), inner.join("file")] {
        fs::write(&file, "").unwrap();
        chown(&file, Some(10), Some(20)).unwrap();
    }
    volume
}

const OWNERS: &str = "stat -c %u:%g /mnt/file /mnt/inner/file";

#[test]
fn a_mapping_is_for_the_topmost_mount_or_for_all() {
    if !tmpfs_can_be_mapped() {
        return;
    }
    let scratch = Scratch::new("idmap");
    own_mounts();
    let volume = volume(&scratch);
    for (options, expected) in [
        (&["rbind", "idmap"][..], "5010:5020\n10:20\n"),
        (&["rbind"], "5010:5020\n10:20\n"),
        (&["rbind", "ridmap"], "5010:5020\n5010:5020\n"),
    ] {
        let mut bundle = scratch.bundle(OWNERS);
        bundle.spec.mounts.push(mapped(bind(&volume, "/mnt", options)));
        // A second volume with the same mapping shares its namespace.
        bundle.spec.mounts.push(mapped(bind(&volume, "/other", options)));
        assert_eq!(output(&bundle), expected, "{options:?}");
    }
    assert_eq!(fs::metadata(volume.join("file")).unwrap().uid(), 10);
}

#[test]
fn what_is_written_through_a_mapping_arrives_unmapped() {
    if !tmpfs_can_be_mapped() {
        return;
    }
    let scratch = Scratch::new("idmap-write");
    own_mounts();
    let volume = volume(&scratch);
    fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut bundle = scratch.bundle("touch /mnt/new");
    let process = bundle.spec.process.as_mut().unwrap();
    (process.user.uid, process.user.gid) = (5001, 5002);
    bundle.spec.mounts.push(mapped(bind(&volume, "/mnt", &["bind", "idmap"])));
    output(&bundle);
    let made = fs::metadata(volume.join("new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1, 2));
}

#[test]
fn a_new_file_system_can_be_mapped() {
    if !tmpfs_can_be_mapped() {
        return;
    }
    let scratch = Scratch::new("idmap-tmpfs");
    let mut bundle = scratch.bundle("stat -c %u:%g /mnt");
    bundle.spec.mounts.push(mapped(new("/mnt", "tmpfs", &["idmap"])));
    assert_eq!(output(&bundle), "5000:5000\n");
}

#[test]
fn what_cannot_be_mapped_says_so() {
    let scratch = Scratch::new("idmap-no");
    let with = |mount: Mount| {
        let mut bundle = scratch.bundle(":");
        bundle.spec.mounts.push(mount);
        failure(&bundle)
    };
    // The kernel's own file systems have no ids to map.
    let error = with(mapped(bind(Path::new("/proc/sys"), "/mnt", &["bind", "idmap"])));
    assert!(error.contains("cannot map the ids of the mount on /mnt"), "{error}");
    let error = with(bind(Path::new("/etc"), "/mnt", &["bind", "idmap"]));
    assert!(error.contains("no user namespace"), "{error}");
    let error = with(mapped(new("/mnt", "mqueue", &["idmap"])));
    assert!(error.contains("cannot map the ids of the mount on /mnt"), "{error}");
}

#[test]
fn nobody_waits_in_the_namespaces_that_were_made() {
    if !tmpfs_can_be_mapped() {
        return;
    }
    let scratch = Scratch::new("idmap-nobody");
    let mut bundle = scratch.bundle(":");
    bundle.spec.mounts.push(mapped(new("/mnt", "tmpfs", &["idmap"])));
    output(&bundle);
    let children = fs::read_to_string("/proc/thread-self/children").unwrap();
    assert_eq!(children.trim(), "");
}

/// The process whose user namespace is the mapping belongs to the machine's root, who has all rights over such a
/// namespace, be it without any other: it is not to be looked into, for it is a copy of us.
#[test]
fn nobody_looks_into_the_making_of_a_mapping_who_may_not_trace() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    use std::sync::atomic::{AtomicBool, Ordering};

    let scratch = Scratch::new("idmap-trace");
    let mut bundle = scratch.bundle("");
    bundle.spec.mounts.push(mapped(bind(&scratch.dir("volume"), "/mnt", &["bind", "idmap"])));
    let done = AtomicBool::new(false);
    // That of this thread, which makes all of them.
    let children = format!("/proc/self/task/{}/children", rustix::thread::gettid().as_raw_pid());
    let (seen, got) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut ours = capabilities(None).unwrap();
            for set in [&mut ours.effective, &mut ours.permitted, &mut ours.inheritable] {
                set.remove(CapabilitySet::SYS_PTRACE);
            }
            set_capabilities(None, ours).unwrap();
            let (mut seen, mut got) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                for pid in fs::read_to_string(&children).unwrap_or_default().split_whitespace() {
                    seen += 1;
                    got += u32::from(fs::read_link(format!("/proc/{pid}/fd/0")).is_ok());
                    got += u32::from(fs::read_link(format!("/proc/{pid}/root")).is_ok());
                }
            }
            (seen, got)
        });
        for _ in 0..300 {
            // Whether the file system takes it is another matter.
            runtime::plan(&bundle).ok();
        }
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert!(seen > 0 && got == 0, "seen {seen}, looked into {got}");
}
