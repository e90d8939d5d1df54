//! `network why`: a path is broken in one place after the other, and each time the right culprit is named.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::TcpListener;

use harness::world::{HOST, NEIGHBOUR, Peer, World};
use harness::{Dhow, eventually};
use serde_json::Value;

/// A container that serves on port 80 of all addresses, and on port 90 of loopback.
#[track_caller]
fn server(dhow: &Dhow, name: &str, flags: &[&str]) {
    let script = "mkdir -p /www && httpd -p 127.0.0.1:90 -h /www && echo up && exec httpd -f -p 80 -h /www";
    dhow.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sh", "-c", script]].concat());
    eventually("the server", || dhow.ok(&["logs", name]).contains("up").then_some(()));
}

fn sleeper(dhow: &Dhow, name: &str, flags: &[&str]) {
    dhow.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat());
}

/// What is found, which must be this culprit (empty: it works), named in the words for people, too.
#[track_caller]
fn why(dhow: &Dhow, from: &str, to: &str, culprit: &str) -> Value {
    let output = dhow.run(&["network", "why", "--format", "json", from, to]);
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:#?}"));
    assert_eq!(report["Culprit"].as_str().unwrap_or(""), culprit, "{from} {to}: {report:#}");
    assert_eq!(output.code, i32::from(!culprit.is_empty()), "{from} {to}: {report:#}");
    report
}

/// The words and the remedy of the culprit.
fn said(report: &Value) -> (String, String) {
    let step =
        report["Steps"].as_array().unwrap().iter().find(|s| s["Culprit"] == report["Culprit"]).unwrap();
    (step["Words"].as_str().unwrap().to_owned(), step["Mend"].as_str().unwrap_or("").to_owned())
}

fn address(dhow: &Dhow, name: &str, network: &str) -> String {
    dhow.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap().to_owned()
}

/// Does something in a container's network namespace.
fn inside(dhow: &Dhow, name: &str, command: &str) {
    let namespace = format!("--net=/proc/{}/ns/net", dhow.pid(name));
    harness::Invocation::new("nsenter").arg(namespace).args(&["sh", "-c", command]).ok();
}

#[test]
fn names_and_listeners() {
    let world = World::new();
    let dhow = Dhow::in_namespace("why-names", world.host());
    for network in ["back", "other"] {
        dhow.ok(&["network", "create", network]);
    }
    server(&dhow, "web", &["--network", "back", "-p", "8080:80"]);
    sleeper(&dhow, "app", &["--network", "back"]);
    sleeper(&dhow, "lone", &["--network", "other"]);
    dhow.ok(&["create", "--name", "still", "--network", "back", "busybox", "true"]);
    let text = dhow.ok(&["network", "why", "app", "web:80"]);
    assert!(text.contains("app reaches web:80") && text.contains("web listens on port 80/tcp"), "{text}");
    why(&dhow, "host", "web:80", "");
    why(&dhow, "lone", &format!("http://{HOST}:8080/x"), "");
    why(&dhow, "app", "nobody:80", "no-such-name");
    let (words, mend) = said(&why(&dhow, "lone", "web:80", "not-on-same-network"));
    assert!(words.contains("web runs") && mend == "dhow network connect back lone", "{words} {mend}");
    let web = address(&dhow, "web", "back");
    let (words, _) = said(&why(&dhow, "lone", &format!("{web}:80"), "not-on-same-network"));
    assert!(words.contains("network back"), "{words}");
    let (_, mend) = said(&why(&dhow, "app", "still:80", "not-running"));
    assert_eq!(mend, "dhow start still");
    why(&dhow, "web", "app:80", "nothing-listens");
    let (words, _) = said(&why(&dhow, "app", "web:81", "wrong-port"));
    assert!(words.ends_with("it does on 80"), "{words}");
    let (words, _) = said(&why(&dhow, "app", "web:90", "loopback-only"));
    assert!(words.contains("127.0.0.1 alone"), "{words}");
    let (_, mend) = said(&why(&dhow, "app", &format!("{HOST}:8099"), "not-published"));
    assert!(mend.contains("--publish 8099"), "{mend}");
    dhow.ok(&["pause", "web"]);
    why(&dhow, "app", "web:80", "paused");
    dhow.ok(&["unpause", "web"]);
    // For people: a sign, the words, the remedy; and what is no question.
    let output = dhow.run(&["network", "why", "app", "web:81"]);
    assert!(
        output.code == 1 && output.stdout.contains("app does not reach web:81: wrong-port"),
        "{output:#?}"
    );
    let output = dhow.run(&["network", "why", "app", "web"]);
    assert!(output.code == 1 && output.stderr.contains("NAME:PORT"), "{output:#?}");
    let output = dhow.run(&["network", "why", "nobody", "web:80"]);
    assert!(output.code == 1 && output.stderr.contains("nobody"), "{output:#?}");
}

