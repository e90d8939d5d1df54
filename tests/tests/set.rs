//! `dhow set`: at once where the kernel allows, else by a restart that keeps everything but what was to be changed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use harness::{Dhow, Output, Terminal, eventually, random, soak};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// A container that says who it is, leaves something in its files and in a volume, and stays.
const STAYS: &str = "echo run >> /kept; echo run >> /data/kept; echo run $GREETING; exec sleep 1000";

#[track_caller]
fn stays(dhow: &Dhow, flags: &[&str]) -> String {
    let fixed = ["-d", "--name", "box", "--network", "none", "-v", "vol:/data", "-e", "GREETING=old"];
    let args = [&["run"], &fixed[..], flags, &["busybox", "sh", "-c", STAYS]].concat();
    let id = dhow.ok(&args);
    eventually("its first word", || dhow.ok(&["logs", "box"]).contains("run old").then_some(()));
    id
}

/// It was refused, and says so in one line after what it was about to do.
#[track_caller]
fn refused(output: &Output, code: i32, words: &str) {
    assert_eq!((output.code, &*output.stdout), (code, ""), "{output:#?}");
    let said: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("dhow: ")).collect();
    assert!(said.len() == 1 && said[0].contains(words), "{output:#?}");
}

fn env(dhow: &Dhow) -> String {
    dhow.inspect("box")["Config"]["Env"].to_string()
}

#[test]
fn limits_labels_and_the_policy_change_while_it_runs() {
    let dhow = Dhow::new("set-at-once");
    let id = stays(&dhow, &["-l", "old=1", "-l", "stays=1", "-m", "64m"]);
    let pid = dhow.pid("box");
    let flags =
        ["-l", "new=2", "--label-rm", "old", "-m", "100m", "--pids-limit", "70", "--restart", "always"];
    let dry = dhow.command(&[&["set", "--dry-run"], &flags[..], &["box"]].concat()).output();
    assert_eq!((dry.code, &*dry.stderr), (0, ""));
    let words = "box: at once, while it runs: label new=2, no label old, restart policy always, limits\n";
    assert_eq!(dry.stdout, words);
    assert_eq!(dhow.inspect("box")["Config"]["Labels"], json!({ "old": "1", "stays": "1" }));
    let done = dhow.run(&[&["set"], &flags[..], &["box"]].concat());
    assert_eq!((done.code, &*done.stdout, &*done.stderr), (0, "box\n", words));
    let now = dhow.inspect("box");
    assert_eq!((&now["Id"], dhow.pid("box")), (&json!(id), pid));
    assert_eq!(now["Config"]["Labels"], json!({ "new": "2", "stays": "1" }));
    let config = &now["HostConfig"];
    assert_eq!((&config["Memory"], &config["PidsLimit"]), (&json!(100 << 20), &json!(70)));
    assert_eq!(config["RestartPolicy"]["Name"], "always");
    assert_eq!(dhow.ok(&["ps", "-q", "--filter", "label=new=2"]), id[..12]);
    // the policy counts at once, and its events have its labels
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    eventually("its next run", || (dhow.inspect("box")["RestartCount"] == json!(1)).then_some(()));
    let events = dhow.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=die"]);
    assert!(events.contains("new=2") && !events.contains("old=1"), "{events}");
    // the same again changes nothing
    let again = dhow.run(&["set", "-l", "new=2", "-m", "100m", "box"]);
    assert_eq!((again.code, &*again.stderr), (0, "box: all of that is so already\n"));
}

