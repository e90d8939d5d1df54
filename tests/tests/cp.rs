//! `cp`: files go into a container and come out of it. Docker's rules, whatever state the container is in; attacks are in
//! `cp_attacks`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use harness::Dhow;
use harness::tar::Tar;

/// The states that a container can be in; the last word of each is what it is called.
const STATES: [&str; 3] = ["running", "stopped", "created"];

/// A container of each state, each of the same look: `/dir` with a file and a link in it.
fn three(dhow: &Dhow, options: &[&str]) {
    for state in STATES {
        let words = ["create", "--network", "none", "--name", state];
        dhow.ok(&[&words[..], options, &["busybox", "sleep", "1000"]].concat());
        if state != "created" {
            dhow.ok(&["start", state]);
        }
        if state == "stopped" {
            dhow.ok(&["kill", state]);
            dhow.ok(&["wait", state]);
        }
    }
}

fn scratch(dhow: &Dhow, name: &str) -> PathBuf {
    let path = dhow.scratch().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// What a tree looks like: path, kind, mode, content or target.
fn look(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let stat = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let what = if stat.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if stat.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "/".to_owned()
        } else {
            fs::read_to_string(&path).unwrap()
        };
        found.push(format!("{name} {:o} {what}", stat.mode() & 0o7777));
    }
    found.sort();
    found
}

