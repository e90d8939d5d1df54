//! `dhow run`: what the command gets, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::image::Image;
use harness::{Dhow, eventually};
use serde_json::json;

/// Runs a shell script in a busybox without a network; it must succeed.
#[track_caller]
fn script(dhow: &Dhow, flags: &[&str], script: &str) -> String {
    dhow.ok(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat())
}

#[test]
fn the_exit_code_is_the_commands_own() {
    let dhow = Dhow::new("exit");
    let exits = |code, script: &str| {
        let output = dhow.run(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]);
        assert_eq!(output.code, code, "{script}: {}", output.stderr);
    };
    for code in [0, 1, 7, 125, 255] {
        exits(code, &format!("exit {code}"));
    }
    // init ignores what it does not handle, so a child of its shall die of it; SIGKILL comes from outside
    exits(137, "sh -c 'kill -9 $$'; exit $?");
    exits(143, "sh -c 'kill -TERM $$'; exit $?");
}

#[test]
fn a_command_that_cannot_be_executed_is_126_and_one_that_is_not_there_is_127() {
    let dhow = Dhow::new("126");
    let fails = |code, command: &str| dhow.fails(code, &["run", "--rm", "busybox", command]);
    assert!(fails(127, "nosuchcommand").contains("nosuchcommand"));
    assert!(fails(127, "/no/such/file").contains("/no/such/file"));
    assert!(fails(126, "/etc/not-executable").contains("/etc/not-executable"));
    assert!(fails(126, "/etc").contains("/etc"));
    assert_eq!(dhow.ok(&["ps", "--all", "--quiet"]), "");
}

#[test]
fn the_engines_own_failures_are_125() {
    let dhow = Dhow::new("125");
    for flags in [
        &["--memory", "lots"][..],
        &["--memory", "1k"],
        &["--cap-add", "NOSUCHCAP"],
        &["--cap-drop", "NOSUCHCAP"],
        &["--security-opt", "nosuch=thing"],
        &["--security-opt", "seccomp=/no/such/file"],
        &["--network", "nosuch"],
        &["--user", "nosuchuser"],
        &["--nosuchflag"],
        &["--cpus", "-1"],
        &["--env-file", "/no/such/file"],
        &["--name", "bad name"],
        &["--volume", "rel/ative:/x"],
        &["--workdir", "relative"],
    ] {
        dhow.fails(125, &[&["run", "--rm"], flags, &["busybox", "true"]].concat());
    }
    assert_eq!(dhow.ok(&["ps", "--all", "--quiet"]), "");
}

#[test]
fn standard_output_and_standard_error_stay_apart() {
    let dhow = Dhow::new("streams");
    let output =
        dhow.run(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((&*output.stdout, &*output.stderr, output.code), ("out\n", "err\n", 0));
}

#[test]
fn much_output_arrives_whole() {
    let dhow = Dhow::new("much");
    let output = script(&dhow, &[], "seq 1 300000");
    let mut expected = (1..=300_000).map(|n: u32| n.to_string());
    assert!(output.lines().all(|line| Some(line) == expected.next().as_deref()) && expected.next().is_none());
}

#[test]
fn piped_input_arrives_whole_and_ends() {
    let dhow = Dhow::new("stdin");
    let input = (0..100_000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
    let args = ["run", "--rm", "-i", "--network", "none", "busybox", "cat"];
    let output = dhow.command(&args).input(&input).output();
    assert!(output.stdout == input, "{} of {} bytes", output.stdout.len(), input.len());
    // without -i there is no input at all
    let args = ["run", "--rm", "--network", "none", "busybox", "cat"];
    assert_eq!(dhow.command(&args).input("nobody reads this").output().stdout, "");
}

#[test]
fn the_environment_is_the_images_and_what_the_flags_say() {
    let dhow = Dhow::empty("env");
    dhow.load(&Image::busybox("img").with("Env", json!(["PATH=/bin", "FROM_IMAGE=1", "BOTH=image"])));
    let file = dhow.scratch().join("file.env");
    std::fs::write(&file, "# a comment\n\nIN_FILE=a b\nBOTH=file\nPASSED\nUNSET\n").unwrap();
    let args = [
        "run",
        "--rm",
        "--network",
        "none",
        "--hostname",
        "box",
        "--env-file",
        file.to_str().unwrap(),
        "-e",
        "BOTH=flag",
        "-e",
        "PASSED_TOO",
        "-e",
        "EMPTY=",
        "img",
        "env",
    ];
    let output = dhow.command(&args).env("PASSED", "1").env("PASSED_TOO", "2").env("NOT_PASSED", "3").ok();
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "BOTH=flag",
            "EMPTY=",
            "FROM_IMAGE=1",
            "HOME=/root",
            "HOSTNAME=box",
            "IN_FILE=a b",
            "PASSED=1",
            "PASSED_TOO=2",
            "PATH=/bin"
        ]
    );
}

