//! containerd, and its own command line.

use crate::callers::{Machine, installed};
use crate::invocation::{Invocation, Process};
use crate::wait::eventually;

/// containerd on a machine of its own. Its namespace, and so the cgroup above its containers', has the machine's name.
#[derive(Debug)]
pub struct Containerd {
    machine: Machine,
    _daemon: Process,
}

impl Containerd {
    /// Starts one, without images.
    #[track_caller]
    pub fn start() -> Self {
        installed("containerd-shim-runc-v2");
        let machine = Machine::new("containerd");
        let file = |name| machine.file(name);
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.btrfs\", \
             \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.devmapper\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            file("root"),
            file("state"),
            file("sock"),
            file("ttrpc"),
        );
        std::fs::write(file("config.toml"), config).unwrap();
        let command = machine.program(installed("containerd"));
        let daemon = command.args(&["--config", &file("config.toml"), "--log-level", "warn"]).spawn();
        let containerd = Self { machine, _daemon: daemon };
        eventually("containerd", || (containerd.ctr(&["version"]).output().code == 0).then_some(()));
        containerd
    }

    /// Where it runs.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// `ctr` behind a program that executes its arguments.
    pub fn equip(&self, invocation: Invocation, args: &[&str]) -> Invocation {
        let address = self.machine.file("sock");
        let ctr = self.machine.enter(invocation).arg(installed("ctr"));
        ctr.args(&["--address", &address, "--namespace", self.machine.name()]).args(args)
    }

    /// `ctr` with these arguments.
    pub fn ctr(&self, args: &[&str]) -> Invocation {
        self.equip(Invocation::new("env"), args)
    }

    /// Runs it; it must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.ctr(args).ok()
    }
}
