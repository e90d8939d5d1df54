//! A container becomes an image: `commit`, `history`, and what `inspect` says of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use harness::image::Image;
use harness::{Dhow, eventually};
use rustix::process::Signal;
use serde_json::json;

#[track_caller]
fn run(dhow: &Dhow, image: &str, script: &str) -> String {
    dhow.ok(&["run", "--rm", "--network", "none", image, "sh", "-ec", script])
}

#[test]
fn what_was_written_removed_and_told_is_in_the_image() {
    let dhow = Dhow::empty("commit");
    let base = Image::busybox("base:1")
        .with("ExposedPorts", json!({"80/tcp": {}}))
        .with("Labels", json!({"a": "b"}));
    dhow.load(&base);
    let script =
        "echo new >/new; rm /etc/not-executable; rm -r /usr; mkdir /usr; echo x >/usr/x; chmod 700 /tmp";
    let told = [
        "--network",
        "none",
        "--name",
        "made",
        "-e",
        "FROM=user",
        "-w",
        "/home",
        "-u",
        "0:0",
        "--label",
        "c=d",
    ];
    dhow.ok(&[&["run"], &told[..], &["base:1", "sh", "-ec", script]].concat());
    let changes = [
        "-c",
        "CMD [\"cat\", \"/new\"]",
        "-c",
        "ENV MORE=\"a b\"",
        "-c",
        "EXPOSE 53/udp",
        "-c",
        "VOLUME /data",
    ];
    let about = ["commit", "-a", "Me <me@example.org>", "-m", "for the test"];
    let id = dhow.ok(&[&about[..], &changes, &["made", "new:1"]].concat());
    let image = dhow.inspect("new:1");
    assert_eq!(image["Id"], id);
    assert_eq!(
        (&image["Author"], &image["Comment"]),
        (&json!("Me <me@example.org>"), &json!("for the test"))
    );
    let config = &image["Config"];
    assert_eq!(config["Cmd"], json!(["cat", "/new"]));
    assert_eq!((&config["WorkingDir"], &config["User"]), (&json!("/home"), &json!("0:0")));
    assert_eq!(config["Labels"], json!({"a": "b", "c": "d"}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}, "53/udp": {}}));
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    let env: Vec<&str> = config["Env"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    assert!(env[0].starts_with("PATH=") && env[1..] == ["FROM=user", "MORE=a b"], "{env:?}");
    // the layers below are the same ones
    let layers = |image: &serde_json::Value| image["RootFS"]["Layers"].as_array().unwrap().clone();
    let (old, new) = (layers(&dhow.inspect("base:1")), layers(&image));
    assert_eq!((new.len(), &new[..1]), (2, &old[..]));
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "new:1"]), "new");
    let look = "ls /usr; ls /etc/not-executable 2>/dev/null || echo gone; stat -c %a /tmp";
    assert_eq!(run(&dhow, "new:1", look), "x\ngone\n700");
    // without the container and the image below
    dhow.ok(&["rm", "made"]);
    dhow.ok(&["rmi", "base:1"]);
    assert_eq!(run(&dhow, "new:1", look), "x\ngone\n700");
}

