//! The firewalls that people have, each for one host of a [`World`], with all its files in a directory of the
//! test. Both are found by PATH, and may be unpacked anywhere.

use std::path::{Path, PathBuf};

use crate::callers::installed;
use crate::eventually;
use crate::invocation::{Invocation, Process};
use crate::world::World;

/// Debian's own, for which these are written, wherever else a `python3` may be.
const PYTHON: &str = "/usr/bin/python3";
const MODULES: &str = "usr/lib/python3/dist-packages";

/// ufw, on with its defaults: nothing comes in, nothing is forwarded.
#[derive(Debug)]
pub struct Ufw<'a> {
    world: &'a World,
    tree: PathBuf,
    files: PathBuf,
}

impl<'a> Ufw<'a> {
    /// Switches it on. Its files are below `dir`.
    pub fn new(world: &'a World, dir: &Path) -> Self {
        let ufw = Self { world, tree: tree_of("ufw"), files: dir.join("ufw") };
        let state = if ufw.tree.join("lib/ufw/ufw-init").exists() { "lib/ufw" } else { "usr/lib/ufw" };
        for (from, to) in
            [("etc/ufw", "etc"), ("etc/default", "etc"), (state, "lib"), ("usr/share/ufw", "usr/share")]
        {
            ufw.copy(from, to);
        }
        // As the package does when it is installed.
        for files in ["iptables/*", "*.init", "ufw.conf"] {
            ufw.copy(&format!("usr/share/ufw/{files}"), "etc/ufw");
        }
        ufw.run(&["--force", "enable"]);
        ufw
    }

    fn copy(&self, from: &str, to: &str) {
        let to = self.files.join(to);
        std::fs::create_dir_all(&to).unwrap();
        let script = format!("cp -r {}/{from} {}", self.tree.display(), to.display());
        Invocation::new("sh").args(&["-c", &script]).ok();
    }

    /// `ufw` with these words.
    pub fn run(&self, words: &[&str]) -> String {
        let program = self.tree.join("usr/sbin/ufw");
        self.world
            .on_host(PYTHON)
            .env("PYTHONPATH", self.tree.join(MODULES))
            .arg(program)
            .arg(format!("--rootdir={}", self.files.display()))
            .arg(format!("--datadir={}", self.files.display()))
            .args(words)
            .ok()
    }
}

/// firewalld with its defaults, on a bus of its own.
#[derive(Debug)]
pub struct Firewalld<'a> {
    world: &'a World,
    tree: PathBuf,
    bus: PathBuf,
    processes: Vec<Process>,
}

impl<'a> Firewalld<'a> {
    /// Starts it. Its files are below `dir`.
    pub fn new(world: &'a World, dir: &Path) -> Self {
        let files = dir.join("firewalld");
        std::fs::create_dir_all(&files).unwrap();
        let mut firewall =
            Self { world, tree: tree_of("firewalld"), bus: files.join("bus"), processes: Vec::new() };
        let configuration = format!(
            "<busconfig><listen>unix:path={}</listen><policy context='default'><allow send_destination='*' \
             eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/></policy></busconfig>",
            firewall.bus.display()
        );
        std::fs::write(files.join("bus.conf"), configuration).unwrap();
        let bus = Invocation::new("dbus-daemon")
            .arg(format!("--config-file={}", files.join("bus.conf").display()))
            .args(&["--nofork", "--nopidfile"]);
        firewall.processes.push(bus.spawn());
        eventually("the bus", || firewall.bus.exists().then_some(()));
        let configuration = files.join("etc");
        let script = format!("cp -r {}/etc/firewalld {}", firewall.tree.display(), configuration.display());
        Invocation::new("sh").args(&["-c", &script]).ok();
        let daemon = firewall
            .program("usr/sbin/firewalld")
            .args(&["--nofork", "--nopid", "--log-file"])
            .arg(files.join("log"))
            .arg("--system-config")
            .arg(&configuration)
            .arg("--default-config")
            .arg(firewall.tree.join("usr/lib/firewalld"));
        firewall.processes.push(daemon.spawn());
        eventually("firewalld", || {
            (firewall.program("usr/bin/firewall-cmd").arg("--state").output().code == 0).then_some(())
        });
        firewall
    }

    fn program(&self, path: &str) -> Invocation {
        let libraries = self.tree.join("usr/lib/x86_64-linux-gnu");
        self.world
            .on_host(PYTHON)
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", self.bus.display()))
            .env("PYTHONPATH", self.tree.join(MODULES))
            .env("GI_TYPELIB_PATH", libraries.join("girepository-1.0"))
            .env("LD_LIBRARY_PATH", libraries)
            .arg(self.tree.join(path))
    }

    /// `firewall-cmd` with these words.
    pub fn run(&self, words: &[&str]) -> String {
        self.program("usr/bin/firewall-cmd").args(words).ok()
    }
}

impl Drop for Firewalld<'_> {
    fn drop(&mut self) {
        // The daemon before its bus.
        while let Some(mut process) = self.processes.pop() {
            process.kill();
        }
    }
}

/// The tree that a program of `usr/sbin` is in.
fn tree_of(program: &str) -> PathBuf {
    installed(program).ancestors().nth(3).unwrap().to_owned()
}
