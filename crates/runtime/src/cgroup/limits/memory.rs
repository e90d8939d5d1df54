//! Memory: limit, swap, reservation, and what only v1 has.

use oci::runtime::Memory;

use super::{Need, Requested, Write, amount, only_v1, or_max, or_minus_one, write};
use crate::cgroup::Error;
use crate::cgroup::hierarchy::Controller;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) enum Setting {
    /// Bytes; none: unlimited.
    Limit(Option<u64>),
    /// Bytes of swap above the memory limit, and both together. Not `asked` where unlimited memory implies it.
    Swap { above: Option<u64>, total: Option<u64>, asked: bool },
    /// Bytes that are not reclaimed while others have more; none: as many as there are.
    Reservation(Option<u64>),
    /// Bytes of the kernel's TCP buffers; none: unlimited. v1.
    KernelTcp(Option<u64>),
    /// 0 to 100. v1.
    Swappiness(u64),
    /// Who runs out waits instead of dying. v1.
    OomKiller { disabled: bool },
    /// Subgroups count too. v1, and always so since Linux 5.11.
    UseHierarchy,
}

pub(super) fn settings(memory: &Memory, requested: &mut Requested) -> Result<(), Error> {
    let list = &mut requested.settings;
    let mut push = |setting| list.push(super::Setting::Memory(setting));
    let limit = size(memory.limit, "memory.limit is less than -1")?.map(amount);
    if let Some(limit) = limit {
        push(Setting::Limit(limit));
    }
    match (size(memory.swap, "memory.swap is less than -1")?.map(amount), limit.flatten()) {
        // Memory and swap together cannot be less than unlimited memory.
        (None, _) if limit == Some(None) => {
            push(Setting::Swap { above: None, total: None, asked: false });
        }
        (None, _) => {}
        (Some(None), _) => push(Setting::Swap { above: None, total: None, asked: true }),
        (Some(Some(total)), Some(memory)) if total >= memory => {
            push(Setting::Swap { above: Some(total - memory), total: Some(total), asked: true });
        }
        (Some(Some(_)), Some(_)) => {
            return Err(Error::Invalid { reason: "memory and swap together are less than the memory limit" });
        }
        (Some(Some(_)), None) => {
            return Err(Error::Invalid { reason: "swap is limited, but memory is not" });
        }
    }
    if let Some(reservation) = size(memory.reservation, "memory.reservation is less than -1")?.map(amount) {
        push(Setting::Reservation(reservation));
    }
    if let Some(bytes) = size(memory.kernel_tcp, "memory.kernelTCP is less than -1")?.map(amount) {
        push(Setting::KernelTcp(bytes));
    }
    match memory.swappiness {
        // The latter is what -1, "as it is", becomes where it is sent as an unsigned number.
        None | Some(u64::MAX) => {}
        Some(percent @ 0..=100) => push(Setting::Swappiness(percent)),
        Some(_) => return Err(Error::Invalid { reason: "the swappiness is more than 100" }),
    }
    if memory.disable_oom_killer == Some(true) {
        push(Setting::OomKiller { disabled: true });
    }
    if memory.use_hierarchy == Some(true) {
        push(Setting::UseHierarchy);
    }
    if memory.use_hierarchy == Some(false) {
        requested.ignored.push(
            "subgroups share the memory limit all the same: since Linux 5.11 they always do".to_owned(),
        );
    }
    if memory.kernel.is_some_and(|k| k != 0) {
        requested.ignored.push(
            "the limit of kernel memory has no effect: Linux 5.4 made it obsolete, the memory limit covers it"
                .to_owned(),
        );
    }
    Ok(())
}

/// A size in bytes, of which the kernel takes no negative ones but -1, "unlimited". 0 asks for nothing.
fn size(value: Option<i64>, reason: &'static str) -> Result<Option<i64>, Error> {
    match value.filter(|bytes| *bytes != 0) {
        Some(..-1) => Err(Error::Invalid { reason }),
        other => Ok(other),
    }
}

pub(super) fn v2(setting: &Setting, list: &mut Vec<Write>) -> Result<(), Error> {
    use Controller::Memory;
    list.push(match setting {
        Setting::Limit(limit) => write(Memory, "memory.max", or_max(*limit), "memory limit"),
        // v2 limits swap alone. Without swap in the kernel there is no file, and nothing to limit.
        Setting::Swap { above, .. } => {
            write(Memory, "memory.swap.max", or_max(*above), "swap limit").need(Need::Moot)
        }
        Setting::Reservation(bytes) => write(Memory, "memory.low", or_max(*bytes), "memory reservation"),
        Setting::KernelTcp(_) => return Err(only_v1("limit of TCP buffers", "memory of version 1")),
        Setting::Swappiness(_) => return Err(only_v1("swappiness", "memory of version 1")),
        Setting::OomKiller { disabled: true } => {
            return Err(only_v1("end of the OOM killer", "memory of version 1"));
        }
        // They are so anyway.
        Setting::OomKiller { disabled: false } | Setting::UseHierarchy => return Ok(()),
    });
    Ok(())
}

pub(super) fn v1(setting: &Setting, list: &mut Vec<Write>) {
    use Controller::Memory;
    list.push(match setting {
        Setting::Limit(limit) => write(Memory, "memory.limit_in_bytes", or_minus_one(*limit), "memory limit"),
        // The file is there only where swap is accounted for (swapaccount=1). A container that may swap without
        // limit still has its memory limit, so this is worth a warning only.
        Setting::Swap { total, asked, .. } => {
            write(Memory, "memory.memsw.limit_in_bytes", or_minus_one(*total), "swap limit").need(if *asked {
                Need::Default
            } else {
                Need::Moot
            })
        }
        Setting::Reservation(bytes) => {
            write(Memory, "memory.soft_limit_in_bytes", or_minus_one(*bytes), "memory reservation")
        }
        Setting::KernelTcp(bytes) => {
            write(Memory, "memory.kmem.tcp.limit_in_bytes", or_minus_one(*bytes), "limit of TCP buffers")
        }
        Setting::Swappiness(percent) => write(Memory, "memory.swappiness", percent, "swappiness"),
        Setting::OomKiller { disabled } => {
            write(Memory, "memory.oom_control", u8::from(*disabled), "end of the OOM killer")
        }
        Setting::UseHierarchy => {
            write(Memory, "memory.use_hierarchy", 1, "hierarchical accounting").need(Need::Moot)
        }
    });
}
