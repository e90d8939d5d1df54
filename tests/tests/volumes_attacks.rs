//! Volumes, and who would misuse them: images that lead out, paths that are swapped, makers and removers at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use harness::attack::Outside;
use harness::image::Image;
use harness::tar::Tar;
use harness::volume::{data, image_with_content, names, script};
use harness::{Dhow, soak};
use serde_json::json;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

#[test]
fn filling_never_leaves_the_image() {
    let dhow = Dhow::empty("vol-escape");
    dhow.load(&image_with_content("img", &["/srv/escape", "/../etc", "relative", "/srv/data"]));
    // The host has /etc/hostname; the image has a passwd of its own below that path.
    let output = dhow.run(&["create", "--name", "cc", "-v", "named:/srv/escape", "img", "true"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.stderr.lines().filter(|l| l.contains("is not a path in the container")).count(), 2);
    let filled: Vec<_> =
        std::fs::read_dir(data(&dhow, "named")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(filled.iter().any(|name| name == "not-executable"), "the image's /etc: {filled:?}");
    assert!(
        !filled.iter().any(|name| name == "hostname" || name == "fstab" || name == "shadow"),
        "{filled:?}"
    );
    // What is copied is copied as a link, not followed.
    let anonymous = names(&dhow).into_iter().find(|name| name.len() == 64).unwrap();
    assert!(data(&dhow, &anonymous).join("link").symlink_metadata().unwrap().is_symlink());
    assert_eq!(names(&dhow).len(), 2);
}

#[test]
fn a_container_that_died_with_its_monitor_takes_its_volumes_along() {
    let dhow = Dhow::new("vol-died");
    let args =
        ["run", "-d", "--rm", "--name", "cc", "--network", "none", "-v", "/x", "busybox", "sleep", "100"];
    dhow.ok(&args);
    assert_eq!(names(&dhow).len(), 1);
    let monitor = rustix::process::Pid::from_raw(dhow.monitor_pid("cc").cast_signed()).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    assert_eq!(dhow.ok(&["ps", "-aq"]), "");
    assert_eq!(names(&dhow), [""; 0]);
}

#[test]
fn what_lies_in_a_layer_is_nobodys_record() {
    let dhow = Dhow::new("vol-layer");
    let volume = dhow.ok(&["volume", "create"]);
    // Layers pass through removing/, too; this one looks like a container that wants that volume removed.
    let record = json!({
        "format": 1,
        "options": { "auto_remove": true, "volumes": [{ "name": volume, "anonymous": true, "destination": "/x" }] },
    });
    let layer = Tar::new().file("record.json", 0o644, record.to_string()).file("remove-volumes", 0o644, "");
    dhow.load(&Image::busybox("evil").with_layer(layer));
    dhow.ok(&["rmi", "evil"]);
    dhow.ok(&["ps", "-a"]);
    assert_eq!(names(&dhow), [volume]);
}

#[test]
fn a_subpath_is_resolved_inside_of_the_volume() {
    let dhow = Dhow::new("vol-subpath");
    let outside = Outside::new(dhow.scratch());
    script(
        &dhow,
        &["-v", "data:/d"],
        "mkdir -p /d/a/b; echo in > /d/a/b/f; ln -s a/b /d/link; ln -s ../../a /d/up",
    );
    symlink(outside.path(), data(&dhow, "data").join("out")).unwrap();
    let with = |subpath: &str| format!("type=volume,src=data,dst=/x,volume-subpath={subpath}");
    assert_eq!(script(&dhow, &["--mount", &with("a/b")], "ls /x; echo new > /x/g"), "f");
    assert_eq!(script(&dhow, &["--mount", &with("a/b/f")], "cat /x"), "in", "a file, too");
    assert_eq!(script(&dhow, &["--mount", &with("link")], "ls /x"), "f\ng");
    assert_eq!(script(&dhow, &["--mount", &with("up/b")], "ls /x"), "f\ng", "up from the root is the root");
    for subpath in ["out", "out/passwd", "nope", "a/b/f/x"] {
        let error = dhow.fails(125, &["run", "--rm", "--mount", &with(subpath), "busybox", "true"]);
        assert!(error.contains("/x"), "{error}");
    }
    for subpath in ["../..", "/etc", "a/../../.."] {
        dhow.fails(125, &["run", "--rm", "--mount", &with(subpath), "busybox", "true"]);
    }
    outside.assert_untouched("volumes");
}

/// CVE-2017-1002101: a container swaps a directory of the volume for a link while another one is given it as a subpath.
#[test]
fn a_subpath_that_is_swapped_meanwhile_stays_inside() {
    let dhow = Dhow::new("vol-swap");
    let outside = Outside::new(dhow.scratch());
    script(&dhow, &["-v", "data:/d"], "mkdir -p /d/a/deep/er; echo inside > /d/a/passwd");
    symlink(outside.path(), data(&dhow, "data").join("b")).unwrap();
    let probe = format!("{PROBE}:/probe:ro");
    let racer = [
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "data:/d",
        "-v",
        &probe,
        "busybox",
        "/probe",
        "swap",
        "/d/a",
        "/d/b",
    ];
    let racer = dhow.spawn(&racer);
    racer.expect("up");
    let mut won = 0;
    for _ in 0..soak(12, 300) {
        let args = [
            "run",
            "--rm",
            "--network",
            "none",
            "--mount",
            "src=data,dst=/x,volume-subpath=a",
            "busybox",
            "cat",
            "/x/passwd",
        ];
        let output = dhow.run(&args);
        assert!(!output.stdout.contains("the host's"), "{output:?}");
        won += usize::from(output.code == 0);
        if output.code == 0 {
            assert_eq!(output.stdout, "inside\n");
        }
    }
    assert!(won > 0, "it never lost the race");
    outside.assert_untouched("volumes");
    let name = dhow.ok(&["ps", "-q"]);
    dhow.ok(&["kill", &name]);
    racer.wait();
}

#[test]
fn making_and_removing_at_once_never_takes_a_volume_from_a_container() {
    let dhow = Dhow::new("vol-race");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let remover = scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                dhow.run(&["volume", "rm", "-f", "data"]);
            }
        });
        let creators: Vec<_> = (0..2)
            .map(|n| {
                let dhow = &dhow;
                scope.spawn(move || {
                    for _ in 0..soak(6, 100) {
                        let name = format!("c{n}");
                        dhow.ok(&["create", "--name", &name, "-v", "data:/data", "busybox", "true"]);
                        assert!(data(dhow, "data").is_dir(), "the volume of a container is gone");
                        dhow.ok(&["rm", &name]);
                    }
                })
            })
            .collect();
        let results: Vec<_> = creators.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        remover.join().unwrap();
        assert!(results.iter().all(Result::is_ok));
    });
}

