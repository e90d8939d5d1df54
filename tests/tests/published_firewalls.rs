//! Published ports are open exactly to whom ufw and firewalld say, both from Debian and with their defaults: nothing comes in.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use harness::firewalls::{Firewalld, Ufw};
use harness::published::{HOST6, connect, published, reaches};
use harness::world::{HOST, NEIGHBOUR, Peer, World};
use harness::{Dhow, eventually};

const PROBE: &str = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");

/// By IPv4 and IPv6, TCP and UDP each.
type Reached = [[bool; 2]; 2];
const ALL: Reached = [[true; 2]; 2];
const NONE: Reached = [[false; 2]; 2];

fn reached(world: &World) -> Reached {
    std::thread::scope(|scope| {
        let six = scope.spawn(|| reaches(world, HOST6));
        [reaches(world, HOST), six.join().unwrap()]
    })
}

/// All ports are as they were within a second.
#[track_caller]
fn soon(world: &World, expected: Reached) {
    let since = Instant::now();
    eventually("the ports", || (reached(world) == expected).then_some(()));
    // A look at ports that are closed takes its time.
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
}

/// What is nobody's business but the host's own.
#[track_caller]
fn within(world: &World) {
    assert_eq!(Peer::Host(world).fetch("127.0.0.1", 8080), "page");
    assert_eq!(Peer::Host(world).fetch(HOST, 8080), "page");
}

fn begin(world: &World) -> TcpStream {
    let mut open = connect(world, HOST, 8080).unwrap();
    write!(open, "GET /index.html HTTP/1.0\r\n").unwrap();
    open
}

#[track_caller]
fn finish(mut open: TcpStream) {
    write!(open, "\r\n").unwrap();
    open.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("page\n"), "{answer}");
}

#[test]
fn ufw_decides() {
    let (world, dhow) = published(PROBE, "published-ufw");
    let ufw = Ufw::new(&world, dhow.scratch());
    assert_eq!(reached(&world), NONE, "{}", ufw.run(&["status", "verbose"]));
    within(&world);
    ufw.run(&["allow", "8080/tcp"]);
    assert_eq!(reached(&world), [[true, false]; 2]);
    ufw.run(&["allow", "5353/udp"]);
    assert_eq!(reached(&world), ALL);
    let open = begin(&world);
    ufw.run(&["reload"]);
    soon(&world, ALL);
    ufw.run(&["delete", "allow", "8080/tcp"]);
    ufw.run(&["delete", "allow", "5353/udp"]);
    assert_eq!(reached(&world), NONE);
    finish(open);
    ufw.run(&["allow", "from", NEIGHBOUR, "to", "any", "port", "8080", "proto", "tcp"]);
    assert_eq!(reached(&world), [[true, false], [false; 2]]);
    ufw.run(&["insert", "1", "deny", "from", NEIGHBOUR]);
    assert_eq!(reached(&world), NONE);
    ufw.run(&["default", "allow", "incoming"]);
    ufw.run(&["delete", "deny", "from", NEIGHBOUR]);
    assert_eq!(reached(&world), ALL);
    // Somebody flushes all: nothing is denied any more, and all of ours works.
    world.on_host("nft").args(&["flush", "ruleset"]).ok();
    soon(&world, ALL);
    within(&world);
    // What goes out may be denied as well: who was let in is answered.
    ufw.run(&["default", "deny", "incoming"]);
    ufw.run(&["default", "deny", "outgoing"]);
    ufw.run(&["reload"]);
    soon(&world, [[true, false], [false; 2]]);
}

