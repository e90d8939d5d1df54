//! What broke other engines, tried on ours.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use harness::image::Image;
use harness::tar::Tar;
use harness::{Dhow, bin_dir, eventually};
use serde_json::json;

/// The flags that bring the probe along.
const PROBE: &str = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");

#[track_caller]
fn probe(dhow: &Dhow, flags: &[&str], what: &str) -> String {
    dhow.ok(&[&["run", "--rm", "--network", "none", "-v", PROBE], flags, &["busybox", "probe", what]].concat())
}

fn programs() -> Vec<(String, Vec<u8>)> {
    ["dhow", "dhow-monitor"]
        .map(|name| (name.to_owned(), std::fs::read(bin_dir().join(name)).unwrap()))
        .to_vec()
}

#[test]
fn the_kernels_dangerous_corners_are_out_of_reach() {
    let dhow = Dhow::new("forbidden");
    let answers = probe(&dhow, &[], "forbidden");
    assert!(answers.lines().count() > 15, "{answers}");
    for line in answers.lines() {
        assert!(!line.ends_with(" allowed"), "{line}");
    }
    let answer = |name: &str| {
        let line = answers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse::<i32>().unwrap()
    };
    // refused by name, and not because something is missing here
    for name in ["AF_ALG", "mount", "umount", "keyctl", "bpf", "unshare", "open_by_handle_at"] {
        assert_eq!(answer(name), 1, "{name} is to be EPERM in {answers}");
    }
    for path in ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"] {
        assert!([1, 2, 13, 30].contains(&answer(path)), "{path} in {answers}");
    }
}

#[test]
fn no_descriptor_of_ours_comes_along() {
    let dhow = Dhow::new("fds");
    assert_eq!(probe(&dhow, &[], "descriptors"), "0 1 2\n/");
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "-v", PROBE, "busybox", "sleep", "1000"]);
    assert_eq!(dhow.ok(&["exec", "box", "probe", "descriptors"]), "0 1 2\n/");
    assert_eq!(dhow.ok(&["exec", "-t", "box", "probe", "descriptors"]), "0 1 2\r\n/\r");
}

#[test]
fn a_working_directory_below_proc_self_fd_leads_nowhere() {
    let dhow = Dhow::empty("cwd");
    assert!(
        std::path::Path::new("/etc/debian_version").exists(),
        "what is looked for must be there to be found"
    );
    // CVE-2024-21626: a descriptor of a host directory that is still open becomes the working directory
    for number in 3..12 {
        let name = format!("img{number}");
        dhow.load(&Image::busybox(&name).with("WorkingDir", json!(format!("/proc/self/fd/{number}"))));
        let output = dhow.run(&[
            "run",
            "--rm",
            "--network",
            "none",
            &name,
            "sh",
            "-c",
            // on every Debian host, and not in the image
            "ls ../../../../etc/debian_version",
        ]);
        println!("{number}: {output:?}");
        assert_ne!(output.code, 0, "{number}: {output:?}");
        assert!(!output.stdout.contains("debian_version"), "{number}: {output:?}");
    }
    dhow.load(&Image::busybox("busybox"));
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    for number in 3..12 {
        let directory = format!("/proc/self/fd/{number}");
        let output = dhow.run(&["exec", "-w", &directory, "box", "ls", "../../../../etc/debian_version"]);
        assert_ne!(output.code, 0, "{number}: {output:?}");
    }
}

#[test]
fn our_programs_cannot_be_overwritten_from_inside() {
    let dhow = Dhow::empty("steal");
    let before = programs();
    // CVE-2019-5736: the image's program is whoever executes it
    let image = Image::busybox("evil").with_layer(Tar::new().file("bin/evil", 0o755, "#!/proc/self/exe\n"));
    dhow.load(&image);
    dhow.command(&["run", "--rm", "--network", "none", "evil", "/bin/evil"]).limit(20).output();
    let start =
        ["run", "-d", "--name", "box", "--network", "none", "-v", PROBE, "--cap-add", "SYS_PTRACE", "evil"];
    dhow.ok(&[&start[..], &["probe", "steal-programs"]].concat());
    eventually("the thief to be ready", || dhow.ok(&["logs", "box"]).contains("up").then_some(()));
    for _ in 0..10 {
        dhow.run(&["exec", "box", "true"]);
        dhow.command(&["exec", "box", "/bin/evil"]).limit(20).output();
    }
    // It ends the container, and may go with it before it is done.
    dhow.run(&["exec", "box", "touch", "/enough"]);
    dhow.ok(&["wait", "box"]);
    let said = dhow.ok(&["logs", "box"]);
    println!("{said}");
    assert!(said.contains("done") && !said.contains("STOLEN") && !said.contains("WRITABLE"), "{said}");
    assert!(programs() == before, "a program of ours was changed");
}

