//! Network devices move into a container, and come back where it does not start. Each test has a network of its own,
//! made of the two ends of a cable. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::path::PathBuf;
use std::process::Command;

use base::Kind;
use oci::runtime::{NamespaceKind, NetDevice};
use runtime::Bundle;
use scratch::{Scratch, run};

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// This thread's own network, with a device that has addresses of every kind.
fn network() {
    sys::process::unshare(libc::CLONE_NEWNET as u32).unwrap();
    ip("link add one mtu 1400 type veth peer name two");
    ip("address add 10.9.0.1/24 broadcast 10.9.0.255 dev one");
    ip("address add 10.9.1.1/32 scope link dev one");
    ip("address add fd00:9::1/64 nodad dev one");
    ip("link set one up");
    ip("link set two up");
}

fn move_in(bundle: &mut Bundle, from: &str, to: Option<&str>) {
    let device = NetDevice { name: to.map(str::to_owned) };
    bundle.spec.linux.as_mut().unwrap().net_devices.insert(from.to_owned(), device);
}

const SHOW: &str = "busybox ip address; busybox ip route";

#[test]
fn a_device_moves_with_its_name_its_addresses_and_its_state() {
    network();
    let scratch = Scratch::new("device-move");
    let mut bundle = scratch.bundle(&["sh", "-c", SHOW]);
    move_in(&mut bundle, "one", Some("lan"));
    let (code, text) = run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(": lan@") && text.contains("mtu 1400") && text.contains(",UP"), "{text}");
    assert!(text.contains("inet 10.9.0.1/24 brd 10.9.0.255 scope global lan"), "{text}");
    assert!(text.contains("inet6 fd00:9::1/64 scope global"), "{text}");
    assert!(!text.contains("10.9.1.1"), "one that is valid on the link alone: {text}");
    assert!(text.contains("10.9.0.0/24 dev lan"), "{text}");
}

#[test]
fn devices_come_back_where_the_start_fails() {
    network();
    let scratch = Scratch::new("device-back");
    let mut bundle = scratch.bundle(&["no-such-command"]);
    move_in(&mut bundle, "one", Some("lan"));
    move_in(&mut bundle, "two", None);
    assert_eq!(run(&bundle).unwrap_err().kind(), Kind::CommandNotFound);
    let text = ip("address");
    assert!(text.contains(": one@two") && text.contains(": two@one") && !text.contains("lan"), "{text}");
    assert!(text.contains("inet 10.9.0.1/24 brd 10.9.0.255 scope global one"), "{text}");
    assert!(text.contains("fd00:9::1/64") && text.matches(",UP").count() == 2, "{text}");

    // And those before the one that cannot be moved.
    let mut bundle = scratch.bundle(&["sh", "-c", ":"]);
    move_in(&mut bundle, "one", None);
    move_in(&mut bundle, "two", Some("lo"));
    let error = run(&bundle).unwrap_err();
    assert_eq!(error.to_string(), "cannot move the network device two: File exists (os error 17)");
    let text = ip("address");
    assert!(text.contains(": one@two") && text.contains("10.9.0.1/24"), "{text}");
}

#[test]
fn what_cannot_move_is_named() {
    network();
    let scratch = Scratch::new("device-none");
    let mut bundle = scratch.bundle(&["sh", "-c", ":"]);
    move_in(&mut bundle, "three", None);
    let error = run(&bundle).unwrap_err();
    assert_eq!(
        (error.kind(), &*error.to_string()),
        (Kind::NotFound, "cannot find the network device three: No such device (os error 19)")
    );

    let mut bundle = scratch.bundle(&["sh", "-c", ":"]);
    move_in(&mut bundle, "lo", Some("lo2"));
    let error = run(&bundle).unwrap_err().to_string();
    assert!(error.contains("cannot move the network device lo"), "{error}");

    for (from, to) in [("a/b", None), ("one", Some("a b")), ("one", Some("sixteen-letters-"))] {
        let mut bundle = scratch.bundle(&["sh", "-c", ":"]);
        move_in(&mut bundle, from, to);
        assert_eq!(
            runtime::plan(&bundle).map(|_| ()).map_err(|e| base::Failure::kind(&e)),
            Err(Kind::Invalid)
        );
    }
    let mut bundle = scratch.bundle(&["sh", "-c", ":"]);
    move_in(&mut bundle, "one", None);
    bundle.spec.linux.as_mut().unwrap().namespaces.retain(|n| n.kind != NamespaceKind::Network);
    let error = runtime::plan(&bundle).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("no network namespace of its own"), "{error}");
    assert!(ip("address").contains("10.9.0.1/24"), "nothing has moved");
}

#[test]
fn a_device_moves_into_a_network_that_is_joined() {
    network();
    let scratch = Scratch::new("device-join");
    let mut holder = Command::new("unshare").args(["-n", "sleep", "100"]).spawn().unwrap();
    let path = PathBuf::from(format!("/proc/{}/ns/net", holder.id()));
    let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    while std::fs::read_link(&path).unwrap() == ours {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut bundle = scratch.bundle(&["sh", "-c", SHOW]);
    for namespace in &mut bundle.spec.linux.as_mut().unwrap().namespaces {
        if namespace.kind == NamespaceKind::Network {
            namespace.path = Some(path.clone());
        }
    }
    move_in(&mut bundle, "one", None);
    let ended = run(&bundle).map_err(|e| base::failure::chain(&*e));
    let id = holder.id().to_string();
    let after = Command::new("nsenter").args(["-n", "-t", &id, "ip", "address"]).output().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let (_, text) = ended.unwrap();
    assert!(text.contains(": one@") && text.contains("10.9.0.1/24"), "{text}");
    assert!(String::from_utf8_lossy(&after.stdout).contains("10.9.0.1/24"), "it stays there");
}
