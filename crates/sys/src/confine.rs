//! What takes rights away from the calling thread: seccomp filters, capability sets.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One instruction of a classic BPF program: `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump if true.
    pub jt: u8,
    /// Jump if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// # Errors
/// `InvalidInput` for a program that is too long to say its length: half of it would be another program.
fn program_of(instructions: &[Instruction]) -> io::Result<libc::sock_fprog> {
    let len = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel only reads it.
    Ok(libc::sock_fprog { len, filter: instructions.as_ptr().cast_mut().cast() })
}

/// Installs a system call filter for this thread: `seccomp(SECCOMP_SET_MODE_FILTER)`. Needs `no_new_privs` or
/// `CAP_SYS_ADMIN`.
pub fn set_seccomp_filter(program: &[Instruction], flags: u32) -> io::Result<()> {
    let program = program_of(program)?;
    // SAFETY: Instruction has the layout of sock_filter; the length is that of the slice; the kernel copies it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` (5.0).
const NEW_LISTENER: u32 = 1 << 3;

/// Like [`set_seccomp_filter`], for a program that hands some calls to a listener, whose descriptor (close-on-exec)
/// is returned.
pub fn set_notifying_seccomp_filter(program: &[Instruction], flags: u32) -> io::Result<OwnedFd> {
    let program = program_of(program)?;
    let flags = flags | NEW_LISTENER;
    // SAFETY: Instruction has the layout of sock_filter; the length is that of the slice; the kernel copies it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// Whether the running kernel knows these flags of `SECCOMP_SET_MODE_FILTER`. Asked with no program at all: a kernel
/// that knows the flags gets as far as missing it.
pub fn knows_seccomp_flags(flags: u32) -> bool {
    let none = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: a null program is refused with EFAULT, so that nothing is ever installed.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, none) };
    result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// `setgroups(2)` of the calling thread, straight from the list, however long.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the list is alive, as long as said, and only read. The raw call changes the calling thread alone.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Capability sets of a thread, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilityBits {
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
}

/// `capset(2)`, for all numbers up to 63, also those that this code has no name for.
pub fn set_capabilities(bits: CapabilityBits) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let half =
        |n: u32| [(bits.effective >> n) as u32, (bits.permitted >> n) as u32, (bits.inheritable >> n) as u32];
    let data: [[u32; 3]; 2] = [half(0), half(32)];
    // SAFETY: header and data have the layout of version 3's structures: two words, and twice three words.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Drops a capability from the bounding set. `Ok(false)` where the kernel knows no capability of this number.
pub fn drop_from_bounding_set(capability: u32) -> io::Result<bool> {
    // SAFETY: prctl with integer arguments.
    match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0, 0, 0) } {
        0 => Ok(true),
        _ if io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) => Ok(false),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Empties the ambient set, or raises one capability in it.
pub fn ambient(raise: Option<u32>) -> io::Result<()> {
    let (what, which) = match raise {
        None => (libc::PR_CAP_AMBIENT_CLEAR_ALL, 0),
        Some(capability) => (libc::PR_CAP_AMBIENT_RAISE, u64::from(capability)),
    };
    // SAFETY: prctl with integer arguments.
    match unsafe { libc::prctl(libc::PR_CAP_AMBIENT, what as u64, which, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives this process a session keyring of its own: `keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)`.
pub fn join_new_session_keyring() -> io::Result<()> {
    // SAFETY: keyctl with a null name makes an anonymous keyring.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_too_long_is_not_cut_off() {
        // Allows everything, as would its first instruction alone.
        let allow = Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
        let program = vec![allow; usize::from(u16::MAX) + 2];
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        assert_eq!(kind(set_seccomp_filter(&program, 0)), io::ErrorKind::InvalidInput);
        assert_eq!(kind(set_notifying_seccomp_filter(&program, 0).map(drop)), io::ErrorKind::InvalidInput);
    }
}
