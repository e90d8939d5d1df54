//! From what a user asks and an image says to the runtime's specification, with Docker's defaults.
//!
//! ```text
//! ContainerOptions ─┐
//! image's Execution ├─ resolve ──▶ Record{args, resolved} ─── build ──▶ oci::runtime::Spec
//! Config ───────────┘   (refuses)                         (cannot refuse)
//! ```
//!
//! [`resolve()`] checks everything that can be checked without acting, so that bad input changes nothing;
//! [`build()`] then only puts together. The record keeps what was resolved: a later start, or another engine,
//! builds the same from it.

pub(crate) mod devices;
mod health;
mod host;
pub(crate) mod limits;
mod mounts;
mod resolve;
mod surroundings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci::runtime::{Capabilities, Linux, Process, Root, Spec, User, VERSION};
use state::container::Record;
use state::options::ContainerOptions;

use crate::containers::storage::Storage;
pub(crate) use mounts::PROVIDED;

pub(crate) use host::OnHost;
pub(crate) use resolve::{Invalid, Machine, Resolution, environment, resolve};

/// What a specification needs to know besides the record.
pub(crate) struct Context<'a> {
    /// The container's live directory.
    pub live: &'a Path,
    /// Where hosts, resolv.conf and hostname are: in there, or with the container whose network it shares.
    pub network_files: &'a Path,
    /// A network namespace of its own.
    pub network_namespace: bool,
    /// The default limit of processes.
    pub pids_limit: i64,
    /// The AppArmor profile in force for it.
    pub apparmor: Option<String>,
    /// Swap is accounted for on this machine, so that `-m` can bound it.
    pub swap: bool,
    /// What to set below `/proc/sys`, unless the user says otherwise.
    pub sysctls: &'static [(&'static str, &'static str)],
    /// What the mounts of volumes and images are of.
    pub storage: &'a Storage,
    /// Devices and disks that the options name.
    pub host: OnHost,
}

/// The masked and the read-only paths of a container.
pub(crate) fn system_paths(options: &ContainerOptions) -> [Vec<PathBuf>; 2] {
    [hidden(options, &MASKED), hidden(options, &READ_ONLY)]
}

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
    let [masked_paths, readonly_paths] = system_paths(options);
    Spec {
        oci_version: VERSION.to_owned(),
        root: Some(Root { path: context.live.to_owned(), readonly: options.read_only }),
        mounts: mounts::all(options, context),
        process: Some(process(record, context)),
        hostname: (!options.namespaces.host_uts).then(|| record.resolved.hostname.clone()),
        domainname: options.domainname.clone(),
        linux: Some(Linux {
            namespaces: surroundings::namespaces(options, context.network_namespace),
            devices: context.host.devices.clone(),
            resources: Some(limits::resources(options, context)),
            sysctl: sysctls(options, context),
            masked_paths,
            readonly_paths,
            ..Linux::default()
        }),
        annotations: options.annotations.clone(),
        ..Spec::default()
    }
}

/// The user's wishes last.
fn sysctls(options: &ContainerOptions, context: &Context<'_>) -> BTreeMap<String, String> {
    let ours = context.sysctls.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    ours.chain(options.sysctls.clone()).collect()
}

/// Nothing is hidden from who has all rights, or was given these.
fn hidden(options: &ContainerOptions, paths: &[&str]) -> Vec<PathBuf> {
    let open = options.privileged || options.security.system_paths_unconfined;
    if open { Vec::new() } else { paths.iter().map(PathBuf::from).collect() }
}

fn process(record: &Record, context: &Context<'_>) -> Process {
    let resolved = &record.resolved;
    Process {
        terminal: record.options.tty,
        user: user(&resolved.user, &record.options.groups),
        rlimits: limits::rlimits(&record.options),
        oom_score_adj: record.options.limits.oom_score_adj,
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
pub(crate) fn user(text: &str, groups: &[String]) -> User {
    let root = text.is_empty() && groups.is_empty();
    let username = (!root).then(|| if text.is_empty() { "0".to_owned() } else { text.to_owned() });
    User {
        username,
        // What Docker's containers have; the caller's own is nothing that a container should depend on.
        umask: Some(0o022),
        additional_groups: groups.to_vec(),
        // Root's own group, too (CVE-2022-36109): a set-gid program must not get rid of it. Others' are looked up.
        additional_gids: if root { vec![0] } else { Vec::new() },
        ..User::default()
    }
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

#[cfg(test)]
mod tests;
