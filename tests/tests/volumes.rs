//! `dhow volume`, and containers with volumes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::attack::Outside;
use harness::volume::{data, image_with_content, names, script};
use harness::{Dhow, eventually};
use serde_json::json;

#[test]
fn volumes_are_made_listed_shown_and_removed() {
    let dhow = Dhow::new("vol-verbs");
    assert_eq!(dhow.ok(&["volume", "create", "--label", "a=b", "--label", "c", "one"]), "one");
    assert_eq!(dhow.ok(&["volume", "create", "one"]), "one", "again is fine");
    let invented = dhow.ok(&["volume", "create"]);
    assert!(invented.len() == 64 && invented.bytes().all(|b| b.is_ascii_hexdigit()));
    let table = dhow.ok(&["volume", "ls"]);
    assert_eq!(table.lines().next().unwrap(), "DRIVER    VOLUME NAME");
    assert!(table.contains("local     one") && table.contains(&invented));
    let shown = dhow.json(&["volume", "inspect", "one"]);
    assert_eq!(shown["Labels"], json!({ "a": "b", "c": "" }));
    assert_eq!(shown["Mountpoint"].as_str().unwrap(), data(&dhow, "one").to_str().unwrap());
    for (key, value) in [("Name", "one"), ("Driver", "local"), ("Scope", "local")] {
        assert_eq!(shown[key], value);
    }
    assert!(shown["CreatedAt"].as_str().unwrap().ends_with('Z') && shown["Options"].is_null());
    assert_eq!(dhow.ok(&["inspect", "--format", "{{.Name}}", "one"]), "one", "without the noun, too");
    assert_eq!(dhow.ok(&["volume", "inspect", "-f", "{{.Driver}}", "one"]), "local");
    let line = dhow.ok(&["volume", "ls", "--format", "json", "--filter", "name=one"]);
    let row: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&row["Name"], &row["Labels"]), (&json!("one"), &json!("a=b,c=")));
    assert_eq!(
        dhow.ok(&["volume", "ls", "--format", "{{.Name}} {{.Label \"a\"}}", "-f", "label=c"]),
        "one b"
    );
    let missing = dhow.run(&["volume", "inspect", "nope"]);
    assert_eq!((missing.code, missing.stdout.trim()), (1, "[]"));
    assert!(missing.stderr.contains("no such volume: nope"));
    assert!(dhow.fails(1, &["volume", "rm", "nope"]).contains("no such volume: nope"));
    assert_eq!(dhow.ok(&["volume", "rm", "-f", "nope"]), "nope");
    assert_eq!(dhow.ok(&["volume", "rm", "one", &invented]), format!("one\n{invented}"));
    let format = "{{.Type}} {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.driver}}";
    let events = ["events", "--since", "1h", "--until", "0s", "--filter", "type=volume", "--format", format];
    let told = dhow.ok(&events);
    assert!(told.contains("volume create one local") && told.contains("volume destroy one local"), "{told}");
    assert_eq!(names(&dhow), [""; 0]);
}

#[test]
fn names_drivers_and_options_that_cannot_be_are_refused_and_make_nothing() {
    let dhow = Dhow::new("vol-names");
    let outside = Outside::new(dhow.scratch());
    let climbing = format!("../../{}", outside.path().file_name().unwrap().to_str().unwrap());
    for name in ["../x", "a/b", ".", "..", "x", ".hidden", "a b", "/etc", &climbing] {
        dhow.fails(1, &["volume", "create", name]);
        assert!(dhow.fails(1, &["volume", "rm", name]).contains("no such volume"));
        let output = dhow.run(&["volume", "inspect", name]);
        assert!(output.code == 1 && output.stderr.contains("no such volume"), "{name}: {output:?}");
    }
    dhow.fails(125, &["run", "--rm", "--mount", "type=volume,src=../x,dst=/x", "busybox", "true"]);
    dhow.fails(125, &["run", "--rm", "-v", "-x:/x", "busybox", "true"]);
    dhow.fails(125, &["run", "--rm", "--mount", "src=data,dst=/x,volume-driver=nfs", "busybox", "true"]);
    dhow.fails(1, &["volume", "create", "-d", "convoy", "data"]);
    for option in ["size=1g", "type=nfs", "type=none", "bla=1"] {
        dhow.fails(1, &["volume", "create", "-o", option, "data"]);
    }
    let error = dhow.run(&["volume", "create", "-o", "type=nfs", "-o", "device=:/x", "data"]);
    assert!(error.stderr.contains("`nfs` are not supported") && error.stderr.contains("hint: mount it"));
    assert_eq!(names(&dhow), [""; 0]);
    outside.assert_untouched("volumes");
}

