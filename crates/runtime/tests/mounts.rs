//! Mounts as the specification lists them, made by the kernel. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use common::skip::can;
use common::{
    Scratch, bind, failure, kernel_at_least, linux, new, output, own_mounts, run, set_shared, start, tmpfs,
};
use oci::runtime::Mount;

/// The options of the mount at `path` in what `cat /proc/self/mountinfo` says: the mount's, then the superblock's.
fn options(mountinfo: &str, path: &str) -> (String, String) {
    let line = mountinfo.lines().rfind(|l| l.split(' ').nth(4) == Some(path));
    let line = line.unwrap_or_else(|| panic!("{path} in\n{mountinfo}"));
    let (before, after) = line.split_once(" - ").unwrap();
    let fields: Vec<_> = before.split(' ').collect();
    (fields[5..].join(" "), after.split(' ').nth(2).unwrap().to_owned())
}

#[test]
fn superblock_flags_attributes_and_parameters_reach_a_new_file_system() {
    let scratch = Scratch::new("options");
    let mut bundle = scratch.bundle("cat /proc/self/mountinfo; stat -c %a /mnt");
    let all = [
        "sync",
        "dirsync",
        "lazytime",
        "noatime",
        "rnosuid",
        "size=4096k",
        "mode=1750",
        "silent",
        "iversion",
    ];
    bundle.spec.mounts.push(new("/mnt", "tmpfs", &all));
    let text = output(&bundle);
    let (mount, superblock) = options(&text, "/mnt");
    assert_eq!(mount.trim(), "rw,nosuid,noatime");
    for flag in ["sync", "dirsync", "size=4096k", "lazytime"] {
        assert!(
            superblock.split(',').any(|o| o == flag) || mount.contains(flag),
            "{flag}: {mount} {superblock}"
        );
    }
    assert!(text.ends_with("1750\n"), "{text}");
}

#[test]
fn an_option_that_the_kernel_refuses_is_named() {
    let scratch = Scratch::new("refused");
    let mut bundle = scratch.bundle(":");
    bundle.spec.mounts.push(new("/mnt", "tmpfs", &["size=1m", "colour=blue", "mode=700"]));
    let error = failure(&bundle);
    assert!(error.contains("/mnt") && error.contains("`colour=blue`"), "{error}");
}

#[test]
fn hidepid_and_subset_reach_proc() {
    let scratch = Scratch::new("hidepid");
    let mut bundle = scratch.bundle("cat /proc/self/mountinfo; ls /proc/sys 2>&1 || :");
    bundle.spec.mounts[0].options.extend(["hidepid=2".to_owned(), "subset=pid".to_owned()]);
    let text = output(&bundle);
    let (_, superblock) = options(&text, "/proc");
    assert!(superblock.contains("hidepid=") && superblock.contains("subset=pid"), "{superblock}");
    assert!(text.contains("No such file"), "{text}");
}

#[test]
fn a_read_only_proc_can_be_written_to_until_the_command_runs() {
    let scratch = Scratch::new("roproc");
    let script = "cat /proc/sys/net/ipv4/ip_forward; cat /proc/self/mountinfo";
    for bound in [false, true] {
        let mut bundle = scratch.bundle(script);
        bundle.spec.mounts[0].options.push("ro".to_owned());
        if bound {
            bundle.spec.mounts[0] = bind(Path::new("/proc"), "/proc", &["rbind", "ro"]);
        }
        linux(&mut bundle).sysctl.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
        let text = output(&bundle);
        assert!(text.starts_with("1\n"), "{text}");
        assert!(options(&text, "/proc").0.starts_with("ro"), "{text}");
    }
}

/// A tmpfs with another one in it, on the host.
fn nested(scratch: &Scratch) -> std::path::PathBuf {
    let outer = scratch.dir("volume");
    tmpfs(&outer);
    fs::create_dir(outer.join("inner")).unwrap();
    tmpfs(&outer.join("inner"));
    outer
}

const TRY_BOTH: &str = "for d in /mnt /mnt/inner; do \
    (echo x >$d/file) 2>/dev/null && echo wrote || echo refused; done";

