//! How the calling thread is scheduled and served: processor, disk, memory nodes, and the kernel's manners towards it.
//! All of it is inherited by what it executes.

use std::io;

fn result(code: libc::c_long) -> io::Result<()> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct sched_attr`, as of Linux 5.3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SchedulerAttributes {
    /// The structure's length: [`SchedulerAttributes::SIZE`].
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19, of the policies that are not realtime.
    pub nice: i32,
    /// 1 to 99, of the realtime policies.
    pub priority: u32,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, likewise.
    pub deadline: u64,
    /// Nanoseconds, likewise.
    pub period: u64,
    /// The least utilisation that is assumed of it, 0 to 1024.
    pub utilisation_least: u32,
    /// The most.
    pub utilisation_most: u32,
}

impl SchedulerAttributes {
    /// What `size` has to be.
    pub const SIZE: u32 = size_of::<Self>() as u32;
}

/// `sched_setattr(2)` of the calling thread.
pub fn set_scheduler(attributes: &SchedulerAttributes) -> io::Result<()> {
    // The kernel writes the length that it would have liked into one that it refuses.
    let mut copy = *attributes;
    // SAFETY: the structure is ours, alive, and as long as it says.
    result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut copy, 0) })
}

/// `ioprio_set(2)` of the calling thread: the class in the upper three bits, the priority in the lower thirteen.
pub fn set_io_priority(value: u16) -> io::Result<()> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: numbers only.
    result(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, i32::from(value)) })
}

/// `personality(2)`.
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: a number only; what changes is how later calls of this process are answered.
    result(unsafe { libc::syscall(libc::SYS_personality, u64::from(persona)) })
}

/// `set_mempolicy(2)` with a mask of nodes: bit n of word n / 64.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes the number of bits plus one.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() as u64 * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask is null with no bits, or alive and as long as said; it is only read.
    result(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode as libc::c_int, mask, bits) })
}

/// `sched_setaffinity(2)` of the calling thread with a mask of processors: bit n of word n / 64.
pub fn set_affinity(processors: &[u64]) -> io::Result<()> {
    // SAFETY: the mask is alive, as long as said, and only read.
    result(unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(processors), processors.as_ptr())
    })
}
