//! Debian packages: what a task needs and the machine lacks, and nothing more.
//!
//! No service is ever started: while we install, a `policy-rc.d` says no to all of them. What would change
//! the machine more than it must (another kernel, a daemon's unit) is not installed at all but unpacked
//! below `target/tools`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell;

/// A Debian package, and a file or command by which it is there in whatever way it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: &'static str,
    /// A command, or an absolute path; empty where only dpkg knows (busybox may be there in a shape that does
    /// not run without libraries).
    pub(crate) proof: &'static str,
}

const fn package(name: &'static str, proof: &'static str) -> Package {
    Package { name, proof }
}

/// What compiling needs beside Rust.
pub(crate) const BUILD: &[Package] =
    &[package("gcc", "cc"), package("libc6-dev", "/usr/include/stdlib.h"), package("make", "make")];

/// What fuzzing needs: libFuzzer is compiled from its sources.
pub(crate) const FUZZ: &[Package] = &[package("g++", "c++"), package("util-linux", "unshare")];

/// What the demo needs.
pub(crate) const DEMO: &[Package] = &[package("mmdebstrap", "mmdebstrap"), package("busybox-static", "")];

/// What the tests need: makers of images, a registry's clients, and eyes on the kernel's state.
pub(crate) const TEST: &[Package] = &[
    package("busybox-static", ""),
    package("mmdebstrap", "mmdebstrap"),
    package("skopeo", "skopeo"),
    package("umoci", "umoci"),
    package("apache2-utils", "htpasswd"),
    package("nftables", "nft"),
    package("iproute2", "ip"),
    package("strace", "strace"),
    package("e2fsprogs", "mkfs.ext4"),
    package("util-linux", "unshare"),
    package("openssl", "openssl"),
    package("curl", "curl"),
    package("git", "git"),
    package("zstd", "zstd"),
    package("python3", ""),
    package("python3-pip", ""),
    package("iptables", "iptables"),
    package("dbus-daemon", "dbus-daemon"),
    package("bind9-dnsutils", "dig"),
    package("dnsmasq-base", "dnsmasq"),
    package("tcpdump", "tcpdump"),
];

/// Who asks for names, very often.
pub(crate) const NAMES: &[Package] = &[package("dnsperf", "dnsperf"), package("util-linux", "nsenter")];

/// Whose runtime ours becomes in the tests, beside [`daemons`], and the runtimes it is compared with. None of them
/// brings a service that starts by itself.
pub(crate) const CALLERS: &[Package] = &[
    package("podman", "podman"),
    package("conmon", "conmon"),
    package("crun", "crun"),
    package("runc", "runc"),
    package("iptables", "iptables"),
    package("uidmap", "newuidmap"),
    package("dbus-daemon", "dbus-daemon"),
];

/// What a virtual machine needs.
pub(crate) const VM: &[Package] = &[
    package("qemu-system-x86", "qemu-system-x86_64"),
    package("qemu-system-common", "/usr/lib/qemu/virtiofsd"),
    package("busybox-static", ""),
    package("kmod", "modprobe"),
    package("xz-utils", "xz"),
    package("e2fsprogs", "mkfs.ext4"),
    package("util-linux", "setpriv"),
];

/// Whom the benchmark is worthless without.
pub(crate) const PEERS: &[Package] =
    &[package("crun", "crun"), package("runc", "runc"), package("busybox-static", "")];

fn is_there(package: Package) -> bool {
    match package.proof {
        "" => {
            let mut query = shell::program("dpkg-query");
            query.args(["--show", "--showformat=${db:Status-Status}", package.name]);
            shell::text(&mut query).is_ok_and(|status| status == "installed")
        }
        path if path.starts_with('/') => Path::new(path).exists(),
        command => shell::find(command).is_some(),
    }
}

/// Installs those that are missing; a line says which.
pub(crate) fn ensure(groups: &[&[Package]]) -> Result<()> {
    let missing: BTreeSet<&str> = groups
        .iter()
        .flat_map(|group| group.iter())
        .filter(|package| !is_there(**package))
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.into_iter().collect();
    if shell::find("apt-get").is_none() {
        bail!("this machine lacks {} and has no apt-get to install them", names.join(", "));
    }
    println!("installing Debian packages: {}", names.join(" "));
    let _silence = Silence::begin()?;
    let install = || -> Result<()> {
        let mut apt = apt()?;
        apt.args(["install", "--yes", "--no-install-recommends"]).args(&names);
        shell::quiet(&mut apt).map(drop)
    };
    // the lists may be missing or name packages that are gone; most machines need no update
    if install().is_err() {
        update()?;
        install()?;
    }
    Ok(())
}

