//! Attacks: a container that changes what is copied while it is copied (CVE-2018-15664, GHSA-vp62-88p7-qqf5, CVE-2026-42306),
//! that leads the copy out by links, holds it up with FIFOs and devices, or would have its own programs executed
//! (CVE-2019-14271, CVE-2026-41567); archives that lead out of the directory that they are unpacked in.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use harness::attack::Outside;
use harness::entry::Entry;
use harness::tar::Tar;
use harness::{Dhow, Process, eventually, soak};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// A container in which `/d/a`, a directory, and `/d/b`, a symlink out of it, change places without end. What it has of
/// its own is called as what is outside.
fn race(dhow: &Dhow, target: &str, options: &[&str]) -> Process {
    let bind = format!("{PROBE}:/probe:ro");
    let script = format!(
        "mkdir -p /d/a/deep/er /d/a/shm; echo inside >/d/a/passwd; echo inside >/d/a/deep/er/file; ln -s {target} /d/b; \
         exec /probe swap /d/a /d/b"
    );
    let words = ["run", "--rm", "--network", "none", "--name", "racer", "-v", &bind];
    let racer = dhow.spawn(&[&words[..], options, &["busybox", "sh", "-ec", &script]].concat());
    racer.expect("up");
    racer
}

/// Where the symlink leads on the host: by an absolute path, and by one that climbs.
fn ways_out(outside: &Outside) -> [String; 2] {
    [outside.text().to_owned(), format!("{}{}", "../".repeat(20), outside.text().trim_start_matches('/'))]
}

/// Both are seen at that name by those who ask the container.
fn assert_swapping(dhow: &Dhow) {
    let mut seen = BTreeSet::new();
    eventually("the race to be on", || {
        let script = "for i in 1 2 3 4 5 6 7 8 9; do [ -L /d/a ]; echo $?; done";
        seen.extend(dhow.ok(&["exec", "racer", "sh", "-c", script]).lines().map(str::to_owned));
        (seen.len() == 2).then_some(())
    });
}

/// The attack works on whoever takes the container's paths for paths of the host's.
fn assert_careless_is_led_out(dhow: &Dhow) {
    let path = format!("/proc/{}/root/d/a/passwd", dhow.pid("racer"));
    let read = || (0..1000).find(|_| fs::read_to_string(&path).is_ok_and(|text| text == "the host's"));
    eventually("a careless reader to be led out", read);
}

#[test]
fn copies_out_of_what_is_swapped_bring_nothing_of_the_host() {
    let dhow = Dhow::new("cp-race-out");
    let outside = Outside::new(dhow.scratch());
    for (way, target) in ways_out(&outside).iter().enumerate() {
        let mut racer = race(&dhow, target, &[]);
        assert_swapping(&dhow);
        if way == 0 {
            assert_careless_is_led_out(&dhow);
        }
        let out = dhow.scratch().join(format!("out{way}"));
        let out_text = out.to_str().unwrap();
        let mut codes = BTreeSet::new();
        for _ in 0..soak(60, 1000) {
            for (options, source) in [
                (&[][..], "/d/a"),
                (&[], "/d/a/."),
                (&["-L"], "/d/a"),
                (&[], "/d/a/passwd"),
                (&[], "/d"),
                (&[], "/d/b/deep"),
            ] {
                let output = dhow.run(&[&["cp"], options, &[&format!("racer:{source}"), out_text]].concat());
                codes.insert(output.code);
                assert!(output.code <= 1, "{output:#?}");
                for text in contents(&out) {
                    assert_eq!(text, "inside\n", "{source}: something of the host came along");
                }
                remove(&out);
            }
        }
        assert_swapping(&dhow);
        outside.assert_untouched("copies out");
        assert!(codes.contains(&0), "none of them succeeded: {codes:?}");
        dhow.ok(&["rm", "-f", "racer"]);
        racer.kill();
    }
}

