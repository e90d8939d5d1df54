//! What a filter means: the specification's rules read one by one, with no cleverness, to judge the compiler by.
//!
//! For tests and fuzzing alone. It shares the tables of call numbers with the compiler, and nothing else: it has the
//! kernel's values of its own, decides nothing in advance, and asks every rule about every call.

use oci::runtime::{Seccomp, SyscallArg, SyscallRule};

use super::arch::{Arch, X32_BIT};
pub use super::program::interpret::Call;

const KILL_PROCESS: u32 = 0x8000_0000;
const ENOSYS: u32 = 0x0005_0026;

/// The machines whose filters can be judged anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit x86, which runs x32 and 32-bit x86 as well.
    X86_64,
    /// 64-bit ARM, which runs 32-bit ARM as well.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Machine {
    pub(super) fn arch(self) -> Arch {
        match self {
            Self::X86_64 => Arch::X86_64,
            Self::Aarch64 => Arch::Aarch64,
            Self::Riscv64 => Arch::Riscv64,
        }
    }

    /// What `seccomp_data.arch` is for a call of this machine's own convention.
    pub fn audit(self) -> u32 {
        self.arch().audit()
    }

    /// The number of a call there.
    pub fn number(self, name: &str) -> Option<u32> {
        self.arch().number(name)
    }
}

/// Compiles for a machine that need not be this one.
pub fn compile_for(filter: &Seccomp, machine: Machine) -> Result<super::Program, super::Error> {
    super::compile::compile_for(filter, machine.arch())
}

/// What the kernel is to answer to a call, for a filter that the compiler takes.
pub fn answer(filter: &Seccomp, machine: Machine, call: &Call) -> u32 {
    let native = machine.arch();
    let default = value(&filter.default_action, filter.default_errno_ret);
    let arch = match convention(filter, native, call) {
        Ok(arch) => arch,
        Err(answer) => return answer,
    };
    let is_named = |rule: &&SyscallRule| rule.names.iter().any(|n| arch.number(n) == Some(call.number));
    // A rule that answers what the default does says nothing.
    let says = |rule: &&SyscallRule| value(&rule.action, rule.errno_ret) != default;
    let rules: Vec<_> = filter.syscalls.iter().filter(is_named).filter(says).collect();
    // Without conditions a rule beats those with conditions, wherever it stands; else the first one that holds decides.
    let decisive = rules.iter().find(|r| r.args.is_empty()).or_else(|| rules.iter().find(|r| holds(r, call)));
    if let Some(rule) = decisive {
        return value(&rule.action, rule.errno_ret);
    }
    // A call that is newer than the filter does not exist, unless the default lets it through.
    let hides = !matches!(&*filter.default_action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE");
    if hides && is_newer(filter, arch, call.number) { ENOSYS } else { default }
}

/// By which convention's numbers a call is meant, or the answer to one that is of none that the filter has.
fn convention(filter: &Seccomp, native: Arch, call: &Call) -> Result<Arch, u32> {
    let listed = |arch: Arch| filter.architectures.iter().any(|n| n == arch.oci_name());
    if call.arch == native.audit() {
        // x32 hides behind the same value; the number tells.
        if native != Arch::X86_64 || call.number < X32_BIT {
            return Ok(native);
        }
        return match call.number {
            _ if listed(Arch::X32) => Ok(Arch::X32),
            // What a tracer writes to skip a call.
            u32::MAX => Err(ENOSYS),
            _ => Err(KILL_PROCESS),
        };
    }
    let second = match native {
        Arch::X86_64 => Arch::X86,
        Arch::Aarch64 => Arch::Arm,
        _ => return Err(KILL_PROCESS),
    };
    if call.arch == second.audit() && listed(second) { Ok(second) } else { Err(KILL_PROCESS) }
}

fn is_newer(filter: &Seccomp, arch: Arch, number: u32) -> bool {
    let numbers = filter.syscalls.iter().flat_map(|rule| &rule.names).filter_map(|name| arch.number(name));
    // ARM's private calls lie above all others, and say nothing about those.
    let highest = numbers.clone().filter(|n| arch != Arch::Arm || *n < 0x000f_0000).max();
    highest.is_some_and(|highest| number > highest) && !numbers.clone().any(|named| named == number)
}

/// Whether all conditions of a rule hold; or any of them, where two are about the same argument.
fn holds(rule: &SyscallRule, call: &Call) -> bool {
    let twice = (0..6).any(|n| rule.args.iter().filter(|arg| arg.index == n).count() > 1);
    let mut conditions = rule.args.iter().map(|arg| is_met(arg, call.args[arg.index as usize]));
    if twice { conditions.any(|met| met) } else { conditions.all(|met| met) }
}

fn is_met(arg: &SyscallArg, actual: u64) -> bool {
    match &*arg.op {
        "SCMP_CMP_NE" => actual != arg.value,
        "SCMP_CMP_LT" => actual < arg.value,
        "SCMP_CMP_LE" => actual <= arg.value,
        "SCMP_CMP_EQ" => actual == arg.value,
        "SCMP_CMP_GE" => actual >= arg.value,
        "SCMP_CMP_GT" => actual > arg.value,
        _ => actual & arg.value == arg.value_two,
    }
}

/// The kernel's value of an action (include/uapi/linux/seccomp.h).
fn value(action: &str, errno: Option<u32>) -> u32 {
    match action {
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno.unwrap_or(1),
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno.unwrap_or(1),
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        _ => 0,
    }
}