#[test]
fn what_cannot_change_while_it_runs_takes_a_restart_that_keeps_the_rest() {
    let dhow = Dhow::new("set-restart");
    let host = dhow.scratch().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "of the host").unwrap();
    let bind = format!("{}:/host:ro", host.display());
    let id = stays(&dhow, &["--tmpfs", "/gone"]);
    let pid = dhow.pid("box");
    let flags = [
        &["-e", "GREETING=new", "--env-rm", "PATH", "-v", &bind, "-v", "other:/other", "--mount-rm", "/gone"],
        &["-h", "renamed", "-w", "/tmp", "-u", "0:5", "-l", "a=b"][..],
    ]
    .concat();
    // without a terminal it is not done unasked, and a plan changes nothing
    let before = dhow.listing();
    let error = dhow.fails(125, &[&["set"], &flags[..], &["box"]].concat());
    assert!(error.contains("would stop the container and start it again"), "{error}");
    let dry = dhow.ok(&[&["set", "--dry-run"], &flags[..], &["box"]].concat());
    assert!(dry.starts_with("box: by stopping it and starting it again"), "{dry}");
    for word in [
        "environment variable GREETING",
        "no environment variable PATH",
        "mount /host",
        "mount /other",
        "no mount /gone",
        "host name renamed",
        "working directory /tmp",
        "user 0:5",
        "label a=b",
    ] {
        assert!(dry.contains(word), "{word}: {dry}");
    }
    assert_eq!((dhow.listing(), dhow.pid("box")), (before, pid));
    assert_eq!(dhow.ok(&[&["set", "-y", "-t", "0"], &flags[..], &["box"]].concat()), "box");
    let now = dhow.inspect("box");
    assert_eq!((&now["Id"], &now["Name"]), (&json!(id), &json!("/box")));
    assert_ne!(dhow.pid("box"), pid);
    assert_eq!(now["Config"]["Hostname"], "renamed");
    assert_eq!(now["Config"]["Labels"]["a"], "b");
    assert!(env(&dhow).contains("GREETING=new") && !env(&dhow).contains("PATH="), "{}", env(&dhow));
    eventually("its next word", || dhow.ok(&["logs", "box"]).contains("run new").then_some(()));
    assert!(dhow.ok(&["logs", "box"]).starts_with("run old"), "the log goes on");
    for (path, content) in [("/kept", "run\nrun"), ("/data/kept", "run\nrun"), ("/host/file", "of the host")]
    {
        assert_eq!(dhow.ok(&["exec", "box", "/bin/cat", path]), content, "{path}");
    }
    let seen =
        dhow.ok(&["exec", "box", "/bin/sh", "-c", "hostname; pwd; id -g; ls -d /gone; echo to >/other/f"]);
    assert_eq!(seen, "renamed\n/tmp\n5\n/gone", "an empty directory stays where a mount was");
    assert!(dhow.ok(&["volume", "ls", "-q"]).contains("other"));
    let mounts = now["Mounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount["Destination"] != "/gone") && mounts.len() == 3, "{mounts:?}");
    // back to another command, and to the defaults
    dhow.ok(&["set", "-y", "-t", "0", "-w", "", "-u", "", "-h", "", "box", "--", "sleep", "2000"]);
    let now = dhow.inspect("box");
    assert_eq!((&now["Path"], &now["Args"]), (&json!("sleep"), &json!(["2000"])));
    assert_eq!(now["Config"]["Hostname"], id[..12]);
    assert_eq!(dhow.ok(&["exec", "box", "/bin/cat", "/other/f"]), "to");
}

#[test]
fn what_does_not_run_starts_with_it() {
    let dhow = Dhow::new("set-stopped");
    dhow.ok(&["create", "--name", "box", "--network", "none", "busybox", "sh", "-c", "echo $A; cat /v/f"]);
    let flags = ["-e", "A=1", "-v", "vol:/v", "-p", "80", "--network", "host", "-m", "64m", "-l", "x"];
    let done = dhow.run(&[&["set"], &flags[..], &["box"]].concat());
    assert!(
        done.stderr.starts_with("box: with its next start: label x=, limits, publish 80/tcp"),
        "{done:#?}"
    );
    let now = dhow.inspect("box");
    assert_eq!(
        (&now["State"]["Status"], &now["HostConfig"]["NetworkMode"]),
        (&json!("created"), &json!("host"))
    );
    assert_eq!(
        now["HostConfig"]["PortBindings"],
        json!({ "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "0" }] })
    );
    dhow.ok(&["set", "--network", "none", "--publish-rm", "80", "box"]);
    dhow.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "vol:/v",
        "busybox",
        "sh",
        "-c",
        "echo filled > /v/f",
    ]);
    assert_eq!(dhow.ok(&["start", "-a", "box"]), "1\nfilled");
    dhow.ok(&["set", "--env-rm", "A", "-v", "/anonymous", "box", "--", "sh", "-c", "echo ${A-none}"]);
    assert_eq!(dhow.ok(&["start", "-a", "box"]), "none");
    // an anonymous volume that nobody would find is named
    let gone = dhow.run(&["set", "--mount-rm", "/anonymous", "box"]);
    assert!(gone.stderr.contains("the anonymous volume of /anonymous stays: dhow volume rm "), "{gone:#?}");
    dhow.ok(&["rm", "box"]);
    let volumes = dhow.ok(&["volume", "ls", "-q"]);
    dhow.ok(&[&["volume", "rm"], &volumes.lines().collect::<Vec<_>>()[..]].concat());
}

