//! Our default filter: what Docker's current default lets through, told as groups with reasons.
//!
//! Everything that is not named is refused with `EPERM`. Calls that an architecture does not have are
//! skipped there, so one list serves all. Notable refusals:
//! * `socket(AF_ALG)`: the kernel's crypto interface, a steady source of holes (CVE-2026-31431); and
//!   `socket(AF_VSOCK)`: it reaches past network namespaces to the hypervisor and other machines. Both give
//!   `EPERM`, as with Docker. 32-bit x86 programs may still make sockets through `socketcall`, whose
//!   arguments lie behind a pointer where no filter sees them; refusing it takes the network from 32-bit
//!   programs of older libraries and of Go (moby#52547), so AppArmor's profile refuses `alg` there.
//! * new namespaces (`unshare`, `setns`, `clone` with such flags) without `CAP_SYS_ADMIN`: user namespaces
//!   open most of the kernel's root-only code to everyone. `clone3` has its flags behind a pointer; it gives
//!   `ENOSYS`, so that libraries fall back to `clone`.
//! * `io_uring_*`: calls through it are not filtered.
//! * `keyctl`, `add_key`, `request_key`: keyrings are not divided by namespaces.
//! * `userfaultfd`, `kexec_*`, `swapon`, `move_pages`, `nfsservctl`, `pivot_root`, …: no container needs them.

use oci::runtime::{Seccomp, SyscallArg, SyscallRule};

use super::action::ENOSYS;
use super::arch::Arch;
use super::{FNV_START, fnv};
use crate::capability::Set;

/// Who may use a group.
enum Who {
    Everyone,
    /// Holders of this capability (in the bounding set).
    With(Set),
}

/// Calls that are let through.
struct Group {
    who: Who,
    calls: &'static str,
}

const fn everyone(calls: &'static str) -> Group {
    Group { who: Who::Everyone, calls }
}

const fn with(capability: &'static str, calls: &'static str) -> Group {
    Group { who: Who::With(Set::of(&[capability])), calls }
}

const SYS_ADMIN: Set = Set::of(&["SYS_ADMIN"]);