#[test]
fn user_working_directory_and_host_name_are_as_asked() {
    let dhow = Dhow::new("user");
    assert_eq!(script(&dhow, &["-u", "1000:2000"], "id -u; id -g"), "1000\n2000");
    // a name brings its group, further groups and home
    assert_eq!(
        script(&dhow, &["-u", "app"], "id -u; id -g; id -G; echo $HOME"),
        "1000\n1000\n1000 10 2000\n/home/app"
    );
    assert_eq!(script(&dhow, &["-u", "app:wheel"], "id -u; id -g"), "1000\n10");
    assert_eq!(script(&dhow, &["-w", "/made/for/it"], "pwd"), "/made/for/it");
    assert_eq!(script(&dhow, &["--hostname", "box"], "hostname; cat /etc/hostname"), "box\nbox");
}

#[test]
fn entrypoint_and_command_are_put_together_as_docker_does() {
    let dhow = Dhow::empty("entry");
    let image =
        Image::busybox("img").with("Entrypoint", json!(["echo", "entry"])).with("Cmd", json!(["cmd"]));
    dhow.load(&image);
    let run = |args: &[&str]| dhow.ok(&[&["run", "--rm", "--network", "none"], args].concat());
    assert_eq!(run(&["img"]), "entry cmd");
    assert_eq!(run(&["img", "words", "--of", "mine"]), "entry words --of mine");
    // another entrypoint: the image's command is not its argument
    assert_eq!(run(&["--entrypoint", "echo", "img"]), "");
    assert_eq!(run(&["--entrypoint", "echo", "img", "mine"]), "mine");
    assert_eq!(run(&["--entrypoint", "", "img", "echo", "bare"]), "bare");
}

#[test]
fn bind_mounts_are_writable_unless_read_only() {
    let dhow = Dhow::new("bind");
    let dir = dhow.scratch().join("bound");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "from the host").unwrap();
    let (rw, ro) = (format!("{}:/data", dir.display()), format!("{}:/data:ro", dir.display()));
    assert_eq!(script(&dhow, &["-v", &rw], "cat /data/file; echo inside >/data/new"), "from the host");
    assert_eq!(std::fs::read_to_string(dir.join("new")).unwrap(), "inside\n");
    let refused = script(&dhow, &["-v", &ro], "cat /data/file; touch /data/x 2>&1 || true");
    assert!(refused.contains("from the host") && refused.contains("Read-only file system"), "{refused}");
    // a file on a file, and a directory that is not there yet
    let file = format!("{}/file:/etc/passwd:ro", dir.display());
    assert_eq!(script(&dhow, &["-v", &file], "cat /etc/passwd"), "from the host");
    let missing = format!("{}/missing:/data", dir.display());
    script(&dhow, &["-v", &missing], "touch /data/x");
    assert!(dir.join("missing/x").exists());
}

#[test]
fn the_root_is_read_only_when_asked_and_tmpfs_is_not() {
    let dhow = Dhow::new("readonly");
    let text = script(
        &dhow,
        &["--read-only", "--tmpfs", "/scratch:size=1m,mode=1777"],
        "touch /x 2>&1; touch /scratch/x && stat -c %a /scratch; head -c 2m /dev/zero >/scratch/big; ls -s /scratch/big",
    );
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("Read-only file system"), "{text}");
    assert_eq!(lines[1], "1777");
    assert!(lines[2].trim_start().starts_with("10"), "a MiB at most: {text}");
}