#[test]
fn what_is_refused_changes_nothing() {
    let dhow = Dhow::new("set-refused");
    stays(&dhow, &["-l", "a=b"]);
    let (pid, record) = (dhow.pid("box"), dhow.inspect("box"));
    let before = dhow.listing();
    for (code, flags, words) in [
        (125, &[][..], "nothing is to be changed"),
        (125, &["-m", "lots"], "want a size"),
        (125, &["-p", "x"], "is not a port"),
        (1, &["-m", "1m"], "least is 6m"),
        (1, &["--publish-rm", "80"], "no published port `80/tcp`"),
        (1, &["--label-rm", "b"], "no label `b`"),
        (1, &["--env-rm", "NOT"], "no environment variable `NOT`"),
        (1, &["--mount-rm", "/nope"], "no mount `/nope`"),
        (1, &["-y", "-v", "vx:/data/"], "has something mounted on /data already"),
        (1, &["-y", "-v", "vx:/a", "-v", "vy:/a"], "duplicate mount point"),
        (1, &["-y", "--mount", "type=bind,src=/no/such,dst=/a"], "does not exist"),
        (1, &["-y", "--mount", "type=image,src=nosuch,dst=/a"], "there is no image"),
        (1, &["-y", "-w", "relative"], "want an absolute path"),
        (1, &["-y", "-u", "a b"], "invalid user"),
        (1, &["-y", "-v", "new:/new", "-h", "bad name"], "invalid host name"),
    ] {
        let error = dhow.fails(code, &[&["set"], flags, &["box"]].concat());
        assert!(error.contains(words), "{flags:?}: {error}");
    }
    let error = dhow.fails(1, &["set", "-l", "a", "nosuch"]);
    assert!(error.contains("no such container"), "{error}");
    assert_eq!((dhow.pid("box"), dhow.inspect("box"), dhow.listing()), (pid, record, before));
}

#[test]
fn a_start_that_fails_brings_the_old_settings_back() {
    let dhow = Dhow::new("set-undone");
    let id = stays(&dhow, &[]);
    let record = |dhow: &Dhow| {
        let all = dhow.inspect("box");
        (all["Id"].clone(), all["Config"].clone(), all["HostConfig"].clone(), all["Mounts"].clone())
    };
    let before = record(&dhow);
    let flags =
        ["-y", "-t", "0", "-e", "GREETING=new", "-v", "new:/new", "-l", "a=b", "box", "--", "/no/such"];
    let output = dhow.run(&[&["set"], &flags[..]].concat());
    refused(&output, 1, "container box does not start with its new settings");
    assert!(output.stderr.contains("box runs again with its old settings"), "{output:#?}");
    assert_eq!(record(&dhow), before);
    assert_eq!(before.0, json!(id));
    assert_eq!(dhow.inspect("box")["State"]["Status"], "running");
    eventually("its next start", || {
        (dhow.ok(&["exec", "box", "cat", "/data/kept"]) == "run\nrun").then_some(())
    });
    assert_eq!(dhow.ok(&["volume", "ls", "-q"]), "vol", "what was made for it goes");
}

#[test]
fn a_terminal_is_asked() {
    let dhow = Dhow::new("set-asks");
    stays(&dhow, &[]);
    let pid = dhow.pid("box");
    let mut terminal = Terminal::run(&dhow, &["set", "-t", "0", "-e", "GREETING=new", "box"]);
    terminal.expect("by stopping it and starting it again");
    terminal.expect("Are you sure you want to continue? [y/N]");
    terminal.press(b"n\n");
    assert_eq!((terminal.wait(), dhow.pid("box")), (0, pid));
    let mut terminal = Terminal::run(&dhow, &["set", "-t", "0", "-e", "GREETING=new", "box"]);
    terminal.expect("[y/N]");
    terminal.press(b"y\n");
    assert_eq!(terminal.wait(), 0);
    assert_ne!(dhow.pid("box"), pid);
    assert!(env(&dhow).contains("GREETING=new"));
}