#[test]
fn read_only_is_for_the_topmost_mount_and_rro_for_all() {
    let scratch = Scratch::new("rro");
    own_mounts();
    let volume = nested(&scratch);
    for (option, expected) in
        [("ro", "refused\nwrote\n"), ("rro", "refused\nrefused\n"), ("rw", "wrote\nwrote\n")]
    {
        let mut bundle = scratch.bundle(TRY_BOTH);
        bundle.spec.mounts.push(bind(&volume, "/mnt", &["rbind", option]));
        assert_eq!(output(&bundle), expected, "{option}");
    }
    // Without the r there is nothing below.
    let mut bundle = scratch.bundle(TRY_BOTH);
    bundle.spec.mounts.push(bind(&volume, "/mnt", &["bind"]));
    assert_eq!(output(&bundle), "wrote\nwrote\n");
    assert!(volume.join("inner/file").exists());
}

#[test]
fn recursive_attributes_reach_what_lies_below() {
    let scratch = Scratch::new("recursive");
    own_mounts();
    let volume = nested(&scratch);
    let mut bundle = scratch.bundle("cat /proc/self/mountinfo");
    let all = ["rbind", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnodiratime", "rnosymfollow", "suid"];
    bundle.spec.mounts.push(bind(&volume, "/mnt", &all));
    let text = output(&bundle);
    let below = options(&text, "/mnt/inner").0;
    assert_eq!(below.trim(), "rw,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow");
    let (above, _) = options(&text, "/mnt");
    assert_eq!(above.trim(), "rw,nodev,noexec,noatime,nodiratime,nosymfollow");
}

#[test]
fn a_remount_changes_what_is_there() {
    let scratch = Scratch::new("remount");
    let mut bundle = scratch.bundle("cat /proc/self/mountinfo");
    bundle.spec.mounts.push(new("/mnt", "tmpfs", &["nosuid", "size=1024k"]));
    bundle.spec.mounts.push(new("/mnt", "tmpfs", &["remount", "nodev", "size=2048k"]));
    bundle.spec.mounts.push(bind(Path::new("/mnt"), "/mnt", &["bind", "remount", "ro"]));
    let text = output(&bundle);
    assert_eq!(text.lines().filter(|l| l.split(' ').nth(4) == Some("/mnt")).count(), 1);
    let (mount, superblock) = options(&text, "/mnt");
    assert_eq!(mount.trim(), "ro,nosuid,nodev,relatime");
    assert!(superblock.contains("size=2048k"), "{superblock}");
    let mut bundle = scratch.bundle(":");
    bundle.spec.mounts.push(new("/etc", "tmpfs", &["remount", "ro"]));
    assert!(failure(&bundle).contains("cannot mount on /etc"));
}

#[test]
fn an_overlay_may_have_more_layers_than_a_parameter_holds() {
    let scratch = Scratch::new("overlay");
    let mut layers = Vec::new();
    for n in 0..8 {
        let layer = scratch.dir(&format!("layer-with-a-name-that-is-rather-long-{n}"));
        fs::write(layer.join(format!("file{n}")), "").unwrap();
        layers.push(layer.to_str().unwrap().to_owned());
    }
    let lower = format!("lowerdir={}", layers.join(":"));
    assert!(lower.len() > 300);
    let upper = format!("upperdir={}", scratch.dir("upper").display());
    let work = format!("workdir={}", scratch.dir("work").display());
    let mut bundle = scratch.bundle("ls /mnt; touch /mnt/new");
    bundle.spec.mounts.push(new("/mnt", "overlay", &[&lower, &upper, &work, "private"]));
    if !kernel_at_least(6, 7) {
        // There is no way to say it one by one.
        assert!(failure(&bundle).contains("does not accept the option `lowerdir="));
        return;
    }
    assert_eq!(output(&bundle).lines().count(), 8);
    assert!(scratch.path("upper/new").exists());
}

#[test]
fn a_label_is_for_machines_with_selinux() {
    let scratch = Scratch::new("label");
    let mut bundle = scratch.bundle("cat /proc/self/mountinfo");
    linux(&mut bundle).mount_label = Some("system_u:object_r:container_file_t:s0:c1,c2".to_owned());
    if runtime::selinux::is_enabled() {
        let (_, superblock) = options(&output(&bundle), "/dev");
        assert!(superblock.contains("context="), "{superblock}");
    } else {
        assert!(matches!(runtime::plan(&bundle), Err(runtime::PlanError::NoSelinux)));
    }
}

#[test]
fn a_source_may_be_a_file_and_its_place_is_made() {
    let scratch = Scratch::new("targets");
    fs::write(scratch.path("source"), "hello\n").unwrap();
    symlink("/../../elsewhere/deep", scratch.root("link")).unwrap();
    let mut bundle =
        scratch.bundle("cat /new/file /elsewhere/deep/f relative/f; stat -c %a /new /elsewhere/deep");
    for to in ["/new/file", "/link/f", "relative/f"] {
        bundle.spec.mounts.push(bind(&scratch.path("source"), to, &["bind", "x-note", "nonsense=1"]));
    }
    assert_eq!(output(&bundle), "hello\nhello\nhello\n755\n755\n");
    assert!(!scratch.path("elsewhere").exists());
    assert!(scratch.root("elsewhere/deep/f").is_file());
}

#[test]
fn a_tmpfs_takes_the_mode_of_what_it_covers() {
    let scratch = Scratch::new("mode");
    fs::create_dir(scratch.root("private")).unwrap();
    fs::set_permissions(scratch.root("private"), fs::Permissions::from_mode(0o2710)).unwrap();
    let mut bundle = scratch.bundle("stat -c %a /private /fresh /told");
    bundle.spec.mounts.push(new("/private", "tmpfs", &[]));
    bundle.spec.mounts.push(new("/fresh", "tmpfs", &[]));
    bundle.spec.mounts.push(new("/told", "tmpfs", &["mode=711"]));
    assert_eq!(output(&bundle), "2710\n1777\n711\n");
}

#[test]
fn tmpcopyup_copies_what_the_image_has() {
    let scratch = Scratch::new("copyup");
    let data = scratch.root("data");
    fs::create_dir_all(data.join("sub/deeper")).unwrap();
    fs::write(data.join("sub/deeper/file"), vec![b'x'; 100_000]).unwrap();
    fs::set_permissions(data.join("sub/deeper/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(data.join("sub"), Some(1000), Some(50)).unwrap();
    symlink("/etc/passwd", data.join("link")).unwrap();
    let name = c"user.note";
    let noted = rustix::fs::setxattr(data.join("sub"), name, b"1", rustix::fs::XattrFlags::empty());
    rustix::fs::mknodat(
        rustix::fs::CWD,
        data.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let script = "cd /data; stat -c '%a %u %g %s %F' sub/deeper/file sub fifo; readlink link; \
        stat -c %Y sub; echo new >/data/new";
    let mut bundle = scratch.bundle(script);
    bundle.spec.mounts.push(new("/data", "tmpfs", &["tmpcopyup", "ro"]));
    let (_, text) = run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "4751 0 0 100000 regular file");
    assert!(lines[1].starts_with("755 1000 50 ") && lines[2].ends_with("fifo"), "{text}");
    assert_eq!(lines[3], "/etc/passwd");
    assert_eq!(lines[4], fs::metadata(data.join("sub")).unwrap().mtime().to_string());
    assert!(lines[5].contains("Read-only"), "{text}");
    assert!(noted.is_ok() && !data.join("new").exists());
    // Too little room is said, and so is what it was for.
    let mut bundle = scratch.bundle(":");
    bundle.spec.mounts.push(new("/data", "tmpfs", &["tmpcopyup", "size=4k"]));
    assert!(failure(&bundle).contains("cannot copy what lies at /data"));
}

#[test]
fn tmpcopyup_copies_no_holes() {
    let scratch = Scratch::new("copyup-holes");
    fs::create_dir(scratch.root("data")).unwrap();
    let sparse = fs::File::create(scratch.root("data/sparse")).unwrap();
    for at in [0, 100 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"written", at).unwrap();
    }
    sparse.set_len(200 << 20).unwrap();
    fs::File::create(scratch.root("data/hole")).unwrap().set_len(1 << 20).unwrap();
    let script = "cd /data; stat -c '%s' sparse hole; busybox head -c 7 sparse; \
        busybox dd if=sparse bs=1M skip=100 count=1 2>/dev/null | busybox head -c 7";
    let mut bundle = scratch.bundle(script);
    bundle.spec.mounts.push(new("/data", "tmpfs", &["tmpcopyup", "size=1m"]));
    assert_eq!(output(&bundle), "209715200\n1048576\nwrittenwritten");
}

/// What is copied is the container's use of memory, from the first byte.
#[test]
fn tmpcopyup_is_within_the_memory_limit() {
    use runtime::cgroup::{Group, Hierarchy, Location};
    let scratch = Scratch::new("copyup-limit");
    fs::create_dir(scratch.root("data")).unwrap();
    fs::write(scratch.root("data/file"), vec![1; 64 << 20]).unwrap();
    let mut bundle = scratch.bundle("echo ran");
    bundle.spec.mounts.push(new("/data", "tmpfs", &["tmpcopyup"]));
    let location = Location::Path(format!("/dhow-test-copyup-{}", std::process::id()).into());
    bundle.cgroup = Some(location.clone());
    linux(&mut bundle).resources = Some(oci::runtime::Resources {
        memory: Some(oci::runtime::Memory { limit: Some(16 << 20), ..oci::runtime::Memory::default() }),
        ..oci::runtime::Resources::default()
    });
    let failed = failure(&bundle);
    assert!(failed.contains("ended before it executed the command"), "{failed}");
    assert!(!Group::existing(&Hierarchy::detect().unwrap(), &location).exists());
}

#[test]
fn a_read_only_tmpfs_can_hold_mount_points() {
    let scratch = Scratch::new("rotmpfs");
    fs::write(scratch.path("source"), "hello\n").unwrap();
    let mut bundle = scratch.bundle("cat /mnt/a/f; touch /mnt/x 2>/dev/null || echo refused");
    bundle.spec.mounts.push(new("/mnt", "tmpfs", &["ro"]));
    bundle.spec.mounts.push(bind(&scratch.path("source"), "/mnt/a/f", &["bind"]));
    bundle.spec.mounts[1].options.push("ro".to_owned());
    assert_eq!(output(&bundle), "hello\nrefused\n");
}

/// Runs a container that waits for its input to end, and calls `meanwhile` while it does.
fn while_it_waits(bundle: &runtime::Bundle, meanwhile: impl FnOnce()) -> String {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let started = start(bundle, read).map_err(|e| base::failure::chain(&*e)).unwrap();
    meanwhile();
    fs::File::from(write).write_all(b"go\n").unwrap();
    let (code, text) = started.finish();
    assert_eq!(code, 0, "{text}");
    text
}

#[test]
fn mounts_of_the_host_reach_a_slave_and_not_a_private_one() {
    let scratch = Scratch::new("slave");
    own_mounts();
    for (n, (option, seen)) in
        [("rslave", true), ("slave", true), ("rshared", true), ("rprivate", false), ("", false)]
            .iter()
            .enumerate()
    {
        let volume = scratch.dir(&format!("volume{n}"));
        tmpfs(&volume);
        set_shared(&volume);
        fs::create_dir(volume.join("late")).unwrap();
        let mut bundle = scratch.bundle("read line; ls /mnt/late");
        bundle.spec.mounts.push(bind(&volume, "/mnt", &["rbind", option]));
        let text = while_it_waits(&bundle, || {
            tmpfs(&volume.join("late"));
            fs::write(volume.join("late/news"), "").unwrap();
        });
        assert_eq!(text == "news\n", *seen, "{option}: {text}");
    }
}

#[test]
fn mounts_of_the_container_reach_the_host_only_where_it_is_shared() {
    let scratch = Scratch::new("shared");
    own_mounts();
    for (n, (options, seen)) in [
        (&["rbind", "rshared"][..], true),
        (&["bind", "shared"], true),
        (&["rbind", "rslave"], false),
        (&["rbind", "rslave", "shared"], false),
        (&["rbind"], false),
    ]
    .iter()
    .enumerate()
    {
        let volume = scratch.dir(&format!("volume{n}"));
        tmpfs(&volume);
        set_shared(&volume);
        fs::create_dir(volume.join("made")).unwrap();
        let script = "mount -t tmpfs tmpfs /mnt/made; touch /mnt/made/news; echo done; read line";
        let mut bundle = scratch.bundle(script);
        bundle.spec.mounts.push(bind(&volume, "/mnt", options));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while_it_waits(&bundle, || {
            while *seen && !volume.join("made/news").exists() && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            if !seen {
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            assert_eq!(volume.join("made/news").exists(), *seen, "{options:?}");
        });
    }
}

#[test]
fn the_root_has_the_propagation_that_is_asked_for_and_is_never_the_hosts_peer() {
    let scratch = Scratch::new("propagation");
    own_mounts();
    let root = scratch.root("");
    // As on a machine with systemd: the root file system lies on a shared mount.
    rustix::mount::mount_bind(&root, &root).unwrap();
    set_shared(&root);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for (propagation, tag) in [
        (None, ""),
        (Some("private"), ""),
        (Some("rprivate"), ""),
        (Some("rslave"), "master:"),
        (Some("slave"), "master:"),
        (Some("shared"), "shared:"),
        (Some("rshared"), "shared:"),
        (Some("unbindable"), "unbindable"),
    ] {
        let mut bundle = scratch.bundle("cat /proc/self/mountinfo; touch /x 2>/dev/null || echo refused");
        linux(&mut bundle).rootfs_propagation = propagation.map(str::to_owned);
        bundle.spec.root.as_mut().unwrap().readonly = true;
        let text = output(&bundle);
        let (mount, _) = options(&text, "/");
        assert!(mount.starts_with("ro"), "{mount}");
        let tags = mount.split_once(' ').map_or("", |(_, tags)| tags);
        assert!(
            if tag.is_empty() { tags.is_empty() } else { tags.starts_with(tag) },
            "{propagation:?}: {tags}"
        );
        assert!(text.ends_with("refused\n"));
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before, "{propagation:?}");
    }
    let mut bundle = scratch.bundle(":");
    linux(&mut bundle).rootfs_propagation = Some("loud".to_owned());
    assert!(failure(&bundle).contains("rootfsPropagation"));
}

#[test]
fn a_volume_follows_the_roots_propagation_where_it_says_none() {
    let scratch = Scratch::new("follows");
    own_mounts();
    let volume = scratch.dir("volume");
    tmpfs(&volume);
    set_shared(&volume);
    let mut bundle = scratch.bundle("cat /proc/self/mountinfo");
    linux(&mut bundle).rootfs_propagation = Some("rslave".to_owned());
    bundle.spec.mounts.push(bind(&volume, "/mnt", &["rbind"]));
    assert!(options(&output(&bundle), "/mnt").0.contains("master:"));
}

#[test]
fn nothing_is_mounted_over_proc_but_what_may_be() {
    let scratch = Scratch::new("overproc");
    fs::write(scratch.path("stat"), "fake\n").unwrap();
    let volume = scratch.dir("volume");
    let with = |mount: Mount| {
        let mut bundle = scratch.bundle("cat /proc/uptime");
        bundle.spec.mounts.push(mount);
        bundle
    };
    assert_eq!(output(&with(bind(&scratch.path("stat"), "/proc/uptime", &["bind"]))), "fake\n");
    for (destination, source) in [
        ("/proc", &volume),
        ("/proc/sys", &volume),
        ("/proc/version", &scratch.path("stat")),
        ("/sys/../proc", &volume),
    ] {
        let error = failure(&with(bind(source, destination, &["bind"])));
        assert!(error.contains("nothing may be mounted inside /proc"), "{destination}: {error}");
    }
    // Nor in its place, where a volume comes first.
    let mut bundle = scratch.bundle(":");
    bundle.spec.mounts.insert(0, bind(&volume, "/proc", &["bind"]));
    assert!(failure(&bundle).contains("nothing may be mounted inside /proc"));
    // The host's procfs is one.
    let mut bundle = scratch.bundle("cat /proc/1/comm");
    bundle.spec.mounts[0] = bind(Path::new("/proc"), "/proc", &["rbind"]);
    linux(&mut bundle).namespaces.retain(|n| n.kind != oci::runtime::NamespaceKind::Pid);
    assert_eq!(output(&bundle), fs::read_to_string("/proc/1/comm").unwrap());
}

#[test]
fn the_kernels_own_file_systems_are_not_mounted_through_a_symlink() {
    for name in ["proc", "sys"] {
        let scratch = Scratch::new(&format!("link-{name}"));
        fs::remove_dir(scratch.root(name)).unwrap();
        fs::create_dir(scratch.root("elsewhere")).unwrap();
        symlink("elsewhere", scratch.root(name)).unwrap();
        let error = failure(&scratch.bundle(":"));
        assert!(error.contains(&format!("/{name}")) && error.contains("symbolic link"), "{error}");
    }
}

#[test]
fn a_path_is_masked_inside_whatever_leads_there() {
    let scratch = Scratch::new("masks");
    fs::write(scratch.root("etc/secret"), "secret\n").unwrap();
    fs::create_dir(scratch.root("dir")).unwrap();
    fs::write(scratch.root("dir/secret"), "secret\n").unwrap();
    let outside = scratch.path("outside");
    fs::write(&outside, "host\n").unwrap();
    symlink(&outside, scratch.root("leads-out")).unwrap();
    symlink("/etc/secret", scratch.root("leads-in")).unwrap();
    let script = "cat /etc/secret /proc/keys; ls /dir; ls /proc/acpi /sys/firmware; \
        echo x >/proc/sys/kernel/panic || echo refused; \
        echo y >/etc/secret; cat /etc/secret; stat -c %t:%T /etc/secret";
    let mut bundle = scratch.bundle(script);
    linux(&mut bundle).masked_paths = [
        "/leads-in",
        "/leads-out",
        "/dir",
        "/proc/keys",
        "/proc/acpi",
        "/sys/firmware",
        "/proc/none",
        "/etc/secret/x",
    ]
    .map(Into::into)
    .to_vec();
    linux(&mut bundle).readonly_paths = ["/proc/sys", "/leads-out", "/none"].map(Into::into).to_vec();
    let (_, text) = run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
    assert!(!text.contains("secret\n") && text.contains("refused") && text.ends_with("1:3\n"), "{text}");
    assert_eq!(fs::read_to_string(&outside).unwrap(), "host\n");
    assert_eq!(fs::read_to_string(scratch.root("etc/secret")).unwrap(), "secret\n");
}

#[test]
fn an_images_null_device_hides_nothing() {
    let scratch = Scratch::new("null");
    // CVE-2025-31133: what hides /proc/keys would be what the link leads to.
    symlink("/proc/sysrq-trigger", scratch.root("dev/null")).unwrap();
    let mut bundle = scratch.bundle("stat -c %t:%T /proc/keys");
    bundle.spec.mounts.remove(1);
    bundle.spec.mounts.remove(1);
    linux(&mut bundle).masked_paths = vec!["/proc/keys".into()];
    // And it is not the device that it should be.
    assert!(failure(&bundle).contains("/dev/null: something else is there"));
    fs::remove_file(scratch.root("dev/null")).unwrap();
    assert_eq!(output(&bundle), "1:3\n");
}

#[test]
fn a_cgroup_namespace_decides_what_is_seen_of_the_groups() {
    let scratch = Scratch::new("cgroups");
    let v1 = Path::new("/sys/fs/cgroup/memory").is_dir();
    for own in [false, true] {
        let mut bundle = scratch.bundle(
            "for d in /sys/fs/cgroup/* ; do echo ${d##*/}; done; cat /proc/self/cgroup; \
             mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused; cat /proc/self/mountinfo",
        );
        bundle.spec.mounts.push(new("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]));
        if own {
            let kind = oci::runtime::NamespaceKind::Cgroup;
            linux(&mut bundle).namespaces.push(oci::runtime::Namespace { kind, path: None });
        }
        let text = output(&bundle);
        assert!(text.contains("refused"), "{text}");
        if !v1 {
            continue;
        }
        for line in fs::read_to_string("/proc/self/cgroup").unwrap().lines() {
            let controllers = line.split(':').nth(1).unwrap();
            for name in controllers.split(',').filter(|c| !c.is_empty() && !c.starts_with("name=")) {
                assert!(text.lines().any(|l| l == name), "{name}: {text}");
            }
        }
        let (mount, _) = options(&text, "/sys/fs/cgroup/memory");
        assert!(mount.starts_with("ro,nosuid,nodev,noexec"), "{mount}");
    }
}

#[test]
fn without_a_cgroup_namespace_v1_shows_the_containers_own_groups() {
    let scratch = Scratch::new("owngroups");
    if !can(Path::new("/sys/fs/cgroup/memory").is_dir(), "cgroup v1") {
        return;
    }
    let name = format!("dhow-mounts-{}", std::process::id());
    for own in [false, true] {
        let mut bundle = scratch.bundle(
            "cat /sys/fs/cgroup/memory/cgroup.procs /sys/fs/cgroup/pids/cgroup.procs; grep :memory: /proc/self/cgroup",
        );
        bundle.cgroup = Some(runtime::cgroup::Location::Path(format!("/{name}").into()));
        bundle.spec.mounts.push(new("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]));
        if own {
            let kind = oci::runtime::NamespaceKind::Cgroup;
            linux(&mut bundle).namespaces.push(oci::runtime::Namespace { kind, path: None });
        }
        let text = output(&bundle);
        // The shell and its `cat`, in each of the two; nobody of the host.
        let processes: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        assert!(processes.len() >= 2 && processes.iter().all(|pid| *pid > 0 && *pid < 10), "{text}");
        assert!(text.trim().ends_with(if own { ":/" } else { &name }), "{text}");
    }
    assert!(!Path::new("/sys/fs/cgroup/memory").join(name).exists());
}

#[test]
fn cgroup2_is_v2s_view_also_beside_v1() {
    let scratch = Scratch::new("cgroup2");
    let mut bundle = scratch.bundle("cat /proc/self/mountinfo; ls /sys/fs/cgroup");
    bundle.spec.mounts.push(new("/sys/fs/cgroup", "cgroup2", &["ro", "nosuid"]));
    let text = output(&bundle);
    assert!(text.contains("- cgroup2 ") && text.contains("cgroup.procs"), "{text}");
}

#[test]
fn mqueue_shows_a_joined_ipc_namespace() {
    let scratch = Scratch::new("mqueue");
    let mqueue = || new("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    let mut first = scratch.bundle("touch /dev/mqueue/letter; echo ready; read line");
    first.spec.mounts.push(mqueue());
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let started = start(&first, read).map_err(|e| base::failure::chain(&*e)).unwrap();
    let path = format!("/proc/{}/ns/ipc", started.pid());
    let mut second = scratch.bundle("ls /dev/mqueue");
    second.spec.mounts.push(mqueue());
    for namespace in &mut linux(&mut second).namespaces {
        if namespace.kind == oci::runtime::NamespaceKind::Ipc {
            namespace.path = Some(path.clone().into());
        }
    }
    let seen = || {
        (0..50).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            output(&second) == "letter\n"
        })
    };
    assert!(seen());
    fs::File::from(write).write_all(b"\n").unwrap();
    started.finish();
}

#[test]
fn a_second_proc_is_not_the_one_that_is_written_to() {
    let scratch = Scratch::new("proc-twice");
    let mut bundle =
        scratch.bundle("test -e /tmp/self && test ! -e /tmp/sys && cat /proc/sys/kernel/shm_rmid_forced");
    bundle.spec.mounts.push(new("/tmp", "proc", &["subset=pid"]));
    linux(&mut bundle).sysctl.insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
    assert_eq!(output(&bundle), "1\n", "though the second shows processes alone");
}

#[test]
fn the_terminal_is_from_dev_pts() {
    let scratch = Scratch::new("devpts-twice");
    let mut bundle = scratch.bundle("readlink /proc/self/fd/0; ls /dev/pts; echo tmp; ls /tmp");
    bundle.spec.mounts.push(new("/tmp", "devpts", &["newinstance", "ptmxmode=0666"]));
    bundle.spec.process.as_mut().unwrap().terminal = true;
    let text = output(&bundle);
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    assert_eq!(words, ["/dev/pts/0", "0", "ptmx", "tmp", "ptmx"]);
}