#[test]
fn copies_into_what_is_swapped_write_nothing_outside() {
    let dhow = Dhow::new("cp-race-in");
    let outside = Outside::new(dhow.scratch());
    let from = dhow.scratch().join("from");
    fs::create_dir_all(from.join("deep/er")).unwrap();
    fs::write(from.join("passwd"), "copied").unwrap();
    fs::write(from.join("deep/er/file"), "copied").unwrap();
    let (tree, contents, file) =
        (from.to_str().unwrap(), format!("{}/.", from.display()), from.join("passwd"));
    // In a mount that is not read-only for the host's sake, too: a volume of the container.
    for (way, target) in ways_out(&outside).iter().enumerate() {
        let mut racer = race(&dhow, target, if way == 0 { &[] } else { &["-v", "shared:/d"] });
        assert_swapping(&dhow);
        let mut codes = BTreeSet::new();
        let archive = Tar::new()
            .dir("a/", 0o700)
            .file("a/passwd", 0o600, "copied")
            .file("a/deep/er/file", 0o600, "copied")
            .symlink("a/link", "/etc")
            .file("b/shm/file", 0o666, "copied")
            .entry("b/hard", b'1', 0o600, "a/passwd", b"")
            .fifo("b/pipe")
            .finish();
        for _ in 0..soak(60, 1000) {
            for (source, inside) in [
                (tree, "/d/a"),
                (&*contents, "/d/a"),
                (&*contents, "/d/b/"),
                (file.to_str().unwrap(), "/d/a/passwd"),
                (file.to_str().unwrap(), "/d/b/passwd"),
                (file.to_str().unwrap(), "/d/a/deep/er/file"),
                (tree, "/d/a/new"),
            ] {
                codes.insert(dhow.run(&["cp", "-a", source, &format!("racer:{inside}")]).code);
                outside.assert_untouched(inside);
            }
            codes.insert(dhow.command(&["cp", "-", "racer:/d"]).input(&archive).output().code);
            codes.insert(dhow.command(&["cp", "-", "racer:/d/a"]).input(&archive).output().code);
            outside.assert_untouched("an archive");
        }
        assert_swapping(&dhow);
        assert!(codes.contains(&0) && codes.iter().all(|code| *code <= 1), "{codes:?}");
        dhow.ok(&["rm", "-f", "racer"]);
        racer.kill();
    }
}

/// Symlinks lead where they would lead inside; links of /proc lead nowhere.
#[test]
fn links_lead_nowhere_outside() {
    let dhow = Dhow::new("cp-links-out");
    let outside = Outside::new(dhow.scratch());
    let host = dhow.scratch().join("host");
    fs::create_dir(&host).unwrap();
    let file = host.join("file");
    fs::write(&file, "copied").unwrap();
    let (file, into) = (file.to_str().unwrap(), host.to_str().unwrap());
    let script = format!(
        "ln -s {0} /out; ln -s {0}/passwd /passwd; ln -s /proc/self/root /self; ln -s /proc/1/root{0} /one; \
         ln -s /proc/self/exe /exe; ln -s /proc/1/cwd /cwd; ln -s /proc/self/fd/3 /descriptor; sleep 1000",
        outside.text()
    );
    dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-ec", &script]);
    eventually("the links", || {
        dhow.run(&["exec", "box", "test", "-L", "/descriptor"]).code.eq(&0).then_some(())
    });
    for path in [
        "/out/passwd",
        "/out/",
        "/out/.",
        "/self/",
        "/self/etc/passwd",
        "/one/",
        "/one/passwd",
        "/cwd/",
        "/descriptor/",
    ] {
        let error = dhow.fails(1, &["cp", &format!("box:{path}"), into]);
        assert!(
            error.contains("could not find the file") || error.contains("leads in a circle"),
            "{path}: {error}"
        );
    }
    for path in ["/passwd", "/exe", "/self", "/descriptor", "/one"] {
        dhow.fails(1, &["cp", "-L", &format!("box:{path}"), into]);
    }
    // Inwards: a destination that leads out is made inside, where its parent is, or not at all.
    for path in ["/out", "/passwd", "/out/x", "/self/x", "/one/passwd", "/exe", "/cwd/x", "/descriptor/x"] {
        dhow.fails(1, &["cp", file, &format!("box:{path}")]);
        dhow.command(&["cp", "-", &format!("box:{path}")])
            .input(Tar::new().file("x", 0o644, "").finish())
            .output();
        outside.assert_untouched(path);
    }
    dhow.ok(&["exec", "box", "mkdir", "-p", outside.text()]);
    dhow.ok(&["cp", file, "box:/passwd"]);
    dhow.ok(&["cp", file, "box:/out"]);
    assert_eq!(dhow.ok(&["exec", "box", "cat", &format!("{}/passwd", outside.text())]), "copied");
    // And what does not run.
    dhow.ok(&["kill", "box"]);
    dhow.ok(&["wait", "box"]);
    dhow.ok(&["cp", file, "box:/passwd"]);
    for path in ["/self/x", "/exe/x", "/../../../../x"] {
        dhow.run(&["cp", file, &format!("box:{path}")]);
    }
    outside.assert_untouched("at the end");
    assert!(!Path::new("/x").exists());
    assert_eq!(fs::read_dir(&host).unwrap().count(), 1, "nothing came out");
}

