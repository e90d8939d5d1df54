//! Networks: `none`, `host`, the default bridge, published ports; each on a host of its own (a network
//! namespace), with a neighbour on a wire.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::TcpListener;

use harness::world::{HOST, NEIGHBOUR, Peer, World};
use harness::{Dhow, eventually};

/// A container that answers each connection to port 80 with its name.
#[track_caller]
fn server(dhow: &Dhow, name: &str, flags: &[&str]) -> String {
    let script = format!(
        "mkdir -p /www && echo I am {name} >/www/index.html && echo up && exec httpd -f -p 80 -h /www"
    );
    let args =
        [&["run", "-d", "--name", name, "-v", PROBE], flags, &["busybox", "sh", "-c", &script]].concat();
    dhow.ok(&args);
    eventually("the server", || dhow.ok(&["logs", name]).contains("up").then_some(()));
    address(dhow, name)
}

#[track_caller]
fn address(dhow: &Dhow, name: &str) -> String {
    dhow.inspect(name)["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned()
}

/// The flags that bring the probe along.
const PROBE: &str = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");

/// Waits until the server answers, which may come up later than its log says, and with what it should.
#[track_caller]
fn fetched(client: Peer<'_>, host: &str, port: u16, expected: &str) {
    eventually("the server's answer", || (client.fetch(host, port) == expected).then_some(()));
}

fn port(dhow: &Dhow, name: &str, container_port: &str) -> u16 {
    let ports = &dhow.inspect(name)["NetworkSettings"]["Ports"][container_port][0]["HostPort"];
    ports.as_str().unwrap().parse().unwrap()
}

fn run_in(dhow: &Dhow, flags: &[&str], script: &str) -> String {
    dhow.ok(&[&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat())
}

#[test]
fn without_a_network_there_is_loopback_alone_and_with_the_hosts_there_is_the_hosts() {
    let world = World::new();
    let dhow = Dhow::in_namespace("nethost", world.host());
    assert_eq!(
        run_in(
            &dhow,
            &["--network", "none"],
            "ls /sys/class/net; ping -c1 -W2 127.0.0.1 >/dev/null && echo lo"
        ),
        "lo\nlo"
    );
    let host = run_in(&dhow, &["--network", "host"], "ip -o -4 addr; hostname");
    assert!(host.contains(HOST), "{host}");
    // no bridge was needed, so none was made
    assert!(!world.on_host("ip").args(&["-o", "link"]).ok().contains(dhow.global_name()));
}

#[test]
fn containers_reach_each_other_the_host_and_the_world_behind_it() {
    let world = World::new();
    let world = &world;
    let dhow = Dhow::in_namespace("bridge", world.host());
    let ip = server(&dhow, "web", &[]);
    fetched(Peer::Host(world), &ip, 80, "I am web");
    let fetch = |host: &str, port: &str| {
        dhow.ok(&["run", "--rm", "-v", PROBE, "busybox", "probe", "fetch", host, port])
    };
    assert_eq!(fetch(&ip, "80"), "I am web");
    // the neighbour sees the host's address, not the container's
    let heard = std::thread::scope(|scope| {
        let (listening, listens) = std::sync::mpsc::channel();
        let neighbour = scope.spawn(move || {
            Peer::Neighbour(world).act(|| {
                let listener = TcpListener::bind((NEIGHBOUR, 9000)).unwrap();
                listening.send(()).unwrap();
                let (mut stream, peer) = listener.accept().unwrap();
                // what is not read would reset the connection
                assert!(stream.read(&mut [0; 512]).unwrap() > 0);
                stream.write_all(b"hello from outside").unwrap();
                peer.ip().to_string()
            })
        });
        listens.recv().unwrap();
        assert_eq!(fetch(NEIGHBOUR, "9000"), "hello from outside");
        neighbour.join().unwrap()
    });
    assert_eq!(heard, HOST);
    // and has no way to the container's own address
    assert_eq!(Peer::Neighbour(world).fetch(&ip, 80), "");
    dhow.ok(&["rm", "-f", "web"]);
}

#[test]
fn published_ports_answer_from_everywhere() {
    let world = World::new();
    let dhow = Dhow::in_namespace("ports", world.host());
    let ip = server(&dhow, "web", &["-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "80"]);
    fetched(Peer::Host(&world), "127.0.0.1", 8080, "I am web");
    fetched(Peer::Host(&world), HOST, 8080, "I am web");
    fetched(Peer::Neighbour(&world), HOST, 8080, "I am web");
    // one on loopback is on loopback only
    fetched(Peer::Host(&world), "127.0.0.1", 8081, "I am web");
    assert_eq!(Peer::Neighbour(&world).fetch(HOST, 8081), "");
    // a container reaches another, and itself, by the published port, too
    let from_another = ["run", "--rm", "-v", PROBE, "busybox", "probe", "fetch", HOST, "8080"];
    assert_eq!(dhow.ok(&from_another), "I am web");
    assert_eq!(dhow.ok(&["exec", "web", "probe", "fetch", HOST, "8080"]), "I am web");
    let random = dhow.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"].clone();
    assert!(random.as_array().unwrap().iter().all(|binding| binding["HostPort"] != "0"), "{random}");
    assert!(dhow.ok(&["ps"]).contains("0.0.0.0:8080->80/tcp"), "{}", dhow.ok(&["ps"]));
    // when it has ended, the port is free at once
    dhow.ok(&["rm", "-f", "web"]);
    let again = server(&dhow, "web2", &["-p", "8080:80"]);
    fetched(Peer::Neighbour(&world), HOST, 8080, "I am web2");
    assert!(!ip.is_empty() && !again.is_empty());
}

#[test]
fn udp_ports_are_published_too() {
    let world = World::new();
    let dhow = Dhow::in_namespace("udp", world.host());
    let publish = ["run", "-d", "--name", "echo", "-p", "5353:53/udp", "-v", PROBE];
    dhow.ok(&[&publish[..], &["busybox", "probe", "udp-echo", "53"]].concat());
    eventually("the server", || dhow.ok(&["logs", "echo"]).contains("up").then_some(()));
    let echo = || Peer::Neighbour(&world).ask(HOST, 5353, "ping").filter(|answer| answer == "ping");
    eventually("an echo", echo);
    dhow.ok(&["rm", "-f", "echo"]);
}

#[test]
fn a_port_in_use_is_125_and_nothing_is_left() {
    let world = World::new();
    let dhow = Dhow::in_namespace("inuse", world.host());
    let _listener = world.on_host("busybox").args(&["nc", "-l", "-p", "7777"]).spawn();
    eventually("the port to be taken", || {
        world.on_host("ss").args(&["-ltn"]).ok().contains(":7777").then_some(())
    });
    let line = dhow.fails(125, &["run", "--rm", "-p", "7777:80", "busybox", "true"]);
    assert!(line.contains("7777"), "{line}");
    assert_eq!(dhow.ok(&["ps", "-aq"]), "");
    // by a container of ours it is no different
    server(&dhow, "web", &["-p", "7778:80"]);
    dhow.fails(125, &["run", "--rm", "-p", "7778:80", "busybox", "true"]);
    dhow.fails(125, &["run", "-d", "--name", "second", "-p", "127.0.0.1:7778:80", "busybox", "true"]);
    assert_eq!(port(&dhow, "web", "80/tcp"), 7778);
    fetched(Peer::Host(&world), "127.0.0.1", 7778, "I am web");
}

#[test]
fn hosts_and_resolvers_are_the_containers_own() {
    let world = World::new();
    let dhow = Dhow::in_namespace("hosts", world.host());
    let text = run_in(
        &dhow,
        &["--hostname", "box"],
        "cat /etc/hosts; ip -o -4 addr show eth0; cat /etc/resolv.conf",
    );
    let address =
        text.split_whitespace().find(|word| word.ends_with("/16") || word.ends_with("/24")).unwrap();
    let ip = address.split('/').next().unwrap();
    assert!(text.contains("127.0.0.1\tlocalhost") && text.contains(&format!("{ip}\tbox")), "{text}");
    assert!(text.contains("nameserver ") && !text.contains("nameserver 127."), "{text}");
    // they are the container's to change, and no other's
    run_in(&dhow, &[], "echo 192.0.2.1 mine >>/etc/hosts && grep -q mine /etc/hosts");
    assert!(!run_in(&dhow, &[], "cat /etc/hosts").contains("mine"));
}

#[test]
fn two_instances_on_one_host_do_not_meet() {
    let world = World::new();
    let one = Dhow::in_namespace("one", world.host());
    let two = Dhow::in_namespace("two", world.host());
    let (ip1, ip2) = (server(&one, "web", &["-p", "8001:80"]), server(&two, "web", &["-p", "8002:80"]));
    assert_ne!(ip1.rsplit_once('.').unwrap().0, ip2.rsplit_once('.').unwrap().0, "a subnet each");
    fetched(Peer::Neighbour(&world), HOST, 8001, "I am web");
    fetched(Peer::Neighbour(&world), HOST, 8002, "I am web");
    // what one takes down is not the other's
    drop(one);
    fetched(Peer::Neighbour(&world), HOST, 8002, "I am web");
}

#[test]
fn no_other_table_is_touched() {
    let world = World::new();
    let rules = "table ip mine {\n chain forward {\n type filter hook forward priority 0; policy accept;\n counter\n }\n}\n\
                 table inet other {\n set s {\n type ipv4_addr\n elements = { 192.0.2.1 }\n }\n}\n";
    world.on_host("nft").args(&["-f", "-"]).input(rules).ok();
    let ruleset = || world.on_host("nft").args(&["--stateless", "list", "ruleset"]).ok();
    let before = ruleset();
    assert!(before.contains("table ip mine"), "{before}");
    let dhow = Dhow::in_namespace("tables", world.host());
    server(&dhow, "web", &["-p", "8080:80"]);
    let during = ruleset();
    let ours = format!("table inet {}", dhow.global_name());
    assert!(during.contains(&ours), "{during}");
    for line in before.lines() {
        assert!(during.contains(line), "{line} is gone from {during}");
    }
    let named =
        |text: &str| text.lines().filter(|l| l.starts_with("table ")).map(str::to_owned).collect::<Vec<_>>();
    let others: Vec<String> =
        named(&during).into_iter().filter(|t| !t.contains(dhow.global_name())).collect();
    assert_eq!(others, named(&before));
    drop(dhow);
    assert_eq!(ruleset(), before);
}

#[test]
fn a_container_cannot_speak_in_anothers_name() {
    let world = World::new();
    let dhow = Dhow::in_namespace("spoof", world.host());
    // with the default capabilities there is NET_RAW, but no way to change addresses or routes
    let refused =
        run_in(&dhow, &[], "ip addr add 192.0.2.9/24 dev eth0 2>&1; ip link set eth0 down 2>&1; true");
    assert_eq!(refused.matches("Operation not permitted").count(), 2, "{refused}");
    // IPv6 was not asked for: no address, no router is believed (CVE-2020-13401, CVE-2024-32473)
    let v6 = run_in(
        &dhow,
        &[],
        "ip -o -6 addr show eth0; cat /proc/sys/net/ipv6/conf/eth0/accept_ra 2>/dev/null || true",
    );
    assert!(!v6.contains("inet6") || v6.ends_with('0'), "{v6}");
}