const GROUPS: &[Group] = &[
    // Opening, making, naming and removing files.
    everyone(
        "access chdir chmod chown chown32 creat faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fchown \
         fchown32 fchownat getcwd getdents getdents64 lchown lchown32 link linkat mkdir mkdirat mknod mknodat \
         name_to_handle_at open openat openat2 readlink readlinkat rename renameat renameat2 rmdir symlink \
         symlinkat truncate truncate64 umask unlink unlinkat",
    ),
    // What is known about them.
    everyone(
        "fstat fstat64 fstatat64 fstatfs fstatfs64 futimesat listmount lstat lstat64 newfstatat stat stat64 \
         statfs statfs64 statmount statx utime utimensat utimensat_time64 utimes",
    ),
    everyone(
        "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat \
         llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat",
    ),
    // Descriptors: reading, writing, moving bytes.
    everyone(
        "cachestat close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fcntl \
         fcntl64 fdatasync flock fsync ftruncate ftruncate64 ioctl _llseek lseek pipe pipe2 pread64 preadv \
         preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile sendfile64 splice sync \
         sync_file_range syncfs tee vmsplice write writev",
    ),
    // The older asynchronous reading and writing (not io_uring: what goes through it is not filtered).
    everyone("io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit"),
    // Waiting for events, and being told of them. fanotify_init needs CAP_SYS_ADMIN, see below.
    everyone(
        "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
         epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 \
         inotify_rm_watch _newselect poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4",
    ),
    // Memory.
    everyone(
        "brk madvise map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 \
         mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect \
         process_mrelease remap_file_pages",
    ),
    // Processes and threads. clone is below, with its flags.
    everyone(
        "execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv \
         futex_wake get_robust_list get_thread_area getpgid getpgrp getpid getppid getsid gettid membarrier \
         pidfd_open pidfd_send_signal prctl rseq set_robust_list set_thread_area set_tid_address setpgid \
         setsid uretprobe vfork wait4 waitid waitpid",
    ),
    // Tracing one's own kin. Since 4.8 a traced process does not escape its filter, and the kernel checks
    // who may trace whom.
    everyone("process_vm_readv process_vm_writev ptrace"),
    everyone(
        "kill pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
         rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask \
         sigreturn tgkill tkill",
    ),
    everyone(
        "getcpu getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_get_priority_max \
         sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
         sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
         sched_setscheduler sched_yield setpriority setrlimit times ugetrlimit",
    ),
    // Identity. The kernel asks for capabilities where one is gained.
    everyone(
        "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid \
         getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid \
         setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 \
         setreuid setreuid32 setuid setuid32",
    ),
    // Clocks: reading them. Setting through the adjtime calls needs CAP_SYS_TIME in the kernel.
    everyone(
        "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
         clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer \
         time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
         timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    ),
    // Talking to other processes. socket is below, with its families.
    everyone(
        "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg \
         recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair",
    ),
    everyone(
        "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
         mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop \
         semtimedop_time64 shmat shmctl shmdt shmget",
    ),
    everyone("getrandom sysinfo uname"),
    // Confining oneself further.
    everyone("landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp"),
    // What single processors have of their own.
    everyone(
        "arch_prctl arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush modify_ldt riscv_flush_icache \
         riscv_hwprobe set_tls",
    ),
    with("DAC_READ_SEARCH", "open_by_handle_at"),
    with(
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    with("SYS_BOOT", "reboot"),
    with("SYS_CHROOT", "chroot"),
    with("SYS_MODULE", "delete_module finit_module init_module"),
    with("SYS_PACCT", "acct"),
    with("SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    with("SYS_RAWIO", "ioperm iopl"),
    with("SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    with("SYS_TTY_CONFIG", "vhangup"),
    with("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    with("SYSLOG", "syslog"),
    with("BPF", "bpf"),
    with("PERFMON", "perf_event_open"),
];

/// Families of sockets that may be made: those below 12 (`AF_UNSPEC` cannot be made), and these. Missing:
/// 38 ALG and 40 VSOCK for the reasons above; 12 DECnet, 19 Econet, 20 ATMSVC, 23 IrDA, 25 Wanpipe, 34 ISDN,
/// 37 CAIF, which the kernel has dropped and an old one should not be asked for; and what is newer than 45.
const FAMILIES_BELOW: u64 = 12;
const FAMILIES: [u64; 25] =
    [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];

/// Execution domains (`PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and asking without changing). Others
/// switch protections off, such as `ADDR_NO_RANDOMIZE` and `READ_IMPLIES_EXEC`.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Every `CLONE_NEW*` that `clone` takes: mount, cgroup, UTS, IPC, user, PID, network.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// Our default profile for a container with these capabilities (its bounding set).
pub fn default_profile(capabilities: Set) -> Seccomp {
    let mut allowed = Vec::with_capacity(400);
    for group in GROUPS {
        let applies = match group.who {
            Who::Everyone => true,
            Who::With(needed) => capabilities.contains(needed),
        };
        if applies {
            allowed.extend(group.calls.split_ascii_whitespace().map(str::to_owned));
        }
    }
    let mut syscalls = vec![SyscallRule { names: allowed, ..rule("SCMP_ACT_ALLOW") }];
    let mut when = |name: &str, op: &str, value: u64| {
        let arg = SyscallArg { index: 0, value, value_two: 0, op: op.to_owned() };
        let names = vec![name.to_owned()];
        syscalls.push(SyscallRule { names, args: vec![arg], ..rule("SCMP_ACT_ALLOW") });
    };
    when("socket", "SCMP_CMP_LT", FAMILIES_BELOW);
    for family in FAMILIES {
        when("socket", "SCMP_CMP_EQ", family);
    }
    for personality in PERSONALITIES {
        when("personality", "SCMP_CMP_EQ", personality);
    }
    if !capabilities.contains(SYS_ADMIN) {
        when("clone", "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES);
        let names = vec!["clone3".to_owned()];
        syscalls.push(SyscallRule { names, errno_ret: Some(ENOSYS), ..rule("SCMP_ACT_ERRNO") });
    }
    let native = Arch::native();
    let others = native.map(Arch::others).unwrap_or_default();
    let architectures = native.iter().chain(others).map(|arch| arch.oci_name().to_owned()).collect();
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(super::action::EPERM),
        architectures,
        // As runc's default: without it, kernels before 5.16 slow every filtered process down.
        flags: vec!["SECCOMP_FILTER_FLAG_SPEC_ALLOW".to_owned()],
        syscalls,
        ..Seccomp::default()
    }
}

fn rule(action: &str) -> SyscallRule {
    SyscallRule { action: action.to_owned(), ..SyscallRule::default() }
}

/// A fingerprint of the tables above, so that a cached program of other tables is never used.
pub(super) const FINGERPRINT: u64 = {
    let mut hash = FNV_START;
    let mut at = 0;
    while at < GROUPS.len() {
        let (mark, set) = match GROUPS[at].who {
            Who::Everyone => (0, 0),
            Who::With(set) => (1, set.bits()),
        };
        hash = hash_word(fnv(hash, mark), set);
        let calls = GROUPS[at].calls.as_bytes();
        let mut byte = 0;
        while byte < calls.len() {
            hash = fnv(hash, calls[byte]);
            byte += 1;
        }
        at += 1;
    }
    hash = hash_words(hash, &FAMILIES);
    hash = hash_words(hash, &PERSONALITIES);
    hash_words(hash, &[FAMILIES_BELOW, NEW_NAMESPACES])
};

const fn hash_words(mut hash: u64, words: &[u64]) -> u64 {
    let mut at = 0;
    while at < words.len() {
        hash = hash_word(hash, words[at]);
        at += 1;
    }
    hash
}

const fn hash_word(mut hash: u64, word: u64) -> u64 {
    let bytes = word.to_le_bytes();
    let mut at = 0;
    while at < bytes.len() {
        hash = fnv(hash, bytes[at]);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::super::arch::X32_BIT;
    use super::super::compile::compile_for;
    use super::super::program::Program;
    use super::super::program::interpret::{Call, run};
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const NO_CALL: u32 = 0x0005_0026;

    fn program(native: Arch, capabilities: Set) -> Program {
        let mut filter = default_profile(capabilities);
        filter.architectures =
            [native].iter().chain(native.others()).map(|a| a.oci_name().to_owned()).collect();
        compile_for(&filter, native).unwrap()
    }

    fn ask(program: &Program, arch: Arch, name: &str, args: &[u64]) -> u32 {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let number = arch.number(name).unwrap();
        run(program, &Call { number, arch: arch.audit(), args: all })
    }

    #[test]
    fn every_name_exists_somewhere() {
        let arches = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm, Arch::Riscv64];
        let missing: Vec<_> = GROUPS
            .iter()
            .flat_map(|g| g.calls.split_ascii_whitespace())
            .filter(|name| arches.iter().all(|a| a.number(name).is_none()))
            .collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn ordinary_calls_pass_and_dangerous_ones_do_not_on_every_convention() {
        for (native, arches) in [
            (Arch::X86_64, &[Arch::X86_64, Arch::X86, Arch::X32][..]),
            (Arch::Aarch64, &[Arch::Aarch64, Arch::Arm]),
            (Arch::Riscv64, &[Arch::Riscv64]),
        ] {
            let program = program(native, Set::DEFAULT);
            for &arch in arches {
                for name in ["read", "openat", "execve", "chroot", "ptrace", "statx", "mseal", "futex_waitv"]
                {
                    assert_eq!(ask(&program, arch, name, &[]), ALLOW, "{arch:?} {name}");
                }
                for name in [
                    "mount",
                    "umount2",
                    "unshare",
                    "setns",
                    "bpf",
                    "keyctl",
                    "add_key",
                    "io_uring_setup",
                    "userfaultfd",
                    "init_module",
                    "reboot",
                    "open_by_handle_at",
                    "pivot_root",
                    "swapon",
                    "kexec_load",
                    "perf_event_open",
                    "syslog",
                    "settimeofday",
                    "fsopen",
                    "move_mount",
                ] {
                    assert_eq!(ask(&program, arch, name, &[]), EPERM, "{arch:?} {name}");
                }
                assert_eq!(ask(&program, arch, "clone3", &[]), NO_CALL);
                assert_eq!(ask(&program, arch, "clone", &[0x0120_0011]), ALLOW);
                for flag in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000] {
                    assert_eq!(ask(&program, arch, "clone", &[flag | 0x11]), EPERM, "{flag:#x}");
                }
                for family in [1, 2, 10, 16, 17, 31, 44] {
                    assert_eq!(ask(&program, arch, "socket", &[family]), ALLOW, "{family}");
                }
                // The kernel looks at 32 bits of the family only: what hides above them must not help.
                for family in [12, 38, 40, 46, (1 << 32) + 38, (1 << 32) + 2] {
                    assert_eq!(ask(&program, arch, "socket", &[family]), EPERM, "{family}");
                }
                assert_eq!(ask(&program, arch, "personality", &[0x20008]), ALLOW);
                assert_eq!(ask(&program, arch, "personality", &[0x40000]), EPERM);
            }
        }
    }

    #[test]
    fn capabilities_open_their_calls() {
        for (capability, name) in [
            ("SYS_ADMIN", "mount"),
            ("SYS_ADMIN", "clone3"),
            ("SYS_ADMIN", "unshare"),
            ("SYS_MODULE", "init_module"),
            ("SYS_TIME", "settimeofday"),
            ("SYS_BOOT", "reboot"),
            ("SYS_PTRACE", "kcmp"),
            ("SYS_RAWIO", "iopl"),
            ("DAC_READ_SEARCH", "open_by_handle_at"),
            ("SYS_TTY_CONFIG", "vhangup"),
            ("SYS_NICE", "mbind"),
            ("SYSLOG", "syslog"),
            ("BPF", "bpf"),
            ("PERFMON", "perf_event_open"),
            ("SYS_PACCT", "acct"),
        ] {
            let without = program(Arch::X86_64, Set::DEFAULT);
            assert_ne!(ask(&without, Arch::X86_64, name, &[]), ALLOW, "{name}");
            let with = program(Arch::X86_64, Set::DEFAULT | Set::of(&[capability]));
            assert_eq!(ask(&with, Arch::X86_64, name, &[]), ALLOW, "{capability} {name}");
        }
        let none = program(Arch::X86_64, Set::EMPTY);
        assert_eq!(ask(&none, Arch::X86_64, "chroot", &[]), EPERM);
        let admin = program(Arch::X86_64, Set::of(&["SYS_ADMIN"]));
        assert_eq!(ask(&admin, Arch::X86_64, "clone", &[0x1000_0000]), ALLOW);
    }

    #[test]
    fn calls_newer_than_the_filter_look_absent() {
        let program = program(Arch::X86_64, Set::DEFAULT);
        let call = |number| run(&program, &Call { number, arch: Arch::X86_64.audit(), args: [0; 6] });
        for number in [467, 500, 1000, X32_BIT - 1, X32_BIT + 1000, u32::MAX] {
            assert_eq!(call(number), NO_CALL, "{number:#x}");
        }
        let foreign = Call { number: 0, arch: Arch::Aarch64.audit(), args: [0; 6] };
        assert_eq!(run(&program, &foreign), 0x8000_0000);
    }

    #[test]
    fn the_program_is_small() {
        assert!(program(Arch::X86_64, Set::DEFAULT).instructions().len() < 1500);
        assert!(program(Arch::X86_64, Set::KNOWN).instructions().len() < 1500);
    }
}