/// Neither a FIFO nor a device holds a copy up, in whatever place it is; nor does one become the host's.
#[test]
fn fifos_and_devices_hold_nobody_up() {
    let dhow = Dhow::new("cp-fifo");
    let script = "mkdir /d; mkfifo /d/pipe /pipe; mknod /d/disk b 8 0; mknod /d/zero c 1 5; ln /d/zero /d/again; echo x >/d/x; \
                  cp /bin/busybox /d/suid; chmod 6755 /d/suid; sleep 1000";
    dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-ec", script]);
    eventually("the script", || {
        dhow.run(&["exec", "box", "test", "-u", "/d/suid"]).code.eq(&0).then_some(())
    });
    let host = dhow.scratch().join("host");
    fs::create_dir(&host).unwrap();
    let at = |name: &str| host.join(name).to_str().unwrap().to_owned();
    let quick = |words: &[&str]| dhow.command(words).limit(20).output();
    assert_eq!(quick(&["cp", "box:/pipe", &at("pipe")]).code, 0);
    assert!(host.join("pipe").symlink_metadata().unwrap().file_type().is_fifo());
    let output = quick(&["cp", "box:/d", &at("d")]);
    assert!(output.code == 0 && output.stderr.contains("3 devices were left out"), "{output:#?}");
    let mut names: Vec<String> = fs::read_dir(host.join("d"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["pipe", "suid", "x"]);
    assert_eq!(host.join("d/suid").metadata().unwrap().mode() & 0o7777, 0o755, "it runs as whoever runs it");
    let error = dhow.fails(1, &["cp", "box:/d/disk", &at("disk")]);
    assert!(error.contains("devices of a container are not made on the host"), "{error}");
    // Over a FIFO, on either side: it is replaced.
    fs::write(host.join("file"), "copied").unwrap();
    assert_eq!(quick(&["cp", &at("file"), "box:/pipe"]).code, 0);
    assert_eq!(dhow.ok(&["exec", "box", "cat", "/pipe"]), "copied");
    assert_eq!(quick(&["cp", "box:/d/x", &at("pipe")]).code, 0);
    assert_eq!(fs::read_to_string(host.join("pipe")).unwrap(), "x\n");
    // A FIFO of the host goes in as one.
    rustix::fs::mknodat(rustix::fs::CWD, host.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    assert_eq!(quick(&["cp", &at("fifo"), "box:/from-host"]).code, 0);
    dhow.ok(&["exec", "box", "test", "-p", "/from-host"]);
}

/// Nothing of the container is loaded or executed: it has nothing that could be.
#[test]
fn nothing_of_the_container_is_executed() {
    let dhow = Dhow::new("cp-programs");
    let script = "mkdir -p /lib /lib64 /etc; for n in tar gzip unpigz xz zstd ps sh nsenter dhow-monitor; do \
                  printf '#!/bin/busybox sh\\ntouch /executed' >/bin/$n.new; chmod 755 /bin/$n.new; mv /bin/$n.new /bin/$n; done; \
                  for l in libnss_files.so.2 libc.so.6 libnss_dns.so.2; do cp /bin/busybox /lib/$l; done; \
                  echo /lib/libc.so.6 >/etc/ld.so.preload; exec /bin/busybox sleep 1000";
    dhow.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "/bin/busybox",
        "sh",
        "-ec",
        script,
    ]);
    eventually("the script", || {
        dhow.run(&["exec", "box", "/bin/busybox", "test", "-s", "/etc/ld.so.preload"])
            .code
            .eq(&0)
            .then_some(())
    });
    let out = dhow.scratch().join("out");
    dhow.ok(&["cp", "box:/etc/passwd", out.to_str().unwrap()]);
    dhow.ok(&["cp", out.to_str().unwrap(), "box:/etc/passwd"]);
    let archive = dhow.scratch().join("x.tgz");
    harness::Invocation::new("tar").args(&["-czf", archive.to_str().unwrap(), "-C", "/etc", "hostname"]).ok();
    dhow.command(&["cp", "-", "box:/tmp"]).input(fs::read(&archive).unwrap()).ok();
    dhow.ok(&["exec", "box", "/bin/busybox", "test", "-e", "/tmp/hostname"]);
    assert_eq!(dhow.run(&["exec", "box", "/bin/busybox", "test", "-e", "/executed"]).code, 1);
}

