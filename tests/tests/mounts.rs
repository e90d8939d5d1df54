//! `-v` and `--mount` of the host's directories, of images, and of memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::PathBuf;

use harness::Dhow;
use harness::image::Image;
use harness::tar::Tar;
use serde_json::json;

/// Runs a shell script in a busybox without a network; it must succeed.
#[track_caller]
fn script(dhow: &Dhow, flags: &[&str], script: &str) -> String {
    dhow.ok(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat())
}

fn host(dhow: &Dhow) -> PathBuf {
    let path = dhow.scratch().join("host");
    std::fs::create_dir_all(path.join("sub")).unwrap();
    std::fs::write(path.join("file"), "the host's\n").unwrap();
    path
}

#[test]
fn a_missing_source_is_made_for_v_and_refused_for_mount() {
    let dhow = Dhow::new("mnt-missing");
    let path = dhow.scratch().join("made/by/us");
    let text = path.to_str().unwrap();
    for verb in ["run", "create"] {
        let mount = format!("type=bind,src={text},dst=/x");
        let error = dhow.fails(125, &[verb, "--mount", &mount, "busybox", "true"]);
        assert!(error.contains(text) && error.contains("/x"), "{error}");
    }
    assert_eq!(dhow.ok(&["ps", "-aq"]), "");
    assert!(!path.exists());
    script(&dhow, &["--mount", &format!("type=bind,src={text},dst=/x,bind-create-src")], "touch /x/one");
    script(&dhow, &["-v", &format!("{text}:/x:z")], "touch /x/two");
    assert!(path.join("one").exists() && path.join("two").exists());
}

#[test]
fn the_keys_of_bind_mounts() {
    let dhow = Dhow::new("mnt-bind");
    let host = host(&dhow);
    let text = host.to_str().unwrap();
    for form in [
        format!("type=bind,source={text},target=/x,readonly"),
        format!("type=bind,src={text},dst=/x,ro=true"),
    ] {
        assert_eq!(
            script(&dhow, &["--mount", &form], "cat /x/file; touch /x/new || echo no"),
            "the host's\nno"
        );
    }
    let form = format!("type=bind,src={text},destination=/x,bind-propagation=rslave,consistency=cached");
    script(&dhow, &["--mount", &form], "touch /x/new; grep ' /x ' /proc/self/mountinfo");
    assert!(host.join("new").exists());
    dhow.ok(&[
        "create",
        "--name",
        "cc",
        "--mount",
        &form,
        "-v",
        &format!("{text}:/y:ro,Z"),
        "--mount",
        "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
        "busybox",
        "true",
    ]);
    let shown = dhow.inspect("cc");
    assert_eq!(
        shown["HostConfig"]["Mounts"],
        json!([
            { "Type": "bind", "Source": text, "Target": "/x", "BindOptions": { "Propagation": "rslave" } },
            { "Type": "tmpfs", "Target": "/t", "TmpfsOptions": { "SizeBytes": 1 << 20, "Mode": 0o1770 } },
        ])
    );
    assert_eq!(shown["HostConfig"]["Binds"], json!([format!("{text}:/y:ro,Z")]));
    assert_eq!(
        script(&dhow, &["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770"], "stat -c %a /t"),
        "1770"
    );
    for bad in [
        "type=bind,src=/x",
        "type=bla,src=/x,dst=/y",
        "type=bind,src=/x,dst=/y,volume-nocopy",
        "type=tmpfs,src=/x,dst=/y",
    ] {
        dhow.fails(125, &["run", "--rm", "--mount", bad, "busybox", "true"]);
    }
}

