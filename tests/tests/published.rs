//! Published ports obey the host's firewall: what it says about what comes in to them is what holds. And what others do to our
//! tables is mended.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use harness::published::{HOST6, NEIGHBOUR6, connect, echoes, published, reaches, serve};
use harness::world::{HOST, NEIGHBOUR, Peer, World};
use harness::{Dhow, eventually};

/// The flags that bring the probe along.
const PROBE: &str = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");

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

#[test]
fn the_hosts_rules_decide_who_comes_in() {
    let (world, dhow) = published(PROBE, "published-nft");
    // The table is what its drawing says.
    let table = world.on_host("nft").args(&["list", "table", "inet", dhow.global_name()]).ok();
    for part in [
        "comment \"dhow 4\"",
        "type filter hook input priority 300; policy accept;",
        "iifname \"lo\" accept",
        "ct status dnat accept",
        "ct state new fib daddr type local ip daddr . meta l4proto . th dport @doors_at log group ",
        "ct state new fib daddr type local meta l4proto . th dport @doors log group ",
        "ct state new fib daddr type local meta l4proto . th dport @doors6 log group ",
        "iifname @bridges ",
        "type inet_proto\n\t\tflags timeout",
        "meta l4proto @direct meta nfproto ipv4 fib daddr type local ip daddr != 127.0.0.0/8 dnat ip to meta l4proto . th dport map @ports",
        "queue-threshold 1 drop",
    ] {
        assert!(table.contains(part), "{part}\nis not in\n{table}");
    }
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

#[test]
fn clients_keep_their_addresses_and_datagrams_their_length() {
    let (world, dhow) = published(PROBE, "published-whole");
    nft(&world, DENY);
    nft(
        &world,
        "add rule inet deny input tcp dport 8080 accept; add rule inet deny input udp dport 5353 accept",
    );
    for ip in [HOST, HOST6] {
        assert_eq!(reaches(&world, ip), [true; 2]);
        // One that comes in fragments, and is the first of its flow.
        for length in [1400, 1473, 9000, 60000] {
            assert!(echoes(&world, ip, &"x".repeat(length)), "{length} bytes to {ip}");
        }
        // Many at once, all of them first ones, and none is lost: what is not answered yet counts as known.
        let socket = Peer::Neighbour(&world).act(|| {
            let from = if ip == HOST { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(from).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            socket.connect(SocketAddr::new(ip.parse().unwrap(), 5353)).unwrap();
            socket
        });
        for n in 0..20_u8 {
            socket.send(&[n]).unwrap();
        }
        let mut heard: Vec<u8> = (0..20)
            .map(|_| {
                let mut answer = [0; 10];
                socket.recv(&mut answer).unwrap();
                answer[0]
            })
            .collect();
        heard.sort_unstable();
        assert_eq!(heard, (0..20).collect::<Vec<u8>>());
    }
    let log = eventually("all clients in the log", || {
        let log = dhow.run(&["logs", "web"]);
        let log = log.stdout + &log.stderr;
        (log.contains(NEIGHBOUR) && log.contains(NEIGHBOUR6)).then_some(log)
    });
    assert!(!log.contains("172."), "{log}");
    // The host itself, its containers and the container itself are not asked by anybody's input rules.
    for (host, port) in [(HOST, 8080), ("127.0.0.1", 8080), (&format!("[{HOST6}]"), 8080)] {
        assert_eq!(Peer::Host(&world).fetch(host, port), "page", "{host}");
    }
    nft(&world, &format!("delete table inet deny; {DENY}"));
    nft(&world, "add rule inet deny forward accept; add rule inet deny output accept");
    assert_eq!(Peer::Host(&world).fetch("127.0.0.1", 8080), "page");
    assert_eq!(dhow.ok(&["exec", "web", "probe", "fetch", HOST, "8080"]), "page");
    assert_eq!(reaches(&world, HOST), [false; 2]);
}

#[test]
fn one_source_may_be_let_in_and_ports_on_one_address_are_as_before() {
    let world = World::new();
    let dhow = Dhow::in_namespace("published-at", world.host());
    dhow.ok(&["network", "create", "net"]);
    serve(
        PROBE,
        &dhow,
        "web",
        &["-p", &format!("{HOST}:8080:80"), "-p", "127.0.0.1:8081:80", "-p", "5353:53/udp"],
    );
    world.at_neighbour("ip").args(&["addr", "add", "198.51.100.3/24", "dev", "lan"]).ok();
    nft(&world, DENY);
    nft(&world, "add rule inet deny input ip saddr 198.51.100.3 accept");
    assert_eq!(reaches(&world, HOST), [false; 2]);
    world.at_neighbour("ip").args(&["addr", "del", &format!("{NEIGHBOUR}/24"), "dev", "lan"]).ok();
    world.at_neighbour("ip").args(&["addr", "add", "198.51.100.3/24", "dev", "lan"]).output();
    eventually("the other address", || (reaches(&world, HOST) == [true; 2]).then_some(()));
    assert!(connect(&world, HOST, 8081).is_none(), "published on loopback alone");
    assert_eq!(Peer::Host(&world).fetch("127.0.0.1", 8081), "page");
    // What was published is closed when it is not any more.
    dhow.ok(&["set", "web", "--publish-rm", &format!("{HOST}:8080:80")]);
    assert_eq!(reaches(&world, HOST), [false, true]);
}

/// The warden of an instance.
fn warden(dhow: &Dhow) -> Option<u32> {
    let root = dhow.root();
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0);
        let is_warden = words.nth(1)? == b"warden" && words.next()? == root.as_os_str().as_encoded_bytes();
        is_warden.then_some(pid)
    })
}