/// An archive on standard input is unpacked in the directory that was named, whatever it says.
#[test]
fn archives_do_not_lead_out() {
    let dhow = Dhow::new("cp-archive-out");
    let outside = Outside::new(dhow.scratch());
    let climbing = format!("{}{}", "../".repeat(20), outside.text().trim_start_matches('/'));
    for state in ["running", "created"] {
        dhow.ok(&["create", "--network", "none", "--name", state, "busybox", "sleep", "1000"]);
    }
    dhow.ok(&["start", "running"]);
    let secret = format!("{}/passwd", outside.text());
    let climbing_secret = format!("{climbing}/passwd");
    let entry = |name: &str, kind: u8, link: &str| {
        let entry =
            Entry { name: name.as_bytes(), kind, link: link.as_bytes(), content: b"", ..Entry::default() };
        Tar::new().with_gnu_names(&entry).finish()
    };
    let refused: Vec<(&str, Vec<u8>)> = vec![
        ("..", entry(&format!("{climbing}/made"), b'0', "")),
        ("a/..", entry("a/../../made", b'0', "")),
        ("a hard link out", entry("hard", b'1', &climbing_secret)),
        ("a hard link to an absolute path", entry("hard", b'1', &secret)),
        ("a root that is a symlink", entry("./", b'2', outside.text())),
        (
            "a number that wraps",
            Tar::new().with(&Entry { name: b"x", uid: 1 << 32, ..Entry::default() }).finish(),
        ),
    ];
    // These are unpacked, inside.
    let links = Tar::new()
        .symlink("out", outside.text())
        .file("out/made", 0o644, "x")
        .file("out/passwd", 0o644, "x")
        .entry("hard", b'1', 0o644, "out/passwd", b"")
        .finish();
    let absolute = entry(&secret, b'0', "");
    for state in ["running", "created"] {
        let cp = |bytes: &[u8]| dhow.command(&["cp", "-", &format!("{state}:/tmp")]).input(bytes).output();
        for (what, archive) in &refused {
            let output = cp(archive);
            assert_eq!(output.code, 1, "{what}: {output:#?}");
            outside.assert_untouched(what);
        }
        cp(&links);
        outside.assert_untouched("through a symlink");
        assert_eq!(cp(&absolute).code, 0);
        outside.assert_untouched("an absolute name");
        let got = dhow.scratch().join("got");
        dhow.ok(&["cp", &format!("{state}:/tmp{secret}"), got.to_str().unwrap()]);
    }
}

/// All that is in the files of a tree.
fn contents(root: &Path) -> Vec<String> {
    let Ok(stat) = root.symlink_metadata() else { return Vec::new() };
    if stat.is_dir() {
        let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        return entries.collect::<Vec<PathBuf>>().iter().flat_map(|path| contents(path)).collect();
    }
    if stat.is_file() { vec![fs::read_to_string(root).unwrap()] } else { Vec::new() }
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(stat) if stat.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
    assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o7000, 0);
}
