//! What stands after which call, as `ip` and `nft` see it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::HashSet;

use common::{Namespace, World, instance, port, run, tcp};
use state::options::{NetworkMode, Protocol};

#[test]
fn a_container_gets_link_address_and_route() {
    let world = World::new();
    let container = world.container(&[]);
    let address = container.plan.address().unwrap();
    let links = container.run("ip -o addr show dev eth0");
    assert!(links.contains(&format!("inet {}/16", address.ip)), "{links}");
    assert!(!links.contains("inet6"), "{links}");
    assert!(container.run("ip -o link show dev eth0").contains(&address.mac));
    assert!(container.run("ip route").contains(&format!("default via {} dev eth0", address.gateway)));
    assert!(container.run("ip -o link show dev lo").contains("LOOPBACK,UP"));
    let ports = world.host.run(&format!("ip -o link show master {}", world.instance.bridge_name()));
    assert_eq!(ports.lines().count(), 1, "{ports}");
    // No router advertisement of a container reaches the host (CVE-2020-13401).
    let ipv6 = format!("cat /proc/sys/net/ipv6/conf/{}/disable_ipv6", world.instance.bridge_name());
    assert_eq!(world.host.run(&ipv6).trim(), "1");
}

#[test]
fn the_table_is_what_its_drawing_says() {
    let world = World::new();
    let loopback = port(Protocol::Udp, Some("127.0.0.1".parse().unwrap()), 5353, 53);
    let container = world.container(&[tcp(8080), loopback]);
    let address = container.plan.address().unwrap();
    let subnet = address.gateway.to_string().strip_suffix(".1").unwrap().to_owned() + ".0/16";
    let bridge = world.instance.bridge_name();
    let text = world.table();
    for part in [
        "comment \"dhow 4 open\"",
        "type inet_proto . inet_service : ipv4_addr . inet_service",
        "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
        &format!("elements = {{ tcp . 8080 : {} . 80 }}", address.ip),
        &format!("elements = {{ 127.0.0.1 . udp . 5353 : {} . 53 }}", address.ip),
        &format!("elements = {{ \"{bridge}\" : jump guard_bridge }}"),
        &format!("elements = {{ \"{bridge}\" }}"),
        "elements = { tcp . 8080 }",
        &format!("elements = {{ \"{bridge}\" : jump into_bridge }}"),
        &format!("elements = {{ {subnet} }}"),
        "type filter hook prerouting priority raw; policy accept;",
        "iifname vmap @guards",
        &format!("ip saddr != {subnet} counter packets 0 bytes 0 drop"),
        "ip daddr 127.0.0.0/8 counter packets 0 bytes 0 drop",
        "icmpv6 type nd-router-advert counter packets 0 bytes 0 drop",
        "type nat hook prerouting priority dstnat; policy accept;",
        "ip daddr != 127.0.0.0/8 dnat ip to ip daddr . meta l4proto . th dport map @ports_at",
        "fib daddr type local dnat ip to meta l4proto . th dport map @ports",
        "dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6_at",
        "type filter hook forward priority filter; policy accept;",
        "iifname vmap @outward",
        "oifname vmap @inward",
        &format!("iifname \"{bridge}\" accept"),
        "ct state established,related accept",
        "ct status dnat accept",
        "oifname vmap @to_bridge",
        "ip saddr 127.0.0.0/8 masquerade",
        &format!("ip saddr {subnet} ct status dnat masquerade"),
        &format!("ip saddr {subnet} accept"),
        "ip saddr @masqueraded masquerade",
        "ip6 saddr @masqueraded6 masquerade",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    // What nft lists it can also read.
    world.host.run("nft -j list ruleset");
}

#[test]
fn a_sweep_leaves_nothing_and_waits_for_the_last() {
    let world = World::new();
    let before = (world.host.run("ip -o link"), world.host.run("nft list ruleset"));
    assert!(world.swept(), "nothing is there yet");
    let mut one = world.container(&[tcp(8080)]);
    let mut two = world.container(&[]);
    one.kill();
    world.release(&one);
    world.release_again(&one);
    assert!(!world.sweep());
    assert!(!world.table().contains("8080"));
    // Somebody keeps the namespace of the second alive: its link must not stay.
    let kept = std::fs::File::open(format!("/proc/{}/ns/net", two.process.as_ref().unwrap().id())).unwrap();
    two.kill();
    world.release(&two);
    let used = std::fs::File::open(world.instance.network("bridge").join("next")).unwrap();
    used.set_modified(std::time::SystemTime::now()).unwrap(); // this machine may be slow
    assert!(!world.host.inside(|| network::sweep(&world.instance).unwrap()), "used a moment ago");
    assert!(world.swept());
    drop(kept);
    assert_eq!((world.host.run("ip -o link"), world.host.run("nft list ruleset")), before);
    let left: Vec<_> = std::fs::read_dir(world.instance.network("bridge"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(left.iter().all(|name| name == "network.json" || name == "next"), "{left:?}");
    // The next bridge has the subnet of the last.
    let gateway = one.plan.address().unwrap().gateway;
    assert_eq!(world.container(&[]).plan.address().unwrap().gateway, gateway);
}

#[test]
fn a_claim_whose_container_never_came_is_swept() {
    let world = World::new();
    let container = world.prepare(&[]);
    assert!(!world.sweep());
    std::fs::remove_dir_all(world.instance.live(&container.id)).unwrap();
    assert!(world.swept());
}

#[test]
fn fifty_at_once_get_fifty_addresses_and_one_bridge() {
    let world = World::new();
    let addresses: HashSet<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(|| world.prepare(&[]).ip())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(addresses.len(), 50);
    assert_eq!(world.host.run("ip -o link show type bridge").lines().count(), 1);
}

#[test]
fn preparing_and_sweeping_at_once_never_break_each_other() {
    let world = World::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let mut container = world.container(&[]);
                    world.host.run(&format!("ip link show {}", world.instance.bridge_name()));
                    world.table();
                    container.kill();
                    world.release(&container);
                    world.sweep();
                }
            });
        }
    });
    assert!(world.swept());
}

