//! The plan of what a process is given besides its rights: how it is scheduled, on which processors and memory nodes,
//! with what I/O priority and personality (config.md, "Linux Process"; config-linux.md, "Personality", "Memory policy").

use oci::runtime::{CpuAffinity, IoPriority, Linux, MemoryPolicy, Personality, Process, Scheduler};
use sys::schedule::SchedulerAttributes;

use super::{PlanError, ProcessPlan};
use crate::handshake::{Failed, Step};

/// The highest number that a list of processors or memory nodes may name; kernels are built for 8192 at most.
const HIGHEST: u32 = 8191;

/// What is set in the child, once it is in its cgroup and while it has all its rights.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) scheduler: Option<SchedulerAttributes>,
    pub(crate) io_priority: Option<u16>,
    pub(crate) personality: Option<u32>,
    pub(crate) memory_policy: Option<MemoryPolicyPlan>,
    pub(crate) affinity: Affinity,
}

/// `set_mempolicy(2)`'s arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoryPolicyPlan {
    pub(crate) mode: u32,
    pub(crate) nodes: Vec<u64>,
}

/// On which processors a further command is started, and runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Affinity {
    /// Of its parent, so that it is born there.
    pub(crate) initial: Option<Vec<u64>>,
    /// Once it is in the container's cgroup. Where there is only an initial one, this has every bit: what the cgroup
    /// allows remains.
    pub(crate) last: Option<Vec<u64>>,
}

/// The attributes of a process. `joining`: it is a further command; `execCPUAffinity` is for those alone.
pub(super) fn plan(process: &Process, linux: Option<&Linux>, joining: bool) -> Result<Attributes, PlanError> {
    Ok(Attributes {
        scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
        io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
        personality: linux.and_then(|l| l.personality.as_ref()).map(personality).transpose()?,
        memory_policy: linux.and_then(|l| l.memory_policy.as_ref()).map(memory_policy).transpose()?,
        affinity: match &process.exec_cpu_affinity {
            Some(affinity) if joining => self::affinity(affinity)?,
            _ => Affinity::default(),
        },
    })
}

fn invalid(field: &'static str, value: impl Into<String>) -> PlanError {
    PlanError::Invalid { field, value: value.into() }
}

/// The scheduling policies of the specification, in the kernel's order (include/uapi/linux/sched.h).
pub const SCHEDULER_POLICIES: [&str; 7] =
    ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];

