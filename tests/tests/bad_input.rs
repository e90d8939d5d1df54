//! Bad input gets one clear line and the right exit code, and changes nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base::Digest;
use harness::image::Image;
use harness::registry::{Lie, Login, Registry};
use harness::tar::Tar;
use harness::{Dhow, Invocation, bin_dir, eventually};
use serde_json::json;

/// Fails as it should, and leaves every file as it was.
#[track_caller]
fn changes_nothing(dhow: &Dhow, code: i32, args: &[&str]) -> String {
    let before = dhow.listing();
    let line = dhow.fails(code, args);
    // what it releases may take its time to go
    let settled = || (dhow.listing() == before).then_some(());
    if std::panic::catch_unwind(|| eventually("the files to be as before", settled)).is_err() {
        let after = dhow.listing();
        let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        panic!("{args:?} changed files: new {new:#?}, gone {gone:#?}");
    }
    line
}

/// An instance with busybox that has run something: directories and caches that come with that are there.
fn warm(name: &str) -> Dhow {
    let dhow = Dhow::new(name);
    dhow.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
    dhow.run(&["run", "--rm", "--network", "none", "busybox", "nosuch"]);
    // Where blobs grow: the first pull that asks for one makes it.
    std::fs::create_dir_all(dhow.root().join("content/.partial")).unwrap();
    eventually("the containers to go", || {
        let busy = |line: &String| {
            ["/removing/", "/containers/"].iter().any(|place| line.contains(place) && !line.ends_with(place))
        };
        (!dhow.listing().iter().any(busy)).then_some(())
    });
    dhow
}

#[test]
fn an_unknown_image_is_named() {
    let dhow = warm("unknown");
    let registry = Registry::new(Login::None);
    registry.add(&Image::busybox("x"), "1");
    let image = format!("{}/app:nope", registry.host());
    let line = changes_nothing(&dhow, 1, &["pull", "-q", &image]);
    assert!(line.contains(&image) && line.contains("404") || line.contains("no such"), "{line}");
    changes_nothing(&dhow, 125, &["run", "--rm", "-q", &image, "true"]);
    changes_nothing(&dhow, 125, &["run", "--rm", "--pull", "never", "nosuch", "true"]);
    for bad in ["UPPER", "a b", "", "-", "x:", "x@sha256:12", "http://x/y"] {
        let output = dhow.run(&["pull", "-q", "--", bad]);
        assert!([1, 125].contains(&output.code) && output.stderr.lines().count() <= 2, "{bad:?}: {output:?}");
    }
}

#[test]
fn a_registry_that_is_down_is_named() {
    let dhow = warm("down");
    let registry = Registry::new(Login::None);
    let host = registry.host().to_owned();
    drop(registry);
    let line = changes_nothing(&dhow, 1, &["pull", "-q", &format!("{host}/app:1")]);
    assert!(line.contains(&host) && line.to_lowercase().contains("refused"), "{line}");
}

#[test]
fn a_registry_that_lies_is_found_out() {
    let dhow = warm("lies");
    let registry = Registry::new(Login::None);
    let layer = Tar::new().file("big", 0o644, vec![7; 300_000]).finish();
    let image = Image { name: "x".into(), layers: vec![layer.clone()], config: json!({ "Cmd": ["/x"] }) };
    let manifest = registry.add(&image, "1");
    let blob = Digest::of(&layer).to_string();
    let config = Digest::of(&image.config_json()).to_string();
    let name = format!("{}/app:1", registry.host());
    for (digest, what) in [(&blob, "layer"), (&config, "configuration")] {
        for lie in [Lie::WrongByte, Lie::CutShort, Lie::Endless, Lie::Missing] {
            registry.lie(digest, lie);
            let pull = ["pull", "-q", &name];
            let line = if (lie, what) == (Lie::CutShort, "layer") {
                // What came is kept for the next try.
                let line = dhow.fails(1, &pull);
                std::fs::remove_file(dhow.root().join("content/.partial").join(&digest[7..])).unwrap();
                line
            } else {
                changes_nothing(&dhow, 1, &pull)
            };
            // a connection that breaks is the registry's, all else is the blob's
            let culprit = if lie == Lie::CutShort { registry.host() } else { &digest[7..19] };
            assert!(line.contains(culprit), "{what} {lie:?}: {line}");
            registry.be_honest();
        }
    }
    // by digest, the manifest is verified, too
    registry.lie(&manifest, Lie::WrongByte);
    changes_nothing(&dhow, 1, &["pull", "-q", &format!("{}/app@{manifest}", registry.host())]);
    // the truth is still welcome
    registry.be_honest();
    dhow.ok(&["pull", "-q", &name]);
}