/// What is mounted below the source: comes along, stays outside, or can be written to.
#[test]
fn mounts_below_the_source() {
    let dhow = Dhow::new("mnt-below");
    let host = host(&dhow);
    let text = host.to_str().unwrap();
    // In a mount namespace of its own, so that nothing is left of it.
    let run = |more: &str, script: &str| {
        let mount = format!("type=bind,src={text},dst=/x{more}");
        let inner = format!("mount -t tmpfs below {text}/sub && echo below > {text}/sub/f && exec \"$@\"");
        let unshare = harness::Invocation::new("unshare").args(&["-m", "sh", "-c", &inner, "sh"]);
        dhow.on(
            unshare,
            &["run", "--rm", "--network", "none", "--mount", &mount, "busybox", "sh", "-c", script],
        )
        .ok()
    };
    let look = "cat /x/sub/f 2>/dev/null; touch /x/sub/new 2>/dev/null && echo written; true";
    assert_eq!(run("", look), "below\nwritten");
    assert_eq!(run(",ro", look), "below");
    assert_eq!(run(",ro,bind-recursive=writable", look), "below\nwritten");
    assert_eq!(run(",ro,bind-recursive=readonly", look), "below");
    assert_eq!(run(",bind-recursive=disabled", "ls /x/sub"), "");
    assert_eq!(run(",bind-nonrecursive", "ls /x/sub"), "");
}

#[test]
fn an_image_is_mounted_read_only_and_stays_as_long_as_it_is() {
    let dhow = Dhow::new("mnt-image");
    let first = Tar::new().dir("srv/", 0o755).file("srv/old", 0o644, "old").file("srv/gone", 0o644, "gone");
    let second = Tar::new()
        .file("srv/new", 0o644, "new")
        .file("srv/.wh.gone", 0o644, "")
        .symlink("out", "/../../../../../..");
    dhow.load(&Image::busybox("files").with_layer(first).with_layer(second));
    dhow.load(&Image {
        layers: vec![Tar::new().file("only", 0o644, "one").finish()],
        ..Image::busybox("single")
    });
    let mount = "type=image,src=files,dst=/i";
    assert_eq!(
        script(&dhow, &["--mount", mount], "ls /i/srv; cat /i/srv/new; touch /i/x 2>/dev/null || echo no"),
        "new\nold\nnewno"
    );
    let sub = |path: &str| format!("{mount},image-subpath={path}");
    assert_eq!(script(&dhow, &["--mount", &sub("srv")], "ls /i"), "new\nold");
    assert_eq!(script(&dhow, &["--mount", &sub("srv/new")], "cat /i"), "new");
    // The image's own link out is a link to its root.
    assert_eq!(script(&dhow, &["--mount", &sub("out/srv")], "ls /i"), "new\nold");
    dhow.fails(125, &["run", "--rm", "--mount", &sub("nope"), "busybox", "true"]);
    assert_eq!(
        script(
            &dhow,
            &["--mount", "type=image,src=single,dst=/i"],
            "cat /i/only; touch /i/x 2>/dev/null || echo no"
        ),
        "oneno"
    );
    dhow.fails(
        125,
        &["run", "--rm", "--pull", "never", "--mount", "type=image,src=nope,dst=/i", "busybox", "true"],
    );

    dhow.ok(&["create", "--name", "cc", "--mount", mount, "busybox", "cat", "/i/srv/new"]);
    let shown = dhow.inspect("cc");
    assert_eq!(
        shown["HostConfig"]["Mounts"],
        json!([{ "Type": "image", "Source": "files", "Target": "/i", "ReadOnly": true }])
    );
    assert!(dhow.fails(1, &["rmi", "files"]).contains("in use"));
    dhow.ok(&["rmi", "-f", "files"]);
    dhow.ok(&["image", "prune", "-a", "-f"]);
    assert_eq!(dhow.ok(&["start", "-a", "cc"]), "new");
}