fn apt() -> Result<std::process::Command> {
    let mut apt = shell::as_root("env")?;
    apt.args(["DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "apt-get", "-qq"]);
    apt.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]);
    Ok(apt)
}

fn update() -> Result<()> {
    // one source that is down must not stop what another has
    let mut apt = apt()?;
    if let Err(error) = shell::quiet(apt.arg("update")) {
        eprintln!("warning: {error:#}");
    }
    Ok(())
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it lives, no package's installation starts a service. A policy that the machine has stays.
struct Silence {
    ours: bool,
}

impl Silence {
    fn begin() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            let script = format!("printf '#!/bin/sh\\nexit 101\\n' >{POLICY} && chmod 755 {POLICY}");
            shell::quiet(shell::as_root("sh")?.args(["-c", &script]))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if self.ours
            && let Ok(mut remove) = shell::as_root("rm")
        {
            let _ = remove.args(["-f", POLICY]).status();
        }
    }
}

/// Unpacks packages below `target/tools/<directory>` without installing them, once: until the proof is there.
fn unpack(directory: &str, names: &[&str], proof: &str) -> Result<PathBuf> {
    let place = shell::tools_dir().join(directory);
    if !proof.is_empty() && place.join(proof).exists() {
        return Ok(place);
    }
    println!("unpacking Debian packages below {}: {}", place.display(), names.join(" "));
    let work = shell::tools_dir().join(format!("{directory}.new"));
    let _ = std::fs::remove_dir_all(&work);
    let debs = work.join("debs");
    std::fs::create_dir_all(&debs).with_context(|| format!("making {}", debs.display()))?;
    let download =
        || shell::quiet(shell::program("apt-get").args(["-qq", "download"]).args(names).current_dir(&debs));
    if download().is_err() {
        update()?;
        download()?;
    }
    for entry in std::fs::read_dir(&debs)? {
        shell::quiet(shell::program("dpkg-deb").arg("-x").arg(entry?.path()).arg(&work))?;
    }
    std::fs::remove_dir_all(&debs)?;
    let _ = std::fs::remove_dir_all(&place);
    std::fs::rename(&work, &place).with_context(|| format!("renaming {}", work.display()))?;
    Ok(place)
}

/// Unpacks packages and what they need and the machine lacks into a tree that can be laid over this machine's
/// files: with `/usr` merged, as they are.
fn unpack_layer(directory: &str, names: &[&str], proof: &str) -> Result<PathBuf> {
    let place = shell::tools_dir().join(directory);
    if place.join(proof).exists() {
        return Ok(place);
    }
    let simulate = || {
        let mut apt = shell::program("apt-get");
        apt.args(["-qq", "--simulate", "--no-install-recommends", "install"]).args(names);
        shell::text(&mut apt)
    };
    let plan = if let Ok(plan) = simulate() {
        plan
    } else {
        update()?;
        simulate()?
    };
    let mut all: BTreeSet<&str> = names.iter().copied().collect();
    all.extend(installs(&plan));
    let all: Vec<&str> = all.into_iter().collect();
    unpack(directory, &all, "")?;
    for name in ["bin", "sbin", "lib", "lib64"] {
        let (apart, merged) = (place.join(name), place.join("usr").join(name));
        if !apart.is_dir() {
            continue;
        }
        std::fs::create_dir_all(&merged)?;
        shell::quiet(shell::program("cp").arg("-a").arg(apart.join(".")).arg(&merged))?;
        std::fs::remove_dir_all(&apart)?;
    }
    if !place.join(proof).exists() {
        bail!("the Debian packages {} have no {proof}", all.join(", "));
    }
    Ok(place)
}

/// The packages that a simulated installation would install: `Inst NAME (…)`.
fn installs(plan: &str) -> impl Iterator<Item = &str> {
    plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next())
}

/// systemd and D-Bus, the system's and the users', for a virtual machine: the machine's own need not be there, nor be of one kind.
pub(crate) fn systemd() -> Result<PathBuf> {
    let names = [
        "systemd",
        "libsystemd-shared",
        "libsystemd0",
        "dbus-daemon",
        "dbus-bin",
        "dbus-system-bus-common",
        "dbus-user-session",
        "dbus-session-bus-common",
        "libdbus-1-3",
    ];
    unpack_layer("systemd", &names, "usr/lib/systemd/systemd")
}

