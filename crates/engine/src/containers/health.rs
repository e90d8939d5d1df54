//! The probes of a container's health, as its monitor makes them.

use std::path::PathBuf;

use monitor::HealthRequest;
use oci::runtime::Process;
use state::container::Record;
use state::options::HealthCheck;

use crate::containers::spec::{capabilities, limits, user};

/// What the monitor is told. A probe runs as the container's command does: as its user, with its rights and filter.
pub(crate) fn request(
    record: &Record,
    check: HealthCheck,
    apparmor: Option<String>,
    seccomp: Option<PathBuf>,
) -> HealthRequest {
    let resolved = &record.resolved;
    let process = Process {
        user: user(&resolved.user, &record.options.groups),
        rlimits: limits::rlimits(&record.options),
        args: check.command.clone(),
        env: resolved.env.clone(),
        cwd: PathBuf::from(&resolved.working_dir),
        capabilities: Some(capabilities(&resolved.capabilities)),
        no_new_privileges: resolved.no_new_privileges,
        apparmor_profile: apparmor,
        ..Process::default()
    };
    HealthRequest { check, process, seccomp }
}
