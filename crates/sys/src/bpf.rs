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
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
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
    name: [u8; 16],
}

/// By which our programs are told from systemd's.
const NAME: [u8; 16] = *b"dhow_devices\0\0\0\0";

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
        name: NAME,
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

/// The most programs that are looked through in one group; the kernel allows 64.
const MOST_PROGRAMS: usize = 64;

#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attached: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
struct Open {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
struct Describe {
    program: u32,
    length: u32,
    info: u64,
}

/// The head of `struct bpf_prog_info`, up to the name (Linux 4.15).
#[repr(C)]
#[derive(Default)]
struct Info {
    before: [u64; 8],
    name: [u8; 16],
}

/// The device filters of ours that are attached to this group itself, not to one above it. Opening programs by their
/// number takes `CAP_SYS_ADMIN`.
pub fn attached_device_filters(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MOST_PROGRAMS];
    let mut query = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: ATTACH_TYPE_CGROUP_DEVICE,
        flags: 0,
        attached: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MOST_PROGRAMS as u32,
        padding: 0,
    };
    // SAFETY: the attributes have the layout of bpf_attr's head for queries; the kernel writes at most `count` numbers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of_val(&query)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut ours = Vec::new();
    for &id in &ids[..(query.count as usize).min(MOST_PROGRAMS)] {
        let open = Open { id, next: 0, flags: 0 };
        // SAFETY: the attributes have the layout of bpf_attr's head for opening by number.
        let fd =
            unsafe { libc::syscall(libc::SYS_bpf, PROG_GET_FD_BY_ID, &raw const open, size_of_val(&open)) };
        if fd < 0 {
            match io::Error::last_os_error() {
                // Somebody has taken it off.
                e if e.raw_os_error() == Some(libc::ENOENT) => continue,
                e => return Err(e),
            }
        }
        // SAFETY: the kernel just made this descriptor for us.
        let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let mut info = Info::default();
        let describe = Describe {
            program: program.as_raw_fd() as u32,
            length: size_of_val(&info) as u32,
            info: (&raw mut info) as u64,
        };
        // SAFETY: the attributes have the layout of bpf_attr's head for info; the kernel writes at most `length` bytes.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, &raw const describe, size_of_val(&describe))
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        if info.name == NAME {
            ours.push(program);
        }
    }
    Ok(ours)
}

/// Takes a device filter off a cgroup.
pub fn detach_device_filter(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_TYPE_CGROUP_DEVICE,
        flags: 0,
    };
    // SAFETY: the attributes have the layout of bpf_attr's head for detaching.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_DETACH, &raw const attributes, size_of_val(&attributes)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