/// AppArmor's parser, for a virtual machine.
pub(crate) fn apparmor() -> Result<PathBuf> {
    unpack_layer("apparmor", &["apparmor"], "usr/sbin/apparmor_parser")
}

/// The daemons of the runtime's callers. Installed they would come up with the next boot; unpacked they are
/// directories for PATH.
pub(crate) fn daemons() -> Result<Vec<PathBuf>> {
    let mut places = Vec::new();
    if shell::find("containerd").is_none() || shell::find("ctr").is_none() {
        places.push(unpack_layer("containerd", &["containerd"], "usr/bin/containerd")?);
    }
    if shell::find("dockerd").is_none() || shell::find("docker").is_none() {
        places.push(unpack_layer("docker.io", &["docker.io", "tini"], "usr/sbin/dockerd")?);
    }
    Ok(places.into_iter().flat_map(|place| [place.join("usr/bin"), place.join("usr/sbin")]).collect())
}

/// A collector of logs for tests, as a directory for PATH. Installed it would become the machine's own.
pub(crate) fn collectors() -> Result<Option<PathBuf>> {
    if shell::find("rsyslogd").is_some() {
        return Ok(None);
    }
    let place = unpack_layer("rsyslog", &["rsyslog", "rsyslog-openssl"], "usr/sbin/rsyslogd")?;
    Ok(Some(place.join("usr/sbin")))
}

/// Firewalls for tests, a directory for PATH. Installed they would become the machine's own.
pub(crate) fn firewalls() -> Result<PathBuf> {
    let names = [
        "ufw",
        "firewalld",
        "python3-firewall",
        "python3-nftables",
        "python3-dbus",
        "python3-gi",
        "gir1.2-glib-2.0",
        "libgirepository-1.0-1",
    ];
    Ok(unpack("firewalls", &names, "usr/sbin/firewalld")?.join("usr/sbin"))
}

/// What people use to try networks, directories for PATH. Installed, the web server would become the machine's own.
pub(crate) fn programs() -> Result<Vec<PathBuf>> {
    if shell::find("nginx").is_some() && shell::find("iperf3").is_some() {
        return Ok(Vec::new());
    }
    let place = unpack_layer("programs", &["nginx", "iperf3"], "usr/sbin/nginx")?;
    Ok(vec![place.join("usr/bin"), place.join("usr/sbin")])
}

/// The registry for tests, a directory for PATH: the machine's own if it has one, else one unpacked, so that
/// no service of it comes with the next boot.
pub(crate) fn registry() -> Result<Option<PathBuf>> {
    if shell::find("docker-registry").is_some() {
        return Ok(None);
    }
    Ok(Some(unpack("docker-registry", &["docker-registry"], "usr/bin/docker-registry")?.join("usr/bin")))
}

/// A stock Debian kernel for virtual machines: `None` where the machine has one installed, else a directory
/// with `boot` and `lib/modules`, so that the machine's own next boot stays as it is.
pub(crate) fn kernel() -> Result<Option<PathBuf>> {
    let installed = std::fs::read_dir("/boot").into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| {
            let version = name.strip_prefix("vmlinuz-").filter(|version| version.contains("-cloud-"));
            version
                .is_some_and(|version| Path::new("/lib/modules").join(version).join("modules.dep").exists())
        })
    });
    if installed {
        return Ok(None);
    }
    let place = shell::tools_dir().join("kernel");
    if !place.join("lib/modules").exists() {
        // the name without a version is empty and depends on the one with it
        let depends =
            || shell::text(shell::program("apt-cache").args(["depends", "linux-image-cloud-amd64"]));
        let real = |text: &str| {
            let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
            names.find(|name| name.starts_with("linux-image-")).map(str::to_owned)
        };
        let mut name = depends().ok().as_deref().and_then(real);
        if name.is_none() {
            update()?;
            name = real(&depends()?);
        }
        let name = name.context("no linux-image-cloud-amd64 in the package lists")?;
        unpack("kernel", &[&name], "lib/modules")?;
        for version in std::fs::read_dir(place.join("lib/modules"))? {
            let mut depmod = shell::as_root("depmod")?;
            shell::quiet(depmod.arg("-b").arg(&place).arg(version?.file_name()))?;
        }
    }
    Ok(Some(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_installed_is_read() {
        let plan = "Inst tini (0.19.0-1 Debian:12/stable [amd64])\nInst libsystemd0 [252.38] (252.39 [amd64])\n\
            Conf tini (0.19.0-1)\nRemv x [1]\n";
        assert_eq!(installs(plan).collect::<Vec<_>>(), ["tini", "libsystemd0"]);
    }
}
