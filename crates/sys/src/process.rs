//! Making processes: `clone3(2)` for containers, a `vfork`-like spawn for monitors.

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Namespaces to make, as `CLONE_NEW*` bits.
pub mod namespaces {
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// Process ids.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// Network.
    pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
    /// IPC.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// Host name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// Users.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// View of cgroups.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// Clocks. Not for [`clone`](super::clone), which has taken it only since 6.4 and leaves no time to set them.
    pub const TIME: u64 = libc::CLONE_NEWTIME as u64;
}

/// `CLONE_INTO_CGROUP` (Linux 5.7): libc's constant has too narrow a type.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Which side of a [`clone`] this is.
#[derive(Debug)]
pub enum Cloned {
    /// The caller, with the child's pid (in the caller's namespace) and a descriptor of it.
    Parent {
        /// Its process id.
        pid: u32,
        /// Its pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// `clone3` without shared memory, in new namespaces, and on cgroup v2 straight into a group (5.7).
///
/// The caller must have a single thread, or the child must confine itself to system calls on prepared data:
/// locks that another thread held stay locked in the child for ever. That is why what runs in the child
/// (`runtime::child`) neither allocates nor locks.
pub fn clone(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    clone_with(namespaces, libc::SIGCHLD as u64, cgroup)
}

/// As [`clone`], but the new process is a child of the caller's parent: for a go-between that joins namespaces first.
pub fn clone_sibling(namespaces: u64) -> io::Result<Cloned> {
    // The exit signal is the caller's own then, and none may be given.
    clone_with(namespaces | libc::CLONE_PARENT as u64, 0, None)
}

fn clone_with(flags: u64, exit_signal: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let into = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    // SAFETY: an all-zero clone_args is valid; every pointer in it is null but the one to `pidfd`.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64 | into;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = exit_signal;
    args.cgroup = cgroup.map_or(0, |fd| fd.as_raw_fd() as u64);
    // SAFETY: without CLONE_VM the child has a copy of our memory and stack, as after fork.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel has just made this descriptor for us.
        pid => Ok(Cloned::Parent { pid: pid as u32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// `fork`, for a process with a single thread. By the old `clone(2)`: the default filter lets containers have
/// only that, since it cannot look into the arguments of `clone3`.
pub fn fork() -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has a copy of our memory and goes on with our stack; the kernel stores
    // the pidfd where the third argument points. The order of the unused ones differs by machine; they are zero.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel has just made this descriptor for us.
        pid => Ok(Cloned::Parent { pid: pid as u32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// Strings in the form that `execve(2)` takes, made while allocating is still allowed.
#[derive(Debug)]
pub struct Arguments {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Arguments {
    /// From these strings, with `spare` unused places at the end.
    pub fn new(strings: Vec<CString>, spare: usize) -> Self {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.resize(strings.len() + spare + 1, ptr::null());
        Self { strings, pointers }
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }

    /// The pointers with one more string in a spare place.
    ///
    /// # Panics
    /// Never in the child: a full list is returned as it is, without the string.
    fn with<'a>(&'a mut self, extra: Option<&'a CStr>) -> *const *const c_char {
        let used = self.strings.len();
        if used + 1 < self.pointers.len() {
            // Or, without one, it would be that of an earlier call, which may be gone.
            self.pointers[used] = extra.map_or(ptr::null(), CStr::as_ptr);
        }
        self.pointers.as_ptr()
    }
}

/// `execve(2)`. Returns only where it failed. `extra` is one more environment string.
pub fn exec(
    path: &CStr,
    arguments: &mut Arguments,
    environment: &mut Arguments,
    extra: Option<&CStr>,
) -> io::Error {
    let (argv, envp) = (arguments.with(None), environment.with(extra));
    // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv, envp) };
    io::Error::last_os_error()
}

/// `execveat(2)` of a program that is open already. Returns only where it failed.
pub fn exec_descriptor(
    program: BorrowedFd<'_>,
    arguments: &mut Arguments,
    environment: &mut Arguments,
) -> io::Error {
    let (argv, envp) = (arguments.with(None), environment.with(None));
    let fd = program.as_raw_fd();
    // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
    unsafe { libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH) };
    io::Error::last_os_error()
}

/// Ends this process at once: no destructors, no handlers. For the child of a clone.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Gives every signal its default action and unblocks all: what a container's process expects at its start.
pub fn reset_signals() {
    // SAFETY: plain system calls on local data. Failures (SIGKILL, SIGSTOP, libc's own) are meant to be ignored.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Has the program that a command starts killed when the thread that started it ends, however that comes.
pub fn die_with_us(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let ask = || {
        // SAFETY: a plain system call.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: what runs between fork and exec is one system call, which neither allocates nor locks.
    unsafe { command.pre_exec(ask) };
}

/// Gives `SIGCHLD` its default action. Whoever started us may have ignored it, which an exec leaves so, and then the
/// kernel throws away how our children ended: `wait(2)`, "ECHILD".
pub fn keep_ended_children() {
    // SAFETY: a plain system call, which cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Blocks these signals, to be read from the returned `signalfd(2)` (non-blocking, close-on-exec) instead.
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: plain system calls on local data; the descriptor is new and ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The number of the next signal that a [`signal_fd`] holds, if one is pending.
pub fn read_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    // SAFETY: the kernel writes whole signalfd_siginfo structures into a buffer of just that size.
    unsafe {
        let mut info: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of_val(&info);
        let read = libc::read(fd.as_raw_fd(), (&raw mut info).cast(), size);
        (read == size as isize).then_some(info.ssi_signo as i32)
    }
}

/// Sends any signal from 1 to 64, also a real-time one, which has no name in rustix.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: numbers and a null pointer; the kernel refuses a signal that does not exist.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `kill(2)` with any signal from 1 to 64: see [`send_signal`]. For process 1 of a container, of its own child.
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: numbers only, and no number that would mean a group.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a spawned program finds: descriptors to be inherited are named by number in its arguments.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program, opened with `O_PATH` (or otherwise): it is executed by descriptor.
    pub program: BorrowedFd<'a>,
    /// Its arguments, the first its name.
    pub arguments: Arguments,
    /// Its environment.
    pub environment: Arguments,
    /// Descriptors it gets as 3, 4, …, in this order; all others are closed on exec.
    pub inherit: Vec<BorrowedFd<'a>>,
    /// The cgroup v2 directory that it is born into.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// The most descriptors a [`Spawn`] hands down.
const MOST_INHERITED: usize = 8;

/// The stack of a spawned child until it has executed its program: a few frames of system calls.
const SPAWN_STACK: usize = 64 << 10;

/// What the child of a [`Spawn`] works on, and where it leaves the errno of what failed.
struct SpawnChild {
    program: RawFd,
    null: RawFd,
    inherit: [RawFd; MOST_INHERITED],
    inherited: usize,
    argv: *const *const c_char,
    envp: *const *const c_char,
    failed: i32,
}

impl Spawn<'_> {
    /// Starts the program in a session of its own, with `/dev/null` (`null`) as its standard streams and every
    /// signal at its default. Like `vfork`, the child shares our memory until it has executed the program, so
    /// that the cost does not grow with ours.
    ///
    /// # Errors
    /// Where the clone or the exec fails.
    pub fn start(mut self, null: BorrowedFd<'_>) -> io::Result<(u32, OwnedFd)> {
        if self.inherit.len() > MOST_INHERITED {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut child = SpawnChild {
            program: self.program.as_raw_fd(),
            null: null.as_raw_fd(),
            inherit: [-1; MOST_INHERITED],
            inherited: self.inherit.len(),
            argv: self.arguments.with(None),
            envp: self.environment.with(None),
            failed: 0,
        };
        for (slot, fd) in child.inherit.iter_mut().zip(&self.inherit) {
            *slot = fd.as_raw_fd();
        }
        // 16-byte units keep the stack's end aligned as the ABI wants it.
        let mut stack: Vec<u128> = Vec::with_capacity(SPAWN_STACK / 16);
        let mut pidfd: RawFd = -1;
        // SAFETY: CLONE_VM | CLONE_VFORK: we are suspended until the child has executed or exited. It runs on
        // `stack`, makes only system calls on data prepared above, writes only to `child`, and never returns.
        // All signals are blocked across it, so that no handler of ours runs in the child.
        let pid = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            let mut args: libc::clone_args = std::mem::zeroed();
            args.flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64;
            if let Some(cgroup) = self.cgroup {
                args.flags |= CLONE_INTO_CGROUP;
                args.cgroup = cgroup.as_raw_fd() as u64;
            }
            args.pidfd = (&raw mut pidfd) as u64;
            args.exit_signal = libc::SIGCHLD as u64;
            args.stack = stack.as_mut_ptr() as u64;
            args.stack_size = SPAWN_STACK as u64;
            let pid = clone3_call(&raw const args, become_program, &raw mut child);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
            pid
        };
        if pid < 0 {
            return Err(io::Error::from_raw_os_error(-(pid as i32)));
        }
        // SAFETY: the clone succeeded, so the kernel has made this descriptor for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        // SAFETY: the child wrote to it behind the compiler's back.
        match unsafe { ptr::read_volatile(&raw const child.failed) } {
            0 => Ok((pid as u32, pidfd)),
            error => {
                // SAFETY: reaps our own child, which has exited.
                unsafe { libc::waitpid(pid as i32, ptr::null_mut(), 0) };
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }
}

/// What the child of a [`Spawn`] does: put descriptors in their places, then execute the program.
extern "C" fn become_program(child: *mut SpawnChild) -> ! {
    const ROOM: RawFd = 64;
    // SAFETY: `child` outlives us, since our parent is suspended; the rest are system calls on descriptors of
    // this process alone (no CLONE_FILES).
    unsafe {
        let child = &mut *child;
        let fail = |child: &mut SpawnChild| -> ! {
            child.failed = *libc::__errno_location();
            libc::_exit(127)
        };
        libc::setsid();
        // First out of the way of 0 to 2 and 3, 4, …, then down to their places.
        let program = libc::fcntl(child.program, libc::F_DUPFD_CLOEXEC, ROOM);
        let null = libc::fcntl(child.null, libc::F_DUPFD_CLOEXEC, ROOM);
        if program < 0 || null < 0 {
            fail(child);
        }
        let mut high = [-1; MOST_INHERITED];
        for (slot, &fd) in high.iter_mut().zip(&child.inherit[..child.inherited]) {
            *slot = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, ROOM);
            if *slot < 0 {
                fail(child);
            }
        }
        for stream in 0..3 {
            if libc::dup2(null, stream) < 0 {
                fail(child);
            }
        }
        for (place, &fd) in (3..).zip(&high[..child.inherited]) {
            if libc::dup2(fd, place) < 0 {
                fail(child);
            }
        }
        // Descriptors that somebody left without close-on-exec are not for the program (CVE-2024-21626).
        let first = 3 + child.inherited as u32;
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        reset_signals();
        libc::syscall(libc::SYS_execveat, program, c"".as_ptr(), child.argv, child.envp, libc::AT_EMPTY_PATH);
        fail(child)
    }
}

/// `clone3` whose child calls `function(argument)` on the stack given in `args`. (glibc has no wrapper, and its
/// `clone` cannot name a cgroup.)
///
/// # Safety
/// The stack is large enough and unused; `function` may run beside or in place of the caller.
unsafe fn clone3_call(
    args: *const libc::clone_args,
    function: extern "C" fn(*mut SpawnChild) -> !,
    argument: *mut SpawnChild,
) -> isize {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the parent leaves by the jump with only the system call's clobbers; the child never leaves.
    unsafe {
        std::arch::asm!(
            "syscall", "test rax, rax", "jnz 2f",
            "xor ebp, ebp", "mov rdi, r9", "call r8", "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args, in("rsi") size_of::<libc::clone_args>(), in("r8") function, in("r9") argument,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0", "cbnz x0, 2f",
            "mov x29, xzr", "mov x0, x9", "blr x10", "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") args => result,
            in("x1") size_of::<libc::clone_args>(), in("x9") argument, in("x10") function,
        );
    }
    result
}

/// `unshare(2)` with raw bits, for a process with a single thread.
pub fn unshare(flags: u32) -> io::Result<()> {
    // SAFETY: a plain system call; a single-threaded caller shares nothing that another thread relies on.
    if unsafe { libc::unshare(flags as i32) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `dup2(2)` onto a standard stream (0, 1 or 2), which stays open on exec: of a process that is about to execute. Nobody
/// owns those: the standard library lends them to everybody.
///
/// # Errors
/// `InvalidInput` for any other place, which may be somebody's.
pub fn duplicate_to(fd: BorrowedFd<'_>, place: RawFd) -> io::Result<()> {
    if !(0..=2).contains(&place) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the place is one that has no owner.
    let result = unsafe {
        if fd.as_raw_fd() == place {
            libc::fcntl(place, libc::F_SETFD, 0)
        } else {
            libc::dup2(fd.as_raw_fd(), place)
        }
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor from `first` on, and goes on with what has none: it takes nothing along that must be
/// dropped, and never comes back to what owned them.
pub fn close_from(first: u32, go_on: impl FnOnce() -> Infallible + Copy + 'static) -> ! {
    // SAFETY: whatever owns a descriptor lies in a frame below this one, which is not returned to; `go_on` owns none,
    // since no owner can be copied, and borrows none from those frames.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    match go_on() {}
}

/// Closes every descriptor from `first` on but this one.
///
/// **The types do not show that this is sound.** The caller answers for it: it is the child of a clone, in which an
/// `OwnedFd` of any frame below it is neither used nor dropped from here on, because that child only executes a program
/// or ends with [`exit_now`]. (With a closure that never returns, as for [`close_from`], the plan that the child still
/// works on could not be taken along: it owns descriptors.) What is opened later may have a number that such an owner
/// still believes to be its own.
pub fn close_all_but(first: u32, kept: BorrowedFd<'_>) -> io::Result<()> {
    let kept = kept.as_raw_fd() as u32;
    let close = |first: u32, last: u32| {
        // SAFETY: by the precondition nobody uses or closes these again.
        let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    if kept > first {
        close(first, kept - 1)?;
    }
    close(first.max(kept + 1), u32::MAX)
}

/// `dup3(2)`: `place` becomes this descriptor, which is closed where it was, and closes on exec. What `place` was is
/// closed; whoever owns the place owns what is there now, and must expect that.
pub fn take_place(fd: OwnedFd, place: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the place is open, and stays so: its owner closes it once, as before.
    if unsafe { libc::dup3(fd.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    drop(fd);
    Ok(())
}

/// Whether the working directory lies below this process's root: the kernel gives it an absolute path.
pub fn working_dir_is_inside(buffer: &mut [std::mem::MaybeUninit<u8>]) -> io::Result<bool> {
    // SAFETY: the kernel writes at most `len` bytes into the buffer, and returns how many.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    if length < 1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has written at least one byte.
    Ok(unsafe { buffer[0].assume_init() } == b'/')
}

/// Blocks every signal.
pub fn block_all_signals() {
    // SAFETY: plain system calls on local data.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
    }
}

/// Waits for the next of these signals and returns its number; `None` where the wait was interrupted.
pub fn wait_signal(signals: &[i32]) -> Option<i32> {
    // SAFETY: plain system calls on local data.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        let signal = libc::sigwaitinfo(&raw const set, ptr::null_mut());
        (signal > 0).then_some(signal)
    }
}

/// `setns(2)` with a pidfd: joins all the named namespaces (`CLONE_NEW*`) of that process at once. The caller has
/// a single thread.
pub fn set_namespaces(process: BorrowedFd<'_>, kinds: u32) -> io::Result<()> {
    if kinds == 0 {
        return Ok(());
    }
    // SAFETY: a plain system call.
    if unsafe { libc::setns(process.as_raw_fd(), kinds as i32) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes over a descriptor that whoever started us left in a fixed place; it becomes close-on-exec.
///
/// # Errors
/// `EBADF` where there is none.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the flag call proves that the descriptor is open; by the contract of our programs' roles nobody else
    // in this process owns it. Called once for each, at the start.
    unsafe {
        if libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn an_extra_string_is_there_for_one_call() {
        let mut arguments = Arguments::new(vec![c"a".to_owned()], 1);
        let at = |pointers: *const *const c_char, n: usize| {
            // SAFETY: there are three places.
            unsafe { *pointers.add(n) }
        };
        let extra = c"b".to_owned();
        assert_eq!(at(arguments.with(Some(&extra)), 1), extra.as_ptr());
        drop(extra);
        assert_eq!(at(arguments.with(None), 1), ptr::null());
        // A full list stays as it is.
        let mut full = Arguments::new(vec![c"a".to_owned()], 0);
        assert_eq!(at(full.with(Some(c"b")), 1), ptr::null());
    }

    #[test]
    fn only_a_standard_stream_is_replaced() {
        let (one, two) =
            (std::fs::File::open("/dev/null").unwrap(), std::fs::File::open("/dev/zero").unwrap());
        for place in [-1, 3, one.as_raw_fd()] {
            let error = duplicate_to(two.as_fd(), place).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{place}");
        }
    }

    #[test]
    fn who_takes_a_place_is_there_alone() {
        use std::io::Read;
        let (place, zero) =
            (std::fs::File::open("/dev/null").unwrap(), std::fs::File::open("/dev/zero").unwrap());
        take_place(zero.into(), place.as_fd()).unwrap();
        assert_eq!((&place).read(&mut [1; 4]).unwrap(), 4, "it is /dev/zero now");
    }
}