#[test]
fn firewalld_decides() {
    let (world, dhow) = published(PROBE, "published-firewalld");
    let firewalld = Firewalld::new(&world, dhow.scratch());
    assert_eq!(reached(&world), NONE, "{}", firewalld.run(&["--list-all"]));
    within(&world);
    firewalld.run(&["--add-port=8080/tcp"]);
    assert_eq!(reached(&world), [[true, false]; 2]);
    firewalld.run(&["--add-port=5353/udp"]);
    assert_eq!(reached(&world), ALL);
    let open = begin(&world);
    // What was not made permanent is gone with it.
    firewalld.run(&["--reload"]);
    soon(&world, NONE);
    finish(open);
    firewalld.run(&["--permanent", "--add-port=8080/tcp"]);
    firewalld.run(&["--reload"]);
    soon(&world, [[true, false]; 2]);
    firewalld.run(&["--remove-port=8080/tcp"]);
    assert_eq!(reached(&world), NONE);
    let rule = format!("rule family=ipv4 source address={NEIGHBOUR} port port=5353 protocol=udp accept");
    firewalld.run(&[&format!("--add-rich-rule={rule}")]);
    assert_eq!(reached(&world), [[false, true], [false; 2]]);
    firewalld.run(&[&format!("--remove-rich-rule={rule}")]);
    assert_eq!(reached(&world), NONE);
    firewalld.run(&["--zone=trusted", "--change-interface=lan"]);
    assert_eq!(reached(&world), ALL);
    firewalld.run(&["--complete-reload"]);
    soon(&world, [[true, false]; 2]);
    within(&world);
    // Somebody flushes all, its table, too (which it does not notice): nothing is denied any more, and all of ours works.
    world.on_host("nft").args(&["flush", "ruleset"]).ok();
    soon(&world, ALL);
    within(&world);
}

/// What `network exposed` says of each port: `8080/tcp`, `5353/udp`.
fn exposed(dhow: &Dhow) -> Vec<String> {
    let said = dhow.ok(&["network", "exposed", "--format", "{{.Host}} {{.ReachedBy}}"]);
    said.lines().map(str::to_owned).collect()
}

#[test]
fn who_reaches_what_is_said_as_it_is() {
    let (world, dhow) = published(PROBE, "published-exposed");
    dhow.ok(&["set", "web", "--publish", "127.0.0.1:8081:80"]);
    let say = |udp: &str, tcp: &str| {
        vec![format!("*:5353 {udp}"), format!("*:8080 {tcp}"), "127.0.0.1:8081 the host only".to_owned()]
    };
    assert_eq!(exposed(&dhow), say("all", "all"));
    let json = dhow.ok(&["network", "exposed", "--format", "json"]);
    assert!(json.lines().count() == 3 && json.contains("\"Reach\":\"all\""), "{json}");
    // By rules of nftables.
    let nft = |rules: &str| {
        world.on_host("nft").args(&["-f", "-"]).input(rules).ok();
    };
    nft("table inet deny {
            set friends { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 198.51.100.2 } }
            chain input { type filter hook input priority 0; policy drop; iif lo accept; ct state established accept; }
         }");
    assert_eq!(exposed(&dhow), say("the host only", "the host only"));
    nft(
        "add rule inet deny input ip saddr @friends udp dport 5353 accept; add rule inet deny input iif lan meta l4proto tcp accept",
    );
    assert_eq!(exposed(&dhow), say("10.0.0.0/8, 198.51.100.2", "all"));
    nft("add rule inet deny input meta nfproto ipv6 udp dport 5353 accept");
    assert_eq!(exposed(&dhow)[0], "*:5353 10.0.0.0/8, 198.51.100.2, all by IPv6");
    nft("delete table inet deny");
    // By ufw.
    let ufw = Ufw::new(&world, dhow.scratch());
    assert_eq!(exposed(&dhow), say("the host only", "the host only"));
    ufw.run(&["allow", "8080/tcp"]);
    ufw.run(&["allow", "from", "192.0.2.0/24", "to", "any", "port", "5353", "proto", "udp"]);
    assert_eq!(exposed(&dhow), say("192.0.2.0/24", "all"));
    ufw.run(&["disable"]);
    assert_eq!(exposed(&dhow), say("all", "all"));
    // By firewalld.
    let firewalld = Firewalld::new(&world, dhow.scratch());
    assert_eq!(exposed(&dhow), say("the host only", "the host only"));
    firewalld.run(&["--zone=internal", "--add-source=192.0.2.0/24"]);
    firewalld.run(&["--zone=internal", "--add-port=8080/tcp"]);
    assert_eq!(exposed(&dhow), say("the host only", "192.0.2.0/24"));
    firewalld.run(&["--zone=trusted", "--change-interface=lan"]);
    // It refuses what comes by IPv6 from where no route leads back, and this host has none but to its neighbours.
    assert_eq!(exposed(&dhow), say("2001:db8::/64, all by IPv4", "2001:db8::/64, all by IPv4"));
}
