//! `kill -9` of whatever is ours, at any moment, and cut power: what is there afterwards is whole, and nothing
//! leaks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::image::Image;
use harness::registry::{Login, Registry};
use harness::tar::Tar;
use harness::{Dhow, Invocation, Process, bin_dir, eventually, random, soak, store};
use rustix::process::{Pid, Signal, kill_process};

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

/// An image of several layers with many files, so that there is something to be interrupted.
fn large_image(name: &str) -> Image {
    let mut image = Image::busybox(name);
    for layer in 0..3_u32 {
        let mut tar = Tar::new().dir(&format!("data{layer}/"), 0o755);
        for file in 0..150_u32 {
            let content: Vec<u8> =
                (0..20_000_u32).map(|n| (n.wrapping_mul(layer * 31 + file * 7 + 1) >> 5) as u8).collect();
            tar = tar.file(&format!("data{layer}/f{file}"), 0o644, content);
        }
        image = image.with_layer(tar);
    }
    image
}

#[test]
fn killing_the_door_leaves_the_container_running_and_its_log_whole() {
    let dhow = Dhow::new("killdoor");
    // A signal, not an `exec`, lets it go on: that would die with the container if this were quick.
    let script = "trap go=1 USR1; i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; [ $i != 100 ] || while [ -z \"$go\" ]; do sleep 0.02; done; done";
    let mut door = dhow.spawn(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    door.expect("\n100\n");
    door.kill();
    assert_eq!(dhow.inspect("box")["State"]["Running"], true);
    dhow.ok(&["kill", "--signal", "USR1", "box"]);
    assert_eq!(dhow.ok(&["wait", "box"]), "0");
    let expected: Vec<String> = (1..=300).map(|n: u32| n.to_string()).collect();
    assert_eq!(dhow.ok(&["logs", "box"]), expected.join("\n"));
}

#[test]
fn killing_a_monitor_ends_its_container_and_the_next_command_releases_all() {
    let dhow = Dhow::new("killmonitor");
    for name in ["box", "box2"] {
        dhow.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "-p",
            "0:80",
            "busybox",
            "sh",
            "-c",
            "trap '' TERM HUP; echo up; sleep 1000",
        ]);
    }
    let (pid, before) = (dhow.pid("box"), dhow.inspect("box"));
    let port = before["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].as_str().unwrap().to_owned();
    kill(dhow.monitor_pid("box"));
    let after = dhow.inspect("box");
    assert_eq!(
        (&after["State"]["Status"], &after["State"]["ExitCode"]),
        (&"exited".into(), &137.into()),
        "{after:#}"
    );
    assert!(!Path::new(&format!("/proc/{pid}/root")).exists(), "its init is still there");
    assert!(dhow.ok(&["ps", "-a", "--filter", "name=box"]).contains("Exited (137)"));
    assert_eq!(dhow.ok(&["ps", "--format", "{{.Names}}"]), "box2", "the other one is none of that");
    // its port is free, and so is its name once it is removed
    dhow.ok(&["rm", "box"]);
    dhow.ok(&["run", "-d", "--name", "box", "-p", &format!("{port}:80"), "busybox", "sleep", "1000"]);
    // one with --rm is removed by whoever comes next
    dhow.ok(&["run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "1000"]);
    kill(dhow.monitor_pid("gone"));
    assert!(!dhow.ok(&["ps", "-a"]).contains("gone"));
    // and an attached door says what happened
    let door = dhow.spawn(&[
        "run",
        "--name",
        "seen",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo up; sleep 1000",
    ]);
    door.expect("up");
    kill(dhow.monitor_pid("seen"));
    let output = door.wait();
    assert_eq!(output.code, 137, "{output:?}");
}

#[test]
fn killing_everything_at_once_is_put_right_by_the_next_command() {
    let dhow = Dhow::new("killall");
    for number in 0..6 {
        let name = format!("box{number}");
        dhow.ok(&[
            "run",
            "-d",
            "--name",
            &name,
            "--network",
            if number % 2 == 0 { "none" } else { "bridge" },
            "busybox",
            "sleep",
            "1000",
        ]);
    }
    let pids: Vec<u32> = (0..6).map(|n| dhow.monitor_pid(&format!("box{n}"))).collect();
    for pid in pids {
        kill(pid);
    }
    assert_eq!(dhow.ok(&["ps", "-q"]), "");
    assert_eq!(dhow.ok(&["ps", "-a", "--format", "{{.State}}"]), ["exited"; 6].join("\n"));
}

/// Kills the command at a random moment of its life, which takes about `whole` when nobody does.
fn kill_at_random(mut process: Process, whole: Duration) -> bool {
    let moment = Duration::from_micros(random(whole.as_micros() as u64 + 1));
    let begun = Instant::now();
    while begun.elapsed() < moment && process.is_running() {
        std::thread::sleep(Duration::from_micros(200));
    }
    let killed = process.is_running();
    process.kill();
    killed
}

/// All that the store has is whole; layers are as in the store `reference`.
#[track_caller]
fn verify(dhow: &Dhow, reference: &Dhow) {
    assert_eq!(store::broken_blobs(&dhow.root()), Vec::<String>::new());
    let whole = store::layers(&reference.root());
    for (name, digest) in store::layers(&dhow.root()) {
        assert_eq!(whole.get(&name), Some(&digest), "layer {name} is not what it should be");
    }
    dhow.ok(&["images"]);
    dhow.ok(&["ps", "-a"]);
}

#[test]
fn soak_load_and_pull_may_be_killed_at_any_point() {
    let image = large_image("large:1");
    let reference = Dhow::empty("reference");
    reference.load(&image);
    let registry = Registry::new(Login::None);
    registry.add_compressed(&image, "1", "+gzip", &["gzip", "-1"]);
    let dhow = Dhow::empty("killpull");
    let archive = dhow.scratch().join("large.tar");
    std::fs::write(&archive, image.docker_archive()).unwrap();
    let pulled = format!("{}/large:1", registry.host());
    let begin = |kind: usize| match kind {
        0 => dhow.spawn(&["load", "-q", "-i", archive.to_str().unwrap()]),
        _ => dhow.spawn(&["pull", "-q", &pulled]),
    };
    let names = ["large:1", &pulled];
    let mut whole = [Duration::ZERO; 2];
    for kind in [0, 1] {
        let begun = Instant::now();
        assert_eq!(begin(kind).wait().code, 0);
        whole[kind] = begun.elapsed();
        dhow.ok(&["rmi", names[kind]]);
    }
    let mut killed = 0;
    for round in 0..soak(16, 300) {
        let kind = round % 2;
        killed += usize::from(kill_at_random(begin(kind), whole[kind]));
        verify(&dhow, &reference);
        // what was begun can be finished, and runs
        if round % 4 < 2 {
            assert_eq!(begin(kind).wait().code, 0);
            let count =
                ["run", "--rm", "--network", "none", names[kind], "sh", "-c", "ls /data? | grep -c f"];
            assert_eq!(dhow.ok(&count), "450");
            dhow.ok(&["rmi", names[kind]]);
        }
    }
    assert!(killed > 0, "no round was killed in time");
    // after a last whole one and its removal nothing of all the attempts is left
    for kind in [0, 1] {
        assert_eq!(begin(kind).wait().code, 0);
        verify(&dhow, &reference);
    }
    for name in names {
        dhow.run(&["rmi", name]);
    }
    for place in ["content/blobs/sha256", "layers", "removing", "names/images"] {
        let left: Vec<_> =
            std::fs::read_dir(dhow.root().join(place)).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The monitors of an instance: they hold its directories.
fn monitors(dhow: &Dhow) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter(|pid| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let live = std::fs::read_link(format!("/proc/{pid}/fd/3")).unwrap_or_default();
        comm.starts_with("dhow-monitor") && live.starts_with(dhow.run_root())
    })
    .collect()
}

#[test]
fn soak_run_may_be_killed_at_any_point() {
    let dhow = Dhow::new("killrun");
    let start = |network: &str| {
        dhow.spawn(&[
            "run",
            "--rm",
            "--network",
            network,
            "-v",
            "/etc:/host:ro",
            "busybox",
            "sh",
            "-c",
            "echo x >/y",
        ])
    };
    let mut whole = Duration::ZERO;
    for network in ["none", "bridge"] {
        let begun = Instant::now();
        assert_eq!(start(network).wait().code, 0);
        whole = begun.elapsed();
    }
    for round in 0..soak(24, 400) {
        let network = ["none", "bridge"][round % 2];
        kill_at_random(start(network), whole);
        // half of the time the monitor dies with it, a moment later
        if round % 4 < 2 {
            std::thread::sleep(Duration::from_micros(random(5_000)));
            for pid in monitors(&dhow) {
                kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).ok();
            }
        }
        // the next command works and everything else ends by itself
        assert_eq!(
            dhow.run(&["run", "--rm", "--network", network, "busybox", "echo", "fine"]).stdout,
            "fine\n",
            "round {round}"
        );
    }
    eventually("all containers to be gone", || (dhow.ok(&["ps", "-aq"]).is_empty()).then_some(()));
}

/// Where `cargo xtask` put a kernel for virtual machines, if it had to.
fn kernel() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/kernel");
    unpacked.join("lib/modules").exists().then_some(unpacked)
}

