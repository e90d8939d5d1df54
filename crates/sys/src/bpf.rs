//! Device filters of cgroup v2: eBPF programs of type `CGROUP_DEVICE`, through `bpf(2)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One eBPF instruction: `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the lower four bits, source register in the upper.
    pub registers: u8,
    /// Jump distance, or offset of a memory access.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
/// Other programs may be attached to the same group, as systemd does: all must agree.
const F_ALLOW_MULTI: u32 = 1 << 1;

/// The head of `union bpf_attr` for loading; the kernel takes what is missing as zero.
#[repr(C)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads a device filter. The kernel verifies it.
pub fn load_device_filter(program: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the attributes have the layout of bpf_attr's head, and both pointers are valid for the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, size_of_val(&attributes)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// Attaches a device filter to a cgroup (an opened directory, not `O_PATH`).
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_TYPE_CGROUP_DEVICE,
        flags: F_ALLOW_MULTI,
    };
    // SAFETY: the attributes have the layout of bpf_attr's head for attaching.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attributes, size_of_val(&attributes)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
