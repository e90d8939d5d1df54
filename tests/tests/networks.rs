//! Networks of one's own: how they are made and removed, who reaches whom on them and between them, and how containers
//! come and go on them while they run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::world::{HOST, NEIGHBOUR, Peer, World};
use harness::{Dhow, eventually};
use serde_json::json;

/// The flags that bring the probe along.
const PROBE: &str = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");
/// The host's and the neighbour's IPv6 addresses on the wire.
const HOST6: &str = "2001:db8::1";
const NEIGHBOUR6: &str = "2001:db8::2";

/// A container that answers each connection to port 80, by either version of the protocol, with its name.
#[track_caller]
fn server(dhow: &Dhow, name: &str, flags: &[&str]) {
    let script = format!(
        "mkdir -p /www && echo I am {name} >/www/index.html && echo up && \
         if [ -e /proc/net/if_inet6 ] && [ -s /proc/net/if_inet6 ]; then exec httpd -f -p '[::]:80' -h /www; \
         else exec httpd -f -p 80 -h /www; fi"
    );
    let args =
        [&["run", "-d", "--name", name, "-v", PROBE], flags, &["busybox", "sh", "-c", &script]].concat();
    dhow.ok(&args);
    eventually("the server", || dhow.ok(&["logs", name]).contains("up").then_some(()));
}

/// What a container gets from a web server; nothing where nobody answers.
fn fetch(dhow: &Dhow, from: &str, host: &str, port: &str) -> String {
    dhow.run(&["exec", from, "probe", "fetch", host, port]).stdout.trim().to_owned()
}

#[track_caller]
fn fetched(dhow: &Dhow, from: &str, host: &str, port: &str, expected: &str) {
    eventually("the server's answer", || (fetch(dhow, from, host, port) == expected).then_some(()));
}

fn address(dhow: &Dhow, name: &str, network: &str) -> String {
    dhow.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap().to_owned()
}