/// Its flags, by their bits.
pub const SCHEDULER_FLAGS: [&str; 7] = [
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

fn scheduler(wanted: &Scheduler) -> Result<SchedulerAttributes, PlanError> {
    const FIELD: &str = "scheduler";
    let position = SCHEDULER_POLICIES.iter().position(|name| *name == wanted.policy);
    let policy = position.ok_or_else(|| invalid(FIELD, format!("unknown policy `{}`", wanted.policy)))?;
    let realtime = matches!(&*wanted.policy, "SCHED_FIFO" | "SCHED_RR");
    if !(-20..=19).contains(&wanted.nice) {
        return Err(invalid(FIELD, format!("nice {} is not between -20 and 19", wanted.nice)));
    }
    // The kernel ignores what does not belong to the policy; whoever wrote it meant something by it.
    if wanted.priority != 0 && !realtime {
        return Err(invalid(
            FIELD,
            format!("a priority belongs to SCHED_FIFO and SCHED_RR, not {}", wanted.policy),
        ));
    }
    if (wanted.runtime, wanted.deadline, wanted.period) != (0, 0, 0) && wanted.policy != "SCHED_DEADLINE" {
        return Err(invalid(
            FIELD,
            format!("runtime, deadline and period do not belong to {}", wanted.policy),
        ));
    }
    let mut flags = 0;
    for name in &wanted.flags {
        let bit = SCHEDULER_FLAGS.iter().position(|flag| flag == name);
        flags |= 1 << bit.ok_or_else(|| invalid(FIELD, format!("unknown flag `{name}`")))?;
    }
    let priority = u32::try_from(wanted.priority)
        .map_err(|_| invalid(FIELD, format!("priority {} is negative", wanted.priority)))?;
    Ok(SchedulerAttributes {
        size: SchedulerAttributes::SIZE,
        policy: policy as u32,
        flags,
        nice: wanted.nice,
        priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
        ..SchedulerAttributes::default()
    })
}

fn io_priority(wanted: &IoPriority) -> Result<u16, PlanError> {
    const FIELD: &str = "ioPriority";
    let class: u16 = match &*wanted.class {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(invalid(FIELD, format!("unknown class `{other}`"))),
    };
    match u16::try_from(wanted.priority) {
        Ok(priority @ 0..=7) => Ok(class << 13 | priority),
        _ => Err(invalid(FIELD, format!("priority {} is not between 0 and 7", wanted.priority))),
    }
}

fn personality(wanted: &Personality) -> Result<u32, PlanError> {
    if let Some(flag) = wanted.flags.first() {
        return Err(invalid("personality", format!("unknown flag `{flag}`")));
    }
    match &*wanted.domain {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(invalid("personality", format!("unknown domain `{other}`"))),
    }
}

/// The memory policies, in the kernel's order (include/uapi/linux/mempolicy.h).
pub const MEMORY_POLICY_MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// Their flags, from bit 13 on.
pub const MEMORY_POLICY_FLAGS: [&str; 3] =
    ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

fn memory_policy(wanted: &MemoryPolicy) -> Result<MemoryPolicyPlan, PlanError> {
    const FIELD: &str = "memoryPolicy";
    let position = MEMORY_POLICY_MODES.iter().position(|name| *name == wanted.mode);
    let mut mode = position.ok_or_else(|| invalid(FIELD, format!("unknown mode `{}`", wanted.mode)))? as u32;
    for name in &wanted.flags {
        let bit = MEMORY_POLICY_FLAGS.iter().position(|flag| flag == name);
        mode |= 1 << (13 + bit.ok_or_else(|| invalid(FIELD, format!("unknown flag `{name}`")))?);
    }
    let nodes = if wanted.nodes.trim().is_empty() { Vec::new() } else { bits(FIELD, &wanted.nodes)? };
    Ok(MemoryPolicyPlan { mode, nodes })
}

fn affinity(wanted: &CpuAffinity) -> Result<Affinity, PlanError> {
    let list = |text: &Option<String>| match text.as_deref().map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => bits("execCPUAffinity", text).map(Some),
    };
    let (initial, last) = (list(&wanted.initial)?, list(&wanted.last)?);
    let all = || initial.as_ref().map(|_| vec![u64::MAX; (HIGHEST as usize + 1) / 64]);
    Ok(Affinity { last: last.or_else(all), initial })
}

/// `0-3,7` as bits: number n is bit n of word n / 64.
fn bits(field: &'static str, list: &str) -> Result<Vec<u64>, PlanError> {
    let bad = || invalid(field, format!("`{list}` is no list of numbers from 0 to {HIGHEST}"));
    let number = |text: &str| -> Result<u32, PlanError> {
        // What parse(2) takes besides digits, a sign, is no part of such a list.
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        text.parse().ok().filter(|n| *n <= HIGHEST).ok_or_else(bad)
    };
    let mut words = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(bad());
        }
        for n in first..=last {
            let word = n as usize / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (n % 64);
        }
    }
    Ok(words)
}

