//! config-linux.md, "Network Devices".

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::Invocation;
use harness::oci::{Bundle, Runtime};
use harness::spec::can;
use serde_json::{Value, json};

/// A host of our own: a network namespace with a pair of devices in it. It goes with its process.
struct Host {
    runtime: Runtime,
    holder: harness::Process,
}

impl Host {
    fn new() -> Self {
        let holder =
            Invocation::new("unshare").args(&["--net", "sh", "-c", "echo up; exec sleep 1000"]).spawn();
        holder.expect("up");
        let host = Self { runtime: Runtime::new(), holder };
        host.ip("link set lo up");
        host.ip("link add net7 type veth peer name peer7");
        host
    }

    fn enter(&self) -> Invocation {
        Invocation::new("nsenter").arg(format!("--net=/proc/{}/ns/net", self.holder.pid()))
    }

    fn ip(&self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        self.enter().arg("ip").args(&words).ok()
    }

    fn devices(&self) -> String {
        self.ip("-oneline link")
    }

    fn bundle(script: &str, devices: Value) -> Bundle {
        Bundle::script(script).edit(|spec| spec["linux"]["netDevices"] = devices)
    }

    fn run(&self, bundle: &Bundle) -> harness::Output {
        let id = self.runtime.id("box");
        self.runtime.on(self.enter(), &["run", "--bundle", bundle.argument(), &id]).output()
    }

    #[track_caller]
    fn ok(&self, script: &str, devices: Value) -> String {
        let output = self.run(&Self::bundle(script, devices));
        assert_eq!(output.code, 0, "{output:#?}");
        output.stdout
    }
}

// `netDevices`: the device is in the container, up, and no more on the host.
#[test]
fn a_device_is_moved_and_up() {
    if !can(&["specification 1.3", "veth devices"]) {
        return;
    }
    let host = Host::new();
    let said = host.ok("ip -o link show net7; cat /sys/class/net/net7/flags", json!({"net7": {}}));
    let lines: Vec<&str> = said.lines().collect();
    let flags = u32::from_str_radix(lines[1].trim_start_matches("0x"), 16).unwrap();
    assert_eq!(flags & 1, 1, "it is up: {said}");
    assert!(!host.devices().contains("net7"), "{}", host.devices());
}

// `name`: what it is called inside.
#[test]
fn a_device_is_renamed() {
    if !can(&["specification 1.3", "veth devices"]) {
        return;
    }
    let host = Host::new();
    let said = host.ok("ls /sys/class/net", json!({"net7": {"name": "container_eth0"}}));
    assert!(said.contains("container_eth0") && !said.contains("net7"), "{said}");
}

// `name`: one that is taken inside is an error, and the device stays where it was.
#[test]
fn a_name_that_is_taken_is_an_error() {
    if !can(&["specification 1.3", "veth devices"]) {
        return;
    }
    let host = Host::new();
    let output = host.run(&Host::bundle("true", json!({"net7": {"name": "lo"}})));
    assert_ne!(output.code, 0, "{output:#?}");
    assert!(host.devices().contains("net7"), "{}", host.devices());
    // a device that there is not cannot be moved either
    let output = host.run(&Host::bundle("true", json!({"nonesuch0": {}})));
    assert_ne!(output.code, 0, "{output:#?}");
}

// `name`: a template lets the kernel choose a name that is free.
#[test]
fn a_template_is_filled_in() {
    if !can(&["specification 1.3", "veth devices"]) {
        return;
    }
    let host = Host::new();
    host.ip("link add net8 type veth peer name peer8");
    let devices = json!({"net7": {"name": "eth%d"}, "net8": {"name": "eth%d"}});
    let said = host.ok("ls /sys/class/net", devices);
    let names: Vec<&str> = said.split_ascii_whitespace().collect();
    assert!(names.contains(&"eth0") && names.contains(&"eth1"), "{said}");
}

// Attributes are preserved: the address of the hardware, the MTU, and permanent addresses of global scope.
#[test]
fn attributes_and_addresses_are_preserved() {
    if !can(&["specification 1.3", "veth devices"]) {
        return;
    }
    let host = Host::new();
    host.ip("link set net7 mtu 1434 address 02:00:00:00:00:07 up");
    host.ip("address add 192.0.2.7/24 dev net7");
    host.ip("address add 198.51.100.7/32 dev net7 scope host");
    host.ip("address add 2001:db8::7/64 dev net7 nodad");
    // one that is not permanent
    host.ip("address add 203.0.113.7/32 dev net7 valid_lft 3000 preferred_lft 3000");
    let said = host.ok("ip address show dev net7", json!({"net7": {}}));
    for kept in ["mtu 1434", "02:00:00:00:00:07", "192.0.2.7/24", "2001:db8::7/64"] {
        assert!(said.contains(kept), "{kept}: {said}");
    }
    for left in ["198.51.100.7", "203.0.113.7"] {
        assert!(!said.contains(left), "{left}: {said}");
    }
}

// "Namespace Lifecycle and Container Termination": what becomes of it inside is not the runtime's business.
#[test]
fn the_device_is_the_namespaces_from_then_on() {
    if !can(&["specification 1.3", "veth devices"]) {
        return;
    }
    let host = Host::new();
    // a namespace that outlives the container
    let holder = Invocation::new("unshare").args(&["--net", "sh", "-c", "echo up; exec sleep 1000"]).spawn();
    holder.expect("up");
    let path = format!("/proc/{}/ns/net", holder.pid());
    let bundle =
        Host::bundle("ip link set net7 down; ip link set net7 mtu 999; sleep 1000", json!({"net7": {}}))
            .edit(|spec| {
                harness::spec::without_namespace(spec, "network");
                harness::spec::push(spec, "/linux/namespaces", json!({"type": "network", "path": path}));
                let few = json!(["CAP_NET_ADMIN"]);
                spec["process"]["capabilities"] =
                    json!({"bounding": few, "effective": few, "permitted": few});
            });
    let id = &host.runtime.id("box");
    let inside = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        Invocation::new("nsenter").arg(format!("--net={path}")).arg("ip").args(&words).ok()
    };
    let mut create =
        host.runtime.on(host.enter(), &["create", "--bundle", bundle.argument(), id]).into_command();
    create
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    assert!(create.status().unwrap().success());
    host.runtime.ok(&["start", id]);
    harness::eventually("its change", || inside("-oneline link show net7").contains("mtu 999").then_some(()));
    host.runtime.ok(&["kill", id, "KILL"]);
    host.runtime.await_status(id, "stopped");
    host.runtime.ok(&["delete", id]);
    let after = inside("-oneline link show net7");
    assert!(after.contains("mtu 999") && !after.contains(",UP"), "it is as the container left it: {after}");
    assert!(!host.devices().contains("net7"), "it is not brought back");
}