#[test]
fn history_tells_each_step() {
    let dhow = Dhow::new("history");
    dhow.ok(&["run", "--network", "none", "--name", "one", "busybox", "sh", "-c", "echo 12345 >/five"]);
    dhow.ok(&["commit", "-m", "first", "one", "busybox:one"]);
    dhow.ok(&["run", "--network", "none", "--name", "two", "busybox:one", "true"]);
    dhow.ok(&["commit", "-c", "LABEL x=y", "two", "busybox:two"]);
    let lines =
        dhow.ok(&["history", "--format", "{{.ID}}|{{.Size}}|{{.CreatedBy}}|{{.Comment}}", "busybox:two"]);
    let lines: Vec<Vec<&str>> = lines.lines().map(|line| line.split('|').collect()).collect();
    let id = dhow.inspect("busybox:two")["Id"].as_str().unwrap().to_owned();
    assert_eq!(lines[0][0], &id["sha256:".len()..][..12]);
    // the first container has made what the second found: where things are mounted
    assert_eq!(lines[0][2..], ["true", ""]);
    assert_eq!(lines[1], ["<missing>", "6B", "sh -c echo 12345 >/five", "first"]);
    assert_eq!(lines[2][0], "<missing>");
    assert!(lines[2][1].ends_with("MB"), "{lines:?}");
    let table = dhow.ok(&["image", "history", "busybox:two"]);
    assert!(table.starts_with("IMAGE          CREATED"), "{table}");
    let header: Vec<&str> =
        table.lines().next().unwrap().split("  ").map(str::trim).filter(|w| !w.is_empty()).collect();
    assert_eq!(header, ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    assert_eq!(dhow.ok(&["history", "-q", "--no-trunc", "busybox:two"]).lines().next(), Some(&*id));
    let raw = dhow.ok(&["history", "-H=false", "--format", "{{.Size}} {{.CreatedAt}}", "busybox:one"]);
    assert!(raw.starts_with("6 2") && raw.lines().next().unwrap().ends_with('Z'), "{raw}");
}

#[test]
fn a_container_stands_still_while_it_is_read() {
    let dhow = Dhow::new("commit-pause");
    // two files that always say the same, but for an instant
    let script = "say() { echo $i >/new; mv /new $1; }; i=0; say /a; say /b; echo ready; \
        while :; do i=$((i+1)); say /a; say /b; done";
    dhow.ok(&["run", "-d", "--network", "none", "--name", "busy", "busybox", "sh", "-c", script]);
    eventually("ready", || dhow.ok(&["logs", "busy"]).contains("ready").then_some(()));
    for n in 0..3 {
        let name = format!("still:{n}");
        dhow.ok(&["commit", "busy", &name]);
        let both = run(&dhow, &name, "cat /a /b");
        let numbers: Vec<u64> = both.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.len() == 2 && numbers[0] - numbers[1] <= 1, "{both}");
    }
    dhow.ok(&["commit", "--pause=false", "busy", "moving:1"]);
    // and goes on afterwards
    let count = || dhow.ok(&["exec", "busy", "cat", "/a"]);
    let before = count();
    eventually("it goes on", || (count() != before).then_some(()));
    // whoever interrupts the commit leaves the container as it was
    let fill = "dd if=/dev/urandom of=/large bs=1M count=60 2>/dev/null";
    dhow.ok(&["exec", "busy", "sh", "-c", fill]);
    let mut frozen = 0;
    for signal in [Signal::TERM, Signal::KILL, Signal::KILL, Signal::KILL] {
        let commit = dhow.spawn(&["commit", "busy", "never:1"]);
        std::thread::sleep(Duration::from_millis(200));
        frozen += u32::from(is_frozen(&dhow, "busy"));
        commit.signal(signal);
        commit.wait();
        eventually("it is thawed", || (!is_frozen(&dhow, "busy")).then_some(()));
        let before = count();
        eventually("it goes on", || (count() != before).then_some(()));
    }
    assert!(frozen > 0, "nothing was interrupted");
}

/// Whether processes of the container stand still: the kernel's word for it.
fn is_frozen(dhow: &Dhow, name: &str) -> bool {
    let pid = dhow.ok(&["inspect", "--format", "{{.State.Pid}}", name]);
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controller, path) = (fields.next().unwrap(), fields.next().unwrap());
        let read = |root: &str, file: &str| std::fs::read_to_string(format!("{root}{path}/{file}")).ok();
        match controller {
            "freezer" => read("/sys/fs/cgroup/freezer", "freezer.state").is_some_and(|s| s != "THAWED\n"),
            "" => read("/sys/fs/cgroup", "cgroup.freeze").is_some_and(|s| s == "1\n"),
            _ => false,
        }
    })
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let dhow = Dhow::new("commit-refused");
    dhow.ok(&["run", "--network", "none", "--name", "made", "busybox", "touch", "/.wh.x"]);
    let before = dhow.listing();
    for (args, why) in [
        (&["commit", "nobody"][..], "no such container"),
        (&["commit", "made", "UPPER"], "lower-case"),
        (&["commit", "made", &format!("x@sha256:{}", "0".repeat(64))], "names a digest"),
        (&["commit", "-c", "RUN true", "made"], "RUN is not one of"),
        (&["commit", "made", "x"], "cannot pack `.wh.x`"),
    ] {
        let error = dhow.fails(1, args);
        assert!(error.contains(why), "{args:?}: {error}");
    }
    let after = dhow.listing();
    let new: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(new.is_empty(), "{new:#?}");
    // nothing was written: no layer, but a step
    dhow.ok(&["run", "--network", "none", "--name", "idle", "busybox", "true"]);
    dhow.ok(&["commit", "idle", "one:1"]);
    dhow.ok(&["run", "--network", "none", "--name", "idle2", "one:1", "true"]);
    dhow.ok(&["commit", "idle2", "two:1"]);
    let layers = |name: &str| dhow.inspect(name)["RootFS"]["Layers"].clone();
    assert_eq!(layers("one:1"), layers("two:1"));
}
