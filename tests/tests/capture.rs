//! `network capture`: what passes a container's links, as lines and as recordings that others read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::world::{HOST, Peer, World};
use harness::{Dhow, Process, eventually};
use rustix::process::Signal;

fn server(dhow: &Dhow, name: &str, flags: &[&str]) -> String {
    let script = "mkdir -p /www && echo hello >/www/index.html && echo up && exec httpd -f -p 80 -h /www";
    dhow.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sh", "-c", script]].concat());
    eventually("the server", || dhow.ok(&["logs", name]).contains("up").then_some(()));
    let networks = &dhow.inspect(name)["NetworkSettings"]["Networks"];
    networks.as_object().unwrap().values().next().unwrap()["IPAddress"].as_str().unwrap().to_owned()
}

fn capturing(dhow: &Dhow, args: &[&str]) -> Process {
    let process = dhow.spawn(&[&["network", "capture"], args].concat());
    eventually("the capture", || process.stderr().contains("capturing on").then_some(()));
    process
}

#[test]
fn packets_are_told_recorded_and_read_by_tcpdump() {
    let world = World::new();
    let dhow = Dhow::in_namespace("capture", world.host());
    dhow.ok(&["network", "create", "back"]);
    let web = server(&dhow, "web", &["--network", "back"]);
    dhow.ok(&["network", "connect", "bridge", "web"]);
    let fetch = |port| Peer::Host(&world).fetch(&web, port);

    let lines = capturing(&dhow, &["web", "tcp", "port", "80", "and", "not", "host", HOST]);
    let recording = dhow.scratch().join("web.pcapng");
    let recorded = capturing(&dhow, &["-w", recording.to_str().unwrap(), "--network", "back", "web", "tcp"]);
    let other = capturing(&dhow, &["--network", "bridge", "web", "tcp"]);
    assert_eq!(fetch(80), "hello");
    assert_eq!(fetch(81), "", "nobody listens there");
    lines.expect(&format!("> {web}:80 [S] length 0"));
    lines.expect(&format!(" eth0 out TCP {web}:80 > "));
    for process in [&lines, &recorded, &other] {
        process.signal(Signal::INT);
    }
    let lines = lines.wait();
    assert_eq!(lines.code, 0, "{lines:#?}");
    assert!(!lines.stdout.contains(":81"), "{}", lines.stdout);
    let count = lines.stdout.lines().count();
    assert!(
        lines.stderr.contains(&format!("{count} packets captured, 0 packets dropped")),
        "{}",
        lines.stderr
    );
    let other = other.wait();
    assert_eq!((other.code, &*other.stdout), (0, ""), "nothing of it passed the other network");
    assert_eq!(recorded.wait().code, 0);

    let read = harness::Invocation::new("tcpdump").args(&["-nr", recording.to_str().unwrap()]).ok();
    assert!(read.contains(&format!("> {web}.80: Flags [S]")), "{read}");
    assert!(read.contains(&format!("IP {web}.81 > ")) && read.contains("Flags [R.]"), "{read}");
    assert!(read.contains("HTTP"), "whole packets: {read}");
    let bytes = std::fs::read(&recording).unwrap();
    assert!(bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]));
    assert!(bytes.windows(4).any(|name| name == b"eth0"), "interfaces have names");

    // Through a pipe, an end by count, and less of each packet.
    let piped = dhow.spawn(&[
        "network", "capture", "-w", "-", "-c", "3", "-s", "60", "-i", "eth0", "web", "arp", "or", "tcp",
    ]);
    eventually("the capture", || piped.stderr().contains("capturing on eth0").then_some(()));
    fetch(80);
    let piped = piped.wait();
    assert!(piped.code == 0 && piped.stderr.contains("3 packets captured"), "{}", piped.stderr);
    // So many that the beginning of a connection is among them.
    let both = format!(
        "{} network capture -w - -c 24 web tcp | tcpdump -nr - 2>/dev/null",
        harness::bin_dir().join("dhow").display()
    );
    let shell = harness::Invocation::new("nsenter")
        .arg(format!("--net=/run/netns/{}", world.host()))
        .args(&["sh", "-c", &both]);
    let shell = dhow.wrap(shell).spawn();
    let text = eventually("packets through a pipe", || {
        fetch(80);
        shell.stdout().contains(".80: Flags [S]").then(|| shell.stdout())
    });
    assert!(text.contains(&web), "{text}");
    shell.wait();
}

#[test]
fn a_capture_ends_with_its_container_and_says_what_cannot_be() {
    let dhow = Dhow::new("capture-end");
    server(&dhow, "web", &[]);
    let capture = capturing(&dhow, &["web"]);
    dhow.ok(&["rm", "-f", "web"]);
    let output = capture.wait();
    assert!(output.code == 0 && output.stderr.contains("0 packets dropped"), "{output:#?}");
    server(&dhow, "web", &[]);
    dhow.ok(&["create", "--name", "still", "busybox"]);
    for (args, words) in [
        (&["still"][..], "not running"),
        (&["nobody"], "nobody"),
        (&["web", "port", "x"], "`x` is not a port"),
        (&["-i", "eth7", "web"], "no interface `eth7`"),
        (&["--network", "nope", "web"], "no network"),
    ] {
        let output = dhow.run(&[&["network", "capture"], args].concat());
        assert!(output.code == 1 && output.stderr.contains(words), "{args:?}: {output:#?}");
    }
}