/// The words for a failed step that sets an attribute or a label; none: it is another step.
pub(crate) fn words(process: &ProcessPlan, failed: Failed) -> Option<String> {
    Some(match failed.step {
        Step::Scheduler => "cannot set the scheduler".to_owned(),
        Step::IoPriority => "cannot set the I/O priority".to_owned(),
        Step::Personality => "cannot set the personality".to_owned(),
        Step::MemoryPolicy => "cannot set the memory policy".to_owned(),
        Step::Affinity => "cannot set the CPU affinity".to_owned(),
        Step::SeLinux => "cannot set the SELinux label".to_owned(),
        Step::AppArmor if !crate::apparmor::is_enabled() => {
            "cannot confine the process with an AppArmor profile: this kernel has no AppArmor, or it is switched off"
                .to_owned()
        }
        Step::AppArmor => {
            let attribute = process.apparmor.as_deref().unwrap_or_default();
            let name = String::from_utf8_lossy(attribute.strip_prefix(b"exec ").unwrap_or(attribute));
            let loaded = if failed.errno == rustix::io::Errno::NOENT { ": it is not loaded" } else { "" };
            format!("cannot confine the process with the AppArmor profile {name}{loaded}")
        }
        Step::Rlimit if failed.errno == rustix::io::Errno::PERM => {
            let (name, hard) = process.rlimits.get(usize::from(failed.index)).map_or_else(
                || ("?", String::new()),
                |(_, limit, name)| {
                    (&**name, limit.maximum.map_or_else(|| "infinity".to_owned(), |n| n.to_string()))
                },
            );
            format!("cannot raise the hard limit of {name} to {hard} without CAP_SYS_RESOURCE")
        }
        Step::Listener => "cannot hand the seccomp listener over".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn schedulers_are_the_kernels_numbers() {
        let wanted = Scheduler {
            policy: "SCHED_DEADLINE".into(),
            flags: vec!["SCHED_FLAG_RESET_ON_FORK".into(), "SCHED_FLAG_UTIL_CLAMP_MAX".into()],
            runtime: 1,
            deadline: 2,
            period: 3,
            ..Scheduler::default()
        };
        let attributes = scheduler(&wanted).unwrap();
        assert_eq!((attributes.size, attributes.policy, attributes.flags), (56, 6, 0x41));
        assert_eq!((attributes.runtime, attributes.deadline, attributes.period), (1, 2, 3));
        let of = |policy: &str| Scheduler { policy: policy.into(), ..Scheduler::default() };
        assert_eq!(scheduler(&Scheduler { priority: 9, ..of("SCHED_RR") }).unwrap().priority, 9);
        for bad in [
            of("SCHED_NONE"),
            Scheduler { nice: 20, ..of("SCHED_OTHER") },
            Scheduler { priority: 1, ..of("SCHED_OTHER") },
            Scheduler { priority: -1, ..of("SCHED_FIFO") },
            Scheduler { period: 1, ..of("SCHED_FIFO") },
            Scheduler { flags: vec!["RESET".into()], ..of("SCHED_FIFO") },
        ] {
            assert!(scheduler(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn priorities_personalities_and_policies_are_checked() {
        let priority = |class: &str, priority| io_priority(&IoPriority { class: class.into(), priority });
        assert_eq!(priority("IOPRIO_CLASS_BE", 4).unwrap(), 2 << 13 | 4);
        assert_eq!(priority("IOPRIO_CLASS_IDLE", 7).unwrap(), 3 << 13 | 7);
        assert!(priority("IOPRIO_CLASS_BE", 8).is_err() && priority("IOPRIO_CLASS_BE", -1).is_err());
        assert!(priority("BE", 1).is_err());
        let domain = |domain: &str| personality(&Personality { domain: domain.into(), flags: vec![] });
        assert_eq!((domain("LINUX").unwrap(), domain("LINUX32").unwrap()), (0, 8));
        assert!(domain("LINUX64").is_err());
        let policy = |mode: &str, nodes: &str, flags: &[&str]| {
            let flags = flags.iter().map(|f| (*f).to_owned()).collect();
            memory_policy(&MemoryPolicy { mode: mode.into(), nodes: nodes.into(), flags })
        };
        let plan = policy("MPOL_BIND", "0-1,65", &["MPOL_F_STATIC_NODES"]).unwrap();
        assert_eq!(plan, MemoryPolicyPlan { mode: 2 | 1 << 15, nodes: vec![3, 2] });
        assert_eq!(policy("MPOL_LOCAL", "", &[]).unwrap(), MemoryPolicyPlan { mode: 4, nodes: vec![] });
        assert!(policy("MPOL_BIND", "x", &[]).is_err() && policy("MPOL_ALL", "0", &[]).is_err());
    }

    #[test]
    fn an_initial_affinity_alone_does_not_last() {
        let wanted = CpuAffinity { initial: Some("0".into()), last: None };
        let plan = affinity(&wanted).unwrap();
        assert_eq!(plan.initial, Some(vec![1]));
        assert!(plan.last.unwrap().iter().all(|word| *word == u64::MAX));
        assert_eq!(affinity(&CpuAffinity::default()).unwrap(), Affinity::default());
    }

    #[test]
    fn lists_that_are_none_are_refused() {
        for bad in ["", ",", "1,", "3-1", "-1", "1-", "+1", "0x1", "8192", "0-99999999999", "1 2"] {
            assert!(bits("x", bad).is_err(), "{bad}");
        }
        assert_eq!(bits("x", "0-3, 7").unwrap(), [0x8f]);
    }

    proptest! {
        #[test]
        fn lists_hold_what_they_name(numbers in proptest::collection::vec(0..300_u32, 1..20)) {
            let text = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let words = bits("x", &text).unwrap();
            for n in 0..320_u32 {
                let held = words.get(n as usize / 64).is_some_and(|w| w >> (n % 64) & 1 == 1);
                prop_assert_eq!(held, numbers.contains(&n));
            }
        }

        #[test]
        fn arbitrary_lists_never_panic(text in "[0-9, -]{0,12}") {
            let _ = bits("x", &text);
        }
    }
}
