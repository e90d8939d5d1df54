//! Networks of the driver `macvlan`: containers beside the host, on the wire itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::world::{Peer, World};
use harness::{Dhow, eventually};
use serde_json::json;

const PROBE: &str = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");
/// The subnet of the world's wire.
const WIRE: &str = "198.51.100.0/24";
const NEIGHBOUR: &str = "198.51.100.2";

#[track_caller]
fn server(dhow: &Dhow, name: &str, flags: &[&str]) {
    let script =
        format!("mkdir -p /www && echo {name} >/www/index.html && echo up && exec httpd -f -p 80 -h /www");
    let run = ["run", "-d", "--name", name, "-v", PROBE];
    dhow.ok(&[&run, flags, &["busybox", "sh", "-c", &script]].concat());
    eventually("the server", || dhow.ok(&["logs", name]).contains("up").then_some(()));
}

fn fetch(dhow: &Dhow, from: &str, host: &str) -> String {
    dhow.run(&["exec", from, "timeout", "2", "wget", "-qO-", &format!("http://{host}/index.html")])
        .stdout
        .trim()
        .to_owned()
}

#[track_caller]
fn fetched(dhow: &Dhow, from: &str, host: &str, expected: &str) {
    eventually("the answer", || (fetch(dhow, from, host) == expected).then_some(()));
}

fn address(dhow: &Dhow, name: &str, network: &str) -> String {
    dhow.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap().to_owned()
}

#[test]
fn containers_are_machines_on_the_wire() {
    let world = World::new();
    let dhow = Dhow::in_namespace("macvlan", world.host());
    dhow.ok(&[
        "network",
        "create",
        "-d",
        "macvlan",
        "-o",
        "parent=lan",
        "--subnet",
        WIRE,
        "--gateway",
        NEIGHBOUR,
        "--ip-range",
        "198.51.100.64/26",
        "--aux-address",
        "host=198.51.100.1",
        "wire",
    ]);
    let shown = dhow.json(&["network", "inspect", "wire"]);
    assert_eq!(shown["Driver"], "macvlan");
    assert_eq!(shown["Options"], json!({ "parent": "lan" }));
    // What is published has no meaning where all can be reached.
    let published = dhow.run(&["run", "--rm", "--network", "wire", "-p", "8080:80", "busybox", "true"]);
    assert!(
        published.code == 0 && published.stderr.contains("discarded on a macvlan"),
        "{}",
        published.stderr
    );
    server(&dhow, "web", &["--network", "wire", "--ip", "198.51.100.200"]);
    server(&dhow, "app", &["--network", "wire", "--network-alias", "application"]);
    let app = address(&dhow, "app", "wire");
    assert!(app.starts_with("198.51.100.") && app != "198.51.100.200", "{app}");
    // From the wire, among each other by name, and to the wire.
    for (address, name) in [("198.51.100.200", "web"), (&*app, "app")] {
        eventually("an answer on the wire", || {
            (Peer::Neighbour(&world).fetch(address, 80) == name).then_some(())
        });
    }
    assert_eq!(Peer::Host(&world).fetch(&app, 80), "", "the host does not see what is on its own link");
    fetched(&dhow, "web", "application", "app");
    fetched(&dhow, "app", "web", "web");
    let route = dhow.ok(&["exec", "web", "ip", "route"]);
    assert!(route.contains(&format!("default via {NEIGHBOUR}")), "{route}");
    dhow.ok(&["exec", "web", "ping", "-c1", "-W2", NEIGHBOUR]);
    // No rule, no bridge, nothing on the host.
    assert!(!world.on_host("nft").args(&["list", "tables"]).ok().contains("dhow"));
    assert!(!world.on_host("ip").args(&["-o", "link"]).ok().contains(": dh"));

    // While it runs, also beside a bridge, whose ports are published as ever.
    dhow.ok(&["network", "create", "back"]);
    server(&dhow, "late", &["--network", "back", "-p", "8080:80"]);
    assert_eq!(Peer::Neighbour(&world).fetch("198.51.100.1", 8080), "late");
    dhow.ok(&["network", "connect", "wire", "late"]);
    let late = address(&dhow, "late", "wire");
    eventually("an answer on the wire", || {
        (Peer::Neighbour(&world).fetch(&late, 80) == "late").then_some(())
    });
    dhow.ok(&["network", "disconnect", "wire", "late"]);
    assert_eq!(Peer::Neighbour(&world).fetch(&late, 80), "");
    assert!(!dhow.ok(&["exec", "late", "ip", "link"]).contains("eth1"));
    dhow.ok(&["restart", "-t", "0", "web"]);
    eventually("an answer on the wire", || {
        (Peer::Neighbour(&world).fetch("198.51.100.200", 80) == "web").then_some(())
    });
    dhow.ok(&["rm", "-f", "web", "app", "late"]);
    dhow.ok(&["network", "rm", "wire"]);
    assert!(world.on_host("ip").args(&["-o", "link"]).ok().contains("lan@"), "the host's link stays");
}