#[test]
fn an_init_reaps_and_forwards_signals() {
    let dhow = Dhow::new("init");
    let name = script(
        &dhow,
        &["--init"],
        "cat /proc/1/comm; (sleep 0.01 &); sleep 0.2; ps -o stat | grep -c Z || true",
    );
    assert!(!name.starts_with("sh\n") && name.ends_with("\n0"), "{name}");
    dhow.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--init",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done",
    ]);
    eventually("the trap to be set", || dhow.ok(&["logs", "box"]).contains("up").then_some(()));
    dhow.ok(&["stop", "box"]);
    assert_eq!(dhow.ok(&["wait", "box"]), "9");
}

#[test]
fn labels_are_kept_and_filtered_by() {
    let dhow = Dhow::new("label");
    let run = |name: &str, label: &str| {
        dhow.ok(&["run", "-d", "--network", "none", "--name", name, "--label", label, "busybox", "true"])
    };
    run("one", "kind=a");
    run("two", "kind=b");
    assert_eq!(dhow.inspect("one")["Config"]["Labels"], json!({ "kind": "a" }));
    assert_eq!(dhow.ok(&["ps", "-a", "--filter", "label=kind=b", "--format", "{{.Names}}"]), "two");
}

#[test]
fn a_name_is_given_once_until_it_is_free_again() {
    let dhow = Dhow::new("name");
    let id = dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sleep", "1000"]);
    let line = dhow.fails(125, &["run", "--network", "none", "--name", "box", "busybox", "true"]);
    assert!(line.contains("box") && line.contains(&id[..12]), "{line}");
    dhow.ok(&["rm", "-f", "box"]);
    dhow.ok(&["run", "--rm", "--network", "none", "--name", "box", "busybox", "true"]);
    dhow.ok(&["run", "--rm", "--network", "none", "--name", "box", "busybox", "true"]);
}

#[test]
fn rm_leaves_nothing() {
    let dhow = Dhow::new("rm");
    // what is made at the first start and stays: caches
    dhow.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
    let settle = || {
        eventually("the container's directories to go", || {
            let listing = dhow.listing();
            let busy = listing.iter().any(|line| {
                line.contains("/removing/") && !line.ends_with("/removing/")
                    || line.contains("/containers/") && !line.ends_with("/containers/")
            });
            (!busy).then_some(listing)
        })
    };
    let before = settle();
    dhow.ok(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo x >/file"]);
    assert_eq!(settle(), before);
    assert_eq!(dhow.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_memory_limit_holds() {
    let dhow = Dhow::new("memory");
    let limit = script(
        &dhow,
        &["-m", "64m"],
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true",
    );
    assert_eq!(limit, (64 << 20).to_string());
    let args = ["run", "--name", "box", "--network", "none", "-m", "32m", "busybox"];
    let eats_memory = ["tail", "-c", "200m", "/dev/zero"];
    let output = dhow.run(&[&args[..], &eats_memory[..]].concat());
    assert_eq!(output.code, 137, "{output:?}");
    assert_eq!(dhow.inspect("box")["State"]["OOMKilled"], true);
}

#[test]
fn a_limit_of_processors_is_set() {
    let dhow = Dhow::new("cpus");
    let read = "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us";
    let limit = script(&dhow, &["--cpus", "0.5"], read);
    assert_eq!(limit.split_whitespace().collect::<Vec<_>>(), ["50000", "100000"]);
}

#[test]
fn a_fork_bomb_stops_at_the_limit() {
    let dhow = Dhow::new("bomb");
    let bomb = "i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done; echo all";
    let args = ["run", "--rm", "--network", "none", "--pids-limit", "20", "busybox", "sh", "-c", bomb];
    let output = dhow.run(&args);
    assert!(output.stderr.contains("can't fork") && !output.stdout.contains("all"), "{output:?}");
    // and without a word there is a limit, too
    let limit =
        script(&dhow, &[], "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null || true");
    assert_eq!(limit, "4096");
}

fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn capabilities_are_dockers_and_can_be_given_and_taken() {
    let dhow = Dhow::new("caps");
    let capabilities = |flags: &[&str]| effective(&script(&dhow, flags, "cat /proc/self/status"));
    let default = capabilities(&[]);
    assert_eq!(default, 0xa804_25fb);
    assert_eq!(capabilities(&["--cap-drop", "ALL"]), 0);
    assert_eq!(capabilities(&["--cap-drop", "ALL", "--cap-add", "net_raw"]), 1 << 13);
    assert_eq!(capabilities(&["--cap-add", "CAP_NET_ADMIN"]), default | 1 << 12);
    assert_eq!(capabilities(&["--cap-drop", "CHOWN", "--cap-drop", "mknod"]), default & !(1 | 1 << 27));
}

#[test]
fn confinement_can_be_chosen() {
    let dhow = Dhow::new("security");
    let status = |flags: &[&str], field: &str| {
        script(&dhow, flags, &format!("sed -n 's/^{field}:[^0-9]*//p' /proc/self/status"))
    };
    assert_eq!((&*status(&[], "NoNewPrivs"), &*status(&[], "Seccomp")), ("0", "2"));
    assert_eq!(status(&["--security-opt", "no-new-privileges"], "NoNewPrivs"), "1");
    assert_eq!(status(&["--security-opt", "seccomp=unconfined"], "Seccomp"), "0");
    let profile = dhow.scratch().join("profile.json");
    let rules = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }],
    });
    std::fs::write(&profile, rules.to_string()).unwrap();
    let option = format!("seccomp={}", profile.display());
    let refused = script(&dhow, &["--security-opt", &option], "mkdir /x 2>&1 || true; touch /y && echo fine");
    assert!(refused.contains("No space left") && refused.ends_with("fine"), "{refused}");
    // and no_new_privs may be the machine's default
    std::fs::write(dhow.config(), "no_new_privileges = true\n").unwrap();
    assert_eq!(status(&[], "NoNewPrivs"), "1");
    assert_eq!(status(&["--security-opt", "no-new-privileges=false"], "NoNewPrivs"), "0");
}