#[test]
fn what_removes_itself_or_stands_still_is_not_restarted() {
    let dhow = Dhow::new("set-rm");
    dhow.ok(&["run", "-d", "--rm", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    let error = dhow.fails(1, &["set", "-y", "-e", "A=1", "box"]);
    assert!(error.contains("is removed when it ends (--rm)"), "{error}");
    let error = dhow.fails(1, &["set", "--restart", "always", "box"]);
    assert!(error.contains("--rm and --restart exclude each other"), "{error}");
    dhow.ok(&["set", "-l", "a=b", "-m", "64m", "box"]);
    dhow.ok(&["pause", "box"]);
    dhow.ok(&["set", "-l", "a=c", "-m", "80m", "box"]);
    assert_eq!(dhow.inspect("box")["State"]["Status"], "paused");
    dhow.ok(&["rm", "-f", "box"]);
    stays(&dhow, &[]);
    dhow.ok(&["pause", "box"]);
    let error = dhow.fails(1, &["set", "-y", "-e", "A=1", "box"]);
    assert!(error.contains("is paused"), "{error}");
}

#[test]
fn many_change_it_at_once_and_nothing_is_lost() {
    let dhow = Dhow::new("set-race");
    let id = stays(&dhow, &[]);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (dhow, id) = (&dhow, &id);
            scope.spawn(move || {
                for round in 0..5 {
                    dhow.ok(&["set", "-l", &format!("l{n}-{round}=x"), id]);
                }
            });
        }
        let (dhow, id) = (&dhow, &id);
        scope.spawn(move || {
            for name in ["one", "two", "three"] {
                dhow.ok(&["rename", id, name]);
            }
        });
        scope.spawn(move || {
            for limit in ["60", "61", "62"] {
                dhow.ok(&["update", "--pids-limit", limit, id]);
            }
        });
    });
    let now = dhow.inspect(&id);
    assert_eq!((&now["Name"], &now["HostConfig"]["PidsLimit"]), (&json!("/three"), &json!(62)));
    assert_eq!(now["Config"]["Labels"].as_object().unwrap().len(), 20);
    // starts, stops and restarts meanwhile: each ends well or says that it was too late, and the container stays whole
    std::thread::scope(|scope| {
        for (n, verb) in ["stop", "start", "set", "set"].into_iter().enumerate() {
            let (dhow, id) = (&dhow, &id);
            scope.spawn(move || {
                for round in 0..3 {
                    let value = format!("GREETING={n}{round}");
                    let output = match verb {
                        "set" => dhow.run(&["set", "-y", "-t", "0", "-e", &value, id]),
                        "stop" => dhow.run(&["stop", "-t", "0", id]),
                        _ => dhow.run(&["start", id]),
                    };
                    assert!(output.code == 0 || output.stderr.contains("dhow: "), "{verb}: {output:#?}");
                }
            });
        }
    });
    dhow.ok(&["start", &id]);
    assert_eq!(dhow.inspect(&id)["State"]["Status"], "running");
    assert_eq!(dhow.ok(&["exec", &id, "sh", "-c", "head -n1 /kept"]), "run");
}

#[test]
fn whoever_kills_it_in_the_middle_finds_the_old_settings_or_the_new() {
    for _ in 0..soak(6, 200) {
        let dhow = Dhow::new("set-killed");
        let id = stays(&dhow, &[]);
        let mut set = dhow.spawn(&["set", "-y", "-t", "0", "-e", "GREETING=new", "-v", "new:/new", "box"]);
        std::thread::sleep(Duration::from_micros(random(60_000)));
        set.kill();
        drop(set);
        // whatever it was in the middle of: it is there, whole, and starts
        // (once it has ended, if it was about to)
        let works = |args: &[&str]| dhow.run(args).code == 0;
        eventually("its start", || {
            (works(&["start", "box"]) && works(&["exec", "box", "true"])).then_some(())
        });
        let is_new = env(&dhow).contains("GREETING=new");
        assert!(is_new != env(&dhow).contains("GREETING=old"));
        let mounts = dhow.inspect("box")["Mounts"].as_array().unwrap().len();
        assert_eq!((mounts, dhow.inspect("box")["Id"].clone()), (if is_new { 2 } else { 1 }, json!(id)));
        assert!(dhow.ok(&["exec", "box", "cat", "/data/kept"]).starts_with("run"));
        // what it had half made of a volume goes with the next look at them
        dhow.ok(&["volume", "ls"]);
    }
}