#[test]
fn what_others_flush_is_back_and_a_killed_warden_too() {
    let (world, dhow) = published(PROBE, "published-mended");
    let table = dhow.global_name();
    let mut open = connect(&world, HOST, 8080).unwrap();
    write!(open, "GET /index.html HTTP/1.0\r\n").unwrap();
    for spoil in [
        "flush ruleset",
        &format!("delete table inet {table}"),
        &format!("delete table bridge {table}"),
        &format!("flush chain inet {table} input"),
        &format!("flush chain inet {table} prerouting"),
        &format!("flush set inet {table} doors; flush map inet {table} ports"),
        &format!("flush map inet {table} inward"),
    ] {
        nft(&world, spoil);
        let since = Instant::now();
        eventually("the ports to be back", || (reaches(&world, HOST) == [true; 2]).then_some(()));
        assert!(since.elapsed() < Duration::from_secs(1), "{spoil}: {:?}", since.elapsed());
        assert_eq!(Peer::Host(&world).fetch("127.0.0.1", 8080), "page", "{spoil}");
    }
    // What is somebody else's is nobody's business.
    nft(&world, "add table inet other; add chain inet other c");
    assert!(world.on_host("nft").args(&["list", "table", "inet", "other"]).ok().contains("chain c"));
    let killed = warden(&dhow).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(killed.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let since = Instant::now();
    eventually("the next warden", || warden(&dhow).filter(|pid| *pid != killed));
    eventually("the ports to be back", || (reaches(&world, HOST) == [true; 2]).then_some(()));
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    // A connection that was open goes on after all this.
    write!(open, "\r\n").unwrap();
    open.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("page\n"), "{answer}");
    // With the last container it goes.
    dhow.ok(&["rm", "-f", "web"]);
    eventually("the warden to go", || warden(&dhow).is_none().then_some(()));
}