#[test]
fn a_volume_outlives_its_containers_and_is_shared_by_them() {
    let dhow = Dhow::new("vol-share");
    script(&dhow, &["-v", "data:/data"], "echo kept > /data/file; chown 5:6 /data/file");
    assert_eq!(
        script(&dhow, &["-v", "data:/other:ro"], "cat /other/file; stat -c %u:%g /other/file"),
        "kept\n5:6"
    );
    let read_only = dhow.run(&["run", "--rm", "-v", "data:/data:ro", "busybox", "touch", "/data/x"]);
    assert!(read_only.code != 0 && read_only.stderr.contains("Read-only"));
    dhow.ok(&[
        "run",
        "-d",
        "--name",
        "writer",
        "--network",
        "none",
        "-v",
        "data:/data",
        "busybox",
        "sleep",
        "100",
    ]);
    script(&dhow, &["--mount", "type=volume,src=data,dst=/mnt"], "echo more >> /mnt/file");
    assert_eq!(dhow.ok(&["exec", "writer", "cat", "/data/file"]), "kept\nmore");
    assert_eq!(names(&dhow), ["data"]);
    let format = "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.destination}}";
    let events = ["events", "--since", "1h", "--until", "0s", "--filter", "type=volume", "--format", format];
    let told = dhow.ok(&events);
    assert!(told.starts_with("create data") && told.contains("mount data /other"), "{told}");
    eventually("the ends to be told", || {
        (dhow.ok(&events).lines().filter(|line| line.starts_with("unmount data")).count() == 4).then_some(())
    });
}

#[test]
fn a_volume_in_use_stays_whether_its_container_runs_or_not() {
    let dhow = Dhow::new("vol-use");
    dhow.ok(&["create", "--name", "idle", "-v", "one:/x", "busybox", "true"]);
    dhow.ok(&["run", "-d", "--name", "busy", "--network", "none", "-v", "two:/x", "busybox", "sleep", "100"]);
    let id = dhow.inspect("idle")["Id"].as_str().unwrap()[..12].to_owned();
    let error = dhow.fails(1, &["volume", "rm", "one"]);
    assert!(error.contains("in use") && error.contains(&id), "{error}");
    dhow.fails(1, &["volume", "rm", "-f", "two"]);
    assert_eq!(dhow.ok(&["volume", "ls", "-q", "-f", "dangling=true"]), "");
    assert_eq!(dhow.ok(&["volume", "prune", "-a", "-f"]), "Total reclaimed space: 0B");
    dhow.ok(&["rm", "idle"]);
    assert_eq!(dhow.ok(&["volume", "ls", "-q", "-f", "dangling=1"]), "one");
    assert_eq!(dhow.ok(&["volume", "rm", "one"]), "one");
    assert_eq!(names(&dhow), ["two"]);
}

#[test]
fn prune_asks_and_takes_anonymous_ones_or_all() {
    let dhow = Dhow::new("vol-prune");
    dhow.ok(&["volume", "create", "--label", "keep", "named"]);
    dhow.ok(&["volume", "create", "other"]);
    let anonymous = dhow.ok(&["volume", "create"]);
    std::fs::write(data(&dhow, &anonymous).join("big"), vec![1; 100_000]).unwrap();
    let refused = dhow.command(&["volume", "prune"]).input("n\n").output();
    assert!(
        refused.stdout.contains("WARNING! This will remove anonymous local volumes not used by at least one")
    );
    assert_eq!(names(&dhow).len(), 3);
    let pruned = dhow.ok(&["volume", "prune", "--force"]);
    assert!(pruned.starts_with(&format!("Deleted Volumes:\n{anonymous}\n\nTotal reclaimed space: ")));
    assert!(!pruned.ends_with(" 0B"), "{pruned}");
    assert_eq!(names(&dhow), ["named", "other"]);
    dhow.ok(&["volume", "prune", "-a", "-f", "--filter", "label!=keep"]);
    assert_eq!(names(&dhow), ["named"]);
    dhow.ok(&["volume", "prune", "-f", "--filter", "all=1", "--filter", "label=keep"]);
    assert_eq!(names(&dhow), [""; 0]);
}

