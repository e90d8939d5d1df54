//! `dhow set -p`, `--publish-rm`: ports of a container that runs, on a host of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use harness::world::{HOST, Peer, World};
use harness::{Dhow, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

#[track_caller]
fn server(dhow: &Dhow, name: &str, flags: &[&str]) {
    let script = format!(
        "mkdir -p /www && echo I am {name} >/www/index.html && echo up && exec httpd -f -p 80 -h /www"
    );
    dhow.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sh", "-c", &script]].concat());
    eventually("the server", || dhow.ok(&["logs", name]).contains("up").then_some(()));
}

#[track_caller]
fn fetched(client: Peer<'_>, host: &str, port: u16, expected: &str) {
    eventually("the server's answer", || (client.fetch(host, port) == expected).then_some(()));
}

#[test]
fn ports_open_and_close_while_it_runs() {
    let world = World::new();
    let (host, neighbour) = (Peer::Host(&world), Peer::Neighbour(&world));
    let dhow = Dhow::in_namespace("setports", world.host());
    server(&dhow, "web", &[]);
    let pid = dhow.pid("web");
    let output = dhow.run(&["set", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "80", "web"]);
    let words =
        "web: at once, while it runs: publish 8080:80/tcp, publish 127.0.0.1:8081:80/tcp, publish 80/tcp\n";
    assert_eq!((output.code, &*output.stdout, &*output.stderr), (0, "web\n", words));
    fetched(neighbour, HOST, 8080, "I am web");
    fetched(host, "127.0.0.1", 8081, "I am web");
    let random = dhow.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"][2]["HostPort"].clone();
    let random: u16 = random.as_str().unwrap().parse().unwrap();
    fetched(neighbour, HOST, random, "I am web");
    assert_eq!(dhow.pid("web"), pid);
    assert_eq!(
        dhow.inspect("web")["HostConfig"]["PortBindings"]["80/tcp"][0],
        json!({ "HostIp": "0.0.0.0", "HostPort": "8080" })
    );
    assert!(dhow.ok(&["ps"]).contains("0.0.0.0:8080->80/tcp"), "{}", dhow.ok(&["ps"]));
    assert!(dhow.ok(&["port", "web"]).contains("80/tcp -> 127.0.0.1:8081"), "{}", dhow.ok(&["port", "web"]));
    // nobody else gets them
    let error = dhow.fails(125, &["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(error.contains("something on this host listens there already"), "{error}");
    assert!(host.act(|| TcpListener::bind(("0.0.0.0", 8080)).is_err()));
    // the same host's port of another kind, from wide to narrow, and the random one stays what it is
    dhow.ok(&["set", "--publish-rm", "8080:80", "-p", "127.0.0.1:8080:80", "web"]);
    fetched(host, "127.0.0.1", 8080, "I am web");
    assert_eq!(neighbour.fetch(HOST, 8080), "");
    fetched(neighbour, HOST, random, "I am web");
    // the run after a restart by its monitor has them, too
    dhow.ok(&["restart", "-t", "0", "web"]);
    fetched(host, "127.0.0.1", 8080, "I am web");
    fetched(neighbour, HOST, random, "I am web");
    // and so has one by a new monitor
    dhow.ok(&["stop", "-t", "0", "web"]);
    dhow.ok(&["start", "web"]);
    fetched(host, "127.0.0.1", 8081, "I am web");
    let pid = dhow.pid("web");
    dhow.ok(&["set", "--publish-rm", "80", "web"]);
    assert_eq!((dhow.ok(&["port", "web"]), dhow.pid("web")), (String::new(), pid));
    for port in [8080, 8081] {
        assert_eq!(host.fetch("127.0.0.1", port), "");
        host.act(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
    }
}

#[test]
fn datagrams_find_another_way_at_once() {
    let world = World::new();
    let dhow = Dhow::in_namespace("setudp", world.host());
    let probe = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");
    dhow.ok(&["run", "-d", "--name", "echo", "-v", probe, "busybox", "probe", "udp-echo", "53"]);
    eventually("the server", || dhow.ok(&["logs", "echo"]).contains("up").then_some(()));
    dhow.ok(&["set", "-p", "5353:53/udp", "echo"]);
    let echo = || Peer::Neighbour(&world).ask(HOST, 5353, "ping");
    eventually("an answer", || echo().filter(|answer| answer == "ping"));
    dhow.ok(&["set", "--publish-rm", "53/udp", "echo"]);
    assert_eq!(echo(), None);
    Peer::Host(&world).act(|| UdpSocket::bind(("0.0.0.0", 5353)).unwrap());
}

#[test]
fn a_port_that_is_taken_changes_nothing() {
    let world = World::new();
    let dhow = Dhow::in_namespace("setconflict", world.host());
    server(&dhow, "web", &["-p", "8080:80"]);
    let (pid, before) = (dhow.pid("web"), dhow.inspect("web"));
    let listener = Peer::Host(&world).act(|| TcpListener::bind(("0.0.0.0", 9000)).unwrap());
    let flags = ["-l", "a=b", "-m", "64m", "-p", "9001:80", "-p", "9000:80", "--publish-rm", "8080:80"];
    let output = dhow.run(&[&["set"], &flags[..], &["web"]].concat());
    let taken = "cannot publish port 9000/tcp: something on this host listens there already";
    assert!(output.code == 1 && output.stderr.contains(taken), "{output:#?}");
    assert_eq!((dhow.pid("web"), dhow.inspect("web")), (pid, before.clone()));
    fetched(Peer::Neighbour(&world), HOST, 8080, "I am web");
    assert_eq!(Peer::Neighbour(&world).fetch(HOST, 9001), "");
    // where it would have to be stopped, that is seen before it is
    let output = dhow.run(&[&["set", "-y", "-e", "A=1"], &flags[..], &["web"]].concat());
    assert!(output.code == 1 && output.stderr.contains(taken), "{output:#?}");
    assert_eq!((dhow.pid("web"), dhow.inspect("web")), (pid, before));
    drop(listener);
    dhow.ok(&[&["set", "-y", "-t", "0", "-e", "A=1"], &flags[..], &["web"]].concat());
    fetched(Peer::Neighbour(&world), HOST, 9000, "I am web");
    assert_eq!(Peer::Neighbour(&world).fetch(HOST, 8080), "");
}

#[test]
fn a_container_that_comes_back_comes_back_with_its_new_ports() {
    let world = World::new();
    let dhow = Dhow::in_namespace("setback", world.host());
    server(&dhow, "web", &["--restart", "always", "-p", "8080:80"]);
    dhow.ok(&["set", "-p", "9090:80", "--publish-rm", "8080:80", "web"]);
    for _ in 0..2 {
        let pid = dhow.pid("web");
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
        eventually("its next run", || (![0, pid].contains(&dhow.pid("web"))).then_some(()));
        fetched(Peer::Neighbour(&world), HOST, 9090, "I am web");
        assert_eq!(Peer::Neighbour(&world).fetch(HOST, 8080), "");
    }
    // between two runs, too
    dhow.ok(&["run", "-d", "--name", "fails", "--restart", "always", "busybox", "false"]);
    for n in 0..6 {
        eventually("a change", || {
            let output = dhow.run(&["set", "-p", &format!("{}:80", 7000 + n), "fails"]);
            // a run that ends just then
            assert!(output.code == 0 || output.stderr.contains("fails"), "{output:#?}");
            (output.code == 0).then_some(())
        });
    }
    let ports = dhow.inspect("fails")["HostConfig"]["PortBindings"]["80/tcp"].clone();
    assert_eq!(ports.as_array().unwrap().len(), 6);
    eventually("what is published", || (dhow.ok(&["port", "fails"]).lines().count() == 6).then_some(()));
    dhow.ok(&["rm", "-f", "fails"]);
    Peer::Host(&world).act(|| TcpListener::bind(("0.0.0.0", 7003)).unwrap());
}

#[test]
fn ports_of_a_monitor_that_was_killed_are_given_back() {
    let world = World::new();
    let dhow = Dhow::in_namespace("setdead", world.host());
    server(&dhow, "web", &[]);
    server(&dhow, "other", &[]);
    dhow.ok(&["set", "-p", "8080:80", "web"]);
    let table = || world.on_host("nft").args(&["list", "table", "inet", dhow.global_name()]).ok();
    assert!(table().contains("8080"), "{}", table());
    let monitor = dhow.monitor_pid("web");
    kill_process(Pid::from_raw(monitor as i32).unwrap(), Signal::KILL).unwrap();
    eventually("its end", || dhow.ok(&["ps", "-a", "--filter", "name=web"]).contains("Exited").then_some(()));
    assert!(!table().contains("8080"), "{}", table());
    dhow.ok(&["set", "-p", "8080:80", "other"]);
    fetched(Peer::Neighbour(&world), HOST, 8080, "I am other");
}

#[test]
fn a_monitor_takes_no_nonsense_for_a_change() {
    let world = World::new();
    let dhow = Dhow::in_namespace("setnonsense", world.host());
    server(&dhow, "web", &["-p", "8080:80"]);
    let id = dhow.inspect("web")["Id"].as_str().unwrap().to_owned();
    let before = dhow.inspect("web");
    let frame = |tag: u8, payload: &str| {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(payload.as_bytes());
        bytes
    };
    let six = r#"{"ports":[{"host_ip":"::1","host_port":99,"container_port":80,"protocol":"tcp"}]}"#;
    for payload in ["", "nonsense", r#"{"ports":7}"#, r#"{"ports":[{"host_port":70000}]}"#, six] {
        // the path is too long for an address: by its directory
        let dir = std::fs::File::open(dhow.run_root().join("containers").join(&id)).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&dir);
        let mut socket = UnixStream::connect(format!("/proc/self/fd/{fd}/socket")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(&frame(1, r#"{"version":2,"attach":false}"#)).unwrap();
        socket.write_all(&frame(10, payload)).unwrap();
        let mut tags = Vec::new();
        while !tags.contains(&22) {
            let mut head = [0; 5];
            socket.read_exact(&mut head).unwrap();
            let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
            socket.read_exact(&mut vec![0; length as usize]).unwrap();
            tags.push(head[0]);
        }
        assert_eq!(tags, [16, 22], "{payload}");
    }
    assert_eq!(dhow.inspect("web"), before);
    fetched(Peer::Neighbour(&world), HOST, 8080, "I am web");
}
