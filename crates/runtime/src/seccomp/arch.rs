//! Architectures as the filter sees them: the kernel reports one `AUDIT_ARCH` value per call convention,
//! and each has numbers of its own.

/// A call convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Arch {
    /// 64-bit x86.
    X86_64,
    /// The same processor with 32-bit pointers: bit 30 of the number is set.
    X32,
    /// 32-bit x86.
    X86,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM (EABI).
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
}

/// Set in the number of every x32 call (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Calls whose arguments contain pointers inside structures have a second, x32 entry from 512 on
/// (arch/x86/entry/syscalls/syscall_64.tbl); all others share the 64-bit number.
const X32_FIRST: u32 = 512;
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// 32-bit ARM's private calls lie far above all others (arch/arm/include/uapi/asm/unistd.h).
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

impl Arch {
    /// What this program was built for; `None` where we have no table.
    pub(super) const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else if cfg!(target_arch = "riscv64") {
            Some(Self::Riscv64)
        } else {
            None
        }
    }

    /// The specification's name.
    pub(super) const fn oci_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X32 => "SCMP_ARCH_X32",
            Self::X86 => "SCMP_ARCH_X86",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
            Self::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    /// What Docker's profiles call it in `includes` and `excludes`.
    pub(super) const fn docker_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X32 => "x32",
            Self::X86 => "x86",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
            Self::Riscv64 => "riscv64",
        }
    }

    /// The conventions that the same processor runs besides its own, which Docker's default covers too.
    pub(super) const fn others(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86, Self::X32],
            Self::Aarch64 => &[Self::Arm],
            _ => &[],
        }
    }

    /// What the kernel reports in `seccomp_data.arch`. x32 hides behind x86-64's value.
    pub(super) const fn audit(self) -> u32 {
        const SIXTY_FOUR: u32 = 0x8000_0000;
        const LITTLE: u32 = 0x4000_0000;
        match self {
            Self::X86_64 | Self::X32 => SIXTY_FOUR | LITTLE | 0x3e,
            Self::X86 => LITTLE | 0x03,
            Self::Aarch64 => SIXTY_FOUR | LITTLE | 0xb7,
            Self::Arm => LITTLE | 0x28,
            Self::Riscv64 => SIXTY_FOUR | LITTLE | 0xf3,
        }
    }

    /// A call's number; `None` where this convention has no such call (or we do not know it yet).
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let id = match self {
            Self::X86_64 => name.parse::<syscalls::x86_64::Sysno>().ok()?.id(),
            Self::X32 => {
                let own = X32_OWN.iter().position(|&own| own == name);
                let number = match own {
                    Some(index) => X32_FIRST + index as u32,
                    None => Self::X86_64.number(name)?,
                };
                return Some(number | X32_BIT);
            }
            Self::X86 => name.parse::<syscalls::x86::Sysno>().ok()?.id(),
            Self::Aarch64 => name.parse::<syscalls::aarch64::Sysno>().ok()?.id(),
            Self::Arm => {
                let private = match name {
                    "breakpoint" => Some(1),
                    "cacheflush" => Some(2),
                    "set_tls" => Some(5),
                    _ => None,
                };
                if let Some(offset) = private {
                    return Some(ARM_PRIVATE + offset);
                }
                name.parse::<syscalls::arm::Sysno>().ok()?.id()
            }
            Self::Riscv64 => name.parse::<syscalls::riscv64::Sysno>().ok()?.id(),
        };
        u32::try_from(id).ok()
    }
}

const KNOWN: [Arch; 6] = [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm, Arch::Riscv64];

/// Names of architectures that we have no tables for.
const OTHERS: [&str; 16] = [
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
];

/// Every architecture name of the specification.
pub(super) fn names() -> Vec<&'static str> {
    KNOWN.iter().map(|arch| arch.oci_name()).chain(OTHERS).collect()
}

/// Whether the specification has this name; one that is not in [`Arch`] can only belong to another machine, so a
/// profile may list it and nothing follows.
pub(super) fn is_known_name(name: &str) -> bool {
    from_name(name).is_some() || OTHERS.contains(&name)
}

/// The architecture with this name, if we have tables for it.
pub(super) fn from_name(name: &str) -> Option<Arch> {
    KNOWN.into_iter().find(|arch| arch.oci_name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_convention_has_its_own_numbers() {
        assert_eq!(Arch::X86_64.number("execve"), Some(59));
        assert_eq!(Arch::X86.number("execve"), Some(11));
        assert_eq!(Arch::X32.number("execve"), Some(520 + X32_BIT));
        assert_eq!(Arch::X32.number("pwritev2"), Some(547 + X32_BIT));
        assert_eq!(Arch::X32.number("openat"), Some(257 + X32_BIT));
        assert_eq!(Arch::Aarch64.number("execve"), Some(221));
        assert_eq!(Arch::Aarch64.number("open"), None);
        assert_eq!(Arch::Arm.number("set_tls"), Some(0x000f_0005));
        assert_eq!(Arch::X86_64.number("socketcall"), None);
        assert_eq!(Arch::X86.number("socketcall"), Some(102));
    }

    #[test]
    fn names_are_the_specifications() {
        assert_eq!(from_name("SCMP_ARCH_X32"), Some(Arch::X32));
        assert!(is_known_name("SCMP_ARCH_S390X") && from_name("SCMP_ARCH_S390X").is_none());
        assert!(!is_known_name("SCMP_ARCH_Z80"));
    }
}