/// `map`: the thing people have asked for longest.
#[test]
fn the_hosts_users_are_the_containers() {
    let dhow = Dhow::new("mnt-map");
    let host = host(&dhow);
    chown(host.join("file"), Some(1000), Some(1001)).unwrap();
    std::fs::write(host.join("roots"), "").unwrap();
    std::fs::write(host.join("others"), "").unwrap();
    chown(host.join("others"), Some(77), Some(78)).unwrap();
    let bind = format!("type=bind,src={},dst=/x", host.display());
    let look = "cd /x; stat -c %u:%g file roots others; touch made 2>/dev/null || echo no; rm -f made";
    let map = |map: &str| format!("{bind},map={map}");
    assert_eq!(
        script(&dhow, &["--mount", &map("user=1000:0;group=1001:0")], look),
        "0:0\n65534:65534\n77:78\nno"
    );
    assert_eq!(
        script(&dhow, &["--mount", &map("user=1000:5;group=1001:6")], "stat -c %u:%g /x/file /x/roots"),
        "5:6\n0:0"
    );
    // Both ways: what the container's root makes is the host user's.
    script(
        &dhow,
        &["--mount", &map("user=1000:0;group=1001:0")],
        "chmod 777 /x 2>/dev/null; echo > /x/sub/made || true",
    );
    chown(host.join("sub"), Some(1000), Some(1001)).unwrap();
    script(&dhow, &["--mount", &map("user=1000:0;group=1001:0")], "echo > /x/sub/made");
    let made = host.join("sub/made").metadata().unwrap();
    assert_eq!((made.uid(), made.gid()), (1000, 1001));
    // Names: of the host's own files, and of the image's.
    assert_eq!(script(&dhow, &["--mount", &map("root:app")], "stat -c %u:%g /x/roots"), "1000:1000");
    for bad in ["nosuchuser:0", "1000:nosuchuser", "1:2;1:3"] {
        let error = dhow.fails(125, &["create", "--mount", &map(bad), "busybox", "true"]);
        assert!(error.contains("nosuchuser") || error.contains("twice"), "{error}");
    }
    assert_eq!(dhow.ok(&["ps", "-aq"]), "");
}

/// What cannot map ids says so.
#[test]
fn a_file_system_without_mapped_ids_is_named() {
    let dhow = Dhow::new("mnt-nomap");
    // proc has none.
    let output = dhow.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--mount",
        "type=bind,src=/proc,dst=/x,map=5:6,bind-recursive=disabled",
        "busybox",
        "true",
    ]);
    assert_eq!(output.code, 125, "{output:?}");
    assert!(output.stderr.contains("/x") && output.stderr.contains("hint:"), "{output:?}");
}

/// An image's passwd is an allegation: a link out of it, a FIFO, or nothing at all names nobody.
#[test]
fn names_of_a_map_are_looked_up_inside_of_the_image() {
    let dhow = Dhow::empty("mnt-names");
    let host = host(&dhow);
    let evil = |name: &str, layer: Tar| dhow.load(&Image::busybox(name).with_layer(layer));
    evil(
        "link",
        Tar::new()
            .file("etc/.wh.passwd", 0o644, "")
            .symlink("etc/passwd", "/../../../../../../../etc/hostname"),
    );
    evil("fifo", Tar::new().file("etc/.wh.passwd", 0o644, "").fifo("etc/passwd"));
    evil("none", Tar::new().file("etc/.wh.passwd", 0o644, ""));
    let mount = format!("type=bind,src={},dst=/x,map=1000:app", host.display());
    for image in ["link", "fifo", "none"] {
        dhow.fails(125, &["run", "--rm", "--mount", &mount, image, "true"]);
    }
}

/// A link in the place of a mount point, and mounts in each other.
#[test]
fn mounts_lie_in_each_other_in_their_order() {
    let dhow = Dhow::new("mnt-order");
    let host = host(&dhow);
    symlink("/etc", host.join("link")).unwrap();
    let flags = [
        "-v",
        &format!("{}:/x/y", host.display()),
        "-v",
        "outer:/x",
        "--tmpfs",
        "/x/y/sub",
        "-v",
        "/x/y/sub/deep",
    ];
    assert_eq!(
        script(&dhow, &flags, "ls /x /x/y/sub; cat /x/y/file"),
        "/x:\ny\n\n/x/y/sub:\ndeep\nthe host's"
    );
    for twice in
        [["-v", "a1:/x", "-v", "b1:/x/"], ["-v", "a1:/x", "--tmpfs", "/x"], ["--mount", "dst=/x", "-v", "/x"]]
    {
        dhow.fails(125, &[&["run", "--rm"], &twice[..], &["busybox", "true"]].concat());
    }
    assert_eq!(dhow.ok(&["volume", "ls", "-q"]), "outer");
}