#[test]
fn soak_power_cuts_leave_a_store_that_works() {
    if std::env::var_os("VM_RUN").is_some() {
        eprintln!("a machine within the machine would take too long");
        return;
    }
    let dir = harness::real_directory("power");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let images =
        [large_image("one:1"), Image::busybox("two:1").with_layer(Tar::new().file("mark", 0o644, "2"))];
    for (image, name) in images.iter().zip(["one.tar", "two.tar"]) {
        std::fs::write(at(name), image.docker_archive()).unwrap();
    }
    let checksums = "cd / && find bin data0 data1 data2 -type f | sort | xargs sha256sum | sha256sum";
    let expected = {
        let dhow = Dhow::empty("power-reference");
        dhow.load(&images[0]);
        dhow.ok(&["run", "--rm", "--network", "none", "one:1", "sh", "-c", checksums])
    };
    // a boot: is all that is there whole, and does it work? Then do what writes, until the power goes.
    let script = format!(
        r#"export DHOW_ROOT=/scratch/dhow/root DHOW_RUN_ROOT=/run/dhow-power
        dhow() {{ {dhow} "$@"; }}
        fail() {{ echo "BROKEN: $*"; exit 1; }}
        run() {{ dhow run --rm --network none --pull never "$@"; }}
        cd $DHOW_ROOT/content/blobs/sha256 2>/dev/null && for blob in *; do
            [ ! -e "$blob" ] || echo "$blob  $blob" | sha256sum --check --quiet || fail "blob $blob"
        done
        dhow images >/dev/null || fail images
        dhow ps -a >/dev/null || fail ps
        for id in $(dhow ps -aq); do dhow rm -f $id >/dev/null || fail "rm $id"; done
        for image in $(dhow images --format '{{{{.Repository}}}}:{{{{.Tag}}}}'); do
            case $image in
            one:*) [ "$(run $image sh -c '{checksums}')" = "{expected}" ] || fail "$image is not whole";;
            *) [ "$(run $image cat /mark)" = 2 ] || fail "$image";;
            esac
        done
        echo VERIFIED
        while :; do
            dhow load -q -i {one} >/dev/null || fail load
            dhow run -d --network none --name box one:1 sh -c 'echo x >/file; sleep 1000' >/dev/null || fail run
            dhow load -q -i {two} >/dev/null || fail load
            dhow tag two:1 three:1 || fail tag
            dhow rm -f box >/dev/null || fail rm
            dhow rmi one:1 three:1 >/dev/null || fail rmi
            echo ROUND
        done"#,
        dhow = bin_dir().join("dhow").display(),
        one = at("one.tar"),
        two = at("two.tar"),
    );
    for cut in 0..=soak(2, 50) {
        let vm_run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/vm-run");
        let mut vm =
            Invocation::new(vm_run).args(&["--timeout", "240", "--disk", &at("disk"), "--disk-size", "1G"]);
        if let Some(directory) = kernel() {
            vm = vm.arg("--kernel-root").arg(directory);
        }
        let mut vm = vm.args(&["--", "sh", "-c", &script]).env("TMPDIR", dir.path()).limit(240).spawn();
        vm.expect("VERIFIED");
        // any moment of a round
        std::thread::sleep(Duration::from_millis(random(6000)));
        let said = vm.stdout();
        assert!(vm.is_running() && !said.contains("BROKEN"), "after {cut} cuts: {said}");
        vm.signal(Signal::TERM);
        vm.wait();
    }
}