#[test]
fn a_new_volume_has_what_the_image_has_there() {
    let dhow = Dhow::empty("vol-fill");
    dhow.load(&image_with_content("img", &[]));
    let run = |flags: &[&str], script: &str| {
        dhow.ok(&[&["run", "--rm", "--network", "none"], flags, &["img", "sh", "-c", script]].concat())
    };
    let look =
        "stat -c '%n %a %h %F' . file sub; readlink link; test -p sub/fifo; test file -ef twin; cat file";
    let expected =
        ". 2750 3 directory\nfile 4711 2 regular file\nsub 1777 2 directory\n/etc/passwd\nof the image";
    let of_image = run(&[], &format!("cd /srv/data; {look}"));
    assert_eq!(of_image, expected);
    for (flags, path) in [
        (["-v", "one:/srv/data"], "/srv/data"),
        // Through a link of the image's, as the kernel resolves it.
        (["-v", "two:/srv/alias"], "/srv/data"),
        (["--mount", "src=three,dst=/srv/data"], "/srv/data"),
        (["-v", "/srv/data"], "/srv/data"),
    ] {
        assert_eq!(run(&flags, &format!("cd {path}; {look}")), expected, "{flags:?}");
    }
    // Once: what is in it stays, and what was taken out of it stays out.
    run(&["-v", "one:/srv/data"], "rm -r /srv/data/*; echo mine > /srv/data/file");
    assert_eq!(run(&["-v", "one:/srv/data"], "cd /srv/data; ls; cat file"), "file\nmine");
    // An empty directory gives its look.
    assert_eq!(run(&["-v", "four:/srv/empty"], "stat -c %a /srv/empty"), "700");
    for flags in [["-v", "five:/srv/data:nocopy"], ["--mount", "src=six,dst=/srv/data,volume-nocopy"]] {
        assert_eq!(run(&flags, "ls -A /srv/data"), "", "{flags:?}");
    }
    assert_eq!(run(&["-v", "seven:/not/there"], "ls -A /not/there"), "");
}

#[test]
fn an_images_volumes_are_made_and_go_with_the_container() {
    let dhow = Dhow::empty("vol-image");
    dhow.load(&image_with_content("img", &["/srv/data", "/cache"]));
    dhow.ok(&["create", "--name", "cc", "img", "true"]);
    assert_eq!(names(&dhow).len(), 2);
    let shown = dhow.inspect("cc");
    assert_eq!(shown["Config"]["Volumes"], json!({ "/srv/data": {}, "/cache": {} }));
    assert_eq!(shown["Mounts"].as_array().unwrap().len(), 2);
    // Without -v they stay, as Docker's do.
    dhow.ok(&["rm", "cc"]);
    assert_eq!(names(&dhow).len(), 2);
    dhow.ok(&["volume", "prune", "-f"]);
    dhow.ok(&["create", "--name", "cc", "-v", "named:/cache", "-v", "/more", "img", "true"]);
    assert_eq!(names(&dhow).len(), 3);
    dhow.ok(&["rm", "-v", "cc"]);
    assert_eq!(names(&dhow), ["named"], "rm -v takes the anonymous ones");
    dhow.ok(&["run", "--rm", "--network", "none", "-v", "/more", "img", "true"]);
    eventually("the monitor to remove the volumes", || (names(&dhow) == ["named"]).then_some(()));
    // A start that fails leaves none either.
    dhow.fails(127, &["run", "--rm", "--network", "none", "img", "/no/such/command"]);
    eventually("the volumes to go", || (names(&dhow) == ["named"]).then_some(()));
    dhow.fails(125, &["run", "--memory", "1", "img", "true"]);
    assert_eq!(names(&dhow), ["named"]);
}

#[test]
fn volumes_from_another_container() {
    let dhow = Dhow::new("vol-from");
    let host = dhow.scratch().join("host");
    std::fs::create_dir(&host).unwrap();
    let bind = format!("{}:/host", host.display());
    dhow.ok(&[
        "create",
        "--name",
        "src",
        "-v",
        "data:/data",
        "-v",
        "/anon",
        "-v",
        &bind,
        "--tmpfs",
        "/t",
        "busybox",
        "true",
    ]);
    script(
        &dhow,
        &["--volumes-from", "src"],
        "echo 1 > /data/f; echo 2 > /anon/f; echo 3 > /host/f; test ! -e /t",
    );
    assert_eq!(std::fs::read_to_string(host.join("f")).unwrap(), "3\n");
    assert_eq!(
        script(&dhow, &["--volumes-from", "src:ro"], "cat /data/f /anon/f; touch /data/x || echo no"),
        "1\n2\nno"
    );
    // What is asked for itself comes first.
    assert_eq!(script(&dhow, &["--volumes-from", "src", "-v", "other:/data"], "ls /data"), "");
    assert_eq!(names(&dhow).len(), 3, "the anonymous one is the first container's still");
    dhow.ok(&["create", "--name", "second", "--volumes-from", "src:ro", "busybox", "true"]);
    let shown = dhow.inspect("second");
    assert_eq!(shown["HostConfig"]["VolumesFrom"], json!(["src:ro"]));
    assert!(shown["HostConfig"]["Binds"].is_null());
    assert_eq!(shown["Mounts"].as_array().unwrap().len(), 3);
    dhow.ok(&["rm", "-v", "src"]);
    assert_eq!(names(&dhow).len(), 3, "the second one has it");
    dhow.ok(&["rm", "-v", "second"]);
    assert_eq!(names(&dhow), ["data", "other"]);
    dhow.fails(125, &["run", "--rm", "--volumes-from", "nope", "busybox", "true"]);
}