/// A source with all that a tree has, and its look.
fn tree(at: &Path) -> Vec<String> {
    fs::create_dir_all(at.join("sub/empty")).unwrap();
    fs::write(at.join("file"), "one").unwrap();
    fs::write(at.join("sub/program"), "two").unwrap();
    fs::set_permissions(at.join("sub/program"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(at.join("sub/empty"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("sub/program", at.join("link")).unwrap();
    symlink("/nowhere", at.join("dangling")).unwrap();
    fs::hard_link(at.join("file"), at.join("sub/again")).unwrap();
    look(at)
}

#[test]
fn a_tree_goes_in_and_comes_out_as_it_was() {
    let dhow = Dhow::new("cp-tree");
    three(&dhow, &[]);
    let from = scratch(&dhow, "from");
    let before = tree(&from);
    let source = from.to_str().unwrap();
    for state in STATES {
        // To a new name, into a directory, and what is in it into a directory.
        dhow.ok(&["cp", source, &format!("{state}:/new")]);
        dhow.ok(&["cp", source, &format!("{state}:home")]);
        dhow.ok(&["cp", &format!("{source}/."), &format!("{state}:/tmp/")]);
        for inside in ["/new", "/home/from", "/tmp/."] {
            let out = scratch(&dhow, "outs").join(format!("{state}{}", inside.replace(['/', '.'], "-")));
            dhow.ok(&["cp", &format!("{state}:{inside}"), out.to_str().unwrap()]);
            assert_eq!(look(&out)[1..], before[1..], "{state} {inside}");
            let times =
                |path: &Path| path.symlink_metadata().map(|stat| (stat.mtime(), stat.mtime_nsec())).unwrap();
            for name in ["file", "link", "sub", "sub/empty"] {
                assert_eq!(times(&out.join(name)), times(&from.join(name)), "{state} {inside} {name}");
            }
            let links = |name: &str| out.join(name).metadata().unwrap().ino();
            assert_eq!(links("file"), links("sub/again"), "{state} {inside}: a hard link stays one");
        }
    }
    // The running one sees it, as root's; and what does not run is started with it.
    let stat = ["stat", "-c", "%u:%g %a", "/new/sub/program"];
    assert_eq!(dhow.ok(&[&["exec", "running"], &stat[..]].concat()), "0:0 751");
    for state in ["stopped", "created"] {
        assert!(dhow.inspect(state)["State"]["Status"] != "running");
        dhow.ok(&["start", state]);
        assert_eq!(dhow.ok(&["exec", state, "cat", "/home/from/link"]), "two");
    }
    assert_eq!(
        dhow.ok(&["diff", "created"]).lines().filter(|line| line.ends_with("/new/sub/program")).count(),
        1
    );
}

/// The table in Docker's documentation of the command, and the words of its errors.
#[test]
fn the_rules_are_dockers() {
    let dhow = Dhow::new("cp-rules");
    three(&dhow, &[]);
    let host = scratch(&dhow, "host");
    let text = |name: &str| host.join(name).to_str().unwrap().to_owned();
    fs::write(host.join("file"), "content").unwrap();
    fs::create_dir(host.join("dir")).unwrap();
    fs::write(host.join("dir/in"), "in").unwrap();
    for state in STATES {
        let to = |path: &str| format!("{state}:{path}");
        let refused = |from: &str, into: &str, expected: &str| {
            let error = dhow.fails(1, &["cp", from, into]);
            assert!(error.contains(expected), "{from} {into}: {error}");
        };
        let content = |path: &str| {
            dhow.ok(&["cp", &to(path), &text("got")]);
            let content = fs::read_to_string(text("got")).unwrap();
            fs::remove_file(text("got")).unwrap();
            content
        };
        // A file: to a new name, to a name that is not, over a file, into a directory.
        dhow.ok(&["cp", &text("file"), &to("/made")]);
        assert_eq!(content("/made"), "content");
        refused(&text("file"), &to("/missing/"), "no such directory");
        refused(&text("file"), &to("/missing/made"), "could not find the file /missing/ in container");
        dhow.ok(&["cp", &text("file"), &to("/etc/group")]);
        assert_eq!(content("/etc/group"), "content");
        dhow.ok(&["cp", &text("file"), &to("/home")]);
        assert_eq!(content("home/file"), "content");
        // A directory: over a file; what is in it to a new name.
        refused(&text("dir"), &to("/made"), "cannot copy directory");
        dhow.ok(&["cp", &text("dir/."), &to("/contents")]);
        assert_eq!(content("/contents/in"), "in");
        // Neither replaces the other below the destination.
        dhow.ok(&["cp", &text("dir"), &to("/home")]);
        fs::create_dir_all(host.join("other/dir/in")).unwrap();
        refused(&text("other/dir"), &to("/home"), "cannot overwrite a non-directory with a directory");
        fs::create_dir_all(host.join("third")).unwrap();
        fs::write(host.join("third/dir"), "").unwrap();
        refused(&text("third/dir"), &to("/home"), "cannot overwrite a directory with a non-directory");
        // The same outwards.
        let name = format!("out-{state}");
        fs::create_dir(host.join(&name)).unwrap();
        fs::write(host.join(&name).join("old"), "old").unwrap();
        dhow.ok(&["cp", &to("/made"), &text(&name)]);
        dhow.ok(&["cp", &to("/made"), &text(&format!("{name}/old"))]);
        dhow.ok(&["cp", &to("/home/dir"), &text(&name)]);
        let expected = [" 755 /", "dir 755 /", "dir/in 644 in", "made 644 content", "old 644 content"];
        assert_eq!(look(&host.join(&name)), expected);
        refused(&to("/home"), &text("file"), "cannot copy directory");
        refused(&to("/made"), &text("missing/"), "no such directory");
        refused(&to("/made"), &text("missing/made"), "does not exist");
        refused(&to("/nope"), &text("."), &format!("could not find the file /nope in container {state}"));
        refused(&to("/made/"), &text("."), "Not a directory");
        refused(&to("/made"), "/dev/null", "got a device");
    }
    let refused = |words: &[&str], expected: &str| {
        let error = dhow.fails(1, words);
        assert!(error.contains(expected), "{words:?}: {error}");
    };
    refused(&["cp", "running:/etc", "stopped:/etc"], "copying between containers is not supported");
    refused(&["cp", "a", "b"], "must specify at least one container source");
    refused(&["cp", "./a:b", "/c:d"], "must specify at least one container source");
    refused(&["cp", "nope:/etc", "."], "no such container: nope");
    refused(&["cp", "running:", "."], "source can not be empty");
    refused(&["cp", "", "running:/"], "source can not be empty");
    refused(&["cp", &text("missing"), "running:/"], "No such file");
    refused(&["cp", &text("file"), "running:/dev/null"], "got a device");
}

#[test]
fn links_are_copied_unless_they_shall_be_followed() {
    let dhow = Dhow::new("cp-links");
    let script = "mkdir /d; echo x >/d/x; ln -s d /to-d; ln -s /d/x /to-x; ln -s /gone/x /dangling; mkdir /gone; sleep 1000";
    dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-ec", script]);
    harness::eventually("the script", || dhow.run(&["exec", "box", "ls", "/gone"]).code.eq(&0).then_some(()));
    let host = scratch(&dhow, "host");
    let at = |name: &str| host.join(name).to_str().unwrap().to_owned();
    let is =
        |name: &str, what: &str| assert_eq!(look(&host.join(name)), [format!(" 777 -> {what}")], "{name}");
    dhow.ok(&["cp", "box:/to-d", &at("d")]);
    is("d", "d");
    dhow.ok(&["cp", "box:/to-x", &at("x")]);
    is("x", "/d/x");
    // Followed, it keeps the name that was asked for; a slash at the end follows, too.
    for (options, source) in [(&["-L"][..], "box:/to-d"), (&[], "box:/to-d/")] {
        let into = scratch(&dhow, "host/into");
        dhow.ok(&[&["cp"], options, &[source, into.to_str().unwrap()]].concat());
        assert_eq!(look(&into), [" 755 /", "to-d 755 /", "to-d/x 644 x\n"]);
        fs::remove_dir_all(into).unwrap();
    }
    dhow.ok(&["cp", "-L", "box:/to-x", &at("followed")]);
    assert_eq!(fs::read_to_string(at("followed")).unwrap(), "x\n");
    // The same inwards.
    fs::write(at("file"), "new").unwrap();
    symlink("file", host.join("link")).unwrap();
    dhow.ok(&["cp", &at("link"), "box:/home"]);
    assert_eq!(dhow.ok(&["exec", "box", "readlink", "/home/link"]), "file");
    dhow.ok(&["cp", "--follow-link", &at("link"), "box:/tmp"]);
    assert_eq!(dhow.ok(&["exec", "box", "cat", "/tmp/link"]), "new");
    // A destination that is a link is what it leads to, whether that is there or not.
    dhow.ok(&["cp", &at("file"), "box:/to-x"]);
    dhow.ok(&["cp", &at("file"), "box:/dangling"]);
    dhow.ok(&["cp", &at("file"), "box:/to-d"]);
    assert_eq!(dhow.ok(&["exec", "box", "cat", "/d/x", "/gone/x", "/d/file"]), "newnewnew");
    symlink("behind", host.join("ahead")).unwrap();
    dhow.ok(&["cp", "box:/d/x", &at("ahead")]);
    assert_eq!(fs::read_to_string(at("behind")).unwrap(), "new");
}

#[test]
fn archives_go_in_and_come_out() {
    let dhow = Dhow::new("cp-archives");
    three(&dhow, &[]);
    for state in STATES {
        let archive = Tar::new()
            .dir("./", 0o755)
            .dir("new/", 0o750)
            .file("new/file", 0o640, "from the archive")
            .symlink("new/link", "file")
            .entry("new/again", b'1', 0o640, "new/file", b"")
            .fifo("pipe")
            .file("/absolute", 0o600, "below the directory all the same")
            .finish();
        dhow.command(&["cp", "-", &format!("{state}:/home")]).input(&archive).ok();
        let out = dhow.scratch().join(format!("{state}.tar"));
        let taken = dhow.command(&["cp", &format!("{state}:/home/new"), "-"]);
        let mut command = taken.into_command();
        let status = command.stdout(fs::File::create(&out).unwrap()).status().unwrap();
        assert!(status.success());
        let unpacked = scratch(&dhow, &format!("unpacked-{state}"));
        let tar = harness::Invocation::new("tar").args(&["-xpf", out.to_str().unwrap(), "-C"]);
        tar.arg(&unpacked).ok();
        let expected = ["again 640 from the archive", "file 640 from the archive", "link 777 -> file"];
        assert_eq!(look(&unpacked.join("new"))[1..], expected, "{state}");
        assert_eq!(unpacked.join("new").metadata().unwrap().mode() & 0o777, 0o750);
        // gzip, as GNU tar makes it
        let small = harness::Invocation::new("tar").args(&["-czf", "-", "-C"]).arg(&unpacked).arg("new");
        let gzip = small.into_command().output().unwrap().stdout;
        dhow.command(&["cp", "-", &format!("{state}:/tmp")]).input(gzip).ok();
        let got = dhow.scratch().join("got");
        dhow.ok(&["cp", &format!("{state}:/tmp/new/file"), got.to_str().unwrap()]);
        assert_eq!(fs::read_to_string(&got).unwrap(), "from the archive");
        dhow.ok(&["cp", &format!("{state}:/home/absolute"), got.to_str().unwrap()]);
        let error = dhow.command(&["cp", "-", &format!("{state}:/etc/passwd")]).input(&archive).output();
        assert!(
            error.stderr.contains(&format!("destination \"{state}:/etc/passwd\" must be a directory")),
            "{error:#?}"
        );
        let error = dhow.command(&["cp", "-", &format!("{state}:/nope")]).input(&archive).output();
        assert!(error.code == 1 && error.stderr.contains("must be a directory"), "{error:#?}");
        let error = dhow.command(&["cp", "-", &format!("{state}:/")]).input(&archive[..900]).output();
        assert!(error.code == 1 && error.stderr.contains("ends too early"), "{error:#?}");
    }
}

#[test]
fn owners_are_kept_where_that_is_asked_for() {
    let dhow = Dhow::new("cp-owners");
    three(&dhow, &[]);
    let host = scratch(&dhow, "host");
    let file = host.join("file");
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(1234), Some(2345)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    for state in STATES {
        dhow.ok(&["cp", file.to_str().unwrap(), &format!("{state}:/plain")]);
        dhow.ok(&["cp", "-a", file.to_str().unwrap(), &format!("{state}:/kept")]);
        for (options, inside, expected) in [
            // Set-id bits mean their owner, and do not come out.
            (&[][..], "/kept", (0, 0, 0o755)),
            (&["--archive"], "/kept", (1234, 2345, 0o755)),
            (&["-a"], "/plain", (0, 0, 0o755)),
        ] {
            let out = host.join("out");
            dhow.ok(&[&["cp"], options, &[&format!("{state}:{inside}"), out.to_str().unwrap()]].concat());
            let stat = out.metadata().unwrap();
            assert_eq!(
                (stat.uid(), stat.gid(), stat.mode() & 0o7777),
                expected,
                "{state} {options:?} {inside}"
            );
        }
    }
    let stat = ["exec", "running", "stat", "-c", "%u:%g %a", "/plain", "/kept"];
    assert_eq!(dhow.ok(&stat), "0:0 755\n1234:2345 4755");
}

/// What is mounted into it is part of what a container sees; also before it was ever started.
#[test]
fn mounts_are_seen() {
    let dhow = Dhow::new("cp-mounts");
    let data = scratch(&dhow, "data");
    fs::write(data.join("file"), "of the host").unwrap();
    fs::write(data.join("single"), "single").unwrap();
    let (bind, read_only, single) = (
        format!("{}:/bind", data.display()),
        format!("{}:/ro:ro", data.display()),
        format!("{}/single:/etc/single", data.display()),
    );
    three(
        &dhow,
        &["-v", &bind, "-v", &read_only, "-v", &single, "-v", "named:/volume", "--tmpfs", "/memory"],
    );
    let host = scratch(&dhow, "host");
    let at = |name: &str| host.join(name).to_str().unwrap().to_owned();
    fs::write(at("in"), "new").unwrap();
    for state in STATES {
        dhow.ok(&["cp", &format!("{state}:/bind/file"), &at("out")]);
        assert_eq!(fs::read_to_string(at("out")).unwrap(), "of the host");
        dhow.ok(&["cp", &at("in"), &format!("{state}:/bind/{state}")]);
        assert_eq!(fs::read_to_string(data.join(state)).unwrap(), "new");
        let error = dhow.fails(1, &["cp", &at("in"), &format!("{state}:/ro/x")]);
        assert!(error.contains("mounted volume is marked read-only"), "{error}");
        assert!(!data.join("x").exists());
        // A file that is mounted cannot be replaced: it is written to.
        fs::write(data.join("single"), "much longer than what comes").unwrap();
        dhow.ok(&["cp", &at("in"), &format!("{state}:/etc/single")]);
        assert_eq!(fs::read_to_string(data.join("single")).unwrap(), "new");
        dhow.ok(&["cp", &at("in"), &format!("{state}:/volume/{state}")]);
        dhow.ok(&["cp", &format!("{state}:/volume/."), &at(&format!("volume-{state}"))]);
    }
    assert_eq!(
        look(&host.join("volume-created"))[1..],
        ["created 644 new", "running 644 new", "stopped 644 new"]
    );
    dhow.ok(&["cp", &at("in"), "running:/memory"]);
    dhow.ok(&["cp", "running:/memory/in", &at("memory")]);
    assert_eq!(dhow.ok(&["exec", "running", "cat", "/memory/in", "/bind/created"]), "newnew");
    // All of it at once: what is mounted comes along, the kernel's own does not.
    dhow.ok(&["cp", "running:/", &at("all")]);
    assert!(host.join("all/bind/file").exists() && host.join("all/memory/in").exists());
    for name in ["proc", "sys"] {
        assert_eq!(fs::read_dir(host.join("all").join(name)).unwrap().count(), 0, "{name}");
    }
    let error = dhow.fails(1, &["cp", "running:/proc/cpuinfo", &at("cpuinfo")]);
    assert!(error.contains("it is the kernel's"), "{error}");
    let error = dhow.fails(1, &["cp", &at("in"), "running:/proc/x"]);
    assert!(error.contains("kernel's own"), "{error}");
}

#[test]
fn a_read_only_container_is_not_written_to() {
    let dhow = Dhow::new("cp-read-only");
    three(&dhow, &["--read-only", "--tmpfs", "/tmp", "-v", "named:/volume"]);
    let file = dhow.scratch().join("file");
    fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    for state in STATES {
        let error = dhow.fails(1, &["cp", file, &format!("{state}:/home")]);
        assert!(error.contains("container rootfs is marked read-only"), "{state}: {error}");
        let error =
            dhow.command(&["cp", "-", &format!("{state}:/")]).input(Tar::new().file("x", 0o644, "").finish());
        assert!(error.output().stderr.contains("container rootfs is marked read-only"));
        dhow.ok(&["cp", file, &format!("{state}:/volume/{state}")]);
        dhow.ok(&["cp", &format!("{state}:/etc/passwd"), dhow.scratch().join("passwd").to_str().unwrap()]);
        assert_eq!(dhow.ok(&["diff", state]), "A /volume");
    }
    dhow.ok(&["cp", file, "running:/tmp"]);
}

/// One that is copied to is not started at that moment, and keeps its state.
#[test]
fn a_container_at_rest_keeps_its_state() {
    let dhow = Dhow::new("cp-rest");
    three(&dhow, &[]);
    let file = dhow.scratch().join("file");
    fs::write(&file, "x").unwrap();
    let state = |name: &str| dhow.inspect(name)["State"].clone();
    let before = (state("stopped"), state("created"));
    for name in ["stopped", "created"] {
        dhow.ok(&["cp", file.to_str().unwrap(), &format!("{name}:/")]);
    }
    assert_eq!((state("stopped"), state("created")), before);
    // A copy that is cut off by a kill leaves nothing in the way of the next, or of a start.
    let mut copying = dhow.command(&["cp", "-", "created:/"]).spawn();
    copying.write(&Tar::new().file("half", 0o644, vec![b'x'; 1 << 20]).finish()[..1 << 19]);
    harness::eventually("the copy to begin", || {
        let id = dhow.inspect("created")["Id"].as_str().unwrap().to_owned();
        dhow.run_root().join("containers").join(id).exists().then_some(())
    });
    copying.kill();
    copying.wait();
    dhow.ok(&["cp", file.to_str().unwrap(), "created:/again"]);
    dhow.ok(&["start", "created"]);
    assert_eq!(dhow.ok(&["exec", "created", "cat", "/again", "/file"]), "xx");
}

/// The words at the end, where somebody reads them.
#[test]
fn who_watches_is_told() {
    let dhow = Dhow::new("cp-told");
    dhow.ok(&["create", "--network", "none", "--name", "box", "busybox"]);
    let file = dhow.scratch().join("file");
    fs::write(&file, "x").unwrap();
    let words = ["cp", "--quiet=false", file.to_str().unwrap(), "box:/new"];
    assert_eq!(dhow.run(&words).stderr, "Successfully copied 2.05kB to box:/new\n");
    assert_eq!(dhow.run(&["cp", file.to_str().unwrap(), "box:/new"]).stderr, "");
    let out = dhow.scratch().join("out");
    fs::write(&file, vec![b'x'; 20 << 20]).unwrap();
    let mut terminal = harness::Terminal::run(&dhow, &["cp", file.to_str().unwrap(), "box:/big"]);
    assert_eq!(terminal.wait(), 0);
    terminal.expect("Successfully copied 21MB to box:/big");
    let mut terminal = harness::Terminal::run(&dhow, &["cp", "-q", "box:/big", out.to_str().unwrap()]);
    assert_eq!(terminal.wait(), 0);
    assert_eq!(terminal.screen(), "");
    assert_eq!(out.metadata().unwrap().len(), 20 << 20);
}

/// Holes stay holes, and what is larger than an archive's numbers is copied, too.
#[test]
fn holes_are_kept() {
    let dhow = Dhow::new("cp-holes");
    dhow.ok(&["create", "--network", "none", "--name", "box", "busybox"]);
    let (file, out) = (dhow.scratch().join("file"), dhow.scratch().join("out"));
    let made = fs::File::create(&file).unwrap();
    made.set_len(9 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&made, b"data", 5 << 30).unwrap();
    dhow.ok(&["cp", file.to_str().unwrap(), "box:/sparse"]);
    dhow.ok(&["cp", "box:/sparse", out.to_str().unwrap()]);
    let copied = fs::File::open(&out).unwrap();
    let stat = copied.metadata().unwrap();
    assert!(stat.len() == 9 << 30 && stat.blocks() < 2048, "{stat:?}");
    let mut data = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&copied, &mut data, 5 << 30).unwrap();
    assert_eq!(&data, b"data");
}
