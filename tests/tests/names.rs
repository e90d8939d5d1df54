//! Names on networks of one's own: who is called what, for whom; what is asked outside, and how; and that nobody notices
//! when the name server is killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::world::{NEIGHBOUR, World};
use harness::{Dhow, Invocation, Process, eventually, patience};

fn sleeper(dhow: &Dhow, name: &str, flags: &[&str]) {
    dhow.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat());
}

fn pid(dhow: &Dhow, name: &str) -> u64 {
    dhow.inspect(name)["State"]["Pid"].as_u64().unwrap()
}

/// A program in a container's network namespace.
fn inside(dhow: &Dhow, name: &str, program: &str) -> Invocation {
    Invocation::new("nsenter").arg(format!("--net=/proc/{}/ns/net", pid(dhow, name))).arg(program)
}

/// What `dig` says in a container, with its short form, sorted.
fn dig(dhow: &Dhow, from: &str, words: &[&str]) -> Vec<String> {
    let output = inside(dhow, from, "dig").args(&["@127.0.0.11", "+short", "+tries=1"]).args(words).ok();
    let mut lines: Vec<String> = output.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The code of an answer.
fn code(dhow: &Dhow, from: &str, words: &[&str]) -> String {
    let output = inside(dhow, from, "dig").args(&["@127.0.0.11", "+tries=1"]).args(words).ok();
    let (_, rest) = output.split_once("status: ").unwrap_or_else(|| panic!("no answer: {output}"));
    rest.split(',').next().unwrap().to_owned()
}

fn address(dhow: &Dhow, name: &str, network: &str) -> String {
    dhow.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap().to_owned()
}

/// The process id of an instance's name server, if it has one.
fn server(dhow: &Dhow) -> Option<u32> {
    let run = dhow.run_root().to_str().unwrap().to_owned();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if command.starts_with("dhow-netd\0") && command.contains(&run) {
            return Some(pid);
        }
    }
    None
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn containers_find_one_another_by_name_on_their_networks_alone() {
    let dhow = Dhow::new("names");
    for network in ["front", "back"] {
        dhow.ok(&["network", "create", network]);
    }
    sleeper(&dhow, "Web.1", &["--network", "front", "--network-alias", "site", "--hostname", "webhost"]);
    sleeper(&dhow, "web2", &["--network", "front", "--network-alias", "site"]);
    sleeper(&dhow, "db", &["--network", "back"]);
    let (one, two) = (address(&dhow, "Web.1", "front"), address(&dhow, "web2", "front"));
    let id = dhow.inspect("Web.1")["Id"].as_str().unwrap()[..12].to_owned();
    for name in ["web.1", "WEB.1", "webhost", &id, "web.1.front"] {
        assert_eq!(dig(&dhow, "web2", &[name]), std::slice::from_ref(&one), "{name}");
    }
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    assert_eq!(dig(&dhow, "web2", &["site"]), both);
    assert_eq!(dig(&dhow, "web2", &["+tcp", "site"]), both);
    assert_eq!(dig(&dhow, "web2", &["-x", &one]), ["web.1.front."]);
    // Not for who is elsewhere, and not told that it exists.
    assert_eq!(code(&dhow, "db", &["web2"]), "NXDOMAIN");
    assert_eq!(code(&dhow, "db", &["-x", &one]), "NXDOMAIN");
    assert_eq!(code(&dhow, "web2", &["db"]), "NXDOMAIN");
    // There is the name, but no such address of it.
    assert_eq!(
        (code(&dhow, "db", &["db", "AAAA"]), dig(&dhow, "db", &["db", "AAAA"])),
        ("NOERROR".to_owned(), vec![])
    );
    assert_eq!(dig(&dhow, "db", &["host.docker.internal"]), [gateway(&dhow, "back")]);
    // By the container's own resolver.
    let looked_up = dhow.ok(&["exec", "web2", "nslookup", "web.1"]);
    assert!(looked_up.contains(&one) && looked_up.contains("127.0.0.11"), "{looked_up}");
    // The order is another one each time.
    let first = |_| dig_first(&dhow, "web2", "site");
    let firsts: std::collections::BTreeSet<String> = (0..40).map(first).collect();
    assert_eq!(firsts.len(), 2);
    // Somebody in the container may have port 53 of all addresses.
    let mut own = inside(&dhow, "web2", "dnsmasq")
        .args(&[
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--address=/own.test/192.0.2.7",
            "--bind-interfaces",
        ])
        .args(&["--listen-address=0.0.0.0", "--user=root", "--pid-file="])
        .spawn();
    eventually("the other name server", || {
        let asked = inside(&dhow, "web2", "dig").args(&[&format!("@{two}"), "+short", "own.test"]).output();
        (asked.stdout.trim() == "192.0.2.7").then_some(())
    });
    assert_eq!(dig(&dhow, "web2", &["web.1"]), [one]);
    own.kill();
    own.wait();
    dhow.ok(&["rm", "-f", "db", "web2", "Web.1"]);
    eventually("the name server's end", || server(&dhow).is_none().then_some(()));
}

fn gateway(dhow: &Dhow, network: &str) -> String {
    dhow.json(&["network", "inspect", network])["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned()
}

fn dig_first(dhow: &Dhow, from: &str, name: &str) -> String {
    let output = inside(dhow, from, "dig").args(&["@127.0.0.11", "+short", name]).ok();
    output.lines().next().unwrap().to_owned()
}

#[test]
fn names_come_and_go_with_what_has_them() {
    let dhow = Dhow::new("names-change");
    for network in ["one", "two"] {
        dhow.ok(&["network", "create", network]);
    }
    sleeper(&dhow, "ann", &["--network", "one"]);
    sleeper(&dhow, "bob", &["--network", "two", "--restart", "always"]);
    assert_eq!(code(&dhow, "ann", &["bob"]), "NXDOMAIN");
    dhow.ok(&["network", "connect", "--alias", "bee", "one", "bob"]);
    eventually("the name", || (dig(&dhow, "ann", &["bee"]) == [address(&dhow, "bob", "one")]).then_some(()));
    assert_eq!(dig(&dhow, "ann", &["bob"]), [address(&dhow, "bob", "one")]);
    dhow.ok(&["rename", "bob", "cat"]);
    eventually("the new name", || {
        (dig(&dhow, "ann", &["cat"]) == [address(&dhow, "cat", "one")]).then_some(())
    });
    assert_eq!(code(&dhow, "ann", &["bob"]), "NXDOMAIN");
    // One that its policy starts again keeps what it has become.
    kill(pid(&dhow, "cat") as u32);
    eventually("the name again", || {
        (dig(&dhow, "ann", &["cat"]) == [address(&dhow, "cat", "one")]).then_some(())
    });
    dhow.ok(&["network", "disconnect", "one", "cat"]);
    eventually("the end of the name", || (code(&dhow, "ann", &["cat"]) == "NXDOMAIN").then_some(()));
    // One that was on the default network alone gets a resolver with its first name.
    sleeper(&dhow, "late", &[]);
    dhow.ok(&["network", "connect", "one", "late"]);
    eventually("the late one's name", || {
        (dig(&dhow, "ann", &["late"]) == [address(&dhow, "late", "one")]).then_some(())
    });
    assert!(dhow.ok(&["exec", "late", "nslookup", "ann"]).contains(&address(&dhow, "ann", "one")));
    dhow.ok(&["rm", "-f", "ann", "cat", "late"]);
}

/// A real name server at the neighbour's, and what it logs.
struct Outside {
    process: Process,
    log: PathBuf,
}

impl Outside {
    fn start(world: &World, log: PathBuf, more: &[&str]) -> Self {
        let process = world
            .at_neighbour("dnsmasq")
            .args(&[
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--user=root",
                "--pid-file=",
                "--log-queries",
            ])
            .arg(format!("--log-facility={}", log.display()))
            .arg(format!("--listen-address={NEIGHBOUR}"))
            .args(&["--bind-interfaces", "--local-ttl=60", "--edns-packet-max=4096"])
            .args(&["--host-record=www.outside.test,192.0.2.80", "--local=/outside.test/"])
            .args(more)
            .spawn();
        let outside = Self { process, log };
        eventually("the name server outside", || {
            let asked = world.on_host("dig").args(&[&format!("@{NEIGHBOUR}"), "+short", "www.outside.test"]);
            (asked.output().stdout.trim() == "192.0.2.80").then_some(())
        });
        outside
    }

    /// How often a name was asked for.
    fn asked_for(&self, name: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("query[") && line.contains(&format!(" {name} "))).count()
    }

    fn stop(mut self) {
        self.process.kill();
        self.process.wait();
    }
}

#[test]
fn what_nobody_here_is_called_is_asked_outside_and_kept() {
    let world = World::new();
    let dhow = Dhow::in_namespace("names-outside", world.host());
    let many: Vec<String> =
        (0..100).map(|n| format!("--host-record=many.outside.test,192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let outside = Outside::start(&world, dhow.scratch().join("outside.log"), &many);
    dhow.ok(&["network", "create", "net"]);
    dhow.ok(&["network", "create", "--internal", "closed"]);
    sleeper(&dhow, "ann", &["--network", "net", "--dns", NEIGHBOUR, "--add-host", "extra.test:192.0.2.9"]);
    assert_eq!(dig(&dhow, "ann", &["www.outside.test"]), ["192.0.2.80"]);
    assert_eq!(dig(&dhow, "ann", &["WWW.outside.TEST"]), ["192.0.2.80"]);
    let before = outside.asked_for("www.outside.test");
    assert_eq!(dig(&dhow, "ann", &["+tcp", "www.outside.test"]), ["192.0.2.80"]);
    assert_eq!(outside.asked_for("www.outside.test"), before, "it was kept");
    assert_eq!(code(&dhow, "ann", &["missing.outside.test"]), "NXDOMAIN");
    // An answer that does not fit is asked for by TCP, on both sides.
    assert_eq!(dig(&dhow, "ann", &["many.outside.test"]).len(), 100);
    assert_eq!(
        dig(&dhow, "ann", &["+noedns", "+ignore", "many.outside.test"]).len(),
        29,
        "what fits into 512 bytes"
    );
    // What is ours stays here.
    assert_eq!(dig(&dhow, "ann", &["extra.test"]), ["192.0.2.9"]);
    assert_eq!(code(&dhow, "ann", &["nobody"]), "NXDOMAIN");
    let ip = address(&dhow, "ann", "net");
    let reverse: Vec<&str> = ip.rsplit('.').collect();
    let neighbour = format!("{}.{}", reverse[0].parse::<u8>().unwrap() + 9, reverse[1..].join("."));
    assert_eq!(code(&dhow, "ann", &[&format!("{neighbour}.in-addr.arpa"), "PTR"]), "NXDOMAIN");
    for name in ["extra.test", "nobody", &format!("{neighbour}.in-addr.arpa")] {
        assert_eq!(outside.asked_for(name), 0, "{name}");
    }
    // From a network that nothing leads out of nothing is asked, however the host could.
    sleeper(&dhow, "bob", &["--network", "closed", "--dns", NEIGHBOUR]);
    assert_eq!(code(&dhow, "bob", &["secret.outside.test"]), "NXDOMAIN");
    assert_eq!(outside.asked_for("secret.outside.test"), 0);
    // A server that is not there costs one second, once.
    sleeper(&dhow, "cat", &["--network", "net", "--dns", "192.0.2.200", "--dns", NEIGHBOUR]);
    assert_eq!(dig(&dhow, "cat", &["+timeout=4", "www.outside.test"]), ["192.0.2.80"]);
    let since = Instant::now();
    assert_eq!(code(&dhow, "cat", &["other.outside.test"]), "NXDOMAIN");
    assert!(since.elapsed() < Duration::from_millis(900), "{:?}", since.elapsed());
    outside.stop();
    // Nobody is there any more: that is a failure, and not "no such name".
    let since = Instant::now();
    assert_eq!(code(&dhow, "ann", &["+timeout=8", "new.outside.test"]), "SERVFAIL");
    assert!(since.elapsed() < Duration::from_secs(6));
    dhow.ok(&["rm", "-f", "ann", "bob", "cat"]);
}

/// Asks for a name again and again, as a resolver does that waits two seconds and then asks once more: how often, how long
/// the slowest took of those that were asked once, and how many were asked twice.
fn look_ups(namespace: &Path, name: &str, expected: [u8; 4], until: Instant) -> (usize, Duration, usize) {
    let mut question = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
    question.extend_from_slice(name.as_bytes());
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    let namespace = std::fs::File::open(namespace).unwrap();
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).unwrap();
    let (mut count, mut slowest, mut again) = (0_usize, Duration::ZERO, 0);
    while Instant::now() < until {
        question[..2].copy_from_slice(&(count as u16).to_be_bytes());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        socket.set_read_timeout(Some(patience(2))).unwrap();
        let since = Instant::now();
        socket.send(&question).unwrap();
        let mut answer = [0; 512];
        let mut twice = false;
        let length = socket.recv(&mut answer).unwrap_or_else(|_| {
            // What a server had in its hands when it was killed is lost: that is what resolvers ask again for.
            twice = true;
            socket.send(&question).unwrap();
            socket.recv(&mut answer).expect("a look-up is answered, whatever becomes of the server")
        });
        assert_eq!(
            (&answer[..2], &answer[length - 4..length]),
            (&question[..2], &expected[..]),
            "look-up {count}"
        );
        if twice {
            again += 1;
        } else {
            slowest = slowest.max(since.elapsed());
        }
        count += 1;
    }
    (count, slowest, again)
}

#[test]
fn nobody_notices_when_the_server_is_killed() {
    let dhow = Dhow::new("names-killed");
    dhow.ok(&["network", "create", "net"]);
    for name in ["ann", "bob", "cat"] {
        sleeper(&dhow, name, &["--network", "net"]);
    }
    let octets = address(&dhow, "bob", "net").parse::<std::net::Ipv4Addr>().unwrap().octets();
    let until = Instant::now() + Duration::from_secs(4);
    let spaces = ["ann", "cat"].map(|name| PathBuf::from(format!("/proc/{}/ns/net", pid(&dhow, name))));
    std::thread::scope(|scope| {
        let askers: Vec<_> =
            spaces.iter().map(|space| scope.spawn(move || look_ups(space, "bob", octets, until))).collect();
        let mut killed = 0;
        while Instant::now() + Duration::from_millis(800) < until {
            std::thread::sleep(Duration::from_millis(600));
            let old = server(&dhow).expect("there is a server");
            kill(old);
            killed += 1;
            eventually("the next server", || server(&dhow).filter(|new| *new != old));
        }
        assert!(killed >= 3);
        for asker in askers {
            let (count, slowest, again) = asker.join().unwrap();
            println!("{count} look-ups, the slowest took {slowest:?}, {again} were asked twice");
            assert!(count > 100 && slowest < patience(1), "{count} {slowest:?}");
            assert!(again <= killed, "at most the one that each had in its hands: {again} of {killed}");
        }
    });
    dhow.ok(&["rm", "-f", "ann", "bob", "cat"]);
}
