//! Network namespaces: a host of its own with a wire to a neighbour.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::invocation::Invocation;

/// The host's address on the wire.
pub const HOST: &str = "198.51.100.1";
/// The neighbour's.
pub const NEIGHBOUR: &str = "198.51.100.2";

/// Two namespaces and a wire. They go when it is dropped.
#[derive(Debug)]
pub struct World {
    host: String,
    neighbour: String,
}

impl World {
    /// Makes one.
    #[expect(clippy::new_without_default, reason = "it makes namespaces")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |role: &str| format!("dhow-e2e-{}-{number}-{role}", std::process::id());
        let world = Self { host: name("host"), neighbour: name("neighbour") };
        for namespace in [&world.host, &world.neighbour] {
            ip(&["netns", "add", namespace]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        let peer = ["type", "veth", "peer", "name", "lan", "netns", &world.neighbour];
        ip(&[&["-n", &world.host, "link", "add", "lan"], &peer[..]].concat());
        for (namespace, address) in [(&world.host, HOST), (&world.neighbour, NEIGHBOUR)] {
            ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", "lan"]);
            ip(&["-n", namespace, "link", "set", "lan", "up"]);
        }
        world
    }

    /// The name of the host's namespace.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A program on the host.
    pub fn on_host(&self, program: &str) -> Invocation {
        inside(&self.host, program)
    }

    /// A program at the neighbour's.
    pub fn at_neighbour(&self, program: &str) -> Invocation {
        inside(&self.neighbour, program)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.host, &self.neighbour] {
            Invocation::new("ip").args(&["netns", "del", namespace]).output();
        }
    }
}

fn inside(namespace: &str, program: &str) -> Invocation {
    Invocation::new("nsenter").arg(format!("--net=/run/netns/{namespace}")).arg(program)
}

fn ip(args: &[&str]) {
    Invocation::new("ip").args(args).ok();
}
