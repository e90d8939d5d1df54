//! `--allow`: which container may speak to which port of which neighbour, and to nobody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::world::{HOST, World};
use harness::{Dhow, eventually};

const PROBE: &str = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");

/// A container that answers on ports 80 and 81, by both versions of the protocol.
#[track_caller]
fn server(dhow: &Dhow, name: &str, flags: &[&str]) {
    let script = format!(
        "mkdir -p /www && echo {name} >/www/index.html && httpd -p '[::]:81' -h /www && echo up && \
         exec httpd -f -p '[::]:80' -h /www"
    );
    let run = ["run", "-d", "--name", name, "-v", PROBE];
    dhow.ok(&[&run, flags, &["busybox", "sh", "-c", &script]].concat());
    eventually("the server", || dhow.ok(&["logs", name]).contains("up").then_some(()));
}

fn fetch(dhow: &Dhow, from: &str, host: &str, port: u16) -> String {
    let url = format!("http://{host}:{port}/index.html");
    dhow.run(&["exec", from, "timeout", "1", "wget", "-qO-", &url]).stdout.trim().to_owned()
}

#[track_caller]
fn fetched(dhow: &Dhow, from: &str, host: &str, port: u16, expected: &str) {
    eventually("the answer", || (fetch(dhow, from, host, port) == expected).then_some(()));
}

fn address(dhow: &Dhow, name: &str, network: &str, key: &str) -> String {
    dhow.inspect(name)["NetworkSettings"]["Networks"][network][key].as_str().unwrap().to_owned()
}

/// The process that answers the instance's questions for names.
fn server_of_names(dhow: &Dhow) -> String {
    let run = dhow.run_root().display().to_string();
    let is_it = |pid: &str| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.starts_with("dhow-netd\0") && command.contains(&run)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
    pids.find(|pid| is_it(pid)).expect("there is a name server")
}

#[test]
fn a_container_speaks_to_those_that_it_may_and_to_no_others() {
    let world = World::new();
    let dhow = Dhow::in_namespace("allow", world.host());
    dhow.ok(&["network", "create", "--ipv6", "back"]);
    let on = ["--network", "back"];
    server(&dhow, "one", &["--network", "back", "--network-alias", "site"]);
    server(&dhow, "other", &[&on[..], &["-p", "8080:80"]].concat());
    server(&dhow, "app", &["--network", "back", "--allow", "site:80", "--allow", "late:81/tcp"]);
    let shown = dhow.inspect("app");
    assert_eq!(
        shown["NetworkSettings"]["Networks"]["back"]["Allow"],
        serde_json::json!(["site:80/tcp", "late:81/tcp"])
    );
    for key in ["IPAddress", "GlobalIPv6Address"] {
        let of = |name: &str| {
            let address = address(&dhow, name, "back", key);
            if address.contains(':') { format!("[{address}]") } else { address }
        };
        fetched(&dhow, "app", &of("one"), 80, "one");
        assert_eq!(fetch(&dhow, "app", &of("one"), 81), "", "another port, {key}");
        assert_eq!(fetch(&dhow, "app", &of("other"), 80), "", "another container, {key}");
        // Who is not closed speaks to all, also to the closed one.
        fetched(&dhow, "other", &of("app"), 80, "app");
    }
    assert_eq!(fetch(&dhow, "app", HOST, 8080), "", "by way of what it publishes");

    // Around the bridge, by way of the host.
    let other = address(&dhow, "other", "back", "IPAddress");
    let gateway = address(&dhow, "other", "back", "Gateway");
    dhow.ok(&[
        "run",
        "-d",
        "--name",
        "crook",
        "--network",
        "back",
        "--allow",
        "site:80",
        "--cap-add",
        "NET_ADMIN",
        "busybox",
        "sleep",
        "1000",
    ]);
    dhow.ok(&["exec", "crook", "ip", "route", "add", &format!("{other}/32"), "via", &gateway]);
    assert_eq!(fetch(&dhow, "crook", &other, 80), "");
    fetched(&dhow, "crook", "one", 80, "one");
    dhow.ok(&["rm", "-f", "crook"]);

    // Names come and go: one more of an alias, one that was not there, one with another address.
    server(&dhow, "two", &["--network", "back", "--network-alias", "site"]);
    server(&dhow, "late", &on);
    fetched(&dhow, "app", &address(&dhow, "two", "back", "IPAddress"), 80, "two");
    fetched(&dhow, "app", "late", 81, "late");
    assert_eq!(fetch(&dhow, "app", "late", 80), "");
    let before = address(&dhow, "late", "back", "IPAddress");
    dhow.ok(&["rm", "-f", "late"]);
    dhow.ok(&["run", "-d", "--name", "squatter", "--network", "back", "busybox", "sleep", "1000"]);
    server(&dhow, "late", &on);
    assert_ne!(address(&dhow, "late", "back", "IPAddress"), before);
    fetched(&dhow, "app", "late", 81, "late");
    // The name server may die: what is allowed stays, and whoever comes then is allowed, too.
    harness::Invocation::new("kill").args(&["-9", &server_of_names(&dhow)]).ok();
    fetched(&dhow, "app", &address(&dhow, "two", "back", "IPAddress"), 80, "two");
    server(&dhow, "three", &["--network", "back", "--network-alias", "site"]);
    fetched(&dhow, "app", &address(&dhow, "three", "back", "IPAddress"), 80, "three");
    // And so does the closed one itself.
    dhow.ok(&["restart", "-t", "0", "app"]);
    fetched(&dhow, "app", "one", 80, "one");
    assert_eq!(fetch(&dhow, "app", "other", 80), "");
    dhow.ok(&["rm", "-f", "two"]);
    let rules = || world.on_host("nft").args(&["list", "ruleset"]).ok();
    let app = address(&dhow, "app", "back", "IPAddress");
    eventually("what was allowed to go", || {
        (rules().matches(&format!("{app} . ")).count() > 0).then_some(())
    });
    dhow.ok(&["rm", "-f", "app"]);
    assert!(!rules().contains(&format!("{app} . ")), "{}", rules());
}