/// At any point of making and removing: what was made for a container goes with it, or is seen to be its own.
#[test]
fn whoever_is_killed_leaves_no_volume_that_is_nobodys() {
    let dhow = Dhow::empty("vol-kill");
    dhow.load(&image_with_content("img", &["/srv/data", "/cache"]));
    // As long as a whole one takes here and now, and a little more.
    let begun = std::time::Instant::now();
    let whole = dhow.ok(&["create", "-v", "/more", "img", "true"]);
    let most = u64::try_from(begun.elapsed().as_micros()).unwrap() * 3 / 2;
    dhow.ok(&["rm", "-v", &whole]);
    let mut seen = 0;
    for _ in 0..soak(40, 2000) {
        let mut making = dhow.spawn(&["create", "-v", "/more", "img", "true"]);
        std::thread::sleep(std::time::Duration::from_micros(harness::random(most)));
        making.kill();
        let left = dhow.ok(&["ps", "-aq"]);
        assert_eq!(dhow.ok(&["volume", "ls", "-q", "-f", "dangling=true"]), "");
        assert_eq!(names(&dhow).len(), 3 * left.lines().count());
        for id in left.lines() {
            seen += 1;
            let mut removing = dhow.spawn(&["rm", "-v", id]);
            std::thread::sleep(std::time::Duration::from_micros(harness::random(20_000)));
            removing.kill();
        }
        for id in dhow.ok(&["ps", "-aq"]).lines() {
            dhow.ok(&["rm", "-v", id]);
        }
        assert_eq!(names(&dhow), [""; 0]);
    }
    assert!(seen > 0, "it was always killed before it made anything");
}

#[test]
fn a_volume_is_its_owners_alone_on_the_host() {
    let dhow = Dhow::new("vol-mode");
    dhow.ok(&["volume", "create", "data"]);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dhow.root().join("volumes")), 0o700);
    assert_eq!(mode(&data(&dhow, "data")), 0o755);
    script(&dhow, &["-v", "data:/d"], "cp /bin/busybox /d/su; chmod 4755 /d/su");
    assert_eq!(data(&dhow, "data").join("su").metadata().unwrap().mode() & 0o7777, 0o4755);
}