#[test]
fn what_is_closed_on_purpose() {
    let world = World::new();
    let dhow = Dhow::in_namespace("why-closed", world.host());
    dhow.ok(&["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "closed"]);
    dhow.ok(&["network", "create", "open"]);
    dhow.ok(&["network", "create", "--internal", "inner"]);
    server(&dhow, "web", &["--network", "closed", "--network", "open"]);
    sleeper(&dhow, "app", &["--network", "closed"]);
    sleeper(&dhow, "shy", &["--network", "open", "--allow", "web:81"]);
    sleeper(&dhow, "friend", &["--network", "open", "--allow", "web:80"]);
    sleeper(&dhow, "captive", &["--network", "inner"]);
    let (_, mend) = said(&why(&dhow, "app", "web:80", "closed-network"));
    assert!(mend.contains("--allow web:80/tcp closed app"), "{mend}");
    why(&dhow, "shy", "web:80", "not-allowed");
    eventually("the pair", || (dhow.run(&["network", "why", "friend", "web:80"]).code == 0).then_some(()));
    let (_, mend) = said(&why(&dhow, "captive", &format!("{NEIGHBOUR}:7000"), "internal-network"));
    assert_eq!(mend, "dhow network connect bridge captive");
    assert!(!world.on_host("nft").args(&["list", "tables"]).ok().contains("dhow_why"), "no trace is left");
}

#[test]
fn what_others_have_done_to_the_host() {
    let world = World::new();
    let dhow = Dhow::in_namespace("why-host", world.host());
    dhow.ok(&["network", "create", "back"]);
    server(&dhow, "web", &["--network", "back"]);
    sleeper(&dhow, "app", &["--network", "back", "--dns", NEIGHBOUR]);
    let host = |command: &str| world.on_host("sh").args(&["-c", command]).ok();
    let outside = Peer::Neighbour(&world).act(|| TcpListener::bind((NEIGHBOUR, 7000)).unwrap());
    let there = format!("{NEIGHBOUR}:7000");
    why(&dhow, "app", &there, "");
    let (words, _) = said(&why(&dhow, "app", &format!("https://{NEIGHBOUR}:7001/"), "refused"));
    assert!(words.contains("the other machine is reached"), "{words}");
    why(&dhow, "app", "example.org:80", "dns-silent");

    host(
        "nft 'add table inet fw; add chain inet fw f { type filter hook forward priority 10; }; add rule inet fw f tcp dport 7000 drop'",
    );
    let (words, mend) = said(&why(&dhow, "app", &there, "foreign-rule"));
    assert!(words.contains("chain f in somebody else's table inet fw"), "{words}");
    let handle = mend.rsplit(' ').next().unwrap();
    host(&format!("nft delete rule inet fw f handle {handle}"));
    why(&dhow, "app", &there, "");
    host("nft delete table inet fw");
    host(
        "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
    );
    let (_, mend) = said(&why(&dhow, "app", &there, "foreign-policy"));
    assert!(mend.contains("iptables -I FORWARD -i dh-"), "{mend}");
    host("nft delete table ip filter");
    host("echo 0 >/proc/sys/net/ipv4/ip_forward");
    let (_, mend) = said(&why(&dhow, "app", &there, "ip-forward"));
    assert_eq!(mend, "sysctl -w net.ipv4.ip_forward=1");
    host("echo 1 >/proc/sys/net/ipv4/ip_forward");
    let web = address(&dhow, "web", "back");
    host(&format!("ip route add {web}/32 dev lan"));
    let (words, _) = said(&why(&dhow, "host", "web:80", "shadowed-route"));
    assert!(words.contains("to lan and not to dh-"), "{words}");
    host(&format!("ip route del {web}/32 dev lan"));
    let link = host("ip -o link show type veth | grep -o ': dh[0-9a-f]*@' | tr -d ':@ ' | head -1");
    host(&format!("ip link set {link} mtu 900"));
    let (_, mend) = said(&why(&dhow, "app", "web:80", "mtu"));
    assert_eq!(mend, format!("ip link set {link} mtu 1500"));
    host(&format!("ip link set {link} mtu 1500"));
    why(&dhow, "app", "web:80", "");
    drop(outside);
}

#[test]
fn what_somebody_has_done_in_a_container() {
    let world = World::new();
    let dhow = Dhow::in_namespace("why-inside", world.host());
    dhow.ok(&["network", "create", "back"]);
    dhow.ok(&["network", "create", "side"]);
    server(&dhow, "web", &["--network", "back", "--network", "side"]);
    sleeper(&dhow, "app", &["--network", "back"]);
    let (web, app) = (address(&dhow, "web", "back"), address(&dhow, "app", "back"));
    let outside = Peer::Neighbour(&world).act(|| TcpListener::bind((NEIGHBOUR, 7000)).unwrap());
    let there = format!("{NEIGHBOUR}:7000");
    inside(&dhow, "app", "ip route del default");
    let (words, mend) = said(&why(&dhow, "app", &there, "no-route"));
    assert!(
        words.contains("app has no route") && mend.contains("ip route add default via"),
        "{words} {mend}"
    );
    harness::Invocation::new("sh").args(&["-c", &mend]).ok();
    why(&dhow, "app", &there, "");
    inside(&dhow, "app", "ip link set eth0 down");
    let (words, mend) = said(&why(&dhow, "app", &format!("{web}:80"), "link-down"));
    assert!(words.contains("eth0 of app"), "{words}");
    harness::Invocation::new("sh").args(&["-c", &mend]).ok();
    why(&dhow, "app", &format!("{web}:80"), "");
    for (name, chain) in [("web", "input"), ("app", "output")] {
        let rules = format!(
            "add table inet own; add chain inet own {chain} {{ type filter hook {chain} priority 0; }}; add rule inet own {chain} tcp dport 80 drop"
        );
        inside(&dhow, name, &format!("nft '{rules}'"));
        let (words, _) = said(&why(&dhow, "app", "web:80", "container-firewall"));
        assert!(words.contains(&format!("own firewall of {name}")), "{words}");
        inside(&dhow, name, "nft delete table inet own");
    }
    let sysctls =
        "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 1 >/proc/sys/net/ipv4/conf/eth0/rp_filter";
    inside(&dhow, "web", &format!("{sysctls}; ip route add {app}/32 dev eth1"));
    let (words, mend) = said(&why(&dhow, "app", "web:80", "rp-filter"));
    assert!(words.contains("through eth1") && mend.contains("rp_filter=2"), "{words} {mend}");
    inside(&dhow, "web", &format!("ip route del {app}/32 dev eth1"));
    why(&dhow, "app", "web:80", "");
    drop(outside);
}