#[test]
fn a_corrupt_archive_is_refused_whole() {
    let dhow = warm("corrupt");
    // A layer that is not here, and longer than the ones that are: so the middle lies in it.
    let noise = Tar::new().file("noise", 0o644, vec![7; 8 << 20]);
    let good = Image::busybox("bad").with_layer(noise).docker_archive();
    let path = dhow.scratch().join("bad.tar");
    let text = path.to_str().unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let hostile =
        Image::busybox("bad").with_layer(Tar::new().file("../../../../tmp/dhow-escaped", 0o644, "x"));
    let lying = Tar::new().file(
        "manifest.json",
        0o644,
        r#"[{"Config":"../../etc/passwd","RepoTags":["bad"],"Layers":["x"]}]"#,
    );
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("text", b"this is no archive\n".repeat(100)),
        ("truncated", good[..good.len() / 2].to_vec()),
        ("a byte is another", flipped),
        ("no manifest", Tar::new().file("x", 0o644, "x").finish()),
        ("a manifest that is none", Tar::new().file("manifest.json", 0o644, "{]").finish()),
        ("a manifest about nothing", Tar::new().file("manifest.json", 0o644, "[]").finish()),
        ("a manifest about others", lying.finish()),
        ("truncated gzip", harness::registry::filter(&["gzip", "-1"], &good)[..100_000].to_vec()),
    ];
    for (what, bytes) in cases {
        std::fs::write(&path, bytes).unwrap();
        println!("{what}");
        let line = changes_nothing(&dhow, 1, &["load", "-q", "-i", text]);
        assert!(line.contains("bad.tar"), "{what}: {line}");
    }
    changes_nothing(&dhow, 1, &["load", "-q", "-i", "/no/such/file"]);
    std::fs::write(&path, hostile.docker_archive()).unwrap();
    let output = dhow.run(&["load", "-q", "-i", text]);
    assert!(!Path::new("/tmp/dhow-escaped").exists(), "{output:?}");
}

#[test]
fn a_name_in_use_and_bad_flags_change_nothing() {
    let dhow = warm("flags");
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    changes_nothing(&dhow, 125, &["run", "--name", "box", "busybox", "true"]);
    for flags in [
        &["-p", "70000:80"][..],
        &["-p", "x"],
        &["-m", "-5m"],
        &["-m", "1x"],
        &["--cpus", "many"],
        &["--pids-limit", "few"],
        &["-e", "=x"],
        &["--tmpfs", "relative"],
        &["-v", "/a:/b:nosuch"],
        &["--name", "-x"],
        &["--name", "a/b"],
        &["--stop-signal", "SIGNOSUCH"],
        &["--pull", "sometimes"],
        &["-u", "a:b:c"],
        &["--hostname", "a b"],
        &["--security-opt", "seccomp=/etc/passwd"],
        &["--unknown"],
    ] {
        changes_nothing(
            &dhow,
            125,
            &[&["run", "--rm", "--network", "none"], flags, &["busybox", "true"]].concat(),
        );
    }
    for (code, args) in [
        (1, &["nosuchverb"][..]),
        (1, &["run"]),
        (1, &["exec", "box"]),
        (125, &["ps", "--nosuch"]),
        (1, &["stop", "nosuch"]),
        (1, &["rm", "nosuch"]),
        (1, &["logs", "nosuch"]),
        (1, &["wait", "nosuch"]),
    ] {
        changes_nothing(&dhow, code, args);
    }
}