fn address6(dhow: &Dhow, name: &str, network: &str) -> String {
    dhow.inspect(name)["NetworkSettings"]["Networks"][network]["GlobalIPv6Address"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn sleeper(dhow: &Dhow, name: &str, flags: &[&str]) {
    dhow.ok(&[&["run", "-d", "--name", name, "-v", PROBE], flags, &["busybox", "sleep", "1000"]].concat());
}

#[test]
fn networks_are_made_listed_shown_and_removed() {
    let dhow = Dhow::new("net-verbs");
    let id = dhow.ok(&["network", "create", "--label", "a=b", "--subnet", "10.77.0.0/24", "back"]);
    assert_eq!(id.len(), 64);
    let table = dhow.ok(&["network", "ls"]);
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    );
    for (name, driver) in [("back", "bridge"), ("bridge", "bridge"), ("host", "host"), ("none", "null")] {
        let line = table.lines().find(|l| l.split_whitespace().nth(1) == Some(name)).unwrap();
        assert_eq!(line.split_whitespace().nth(2), Some(driver), "{table}");
    }
    assert_eq!(dhow.ok(&["network", "ls", "-q", "--no-trunc", "--filter", "type=custom"]), id);
    assert_eq!(dhow.ok(&["network", "ls", "--filter", "label=a=b", "--format", "{{.Name}}"]), "back");
    let shown = &dhow.json(&["network", "inspect", &id[..7]]);
    assert_eq!(shown["IPAM"]["Config"], json!([{ "Subnet": "10.77.0.0/24", "Gateway": "10.77.0.1" }]));
    for (key, value) in [
        ("Name", json!("back")),
        ("Driver", json!("bridge")),
        ("Internal", json!(false)),
        ("EnableIPv6", json!(false)),
    ] {
        assert_eq!(shown[key], value);
    }
    // What cannot be.
    for (args, code, words) in [
        (&["network", "create", "back"][..], 1, "already"),
        (&["network", "create", "host"], 1, "something else"),
        (&["network", "create", "a/b"], 1, "no name"),
        (&["network", "create", "--subnet", "10.77.0.128/25", "x"], 1, "overlaps"),
        (&["network", "create", "--subnet", "10.78.0.1/24", "x"], 1, "no subnet"),
        (&["network", "create", "--gateway", "10.78.0.1", "x"], 1, "needs a --subnet"),
        (&["network", "create", "-d", "overlay", "x"], 1, "no network driver"),
        (&["network", "create", "-o", "nonsense=1", "x"], 1, "no such option"),
        (&["network", "rm", "bridge"], 1, "always there"),
        (&["network", "rm", "nope"], 1, "no network"),
        (&["run", "--network", "nope", "busybox", "true"], 125, "no network `nope`"),
        (&["run", "--network", "back", "--network", "back", "busybox", "true"], 125, "once"),
        (&["run", "--network", "back", "--network", "host", "busybox", "true"], 125, "goes with others"),
        (&["run", "--network-alias", "x", "busybox", "true"], 125, "--network-alias"),
        (&["run", "--network", "back", "--ip", "10.78.0.9", "busybox", "true"], 125, "not of 10.77.0.0/24"),
        (&["run", "--network", "back", "--ip", "10.77.0.1", "busybox", "true"], 125, "bridge's"),
    ] {
        let output = dhow.run(args);
        assert!(output.stderr.contains(words), "{args:?}: {}", output.stderr);
        assert_eq!(output.code, code, "{args:?}: {}", output.stderr);
    }
    assert_eq!(dhow.ok(&["ps", "-aq"]), "", "a refused container is not left");
    sleeper(&dhow, "one", &["--network", "back"]);
    assert_eq!(
        dhow.ok(&["ps", "--filter", "network=back", "--format", "{{.Names}} {{.Networks}}"]),
        "one back"
    );
    let shown = dhow.json(&["network", "inspect", "back"]);
    let containers = shown["Containers"].as_object().unwrap();
    assert_eq!(containers.values().next().unwrap()["Name"], "one");
    let refused = dhow.run(&["network", "rm", "back"]);
    assert!(refused.code == 1 && refused.stderr.contains("in use by"), "{}", refused.stderr);
    assert_eq!(dhow.ok(&["network", "prune", "-f"]), "");
    dhow.ok(&["rm", "-f", "one"]);
    dhow.ok(&["network", "create", "other"]);
    assert_eq!(dhow.ok(&["network", "rm", "back"]), "back");
    assert_eq!(dhow.ok(&["network", "prune", "-f"]), "Deleted Networks:\nother");
    let events = dhow.ok(&[
        "events",
        "--since",
        "0",
        "--until",
        "0s",
        "--filter",
        "type=network",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ]);
    assert_eq!(events, "create back\ncreate other\ndestroy back\ndestroy other");
}

#[test]
fn a_network_is_closed_to_the_others_and_open_within() {
    let world = World::new();
    let dhow = Dhow::in_namespace("net-apart", world.host());
    for network in ["front", "back"] {
        dhow.ok(&["network", "create", network]);
    }
    dhow.ok(&["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "closed"]);
    server(&dhow, "web", &["--network", "front", "-p", "8080:80"]);
    server(&dhow, "shy", &["--network", "closed", "-p", "8081:80"]);
    sleeper(&dhow, "friend", &["--network", "front"]);
    sleeper(&dhow, "stranger", &["--network", "back"]);
    sleeper(&dhow, "plain", &[]);
    sleeper(&dhow, "beside", &["--network", "closed"]);
    let web = address(&dhow, "web", "front");
    let shy = address(&dhow, "shy", "closed");
    fetched(&dhow, "friend", &web, "80", "I am web");
    fetched(&dhow, "friend", HOST, "8081", "I am shy");
    for stranger in ["stranger", "plain", "beside"] {
        assert_eq!(fetch(&dhow, stranger, &web, "80"), "", "{stranger}");
        // What is published is for everybody.
        assert_eq!(fetch(&dhow, stranger, HOST, "8080"), "I am web", "{stranger}");
    }
    assert_eq!(fetch(&dhow, "friend", &shy, "80"), "");
    assert_eq!(Peer::Host(&world).fetch(&shy, 80), "I am shy", "the host reaches its containers");
    assert_eq!(Peer::Neighbour(&world).fetch(HOST, 8080), "I am web");
    assert_eq!(Peer::Neighbour(&world).fetch(&web, 80), "");
    // The rule set goes, with all that it is about, and comes back with the next container that publishes.
    world.on_host("nft").args(&["flush", "ruleset"]).ok();
    sleeper(&dhow, "late", &["--network", "back", "-p", "8082:80"]);
    fetched(&dhow, "stranger", HOST, "8080", "I am web");
    assert_eq!(fetch(&dhow, "stranger", &web, "80"), "");
    dhow.ok(&["rm", "-f", "web", "shy", "friend", "stranger", "plain", "beside", "late"]);
    dhow.ok(&["network", "prune", "-f"]);
    eventually("everything to go", || {
        let links = world.on_host("ip").args(&["-o", "link"]).ok();
        let rules = world.on_host("nft").args(&["list", "ruleset"]).ok();
        let ours = [dhow.global_name(), " dh-", "dh0"].iter().any(|name| links.contains(name));
        (!ours && !rules.contains("dhow")).then_some(())
    });
}

#[test]
fn nothing_leaves_an_internal_network() {
    let world = World::new();
    let dhow = Dhow::in_namespace("net-internal", world.host());
    dhow.ok(&["network", "create", "--internal", "--ipv6", "inner"]);
    let published = dhow.run(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "inner",
        "-p",
        "8080:80",
        "-v",
        PROBE,
        "busybox",
        "sleep",
        "1000",
    ]);
    assert!(published.stderr.contains("internal"), "{}", published.stderr);
    dhow.ok(&["rm", "-f", "web"]);
    server(&dhow, "web", &["--network", "inner"]);
    sleeper(&dhow, "one", &["--network", "inner"]);
    let (web, web6) = (address(&dhow, "web", "inner"), address6(&dhow, "web", "inner"));
    fetched(&dhow, "one", &web, "80", "I am web");
    fetched(&dhow, "one", &format!("[{web6}]"), "80", "I am web");
    assert!(!dhow.ok(&["exec", "one", "ip", "route"]).contains("default"));
    // Not even by a route that somebody sets (it may: NET_ADMIN is not needed where a neighbour forwards).
    let gateway = dhow.json(&["network", "inspect", "inner"])["IPAM"]["Config"][0]["Gateway"]
        .as_str()
        .unwrap()
        .to_owned();
    let script = format!("ip route add default via {gateway} && probe fetch {NEIGHBOUR} 9000; echo $?");
    let out = dhow.ok(&[
        "run",
        "--rm",
        "--network",
        "inner",
        "--cap-add",
        "NET_ADMIN",
        "-v",
        PROBE,
        "busybox",
        "sh",
        "-c",
        &script,
    ]);
    assert_ne!(out, "0");
    dhow.ok(&["rm", "-f", "web", "one"]);
}

#[test]
fn addresses_are_the_ones_that_were_asked_for() {
    let dhow = Dhow::new("net-addresses");
    dhow.ok(&[
        "network",
        "create",
        "--subnet",
        "10.79.0.0/16",
        "--ip-range",
        "10.79.5.0/24",
        "--gateway",
        "10.79.0.254",
        "--subnet",
        "fd00:79::/64",
        "--aux-address",
        "printer=10.79.5.2",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "net",
    ]);
    let flags = [
        "--network",
        "net",
        "--ip",
        "10.79.0.9",
        "--ip6",
        "fd00:79::99",
        "--mac-address",
        "02:00:00:00:00:09",
    ];
    sleeper(&dhow, "fixed", &flags);
    let shown = dhow.ok(&["exec", "fixed", "sh", "-c", "ip addr show eth0; ip route; cat /etc/hosts"]);
    for part in ["10.79.0.9/16", "fd00:79::99/64", "02:00:00:00:00:09", "default via 10.79.0.254", "mtu 1400"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    for line in ["10.79.0.9\t", "fd00:79::99\t"] {
        assert!(shown.lines().any(|l| l.starts_with(line)), "{line}: {shown}");
    }
    let taken = dhow.run(&[&["run", "--rm"], &flags[..4], &["busybox", "true"]].concat());
    assert!(taken.code == 125 && taken.stderr.contains("another container has it"), "{}", taken.stderr);
    sleeper(&dhow, "any", &["--network", "net"]);
    assert_eq!(address(&dhow, "any", "net"), "10.79.5.0", "the first of the range");
    // It keeps what it asked for, over restarts and while it is stopped and another starts.
    dhow.ok(&["restart", "-t", "0", "fixed"]);
    assert_eq!(address(&dhow, "fixed", "net"), "10.79.0.9");
    let networks = &dhow.inspect("fixed")["NetworkSettings"]["Networks"]["net"];
    assert_eq!(networks["IPAMConfig"], json!({ "IPv4Address": "10.79.0.9", "IPv6Address": "fd00:79::99" }));
    assert_eq!(networks["MacAddress"], "02:00:00:00:00:09");
    // A subnet that nobody named may be another tomorrow.
    dhow.ok(&["network", "create", "free"]);
    let refused = dhow.run(&["run", "--rm", "--network", "free", "--ip", "10.1.2.3", "busybox", "true"]);
    assert!(refused.stderr.contains("not named"), "{}", refused.stderr);
    dhow.ok(&["rm", "-f", "fixed", "any"]);
}

#[test]
fn ipv6_works_within_outward_and_inward() {
    let world = World::new();
    for (on, ip) in [(world.on_host("ip"), HOST6), (world.at_neighbour("ip"), NEIGHBOUR6)] {
        on.args(&["addr", "add", &format!("{ip}/64"), "dev", "lan", "nodad"]).ok();
    }
    let dhow = Dhow::in_namespace("net-ipv6", world.host());
    dhow.ok(&["network", "create", "--ipv6", "six"]);
    server(&dhow, "web", &["--network", "six", "-p", "8080:80", "-p", "[2001:db8::1]:8082:80"]);
    sleeper(&dhow, "one", &["--network", "six"]);
    let web = address6(&dhow, "web", "six");
    assert!(web.starts_with("fd"), "{web}");
    fetched(&dhow, "one", &format!("[{web}]"), "80", "I am web");
    assert_eq!(Peer::Host(&world).fetch(&format!("[{web}]"), 80), "I am web");
    for port in [8080, 8082] {
        assert_eq!(Peer::Neighbour(&world).fetch(&format!("[{HOST6}]"), port), "I am web");
        assert_eq!(Peer::Host(&world).fetch(&format!("[{HOST6}]"), port), "I am web");
        assert_eq!(fetch(&dhow, "one", &format!("[{HOST6}]"), &port.to_string()), "I am web");
    }
    assert_eq!(Peer::Neighbour(&world).fetch(HOST, 8080), "I am web");
    assert_eq!(Peer::Neighbour(&world).fetch(HOST, 8082), "", "published on an IPv6 address alone");
    assert_eq!(Peer::Host(&world).fetch("127.0.0.1", 8080), "I am web");
    // Outward it has the host's address.
    let heard = std::thread::scope(|scope| {
        let (listening, listens) = std::sync::mpsc::channel();
        let world = &world;
        let neighbour = scope.spawn(move || {
            Peer::Neighbour(world).act(|| {
                let listener = std::net::TcpListener::bind((NEIGHBOUR6, 9000)).unwrap();
                listening.send(()).unwrap();
                listener.accept().unwrap().1.ip().to_string()
            })
        });
        listens.recv().unwrap();
        fetch(&dhow, "one", &format!("[{NEIGHBOUR6}]"), "9000");
        neighbour.join().unwrap()
    });
    assert_eq!(heard, HOST6);
    // Nobody reaches what is not published, nor a network without IPv6.
    world.at_neighbour("ip").args(&["-6", "route", "add", "fd00::/8", "via", HOST6]).ok();
    assert_eq!(Peer::Neighbour(&world).fetch(&format!("[{web}]"), 80), "");
    assert_eq!(dhow.ok(&["run", "--rm", "busybox", "cat", "/proc/net/if_inet6"]), "");
    dhow.ok(&["rm", "-f", "web", "one"]);
}

#[test]
fn a_container_is_connected_and_disconnected_while_it_runs() {
    let world = World::new();
    let dhow = Dhow::in_namespace("net-connect", world.host());
    dhow.ok(&["network", "create", "front"]);
    dhow.ok(&["network", "create", "--ipv6", "back"]);
    server(&dhow, "web", &["--network", "front", "-p", "8080:80"]);
    server(&dhow, "store", &["--network", "back"]);
    let store = address(&dhow, "store", "back");
    assert_eq!(fetch(&dhow, "web", &store, "80"), "");
    dhow.ok(&["network", "connect", "--alias", "shop", "back", "web"]);
    fetched(&dhow, "web", &store, "80", "I am store");
    fetched(&dhow, "web", &format!("[{}]", address6(&dhow, "store", "back")), "80", "I am store");
    let hosts = dhow.ok(&["exec", "web", "cat", "/etc/hosts"]);
    assert!(hosts.contains(&address(&dhow, "web", "back")), "{hosts}");
    let again = dhow.run(&["network", "connect", "back", "web"]);
    assert!(again.code == 1 && again.stderr.contains("already"), "{}", again.stderr);
    assert_eq!(dhow.inspect("web")["NetworkSettings"]["Networks"]["back"]["Aliases"], json!(["shop"]));
    // The first network goes: its ports and the way out move to the second one.
    let old = address(&dhow, "web", "front");
    dhow.ok(&["network", "disconnect", "front", "web"]);
    assert_eq!(Peer::Neighbour(&world).fetch(HOST, 8080), "I am web");
    assert_eq!(Peer::Host(&world).fetch(&old, 80), "");
    assert!(!dhow.ok(&["exec", "web", "cat", "/etc/hosts"]).contains(&old));
    let routes = dhow.ok(&["exec", "web", "ip", "route"]);
    assert!(routes.lines().any(|line| line.starts_with("default") && line.contains("eth1")), "{routes}");
    // So it stays over a restart, and its monitor's own.
    dhow.ok(&["restart", "-t", "0", "web"]);
    assert_eq!(
        dhow.ok(&["inspect", "-f", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}", "web"]),
        "back"
    );
    eventually("the port", || (Peer::Neighbour(&world).fetch(HOST, 8080) == "I am web").then_some(()));
    dhow.ok(&["network", "disconnect", "back", "web"]);
    assert_eq!(dhow.ok(&["exec", "web", "ls", "/sys/class/net"]), "lo");
    assert_eq!(Peer::Neighbour(&world).fetch(HOST, 8080), "");
    dhow.ok(&["network", "connect", "bridge", "web"]);
    eventually("the port", || (Peer::Neighbour(&world).fetch(HOST, 8080) == "I am web").then_some(()));
    // Stopped, it changes as well.
    dhow.ok(&["stop", "-t", "0", "web"]);
    dhow.ok(&["network", "connect", "front", "web"]);
    dhow.ok(&["network", "disconnect", "bridge", "web"]);
    dhow.ok(&["start", "web"]);
    assert!(address(&dhow, "web", "front").starts_with("10."));
    // Who has no networks of its own is told so.
    sleeper(&dhow, "host", &["--network", "host"]);
    let refused = dhow.run(&["network", "connect", "front", "host"]);
    assert!(refused.code == 1 && refused.stderr.contains("the host's network"), "{}", refused.stderr);
    dhow.ok(&["rm", "-f", "web", "store", "host"]);
    dhow.ok(&["network", "rm", "front", "back"]);
}

#[test]
fn what_was_connected_is_there_when_its_monitor_starts_it_again_and_given_back_when_that_dies() {
    let dhow = Dhow::new("net-again");
    dhow.ok(&["network", "create", "--subnet", "10.80.0.0/24", "one"]);
    dhow.ok(&["network", "create", "--subnet", "10.81.0.0/24", "--subnet", "fd00:81::/64", "two"]);
    sleeper(&dhow, "box", &["--network", "one", "--restart", "always"]);
    dhow.ok(&["network", "connect", "two", "box"]);
    dhow.ok(&["network", "disconnect", "one", "box"]);
    let pid = dhow.inspect("box")["State"]["Pid"].as_i64().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    eventually("the next run", || {
        let state = dhow.inspect("box")["State"].clone();
        (state["Restarting"] == false && state["Running"] == true && state["Pid"].as_i64() != Some(pid))
            .then_some(())
    });
    let shown = dhow.ok(&["exec", "box", "ip", "-o", "addr"]);
    assert!(
        shown.contains("10.81.0.") && shown.contains("fd00:81::") && !shown.contains("10.80.0."),
        "{shown}"
    );
    let monitor = rustix::process::Pid::from_raw(dhow.monitor_pid("box").cast_signed()).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    eventually("the end", || (dhow.inspect("box")["State"]["Running"] == false).then_some(()));
    dhow.ok(&["ps", "-a"]);
    for network in ["one", "two"] {
        assert_eq!(dhow.json(&["network", "inspect", network])["Containers"], json!({}));
    }
    dhow.ok(&["rm", "-f", "box"]);
    dhow.ok(&["network", "rm", "one", "two"]);
}

#[test]
fn a_container_shares_the_network_of_another() {
    let world = World::new();
    let dhow = Dhow::in_namespace("net-share", world.host());
    server(&dhow, "web", &["-p", "8080:80", "--hostname", "webby", "--add-host", "db:192.0.2.7"]);
    let inside = dhow.ok(&[
        "run",
        "--rm",
        "--network",
        "container:web",
        "-v",
        PROBE,
        "busybox",
        "sh",
        "-c",
        "probe fetch 127.0.0.1 80; hostname; grep db /etc/hosts",
    ]);
    assert_eq!(inside, "I am web\nwebby\n192.0.2.7\tdb");
    for (flags, words) in [
        (&["-p", "80"][..], "a published port"),
        (&["--hostname", "x"], "a host name"),
        (&["--dns", "192.0.2.1"], "a name server"),
    ] {
        let refused =
            dhow.run(&[&["run", "--rm", "--network", "container:web"], flags, &["busybox", "true"]].concat());
        assert!(refused.code == 125 && refused.stderr.contains(words), "{}", refused.stderr);
    }
    sleeper(&dhow, "guest", &["--network", "container:web"]);
    assert!(dhow.inspect("guest")["HostConfig"]["NetworkMode"].as_str().unwrap().starts_with("container:"));
    dhow.ok(&["stop", "-t", "0", "web", "guest"]);
    let alone = dhow.run(&["start", "guest"]);
    assert!(alone.code != 0 && alone.stderr.contains("does not run"), "{}", alone.stderr);
    dhow.ok(&["start", "web", "guest"]);
    eventually("the web", || (fetch(&dhow, "guest", "127.0.0.1", "80") == "I am web").then_some(()));
    dhow.ok(&["rm", "-f", "web", "guest"]);
}

#[test]
fn a_network_whose_subnet_the_host_routes_does_not_come_up_and_says_so() {
    let world = World::new();
    let dhow = Dhow::in_namespace("net-routed", world.host());
    dhow.ok(&["network", "create", "--subnet", "10.82.0.0/24", "net"]);
    world.on_host("ip").args(&["route", "add", "10.82.0.0/16", "via", NEIGHBOUR]).ok();
    let refused = dhow.run(&["run", "--rm", "--network", "net", "busybox", "true"]);
    assert!(
        refused.code == 125 && refused.stderr.contains("has a route into 10.82.0.0/24"),
        "{}",
        refused.stderr
    );
    world.on_host("ip").args(&["route", "del", "10.82.0.0/16"]).ok();
    dhow.ok(&["run", "--rm", "--network", "net", "busybox", "true"]);
    dhow.ok(&["network", "rm", "net"]);
}
