//! `--log-driver syslog`, with rsyslog.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::collectors::{Collector, Rsyslog, Transport};
use harness::{Dhow, real_directory, shipped};

fn with(transport: Transport, test: impl FnOnce(Rsyslog)) {
    let dir = real_directory("rsyslog");
    test(Rsyslog::new(dir.path(), transport));
}

#[test]
fn all_arrives_as_it_was_said() {
    with(Transport::Tcp, |rsyslog| shipped::whole("syslog", rsyslog));
}

#[test]
fn over_tls_too() {
    with(Transport::Tls, |rsyslog| shipped::whole("syslog", rsyslog));
}

#[test]
fn over_udp_too() {
    with(Transport::Udp, |rsyslog| shipped::whole("syslog", rsyslog));
}

#[test]
fn over_a_local_socket_too() {
    with(Transport::Unixgram, |rsyslog| shipped::whole("syslog", rsyslog));
}

#[test]
fn a_server_that_dies_gets_all_when_it_is_back() {
    with(Transport::Tcp, |rsyslog| shipped::killed("syslog", rsyslog, true));
}

#[test]
fn over_tls_it_does_too() {
    with(Transport::Tls, |rsyslog| shipped::killed("syslog", rsyslog, true));
}

#[test]
fn a_server_that_stands_still_holds_nobody() {
    with(Transport::Tcp, |rsyslog| shipped::held("syslog", rsyslog));
}

#[test]
fn what_removed_containers_said_arrives() {
    with(Transport::Tcp, |rsyslog| shipped::removed("syslog", rsyslog));
}

#[test]
fn what_the_spool_cannot_hold_is_counted() {
    with(Transport::Tcp, |rsyslog| shipped::bounded("syslog", rsyslog));
}

#[test]
fn a_shipper_that_is_killed_comes_back() {
    with(Transport::Tcp, |rsyslog| shipped::shipper_killed("syslog", rsyslog));
}

#[test]
fn a_server_with_another_certificate_gets_nothing() {
    let dir = real_directory("rsyslog");
    let dhow = Dhow::new("stranger");
    let mut rsyslog = Rsyslog::new(dir.path(), Transport::Tls);
    let other = real_directory("other");
    drop(Rsyslog::new(other.path(), Transport::Tls));
    rsyslog.start();
    let address = rsyslog.options().remove(0);
    let ca = format!("syslog-tls-ca-cert={}/rsyslog/ca.pem", other.path().display());
    let args =
        ["run", "-d", "--name", "box", "--network", "none", "--log-driver", "syslog", "--log-opt", &address];
    dhow.ok(&[&args[..], &["--log-opt", &ca, "busybox", "echo", "secret"]].concat());
    let error =
        harness::eventually("the reason", || shipped::status(&dhow)["Error"].as_str().map(str::to_owned));
    assert!(error.contains("certificate"), "{error}");
    assert!(rsyslog.lines().is_empty());
    dhow.ok(&["rm", "box"]);
    dhow.ok(&["system", "prune", "--force"]);
    rsyslog.stop();
}

#[test]
fn options_that_make_no_sense_are_refused_before_anything_starts() {
    let dhow = Dhow::new("options");
    let refused = |options: &[&str]| {
        let mut args = vec!["run", "--name", "box", "--network", "none", "--log-driver"];
        args.push(options[0]);
        for option in &options[1..] {
            args.extend(["--log-opt", option]);
        }
        args.extend(["busybox", "true"]);
        dhow.fails(125, &args)
    };
    assert!(refused(&["syslog", "syslog-addres=udp://x:1"]).contains("has no option `syslog-addres`"));
    assert!(refused(&["syslog", "syslog-address=http://x"]).contains("want udp://HOST:PORT"));
    assert!(refused(&["syslog", "syslog-facility=loud"]).contains("local0"));
    assert!(refused(&["syslog", "tag={{.Nope}}"]).contains("tag={{.Nope}}"));
    assert!(refused(&["journald", "fluentd-address=x"]).contains("has no option"));
    assert!(refused(&["fluentd", "fluentd-retry-wait=soon"]).contains("a time"));
    assert!(refused(&["fluentd", "labels-regex=("]).contains("a regular expression"));
    assert!(refused(&["json-file", "syslog-address=udp://x:1"]).contains("json-file has no option"));
    assert_eq!(dhow.ok(&["ps", "--all", "--quiet"]), "");
    assert!(shipped::spools(&dhow).is_empty());
}