#[test]
fn symbolic_links_in_an_image_do_not_lead_out_of_it() {
    let dhow = Dhow::empty("links");
    let trap = dhow.scratch().join("trap");
    std::fs::create_dir_all(trap.join("shm")).unwrap();
    std::fs::write(trap.join("file"), "the host's").unwrap();
    let outside = trap.to_str().unwrap();
    let links: &[(&str, &str)] = &[
        ("dev", outside),
        ("proc", outside),
        ("sys", outside),
        ("etc/hosts", outside),
        ("etc/resolv.conf", outside),
        ("etc/hostname", outside),
        ("dev/shm", outside),
        ("dev/console", outside),
        ("srv", outside),
        ("etc/mtab", outside),
    ];
    for (number, (path, target)) in links.iter().enumerate() {
        let name = format!("links{number}");
        let image = Image::busybox(&name).with("WorkingDir", json!("/srv/made"));
        // a directory cannot become a link in the same layer: white it out first
        dhow.load(&image.with_layer(Tar::new().symlink(path, target)));
        let script = "ls / >/dev/null; echo ok";
        let flags = ["run", "--rm", "--network", "none", "-t", "-v", PROBE, "--tmpfs", "/srv/tmp"];
        let output = dhow.run(&[&flags[..], &[&name, "sh", "-c", script]].concat());
        println!("{path} -> {target}: {output:?}");
        assert!([0, 125, 126, 127].contains(&output.code), "{path}: {output:?}");
        let mut found: Vec<String> = std::fs::read_dir(&trap)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        found.sort();
        assert_eq!(found, ["file", "shm"], "{path} -> {target}");
        assert_eq!(std::fs::read_to_string(trap.join("file")).unwrap(), "the host's");
        assert_eq!(std::fs::read_dir(trap.join("shm")).unwrap().count(), 0, "{path}");
    }
}

#[test]
fn a_volume_cannot_take_the_place_of_proc() {
    let dhow = Dhow::new("proc");
    let dir = dhow.scratch().join("fake");
    std::fs::create_dir(&dir).unwrap();
    let line =
        dhow.fails(125, &["run", "--rm", "-v", &format!("{}:/proc", dir.display()), "busybox", "true"]);
    assert!(line.contains("/proc"), "{line}");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn users_files_of_an_image_are_read_with_care() {
    let dhow = Dhow::empty("passwd");
    let run = |name: &str, user: &str| {
        let args = ["run", "--rm", "--network", "none", "-u", user, name, "id", "-u"];
        dhow.command(&args).limit(20).output()
    };
    // a FIFO, a link out, a directory: no hang, and numbers still work (CVE-2024-9676)
    for (name, layer) in [
        ("fifo", Tar::new().fifo("etc/passwd").fifo("etc/group")),
        (
            "link",
            Tar::new().symlink("etc/passwd", "/../../../../etc/passwd").symlink("etc/group", "/dev/zero"),
        ),
    ] {
        dhow.load(&Image::busybox(name).with_layer(layer));
        assert_eq!(run(name, "nosuchuser").code, 125, "{name}");
        let output = run(name, "1234:5");
        assert!(output.code == 125 || output.stdout == "1234\n", "{name}: {output:?}");
    }
    // CVE-2026-47262, CVE-2025-4437: as large as it likes
    let mut huge = "x:x:1:1::/:/bin/sh\n".repeat(1_000_000);
    huge.push_str("late:x:77:77::/:/bin/sh\n");
    dhow.load(&Image::busybox("huge").with_layer(Tar::new().file("etc/passwd", 0o644, &huge)));
    let output = run("huge", "late");
    assert!(output.code == 125 || output.stdout == "77\n", "{output:?}");
}

#[test]
fn user_ids_do_not_wrap_and_numbers_are_numbers() {
    let dhow = Dhow::empty("uid");
    // CVE-2024-40635, CVE-2026-46680: a user whose name is a number is still that number
    let passwd = "root:x:0:0::/:/bin/sh\n1000:x:0:0::/:/bin/sh\n";
    dhow.load(&Image::busybox("img").with_layer(Tar::new().file("etc/passwd", 0o644, passwd)));
    let id = |user: &str| dhow.run(&["run", "--rm", "--network", "none", "-u", user, "img", "id", "-u"]);
    for bad in ["4294967296", "4294967295", "2147483648", "-1", "18446744073709551616", "0x0"] {
        let output = id(bad);
        assert!(output.code == 125 && output.stdout.is_empty(), "{bad}: {output:?}");
    }
    assert_eq!(id("1000").stdout, "1000\n");
    // what the image says counts as little
    dhow.load(&Image::busybox("wrap").with("User", json!("4294967296:4294967296")));
    assert_eq!(dhow.run(&["run", "--rm", "--network", "none", "wrap", "id", "-u"]).code, 125);
    // CVE-2026-30892: `exec -u`, too
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "img", "sleep", "1000"]);
    assert_eq!(dhow.ok(&["exec", "-u", "1", "box", "id", "-u"]), "1");
    let output = dhow.run(&["exec", "-u", "4294967296", "box", "id", "-u"]);
    assert!([125, 126].contains(&output.code) && output.stdout.is_empty(), "{output:?}");
}