#[test]
fn a_command_that_cannot_run_leaves_no_trace_with_rm() {
    let dhow = warm("command");
    let line = changes_nothing(&dhow, 127, &["run", "--rm", "--network", "none", "busybox", "nosuch"]);
    assert!(line.contains("nosuch"), "{line}");
    changes_nothing(&dhow, 126, &["run", "--rm", "--network", "none", "busybox", "/etc/passwd"]);
    changes_nothing(&dhow, 126, &["run", "--rm", "--network", "none", "busybox", "/etc"]);
    changes_nothing(&dhow, 125, &["run", "--rm", "--network", "none", "-u", "nosuch", "busybox", "true"]);
    changes_nothing(
        &dhow,
        125,
        &["run", "--rm", "--network", "none", "-w", "/etc/passwd", "busybox", "true"],
    );
}

#[test]
fn without_root_it_says_so() {
    let dhow = warm("noroot");
    // where the user may read our directories, and where not
    let nobody = |args: &[&str]| {
        let copy = dhow.scratch().join("bin");
        std::fs::create_dir_all(&copy).unwrap();
        for name in ["dhow", "dhow-monitor"] {
            std::fs::copy(bin_dir().join(name), copy.join(name)).unwrap();
        }
        for dir in [dhow.scratch().to_owned(), copy.clone()] {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let invocation =
            Invocation::new("setpriv").args(&["--reuid=65534", "--regid=65534", "--clear-groups"]);
        dhow.wrap(invocation.arg(copy.join("dhow"))).args(args).output()
    };
    for (code, args) in [
        (125, &["run", "--rm", "busybox", "true"][..]),
        (1, &["ps"]),
        (1, &["images"]),
        (1, &["pull", "-q", "x"]),
    ] {
        let output = nobody(args);
        assert_eq!(output.code, code, "{args:?}: {output:?}");
        let text = output.stderr.to_lowercase();
        assert!(text.contains("root") || text.contains("permission"), "{args:?}: {output:?}");
        assert!(
            output.stderr.lines().filter(|line| !line.starts_with("  hint: ")).count() == 1,
            "{output:?}"
        );
    }
    assert!(nobody(&["--help"]).code == 0 && nobody(&["version"]).code == 0);
}

#[test]
fn what_the_kernel_lacks_is_named() {
    let dhow = warm("kernel");
    // a machine whose kernel has no cgroups mounted, and one that lets us make no namespaces
    let script = format!(
        "umount -R /sys/fs/cgroup && exec {} run --rm --network none -m 64m busybox true",
        bin_dir().join("dhow").display()
    );
    let invocation = Invocation::new("unshare").args(&["--mount", "sh", "-c", &script]);
    let output = dhow.wrap(invocation).output();
    assert_eq!(output.code, 125, "{output:?}");
    assert!(output.stderr.contains("cgroup"), "{output:?}");
    assert!(output.stderr.lines().filter(|line| !line.starts_with("  hint: ")).count() == 1, "{output:?}");
    // without CAP_SYS_ADMIN there are no namespaces and no mounts
    let confined = Invocation::new("setpriv").args(&["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    let output = dhow.on(confined, &["run", "--rm", "--network", "none", "busybox", "true"]).output();
    assert_eq!(output.code, 125, "{output:?}");
    assert!(output.stderr.lines().filter(|line| !line.starts_with("  hint: ")).count() == 1, "{output:?}");
    assert_eq!(dhow.ok(&["ps", "-aq"]), "");
}