#[test]
fn a_closed_network_is_open_to_what_is_allowed() {
    let world = World::new();
    let dhow = Dhow::in_namespace("allow-closed", world.host());
    dhow.ok(&["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "closed"]);
    dhow.ok(&["network", "create", "open"]);
    server(&dhow, "db", &["--network", "closed"]);
    server(&dhow, "app", &["--network", "closed", "--allow", "db:80"]);
    server(&dhow, "stranger", &["--network", "closed"]);
    fetched(&dhow, "app", "db", 80, "db");
    assert_eq!(fetch(&dhow, "app", "db", 81), "");
    assert_eq!(fetch(&dhow, "stranger", "db", 80), "");
    assert_eq!(fetch(&dhow, "db", "app", 80), "", "it may answer, but not begin");
    // Connected while it runs, and closed there, too.
    server(&dhow, "web", &["--network", "open"]);
    dhow.ok(&["network", "connect", "--allow", "web:80", "open", "app"]);
    fetched(&dhow, "app", "web", 80, "web");
    assert_eq!(fetch(&dhow, "app", "web", 81), "");
    for (args, words) in [
        (&["run", "--allow", "db:80", "busybox", "true"][..], "network of your own"),
        (&["run", "--network", "open", "--allow", "db", "busybox", "true"], "NAME:PORT"),
        (&["network", "connect", "--allow", "db:80", "bridge", "web"], "no names"),
    ] {
        let output = dhow.run(args);
        assert!(output.code != 0 && output.stderr.contains(words), "{args:?}: {}", output.stderr);
    }
}

#[test]
fn what_was_allowed_is_back_after_a_flush_and_the_tables_go_with_the_last_closed_container() {
    let world = World::new();
    let dhow = Dhow::in_namespace("allow-flush", world.host());
    dhow.ok(&["network", "create", "back"]);
    dhow.ok(&["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "closed"]);
    server(&dhow, "one", &["--network", "back"]);
    server(&dhow, "two", &["--network", "closed"]);
    server(&dhow, "app", &["--network", "back", "--allow", "one:80"]);
    server(&dhow, "web", &["--network", "closed", "--allow", "two:80"]);
    fetched(&dhow, "app", "one", 80, "one");
    fetched(&dhow, "web", "two", 80, "two");
    let nft = |words: &[&str]| world.on_host("nft").args(words).ok();
    let pairs = || {
        let tables = nft(&["list", "tables"]);
        let ours = tables.lines().filter(|line| line.ends_with("_pairs"));
        ours.map(|line| line.trim_start_matches("table ").to_owned()).collect::<Vec<_>>()
    };
    let before = pairs();
    assert_eq!(before.len(), 2, "{before:?}");
    let elements = || {
        let rules = nft(&["list", "ruleset"]);
        rules.matches(" . tcp . 80").count()
    };
    let allowed = elements();
    assert!(allowed >= 4, "{allowed}");

    let works = |what: &str| {
        // Nobody comes or goes meanwhile.
        eventually(what, || (pairs() == before && elements() == allowed).then_some(()));
        fetched(&dhow, "app", "one", 80, "one");
        fetched(&dhow, "web", "two", 80, "two");
        assert_eq!(fetch(&dhow, "app", "one", 81), "", "{what}");
        assert_eq!(fetch(&dhow, "web", "two", 81), "", "{what}");
        let why = dhow.run(&["network", "why", "app", "one:81"]).stdout;
        assert!(why.contains("not-allowed"), "{why}");
        let why = dhow.run(&["network", "why", "app", "one:80"]);
        assert_eq!(why.code, 0, "{}", why.stdout);
    };
    nft(&["flush", "ruleset"]);
    works("all is there again");
    let (family, name) = before[0].split_once(' ').unwrap();
    nft(&["delete", "table", family, name]);
    works("one table is there again");
    // What a run before was allowed is not what this one is.
    dhow.ok(&["rm", "-f", "one"]);
    dhow.ok(&["restart", "-t", "0", "app"]);
    server(&dhow, "other", &["--network", "back"]);
    nft(&["flush", "ruleset"]);
    eventually("the tables", || (pairs() == before).then_some(()));
    let other = address(&dhow, "other", "back", "IPAddress");
    assert_eq!(fetch(&dhow, "app", &other, 80), "");

    dhow.ok(&["rm", "-f", "web"]);
    assert_eq!(pairs().len(), 2);
    dhow.ok(&["rm", "-f", "app"]);
    assert_eq!(pairs(), Vec::<String>::new());
    // And come with the next.
    server(&dhow, "app", &["--network", "back", "--allow", "other:80"]);
    fetched(&dhow, "app", "other", 80, "other");
    assert_eq!(fetch(&dhow, "app", "other", 81), "");
}