#[test]
fn instances_settle_on_subnets_of_their_own() {
    let host = Namespace::new("shared");
    // Most of what they would like is taken.
    host.run("ip link add other type bridge");
    host.run("ip addr add 10.128.0.1/9 dev other");
    host.run("ip link set other up");
    let instances: Vec<_> = (0..8).map(|_| instance()).collect();
    let networks: HashSet<_> = std::thread::scope(|scope| {
        let prepare = |instance: &state::Instance| {
            host.inside(|| {
                let id = base::Id::random().unwrap();
                network::prepare(instance, &id, &NetworkMode::Bridge, &[], network::Firewall::Open)
                    .unwrap()
                    .address()
                    .unwrap()
                    .gateway
            })
        };
        let threads: Vec<_> =
            instances.iter().map(|(_, instance)| scope.spawn(move || prepare(instance))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(networks.len(), 8, "{networks:?}");
    assert!(networks.iter().all(|ip| ip.octets()[0] != 10), "{networks:?}");
}

#[test]
fn a_flushed_rule_set_is_mended_with_all_ports() {
    let world = World::new();
    let container = world.container(&[tcp(8080)]);
    world.host.run("nft flush ruleset");
    let mut late = world.prepare(&[tcp(9090)]);
    assert!(world.table().contains(&format!("tcp . 8080 : {} . 80", container.ip())));
    // And once more between the claim and the start.
    world.host.run("nft flush ruleset");
    late.start(&world);
    let table = world.table();
    assert!(table.contains("8080") && table.contains("9090"), "{table}");
}

#[test]
fn a_bridge_that_somebody_removed_comes_back_in_the_same_subnet() {
    let world = World::new();
    let container = world.container(&[]);
    world.host.run(&format!("ip link del {}", world.instance.bridge_name()));
    assert_eq!(world.prepare(&[]).plan.address().unwrap().gateway, container.plan.address().unwrap().gateway);
}

#[test]
fn what_a_dead_monitor_left_is_taken_over() {
    let world = World::new();
    let mut dead = world.container(&[tcp(8080)]);
    let namespace =
        std::fs::File::open(format!("/proc/{}/ns/net", dead.process.as_ref().unwrap().id())).unwrap();
    dead.kill(); // its sockets close, its element stays, and somebody keeps its namespace
    let second = world.container(&[tcp(8080)]);
    assert!(world.table().contains(&format!("tcp . 8080 : {} . 80", second.ip())));
    // Whoever finds the dead one releases it, and must not take the other's port.
    world.release(&dead);
    assert!(world.table().contains(&format!("tcp . 8080 : {} . 80", second.ip())));
    // The dead one's address comes round, with its link still there.
    std::fs::write(world.instance.network("bridge").join("next"), 0_u32.to_ne_bytes()).unwrap();
    let third = world.container(&[]);
    assert_eq!(third.ip(), dead.ip());
    drop(namespace);
}

#[test]
fn others_who_drop_are_named_with_a_remedy_until_it_is_applied() {
    let world = World::new();
    let bridge = world.instance.bridge_name();
    run(&format!("ip netns exec {} sysctl -qw net.ipv4.ip_forward=0", world.host.name()));
    world.host.run("nft add table ip filter");
    world.host.run("nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }");
    let first = world.prepare(&[]);
    let warnings = first.plan.warnings().join("\n");
    assert!(warnings.contains("switched on net.ipv4.ip_forward"), "{warnings}");
    assert!(warnings.contains(&format!("iptables -I FORWARD -i {bridge} -j ACCEPT")), "{warnings}");
    assert_eq!(world.host.run("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
    assert!(world.prepare(&[]).plan.warnings().is_empty(), "said once, when the bridge was made");
    // Theirs is as it was.
    assert!(world.host.run("nft list table ip filter").contains("policy drop"));

    world.host.run(&format!("nft insert rule ip filter FORWARD iifname {bridge} accept"));
    world.release(&first);
    std::fs::remove_dir_all(world.instance.live_containers()).unwrap();
    assert!(world.swept());
    assert!(world.prepare(&[]).plan.warnings().is_empty());
}

#[test]
fn modes_without_a_bridge_touch_nothing() {
    let world = World::new();
    let id = base::Id::random().unwrap();
    for (mode, namespace, messages) in [(NetworkMode::Host, false, 0), (NetworkMode::None, true, 1)] {
        let plan =
            network::prepare(&world.instance, &id, &mode, &[tcp(80)], network::Firewall::Open).unwrap();
        assert_eq!((plan.needs_namespace(), plan.child_messages().messages), (namespace, messages));
        assert!(plan.address().is_none() && plan.ports().is_empty());
        assert!(plan.warnings()[0].starts_with("published ports are discarded"));
        plan.attach(1).unwrap();
        plan.release(&world.instance, &id).unwrap();
    }
    assert!(!world.instance.network("bridge").exists());
}