#[test]
fn no_capability_is_inheritable_and_no_group_is_the_callers() {
    let dhow = Dhow::new("inherit");
    let status = dhow.ok(&["run", "--rm", "--network", "none", "busybox", "cat", "/proc/self/status"]);
    for field in ["CapInh", "CapAmb"] {
        assert!(status.contains(&format!("{field}:\t0000000000000000")), "{field} of {status}");
    }
    let groups =
        |user: &str| dhow.ok(&["run", "--rm", "--network", "none", "-u", user, "busybox", "id", "-G"]);
    assert_eq!(groups("0"), "0");
    assert_eq!(groups("1234"), "0");
}

#[test]
fn nothing_of_ours_listens_where_a_container_can_reach_it() {
    let dhow = Dhow::new("sockets");
    dhow.ok(&["run", "-d", "--name", "box", "--network", "host", "busybox", "sleep", "1000"]);
    // CVE-2020-15257: abstract sockets belong to the network namespace
    let sockets = dhow.ok(&["exec", "box", "cat", "/proc/net/unix"]);
    let abstracts: Vec<&str> = sockets.lines().filter(|l| l.contains('@') && l.contains("dhow")).collect();
    assert!(abstracts.is_empty(), "{abstracts:?}");
    let listening = dhow.ok(&["exec", "box", "cat", "/proc/net/tcp", "/proc/net/tcp6"]);
    let monitor = format!("/proc/{}/fd", dhow.monitor_pid("box"));
    for entry in std::fs::read_dir(monitor).unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            assert!(!listening.split_whitespace().any(|word| word == inode), "{target}");
        }
    }
}

#[test]
fn local_users_may_not_look_into_our_directories() {
    let dhow = Dhow::new("modes");
    dhow.ok(&["run", "-d", "--name", "box", "-p", "0:80", "busybox", "sleep", "1000"]);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    for (root, names) in [
        (
            dhow.root(),
            &["containers", "layers", "content", "names/images", "names/containers", "cache", "removing"][..],
        ),
        (dhow.run_root(), &["containers", "networks"]),
    ] {
        assert_eq!(mode(&root) & 0o066, 0, "{}", root.display());
        for name in names {
            assert_eq!(mode(&root.join(name)) & 0o077, 0, "{name}");
        }
    }
    // and a user who is nobody sees nothing
    let look = harness::Invocation::new("setpriv")
        .args(&["--reuid=65534", "--regid=65534", "--clear-groups", "ls"])
        .arg(dhow.root().join("layers"));
    assert_ne!(look.output().code, 0);
}

#[test]
fn an_image_cannot_give_orders() {
    let dhow = Dhow::empty("orders");
    // labels and volumes are data, whatever they say (CVE-2026-53488, CVE-2022-23648)
    let image = Image::busybox("img")
        .with("Labels", json!({ "containerd.io/restart.loguri": "binary:///bin/sh?-c=touch+/tmp/owned" }))
        .with("Volumes", json!({ "/../../../../../etc": {} }))
        .with("StopSignal", json!("NOSUCHSIGNAL"));
    dhow.load(&image);
    let output = dhow.run(&["run", "--rm", "--network", "none", "img", "ls", "/etc"]);
    assert!([0, 125].contains(&output.code) && !output.stdout.contains("debian_version"), "{output:?}");
}

#[test]
fn the_environment_may_be_large_and_a_flood_of_output_does_no_harm() {
    let dhow = Dhow::new("dos");
    let many: Vec<String> = (0..3000).map(|n| format!("--env=V{n}=x")).collect();
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(many.iter().map(String::as_str));
    args.extend(["busybox", "sh", "-c", "env | grep -c ^V"]);
    assert_eq!(dhow.ok(&args), "3000");
    // a line without an end does not gather in the monitor's memory
    let flood = "head -c 50m /dev/zero | tr '\\0' x; echo; echo done; sleep 1000";
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", flood]);
    eventually("the flood to end", || {
        dhow.run(&["logs", "--tail", "1", "box"]).stdout.contains("done").then_some(())
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", dhow.monitor_pid("box"))).unwrap();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 32 * 1024, "{peak} kB");
}
