//! From what a user asks and an image says to the runtime's specification, with Docker's defaults.
//!
//! ```text
//! ContainerOptions ─┐
//! image's Execution ├─ resolve ──▶ Record{args, resolved} ─── build ──▶ oci::runtime::Spec
//! Config ───────────┘   (refuses)                         (cannot refuse)
//! ```
//!
//! [`resolve()`] checks everything that can be checked without acting, so that bad input changes nothing;
//! [`build`] then only puts together. The record keeps what was resolved: a later start, or another engine,
//! builds the same from it.

mod health;
mod mounts;
mod resolve;

use std::path::{Path, PathBuf};

use oci::runtime::{
    Capabilities, Cpu, DeviceRule, Linux, Memory, Namespace, NamespaceKind, Pids, Process, Resources, Root,
    Spec, User, VERSION,
};
use state::container::Record;
use state::options::ContainerOptions;

use crate::containers::storage::Storage;
pub(crate) use mounts::PROVIDED;

pub(crate) use resolve::{Machine, Resolution, environment, network_name, resolve};

/// What a specification needs to know besides the record.
pub(crate) struct Context<'a> {
    /// The container's live directory, where hosts, resolv.conf and hostname are.
    pub live: &'a Path,
    /// A network namespace of its own.
    pub network_namespace: bool,
    /// The default limit of processes.
    pub pids_limit: i64,
    /// The AppArmor profile in force for it.
    pub apparmor: Option<String>,
    /// Swap is accounted for on this machine, so that `-m` can bound it.
    pub swap: bool,
    /// What to set below `/proc/sys`.
    pub sysctls: &'static [(&'static str, &'static str)],
    /// What the mounts of volumes and images are of.
    pub storage: &'a Storage,
}

/// The period of CPU quotas in microseconds, as Docker's.
const CPU_PERIOD: u64 = 100_000;

/// What is hidden of `/proc` and `/sys`, as Docker 28 does.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What cannot be written below `/proc`.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The specification of a container.
pub(crate) fn build(record: &Record, context: &Context<'_>) -> Spec {
    let options = &record.options;
    Spec {
        oci_version: VERSION.to_owned(),
        root: Some(Root { path: context.live.to_owned(), readonly: options.read_only }),
        mounts: mounts::all(options, context),
        process: Some(process(record, context)),
        hostname: Some(record.resolved.hostname.clone()),
        linux: Some(Linux {
            namespaces: namespaces(context.network_namespace),
            resources: Some(resources(options, context)),
            sysctl: context.sysctls.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            masked_paths: MASKED.iter().map(PathBuf::from).collect(),
            readonly_paths: READ_ONLY.iter().map(PathBuf::from).collect(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

fn process(record: &Record, context: &Context<'_>) -> Process {
    let resolved = &record.resolved;
    Process {
        terminal: record.options.tty,
        user: user(&resolved.user),
        args: record.args.clone(),
        env: resolved.env.clone(),
        cwd: PathBuf::from(&resolved.working_dir),
        capabilities: Some(capabilities(&resolved.capabilities)),
        no_new_privileges: resolved.no_new_privileges,
        apparmor_profile: context.apparmor.clone(),
        ..Process::default()
    }
}

/// A user is looked up in the container's own files, by the runtime; root with its group needs no look.
pub(crate) fn user(text: &str) -> User {
    let username = (!text.is_empty()).then(|| text.to_owned());
    // What Docker's containers have; the caller's own is nothing that a container should depend on.
    User { username, umask: Some(0o022), ..User::default() }
}

/// Bounding, permitted and effective; never inheritable (CVE-2022-24769), never ambient (CVE-2016-8867).
pub(crate) fn capabilities(names: &[String]) -> Capabilities {
    Capabilities {
        bounding: names.to_vec(),
        effective: names.to_vec(),
        permitted: names.to_vec(),
        inheritable: Vec::new(),
        ambient: Vec::new(),
    }
}

fn namespaces(network: bool) -> Vec<Namespace> {
    use NamespaceKind as K;
    let always = [K::Mount, K::Pid, K::Ipc, K::Uts, K::Cgroup];
    let kinds = always.into_iter().chain(network.then_some(K::Network));
    kinds.map(|kind| Namespace { kind, path: None }).collect()
}

fn resources(options: &ContainerOptions, context: &Context<'_>) -> Resources {
    let limit = options.pids_limit.unwrap_or(context.pids_limit);
    Resources {
        devices: device_rules(),
        memory: options.memory.map(|bytes| {
            let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
            // Docker's default: as much swap as memory, so the sum is twice the limit.
            Memory {
                limit: Some(limit),
                swap: context.swap.then_some(limit.saturating_mul(2)),
                ..Memory::default()
            }
        }),
        cpu: options.nano_cpus.map(|nano| Cpu {
            quota: Some((nano / (1_000_000_000 / CPU_PERIOD)) as i64),
            period: Some(CPU_PERIOD),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: if limit <= 0 { -1 } else { limit } }),
        ..Resources::default()
    }
}

/// Docker's: any node may be made, only harmless ones opened.
fn device_rules() -> Vec<DeviceRule> {
    let rule = |kind: &str, major: Option<i64>, minor: Option<i64>, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let deny = DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() };
    let mut rules = vec![deny, rule("c", None, None, "m"), rule("b", None, None, "m")];
    // null, zero, full, random, urandom; tty, console, ptmx; the slaves of ptys.
    let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    rules.extend(nodes.map(|(major, minor)| rule("c", Some(major), Some(minor), "rwm")));
    rules.push(rule("c", Some(136), None, "rwm"));
    rules
}

#[cfg(test)]
mod tests;