#[test]
fn the_built_in_image_tells_what_it_sees() {
    let dhow = Dhow::empty("hello");
    let text = dhow.ok(&["run", "--rm", "--memory", "64m", "--network", "none", "hello"]);
    for wanted in ["Hello", "64 MiB", "seccomp", "lo "] {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
    assert!(!text.contains("eth0"), "{text}");
    assert!(dhow.ok(&["run", "--rm", "hello"]).contains("eth0"));
}

#[test]
fn the_container_is_a_world_of_its_own() {
    let dhow = Dhow::new("own");
    let text = script(
        &dhow,
        &[],
        "echo $$; ps >/tmp/ps; wc -l </tmp/ps; ls /sys/class/net; mount | grep -c ' / '; cat /proc/1/comm; true",
    );
    assert_eq!(text, "1\n3\nlo\n1\nsh");
    let host = std::fs::read_link("/proc/self/ns/ipc").unwrap();
    assert_ne!(Path::new(&script(&dhow, &[], "readlink /proc/self/ns/ipc")), host);
    // what one container writes, another of the same image does not see
    script(&dhow, &[], "echo x >/etc/mine; rm /etc/group");
    script(&dhow, &[], "test ! -e /etc/mine && test -e /etc/group");
}

#[test]
fn an_images_links_lead_where_they_lead_inside() {
    let dhow = Dhow::new("links");
    // as distributions with systemd-resolved have it
    let layer =
        harness::tar::Tar::new().symlink("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
    dhow.load(&harness::image::Image::busybox("linked").with_layer(layer));
    let run = ["run", "--rm", "--network", "none", "linked"];
    assert!(
        dhow.ok(&[&run[..], &["cat", "/run/systemd/resolve/stub-resolv.conf"]].concat())
            .contains("nameserver")
    );

    // and what the child cannot do is what is said, not what the network misses once the child is gone
    let layer = harness::tar::Tar::new().symlink("etc/resolv.conf", "/proc/self/environ");
    dhow.load(&harness::image::Image::busybox("bad").with_layer(layer));
    for _ in 0..3 {
        let line = dhow.fails(125, &["run", "--rm", "bad", "true"]);
        assert!(line.contains("nothing may be mounted inside /proc"), "{line}");
    }
}
