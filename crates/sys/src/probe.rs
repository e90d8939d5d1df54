//! System calls that a confined process should be refused, made so that they do nothing where they are not.
//!
//! Each asks for something impossible, which the kernel finds out only after it has looked at our rights: a
//! refusal (`EPERM`, or `ENOSYS` of a filter) tells confinement, any other error that there is none.

use std::io;

fn result(code: libc::c_long) -> io::Result<()> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `finit_module(2)` from no file.
pub fn load_module() -> io::Result<()> {
    // SAFETY: the arguments are numbers and a pointer to a live, terminated string.
    result(unsafe { libc::syscall(libc::SYS_finit_module, -1, c"".as_ptr(), 0) })
}

/// `kexec_load(2)` of more segments than it takes.
pub fn load_kernel() -> io::Result<()> {
    // SAFETY: the count is checked before the (null) list would be read.
    result(unsafe { libc::syscall(libc::SYS_kexec_load, 0, 1 << 20, 0, 0) })
}

/// `reboot(2)` without the magic numbers that it wants.
pub fn reboot() -> io::Result<()> {
    // SAFETY: all arguments are numbers, and without the magic ones nothing is done.
    result(unsafe { libc::syscall(libc::SYS_reboot, 0, 0, 0, 0) })
}

/// `adjtimex(2)` to a tick that is out of range.
pub fn set_clock() -> io::Result<()> {
    // SAFETY: a `timex` is plain numbers, for which zero is fine; the kernel reads and writes it in the call.
    result(unsafe {
        let mut change: libc::timex = std::mem::zeroed();
        change.modes = libc::ADJ_TICK;
        libc::syscall(libc::SYS_adjtimex, &raw mut change)
    })
}

/// `open_by_handle_at(2)` of a handle that belongs to no file: the way past every mount (the "shocker").
pub fn open_by_handle() -> io::Result<()> {
    // What `struct file_handle` is: the length of the handle, its type, and the handle.
    let handle: [u32; 4] = [8, 1, u32::MAX, u32::MAX];
    // SAFETY: the handle is alive, as long as it says, and only read.
    result(unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, libc::AT_FDCWD, handle.as_ptr(), libc::O_PATH)
    })
}

/// `bpf(2)` with a command that does not exist.
pub fn bpf() -> io::Result<()> {
    let attributes = [0_u64; 16];
    // SAFETY: the attributes are alive, as long as we say, and only read.
    result(unsafe { libc::syscall(libc::SYS_bpf, 9999, attributes.as_ptr(), size_of_val(&attributes)) })
}

/// `syslog(2)`: the size of the kernel's log.
pub fn kernel_log() -> io::Result<()> {
    const SIZE_BUFFER: libc::c_int = 10;
    // SAFETY: with this action the other arguments are not used.
    result(unsafe { libc::syscall(libc::SYS_syslog, SIZE_BUFFER, 0, 0) })
}

/// `mount(2)` of a file system type that does not exist, on `/`.
pub fn mount() -> io::Result<()> {
    let none = c"dhow-none".as_ptr();
    // SAFETY: all pointers are to live, terminated strings, or null where the call takes it.
    result(unsafe { libc::syscall(libc::SYS_mount, none, c"/".as_ptr(), none, 0, 0) })
}

/// `unshare(2)` of the user namespace. Where it works, it does: the caller is in a new one afterwards.
pub fn new_user_namespace() -> io::Result<()> {
    // SAFETY: the only argument is a number.
    result(unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER) })
}

/// `socket(2)` for the kernel's crypto (`AF_ALG`), of CVE-2026-31431.
pub fn crypto_socket() -> io::Result<()> {
    // SAFETY: all arguments are numbers.
    let fd = unsafe {
        libc::syscall(libc::SYS_socket, libc::AF_ALG, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0)
    };
    result(fd)?;
    // SAFETY: it is open, ours, and used by nobody else.
    result(unsafe { libc::syscall(libc::SYS_close, fd) })
}

/// `add_key(2)` of a type that does not exist: keyrings are not separated by containers.
pub fn keyring() -> io::Result<()> {
    let none = c"dhow-none".as_ptr();
    // SAFETY: all pointers are to live, terminated strings, or null with the length zero.
    result(unsafe { libc::syscall(libc::SYS_add_key, none, none, 0, 0, 0) })
}