#[test]
fn inspect_and_ps_tell_of_volumes() {
    let dhow = Dhow::new("vol-inspect");
    dhow.ok(&[
        "create",
        "--name",
        "cc",
        "-v",
        "data:/data:ro,nocopy",
        "-v",
        "/anon",
        "--mount",
        "type=volume,src=long,dst=/long,volume-label=a=b,volume-subpath=x/y",
        "busybox",
        "true",
    ]);
    let shown = dhow.inspect("cc");
    assert_eq!(shown["HostConfig"]["Binds"], json!(["data:/data:ro,nocopy"]));
    assert_eq!(
        shown["HostConfig"]["Mounts"],
        json!([{ "Type": "volume", "Source": "long", "Target": "/long",
                 "VolumeOptions": { "Labels": { "a": "b" }, "Subpath": "x/y" } }])
    );
    let mount = shown["Mounts"].as_array().unwrap().iter().find(|m| m["Name"] == "data").unwrap();
    let expected = json!({
        "Type": "volume", "Name": "data", "Source": data(&dhow, "data"), "Destination": "/data", "Driver": "local",
        "Mode": "ro,nocopy", "RW": false, "Propagation": "",
    });
    assert_eq!(*mount, expected);
    assert_eq!(shown["Config"]["Volumes"], json!({ "/anon": {} }));
    assert_eq!(dhow.json(&["volume", "inspect", "long"])["Labels"], json!({ "a": "b" }));
    let ps =
        |filter: &str| dhow.ok(&["ps", "-a", "--filter", filter, "--format", "{{.Names}} {{.LocalVolumes}}"]);
    assert_eq!(
        (ps("volume=data"), ps("volume=/anon"), ps("volume=x")),
        ("cc 3".into(), "cc 3".into(), String::new())
    );
    assert!(dhow.ok(&["ps", "-a", "--no-trunc", "--format", "{{.Mounts}}"]).starts_with("data,"));
    std::fs::write(data(&dhow, "long").join("big"), vec![1; 1 << 20]).unwrap();
    dhow.ok(&["volume", "create", "unused"]);
    let df = dhow.ok(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}"]);
    assert!(df.lines().any(|l| l.starts_with("Local Volumes 4 3 1.06")), "{df}");
    assert!(dhow.ok(&["system", "df", "-v"]).contains("unused"));
}

#[test]
fn volumes_of_memory_and_of_the_hosts_directories() {
    let dhow = Dhow::new("vol-options");
    let mount_options = ["-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7"];
    dhow.ok(&[&["volume", "create"], &mount_options[..], &["mem"]].concat());
    dhow.ok(&["run", "-d", "--name", "aa", "--network", "none", "-v", "mem:/m", "busybox", "sleep", "100"]);
    dhow.ok(&["exec", "aa", "sh", "-c", "echo shared > /m/f; stat -c %u /m"]);
    assert_eq!(script(&dhow, &["-v", "mem:/m"], "cat /m/f; stat -c %u /m"), "shared\n7");
    assert!(
        script(&dhow, &["-v", "mem:/m"], "head -c 2000000 /dev/zero > /m/big || echo full").contains("full")
    );
    assert_eq!(dhow.ok(&["exec", "aa", "cat", "/m/f"]), "shared", "the others' end is not the end of it");
    dhow.fails(1, &["volume", "rm", "mem"]);
    dhow.ok(&["rm", "-f", "aa"]);
    let mounted = || {
        std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(data(&dhow, "mem").to_str().unwrap())
    };
    eventually("the last one to unmount it", || (!mounted()).then_some(()));
    assert_eq!(script(&dhow, &["-v", "mem:/m"], "ls /m"), "");
    // A monitor that was killed is no reason to stay mounted.
    dhow.ok(&["run", "-d", "--name", "bb", "--network", "none", "-v", "mem:/m", "busybox", "sleep", "100"]);
    let monitor = rustix::process::Pid::from_raw(dhow.monitor_pid("bb").cast_signed()).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    dhow.ok(&["ps", "-a"]);
    eventually("whoever finds it to unmount it", || (!mounted()).then_some(()));

    let host = dhow.scratch().join("host");
    std::fs::create_dir(&host).unwrap();
    let device = format!("device={}", host.display());
    dhow.ok(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "dir"]);
    script(&dhow, &["-v", "dir:/d"], "echo there > /d/f");
    assert_eq!(std::fs::read_to_string(host.join("f")).unwrap(), "there\n");
    dhow.ok(&["volume", "rm", "dir"]);
    assert!(host.join("f").exists(), "what is the host's stays");
    dhow.ok(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/no/such/dir", "gone"]);
    assert!(dhow.fails(125, &["run", "--rm", "-v", "gone:/d", "busybox", "true"]).contains("/no/such/dir"));
}