#[test]
fn where_nobody_has_a_say_all_come_in_directly_until_somebody_has() {
    let (world, dhow) = published(PROBE, "published-direct");
    let is_direct = || {
        let set = world.on_host("nft").args(&["list", "set", "inet", dhow.global_name(), "direct"]).ok();
        set.contains("tcp ")
    };
    let comes_directly = || reaches(&world, HOST) == [true; 2] && is_direct();
    eventually("the first to open the way", || comes_directly().then_some(()));
    // A chain that says nothing has no say.
    nft(&world, "table inet other { chain input { type filter hook input priority 0; policy accept; }; }");
    eventually("the way to be open again", || comes_directly().then_some(()));
    for says in [
        "add rule inet other input tcp dport 9 drop",
        "table ip masks { chain out { type nat hook postrouting priority 100; }; }; \
         add rule ip masks out ip daddr 203.0.113.0/24 masquerade",
        "table inet before { chain first { type filter hook prerouting priority 0; }; }; \
         add rule inet before first tcp dport 9 drop",
        "table ip turns { chain turn { type nat hook prerouting priority -90; }; }; \
         add rule ip turns turn tcp dport 9 redirect to :10",
        DENY,
    ] {
        nft(&world, says);
        eventually("the way to be closed", || (!is_direct()).then_some(()));
        assert_eq!(reaches(&world, HOST), [says != DENY; 2], "{says}");
        assert!(!is_direct(), "{says}");
        nft(&world, "flush chain inet other input");
        for table in ["ip masks", "inet before", "ip turns"] {
            nft(&world, &format!("add table {table}; delete table {table}"));
        }
    }
    nft(&world, "delete table inet deny; delete table inet other");
    eventually("the way to be open once more", || comes_directly().then_some(()));
    // One that is stopped hears of nothing; so what it allowed ends by itself.
    let warden = rustix::process::Pid::from_raw(warden(&dhow).unwrap().cast_signed()).unwrap();
    let signal = |signal| rustix::process::kill_process(warden, signal).unwrap();
    signal(rustix::process::Signal::STOP);
    nft(&world, DENY);
    std::thread::sleep(Duration::from_millis(200));
    let closed = (reaches(&world, HOST), is_direct());
    signal(rustix::process::Signal::CONT);
    assert_eq!(closed, ([false; 2], false));
    assert_eq!(reaches(&world, HOST), [false; 2]);
}

#[test]
fn traffic_goes_on_while_somebody_flushes_without_end() {
    let (world, dhow) = published(PROBE, "published-flushed");
    let _sleeper = dhow.ok(&["run", "-d", "--name", "default", "busybox", "sleep", "1000"]);
    std::thread::scope(|scope| {
        let flushing = scope.spawn(|| {
            for _ in 0..10 {
                nft(&world, "flush ruleset");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let mut served = 0;
        while !flushing.is_finished() {
            served += usize::from(reaches(&world, HOST)[0]);
        }
        assert!(served > 5, "{served}");
    });
    let since = Instant::now();
    eventually("all ports", || (reaches(&world, HOST) == [true; 2]).then_some(()));
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(reaches(&world, HOST6), [true; 2]);
    let tables = world.on_host("nft").args(&["list", "tables"]).ok();
    for family in ["inet", "bridge"] {
        assert!(tables.contains(&format!("table {family} {}", dhow.global_name())), "{tables}");
    }
}

#[test]
fn ports_are_open_where_the_machines_owner_wants_them_so() {
    let world = World::new();
    let dhow = Dhow::in_namespace("published-open", world.host());
    std::fs::write(dhow.config(), "published-ports = \"open\"\n").unwrap();
    dhow.ok(&["network", "create", "net"]);
    serve(PROBE, &dhow, "web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    nft(&world, "table inet deny { chain input { type filter hook input priority 0; policy drop; }; }");
    assert_eq!(reaches(&world, HOST), [true; 2]);
    let table = world.on_host("nft").args(&["list", "table", "inet", dhow.global_name()]).ok();
    assert!(!table.contains("hook input"), "{table}");
    // Mended as it was.
    nft(&world, &format!("delete table inet {}", dhow.global_name()));
    eventually("the ports to be back", || (reaches(&world, HOST) == [true; 2]).then_some(()));
}