#[test]
fn modes_are_the_kernels_and_what_cannot_be_is_said() {
    let world = World::new();
    let dhow = Dhow::in_namespace("macvlan-modes", world.host());
    let create = |args: &[&str]| dhow.run(&[&["network", "create", "-d", "macvlan"], args].concat());
    for (args, words) in [
        (&["-o", "parent=nope", "x"][..], "no link `nope`"),
        (&["-o", "parent=nope.7", "x"], "no link `nope.7`"),
        (&["-o", "parent=lan", "-o", "macvlan_mode=l2", "x"], "bridge, private, vepa or passthru"),
        (&["-o", "ipvlan_mode=l2", "x"], "no such option"),
    ] {
        let output = create(args);
        assert!(output.code == 1 && output.stderr.contains(words), "{args:?}: {}", output.stderr);
    }
    let private = [
        "-o",
        "parent=lan",
        "-o",
        "macvlan_mode=private",
        "--subnet",
        WIRE,
        "--ip-range",
        "198.51.100.64/26",
    ];
    assert_eq!(create(&[&private[..], &["alone"]].concat()).code, 0);
    let taken = create(&["-o", "parent=lan", "--subnet", "10.9.0.0/24", "second"]);
    assert!(taken.code == 1 && taken.stderr.contains("`alone` are on the link `lan`"), "{}", taken.stderr);
    server(&dhow, "one", &["--network", "alone"]);
    server(&dhow, "two", &["--network", "alone"]);
    let two = address(&dhow, "two", "alone");
    eventually("an answer on the wire", || (Peer::Neighbour(&world).fetch(&two, 80) == "two").then_some(()));
    assert_eq!(fetch(&dhow, "one", &two), "", "they do not see each other");
    dhow.ok(&["rm", "-f", "one", "two"]);

    // A VLAN's link and one that leads nowhere are ours, where the kernel has such: they come and go with the network.
    for (kind, args) in [("vlan", &["-o", "parent=lan.7"][..]), ("dummy", &["--internal"])] {
        dhow.ok(&[&["network", "create", "-d", "macvlan", "--subnet", "10.7.0.0/24"], args, &[kind]].concat());
        let run = ["run", "-d", "--name", kind, "--network", kind, "busybox", "sleep", "1000"];
        let started = dhow.run(&run);
        let links = || world.on_host("ip").args(&["-o", "link", "show", "type", kind]).output().stdout;
        if started.code == 0 {
            assert!(links().contains("UP"), "{}", links());
            assert!(!dhow.ok(&["exec", kind, "ip", "route"]).contains("default") || kind == "vlan");
        } else {
            assert!(started.stderr.contains("cannot make the link"), "{}", started.stderr);
            dhow.run(&["rm", "-f", kind]);
        }
        dhow.run(&["rm", "-f", kind]);
        dhow.ok(&["network", "rm", kind]);
        assert_eq!(links(), "");
    }
}

#[test]
fn limits_that_cannot_be_kept_on_the_wire_are_refused() {
    let world = World::new();
    let dhow = Dhow::in_namespace("macvlan-egress", world.host());
    let wire = ["network", "create", "-d", "macvlan", "-o", "parent=lan", "--subnet", WIRE];
    let output = dhow.run(&[&wire[..], &["--egress", "deny", "limited"]].concat());
    let told = output.stderr.contains("past every rule") && output.stderr.contains("a bridge network");
    assert!(output.code == 1 && told, "{output:?}");
    dhow.ok(&[&wire[..], &["--ip-range", "198.51.100.64/26", "wire"]].concat());
    dhow.ok(&["network", "create", "back"]);
    dhow.ok(&["network", "create", "--egress", "10.0.0.0/8", "inside"]);
    let refused = |code: i32, args: &[&str]| {
        let words = dhow.fails(code, args);
        assert!(words.contains("macvlan network `wire`") && words.contains("past every rule"), "{words}");
    };
    let run = |flags: &[&'static str]| [&["run", "--rm"], flags, &["busybox", "true"]].concat();
    refused(125, &run(&["--network", "wire", "--egress", "deny"]));
    refused(125, &run(&["--network", "wire", "--egress", "learn"]));
    refused(125, &run(&["--network", "back", "--network", "wire", "--egress", "deny"]));
    refused(125, &run(&["--network", "inside", "--network", "wire"]));
    refused(125, &["create", "--network", "wire", "--egress", "example.org", "busybox", "true"]);
    assert_eq!(dhow.ok(&["ps", "-aq"]), "", "nothing is left of them");
    // Connected later, stopped or running.
    dhow.ok(&[
        "create",
        "--name",
        "still",
        "--network",
        "back",
        "--egress",
        "deny",
        "busybox",
        "sleep",
        "1000",
    ]);
    refused(1, &["network", "connect", "wire", "still"]);
    dhow.ok(&["start", "still"]);
    refused(1, &["network", "connect", "wire", "still"]);
    // The policy binds as well, and also one that was made before it.
    dhow.ok(&["create", "--name", "before", "--network", "wire", "busybox", "sleep", "1000"]);
    dhow.ok(&["run", "-d", "--name", "free", "--network", "back", "busybox", "sleep", "1000"]);
    let policy = dhow.config().with_file_name("policy.toml");
    std::fs::write(&policy, "[egress]\ndefault = [\"deny\"]\n").unwrap();
    refused(125, &run(&["--network", "wire"]));
    refused(1, &["start", "before"]);
    refused(1, &["network", "connect", "wire", "free"]);
    std::fs::remove_file(&policy).unwrap();
    dhow.ok(&["start", "before"]);
    dhow.ok(&["network", "connect", "wire", "free"]);
    dhow.ok(&["rm", "-f", "still", "before", "free"]);
}
