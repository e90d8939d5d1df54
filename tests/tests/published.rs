//! Published ports obey the host's firewall: what it says about what comes in to them is what holds. And what others do to our
//! tables is mended.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use harness::world::{HOST, Peer, World};
use harness::{Dhow, eventually};

/// The flags that bring the probe along.
const PROBE: &str = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");
/// The host's and the neighbour's IPv6 addresses on the wire.
const HOST6: &str = "2001:db8::1";
const NEIGHBOUR6: &str = "2001:db8::2";

/// A host that lets nothing in, and nothing through, unless it is told to.
const DENY: &str = "table inet deny {
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established,related accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
    }
    chain output {
        type filter hook output priority 0; policy drop;
        oif lo accept
        ct state established,related accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        ct status dnat accept
    }
}";

fn nft(world: &World, rules: &str) {
    world.on_host("nft").args(&["-f", "-"]).input(rules).ok();
}

/// A host that can be reached by both versions of the protocol, and a container that serves port 80 (HTTP) and 53 (echo by UDP) on
/// its ports 8080 and 5353.
fn published(name: &str) -> (World, Dhow) {
    let world = World::new();
    for (on, ip) in [(world.on_host("ip"), HOST6), (world.at_neighbour("ip"), NEIGHBOUR6)] {
        on.args(&["addr", "add", &format!("{ip}/64"), "dev", "lan", "nodad"]).ok();
    }
    let dhow = Dhow::in_namespace(name, world.host());
    dhow.ok(&["network", "create", "--ipv6", "net"]);
    serve(&dhow, "web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    // The container's IPv6 address is its own after a second in which nobody objects.
    eventually("all ports", || (reaches(&world, HOST6) == [true; 2]).then_some(()));
    (world, dhow)
}

/// A container that serves, and tells by whom it was asked.
#[track_caller]
fn serve(dhow: &Dhow, name: &str, flags: &[&str]) {
    let script = "mkdir -p /www && echo page >/www/index.html; probe udp-echo 53 & exec httpd -v -f -p '[::]:80' -h /www";
    let args = [
        &["run", "-d", "--name", name, "--network", "net", "-v", PROBE],
        flags,
        &["busybox", "sh", "-c", script],
    ]
    .concat();
    dhow.ok(&args);
    eventually("the server", || dhow.ok(&["logs", name]).contains("up").then_some(()));
}

/// How long somebody who may come in takes at most, and is waited for who may not.
const SOON: Duration = Duration::from_millis(300);

/// A connection from the neighbour to the host, if it comes to be.
fn connect(world: &World, ip: &str, port: u16) -> Option<TcpStream> {
    let address = SocketAddr::new(ip.parse().unwrap(), port);
    Peer::Neighbour(world).act(|| TcpStream::connect_timeout(&address, SOON).ok())
}

/// What a web server says on this connection.
fn page(mut stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    write!(stream, "GET /index.html HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned()
}

/// Whether the neighbour reaches the container's ports: HTTP and UDP, by this address of the host's.
fn reaches(world: &World, ip: &str) -> [bool; 2] {
    let tcp = connect(world, ip, 8080).is_some_and(|stream| page(&stream) == "page");
    [tcp, echoes(world, ip, "?")]
}

fn echoes(world: &World, ip: &str, question: &str) -> bool {
    let from = if ip.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    Peer::Neighbour(world).act(|| {
        let socket = UdpSocket::bind(from).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send_to(question.as_bytes(), SocketAddr::new(ip.parse().unwrap(), 5353)).unwrap();
        let mut answer = vec![0; 65536];
        socket.recv(&mut answer).is_ok_and(|length| answer[..length].ends_with(question.as_bytes()))
    })
}

#[test]
fn the_hosts_rules_decide_who_comes_in() {
    let (world, _dhow) = published("published-nft");
    assert_eq!(reaches(&world, HOST), [true; 2], "nobody says no");
    assert_eq!(reaches(&world, HOST6), [true; 2], "nobody says no");
    nft(&world, DENY);
    assert_eq!(reaches(&world, HOST), [false; 2], "denied");
    assert_eq!(reaches(&world, HOST6), [false; 2], "denied");
    nft(&world, "add rule inet deny input tcp dport 8080 accept");
    assert_eq!(reaches(&world, HOST), [true, false]);
    assert_eq!(reaches(&world, HOST6), [true, false]);
    nft(&world, "add rule inet deny input udp dport 5353 accept");
    assert_eq!(reaches(&world, HOST), [true; 2]);
    assert_eq!(reaches(&world, HOST6), [true; 2]);
}
