//! What stands after which call, as `ip` and `nft` see it.

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
}
