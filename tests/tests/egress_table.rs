//! The table behind `--egress`: it stands again at once where somebody has flushed it, goes with the last container that it is
//! for, and is written so that nft can load what it lists.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use harness::world::{NEIGHBOUR, World};
use harness::{Dhow, Invocation, Process, eventually};

/// Servers of the neighbour's: a page at two ports, and a name that leads there.
struct Outside {
    world: World,
    processes: Vec<Process>,
}

impl Outside {
    fn new() -> Self {
        let world = World::new();
        let mut processes: Vec<Process> = ["5000", "5001"]
            .map(|port| world.at_neighbour("busybox").args(&["httpd", "-f", "-p", port]).spawn())
            .into();
        let names = world
            .at_neighbour("dnsmasq")
            .args(&["--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="])
            .arg(format!("--listen-address={NEIGHBOUR}"))
            .args(&["--bind-interfaces", "--local-ttl=60", "--local=/test/"])
            .arg(format!("--host-record=port.test,{NEIGHBOUR}"))
            .spawn();
        processes.push(names);
        let outside = Self { world, processes };
        eventually("the name server outside", || {
            let asked = outside.world.on_host("dig").args(&[&format!("@{NEIGHBOUR}"), "+short", "port.test"]);
            (asked.output().stdout.trim() == NEIGHBOUR).then_some(())
        });
        outside
    }

    /// An instance on the host of this world.
    fn dhow(&self, name: &str) -> Dhow {
        Dhow::in_namespace(name, self.world.host())
    }

    fn nft(&self, args: &[&str]) -> Invocation {
        self.world.on_host("nft").args(args)
    }

    fn stop(self) {
        for mut process in self.processes {
            process.kill();
            process.wait();
        }
    }
}

fn sleeper(dhow: &Dhow, name: &str, flags: &[&str]) {
    let all = [&["run", "-d", "--name", name, "--dns", NEIGHBOUR], flags, &["busybox", "sleep", "1000"]];
    dhow.ok(&all.concat());
}

/// A program of this machine in a container's network.
fn inside(dhow: &Dhow, name: &str, program: &str) -> Invocation {
    Invocation::new("nsenter").arg(format!("--net=/proc/{}/ns/net", dhow.pid(name))).arg(program)
}

fn asks(dhow: &Dhow, name: &str) {
    eventually("the answer", || {
        let answer = inside(dhow, name, "dig").args(&["@127.0.0.11", "+short", "port.test"]).output().stdout;
        (answer.trim() == NEIGHBOUR).then_some(())
    });
}

/// Whether anybody answers at this port of the neighbour's, whatever he says.
fn reached(dhow: &Dhow, name: &str, port: u16) -> bool {
    let url = format!("http://{NEIGHBOUR}:{port}/");
    inside(dhow, name, "curl").args(&["--silent", "--max-time", "2", &url]).output().code == 0
}

fn has_server(dhow: &Dhow) -> bool {
    let run = dhow.run_root().to_str().unwrap().to_owned();
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        command.starts_with("dhow-egressd\0") && command.contains(&run)
    })
}

#[test]
fn what_was_flushed_stands_again_at_once() {
    const TIMES: u32 = 6;
    let outside = Outside::new();
    let dhow = outside.dhow("egress-flush");
    sleeper(&dhow, "web", &["--egress", "port.test:5000"]);
    asks(&dhow, "web");
    assert!(reached(&dhow, "web", 5000) && !reached(&dhow, "web", 5001));
    let table = format!("{}-egress", dhow.global_name());
    let chain = format!("limits_{}", &dhow.inspect("web")["Id"].as_str().unwrap()[..12]);
    let mut open = Duration::ZERO;
    for _ in 0..TIMES {
        outside.nft(&["flush", "ruleset"]).ok();
        let since = Instant::now();
        while outside.nft(&["list", "chain", "inet", &table, &chain]).output().code != 0 {
            assert!(since.elapsed() < Duration::from_secs(10), "it does not stand again");
        }
        open += since.elapsed();
    }
    // Who looked each half of a second would need three seconds for that.
    assert!(open < Duration::from_secs(1), "{open:?}");
    // A single chain is missed as well.
    outside.nft(&["flush", "chain", "inet", &table, &chain]).ok();
    eventually("the chain", || {
        let listed = outside.nft(&["list", "chain", "inet", &table, &chain]).output().stdout;
        listed.contains("reject").then_some(())
    });
    assert!(!reached(&dhow, "web", 5001));
    // What it has looked up it need not look up again.
    eventually("the way that a name had opened", || reached(&dhow, "web", 5000).then_some(()));
    dhow.ok(&["rm", "-f", "web"]);
    outside.stop();
}

#[test]
fn it_goes_with_the_last_that_is_limited() {
    let outside = Outside::new();
    let dhow = outside.dhow("egress-last");
    dhow.ok(&["network", "create", "free"]);
    // So that the name server stays.
    sleeper(&dhow, "stays", &["--network", "free"]);
    sleeper(&dhow, "web", &["--egress", "port.test:5000"]);
    asks(&dhow, "web");
    assert!(has_server(&dhow));
    dhow.ok(&["rm", "-f", "web"]);
    eventually("the end of the process and its table", || {
        let tables = outside.nft(&["list", "tables"]).ok();
        (!tables.contains("-egress") && !has_server(&dhow)).then_some(())
    });
    asks(&dhow, "stays");
    // And comes with the next one.
    sleeper(&dhow, "web", &["--egress", "port.test:5000"]);
    asks(&dhow, "web");
    assert!(reached(&dhow, "web", 5000) && !reached(&dhow, "web", 5001));
    dhow.ok(&["rm", "-f", "web", "stays"]);
    outside.stop();
}

#[test]
fn what_nft_lists_of_all_tables_it_can_load() {
    let outside = Outside::new();
    let dhow = outside.dhow("egress-listed");
    dhow.ok(&["network", "create", "--ipv6", "-o", "com.docker.network.bridge.enable_icc=false", "shut"]);
    sleeper(&dhow, "served", &["--network", "shut", "-p", "8080:80"]);
    sleeper(&dhow, "pair", &["--network", "shut", "--allow", "served:80"]);
    let rules = "example.org,port.test:5000,10.0.0.0/8:80-90,192.0.2.0/24,[2001:db8::/32]:53/udp";
    sleeper(&dhow, "web", &["--network", "shut", "--egress", rules]);
    sleeper(&dhow, "pupil", &["--egress", "learn"]);
    asks(&dhow, "web");
    let listed = outside.nft(&["list", "ruleset"]).ok();
    let name = dhow.global_name();
    for table in [format!("{name} {{"), format!("{name}-egress {{"), format!("{name}_pairs {{")] {
        assert!(listed.contains(&table), "{table} is not among\n{listed}");
    }
    assert!(!listed.contains("@ll,"), "{listed}");
    outside.nft(&["-c", "-f", "-"]).input(&listed).ok();
    Invocation::new("unshare").args(&["--net", "nft", "-f", "-"]).input(&listed).ok();
    // None of them is taken for somebody else's.
    let exposed = || dhow.ok(&["network", "exposed", "--format", "{{.Host}} {{.ReachedBy}}"]);
    assert_eq!(exposed().trim(), "*:8080 all");
    let deny = "table inet deny { chain input { type filter hook input priority 0; policy drop; }; }";
    outside.nft(&["-f", "-"]).input(deny).ok();
    assert_eq!(exposed().trim(), "*:8080 the host only");
    dhow.ok(&["rm", "-f", "served", "pair", "web", "pupil"]);
    outside.stop();
}
