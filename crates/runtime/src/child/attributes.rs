//! What the child sets of itself besides its rights: labels, scheduling, priorities, limits.

use std::os::fd::OwnedFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{During, Outcome, errno, write_proc};
use crate::handshake::Step;
use crate::plan::ProcessPlan;

/// Sets what is written to `/proc`: the badness for the out-of-memory killer, and the labels that the command gets
/// when it is executed. `proc` is ours, never what a container has at that place (CVE-2019-16884, CVE-2025-52881).
pub(crate) fn write_labels(plan: &ProcessPlan, proc: Option<&OwnedFd>) -> Outcome<()> {
    // The parent does it for a process in another user namespace, which may not.
    if !plan.foreign_users
        && let Some(value) = &plan.oom_score_adj
    {
        write_proc(proc, c"self/oom_score_adj", value, Step::OomScore, 0)?;
    }
    if let Some(label) = &plan.selinux {
        write_proc(proc, c"thread-self/attr/exec", label, Step::SeLinux, 0)?;
        if plan.manner.new_keyring {
            // Or the command may not use its own keyring. Like the other label it is gone after the exec.
            write_proc(proc, c"thread-self/attr/keycreate", label, Step::SeLinux, 1)?;
        }
    }
    if let Some(profile) = &plan.apparmor {
        write_proc(proc, c"thread-self/attr/apparmor/exec", profile, Step::AppArmor, 0)?;
    }
    Ok(())
}

/// How the process is scheduled and served. In its cgroup, whose limits these have to fit; with all rights; and before
/// a filter that may forbid them.
pub(super) fn apply(plan: &ProcessPlan) -> Outcome<()> {
    use sys::schedule::{set_affinity, set_io_priority, set_memory_policy, set_personality, set_scheduler};
    let attributes = &plan.attributes;
    if let Some(processors) = &attributes.affinity.last {
        set_affinity(processors).map_err(errno).during(Step::Affinity)?;
    }
    if let Some(scheduler) = &attributes.scheduler {
        set_scheduler(scheduler).map_err(errno).during(Step::Scheduler)?;
    }
    if let Some(value) = attributes.io_priority {
        set_io_priority(value).map_err(errno).during(Step::IoPriority)?;
    }
    if let Some(policy) = &attributes.memory_policy {
        set_memory_policy(policy.mode, &policy.nodes).map_err(errno).during(Step::MemoryPolicy)?;
    }
    if let Some(persona) = attributes.personality {
        set_personality(persona).map_err(errno).during(Step::Personality)?;
    }
    Ok(())
}

/// The resource limits, but for that of descriptors: where few are allowed, we could open nothing more.
pub(super) fn limit(plan: &ProcessPlan) -> Outcome<()> {
    for (n, (resource, limit, _)) in plan.rlimits.iter().enumerate() {
        if *resource != Resource::Nofile {
            setrlimit(*resource, *limit).during_nth(Step::Rlimit, n)?;
        }
    }
    Ok(())
}

/// Raises the limit of descriptors where it is to be raised: that can be refused, which whoever makes a container is
/// to hear. [`limit_descriptors`] only lowers it then.
pub(super) fn raise_descriptors(plan: &ProcessPlan) -> Outcome<()> {
    for (n, (_, limit, _)) in descriptors(plan) {
        let now = getrlimit(Resource::Nofile);
        let higher = |a: Option<u64>, b: Option<u64>| Some(a?.max(b?));
        let raised = Rlimit {
            current: higher(now.current, limit.current),
            maximum: higher(now.maximum, limit.maximum),
        };
        setrlimit(Resource::Nofile, raised).during_nth(Step::Rlimit, n)?;
    }
    Ok(())
}

/// Limits the descriptors. Only when none is opened any more.
pub(super) fn limit_descriptors(plan: &ProcessPlan) -> Outcome<()> {
    for (n, (resource, limit, _)) in descriptors(plan) {
        setrlimit(*resource, *limit).during_nth(Step::Rlimit, n)?;
    }
    Ok(())
}

/// Whether so few are allowed that beside those which the command inherits, and the socket, none can be opened.
pub(super) fn leaves_no_descriptor(plan: &ProcessPlan) -> bool {
    let needed = u64::from(3 + plan.manner.preserved_descriptors) + 2;
    descriptors(plan).any(|(_, (_, limit, _))| limit.current.is_some_and(|current| current < needed))
}

fn descriptors(plan: &ProcessPlan) -> impl Iterator<Item = (usize, &(Resource, Rlimit, String))> {
    plan.rlimits.iter().enumerate().filter(|(_, (resource, ..))| *resource == Resource::Nofile)
}

/// The supplementary groups: exactly the plan's, where the kernel lets us set any.
pub(super) fn set_groups(plan: &ProcessPlan, proc: Option<&OwnedFd>) -> Outcome<()> {
    if plan.groups.is_empty() && plan.groups_denied {
        return Ok(());
    }
    match sys::confine::set_groups(&plan.groups).map_err(errno) {
        // A user namespace made without privilege (user_namespaces(7)): there groups can be neither given nor dropped.
        Err(rustix::io::Errno::PERM) if plan.groups.is_empty() && denied(proc) => Ok(()),
        other => other.during(Step::Groups),
    }
}

/// Whether our user namespace says so itself.
pub(super) fn denied(proc: Option<&OwnedFd>) -> bool {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let Some(proc) = proc else { return false };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = openat2(proc, c"self/setgroups", flags, Mode::empty(), resolve) else { return false };
    let mut text = [0; 8];
    rustix::io::read(&file, &mut text).is_ok_and(|read| text[..read].starts_with(b"deny"))
}
