//! The compiled tree against a naive reading of the rules.

use oci::runtime::{SyscallArg, SyscallRule};
use proptest::prelude::*;

use super::super::program::interpret::{Call, run};
use super::*;

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
const ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
];
const NAMES: [&str; 16] = [
    "read",
    "write",
    "open",
    "openat",
    "socket",
    "socketcall",
    "clone",
    "clone3",
    "execve",
    "ioctl",
    "mseal",
    "personality",
    "nosuchcall",
    "pwritev2",
    "umount",
    "umount2",
];

fn holds(arg: &SyscallArg, args: &[u64; 6]) -> bool {
    let actual = args[arg.index as usize];
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

/// The rules, read without any cleverness.
fn naive(filter: &Seccomp, native: Arch, call: &Call) -> u32 {
    let listed = |arch: Arch| filter.architectures.iter().any(|n| n == arch.oci_name());
    let value = |action: &str, errno| action::value(action, errno).unwrap();
    let default = value(&filter.default_action, filter.default_errno_ret);
    let is_x32 = native == Arch::X86_64 && call.arch == native.audit() && call.number >= X32_BIT;
    let arch = if is_x32 && !listed(Arch::X32) {
        return if call.number == u32::MAX { action::ERRNO | action::ENOSYS } else { action::KILL_PROCESS };
    } else if is_x32 {
        Arch::X32
    } else if call.arch == native.audit() {
        native
    } else {
        let other =
            native.others().iter().find(|a| **a != Arch::X32 && a.audit() == call.arch && listed(**a));
        match other {
            Some(arch) => *arch,
            None => return action::KILL_PROCESS,
        }
    };
    let named = |rule: &&SyscallRule| rule.names.iter().any(|n| arch.number(n) == Some(call.number));
    let rules: Vec<_> =
        filter.syscalls.iter().filter(named).filter(|r| value(&r.action, r.errno_ret) != default).collect();
    if let Some(rule) = rules.iter().find(|r| r.args.is_empty()) {
        return value(&rule.action, rule.errno_ret);
    }
    for rule in rules {
        let mut indices: Vec<_> = rule.args.iter().map(|a| a.index).collect();
        indices.sort_unstable();
        let repeated = indices.windows(2).any(|w| w[0] == w[1]);
        let applies = if repeated {
            rule.args.iter().any(|a| holds(a, &call.args))
        } else {
            rule.args.iter().all(|a| holds(a, &call.args))
        };
        if applies {
            return value(&rule.action, rule.errno_ret);
        }
    }
    let highest = filter
        .syscalls
        .iter()
        .flat_map(|r| &r.names)
        .filter_map(|n| arch.number(n))
        .filter(|n| !(arch == Arch::Arm && *n >= 0xf_0000))
        .max();
    let newer = highest.is_some_and(|h| call.number > h);
    if newer && action::hides_new_calls(default) { action::ERRNO | action::ENOSYS } else { default }
}

/// Values whose halves collide often.
fn value() -> impl Strategy<Value = u64> {
    let half = prop_oneof![Just(0_u64), Just(1), Just(2), Just(38), Just(0xffff_ffff), 0..40_u64];
    (half.clone(), prop_oneof![3 => Just(0_u64), 1 => half]).prop_map(|(low, high)| high << 32 | low)
}

prop_compose! {
    fn arg()(index in 0..3_u32, value in value(), value_two in value(), op in 0..7_usize) -> SyscallArg {
        SyscallArg { index, value, value_two, op: OPERATORS[op].to_owned() }
    }
}

prop_compose! {
    fn rule()(
        names in proptest::collection::vec(0..NAMES.len(), 1..5),
        action in 0..ACTIONS.len(),
        errno_ret in proptest::option::of(0..50_u32),
        args in proptest::collection::vec(arg(), 0..4),
    ) -> SyscallRule {
        let names = names.into_iter().map(|n| NAMES[n].to_owned()).collect();
        SyscallRule { names, action: ACTIONS[action].to_owned(), errno_ret, args }
    }
}

prop_compose! {
    fn filter()(
        default in 0..ACTIONS.len(),
        syscalls in proptest::collection::vec(rule(), 0..40),
        x86 in any::<bool>(), x32 in any::<bool>(), arm in any::<bool>(),
    ) -> Seccomp {
        let architectures = [(x86, "SCMP_ARCH_X86"), (x32, "SCMP_ARCH_X32"), (arm, "SCMP_ARCH_ARM")]
            .into_iter()
            .filter(|(listed, _)| *listed)
            .map(|(_, name)| name.to_owned())
            .collect();
        Seccomp { default_action: ACTIONS[default].to_owned(), architectures, syscalls, ..Seccomp::default() }
    }
}

fn number() -> impl Strategy<Value = u32> {
    let known = (0..NAMES.len(), 0..4_usize, 0..3_u32).prop_map(|(name, arch, offset)| {
        let arch = [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64][arch];
        arch.number(NAMES[name]).unwrap_or(0).saturating_add(offset).saturating_sub(1)
    });
    prop_oneof![8 => known, 1 => any::<u32>(), 1 => Just(u32::MAX), 1 => Just(X32_BIT)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_tree_says_what_the_rules_say(
        filter in filter(),
        calls in proptest::collection::vec(
            (number(), 0..6_usize, proptest::array::uniform6(value())), 40),
        arm in any::<bool>(),
    ) {
        let native = if arm { Arch::Aarch64 } else { Arch::X86_64 };
        let program = compile_for(&filter, native).unwrap();
        for (number, arch, args) in calls {
            let arch = [native, native, Arch::X86, Arch::Arm, Arch::Aarch64, Arch::Riscv64][arch].audit();
            let call = Call { number, arch, args };
            prop_assert_eq!(run(&program, &call), naive(&filter, native, &call), "{:?}", call);
        }
    }
}

fn allow_all_but(name: &str, args: Vec<SyscallArg>) -> Seccomp {
    Seccomp {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        syscalls: vec![SyscallRule {
            names: vec![name.to_owned()],
            action: "SCMP_ACT_ERRNO".to_owned(),
            errno_ret: Some(99),
            args,
        }],
        ..Seccomp::default()
    }
}

#[test]
fn jumps_reach_across_long_programs() {
    // Hundreds of conditions push the targets of the tree out of a conditional jump's reach.
    let args = (0..700)
        .map(|v| SyscallArg { index: 0, value: v * 2, value_two: 0, op: "SCMP_CMP_EQ".to_owned() })
        .collect();
    let filter = allow_all_but("socket", args);
    let program = compile_for(&filter, Arch::X86_64).unwrap();
    assert!(program.instructions().len() > 2000);
    for value in 0..1402 {
        for number in [40, 41, 42] {
            let call = Call { number, arch: Arch::X86_64.audit(), args: [value, 0, 0, 0, 0, 0] };
            assert_eq!(run(&program, &call), naive(&filter, Arch::X86_64, &call), "{call:?}");
        }
    }
}

#[test]
fn what_the_kernel_would_refuse_is_an_error() {
    let arg = |v| SyscallArg { index: 0, value: v, value_two: 0, op: "SCMP_CMP_EQ".to_owned() };
    let long = allow_all_but("socket", (0..3000).map(arg).collect());
    assert!(matches!(compile_for(&long, Arch::X86_64), Err(Error::TooLong)));
    let mut unknown = allow_all_but("read", vec![]);
    unknown.architectures = vec!["SCMP_ARCH_Z80".to_owned()];
    assert!(matches!(compile_for(&unknown, Arch::X86_64), Err(Error::Architecture { .. })));
    unknown.architectures.clear();
    unknown.flags = vec!["SECCOMP_FILTER_FLAG_NONE".to_owned()];
    assert!(matches!(compile_for(&unknown, Arch::X86_64), Err(Error::Flag { .. })));
    let seventh = SyscallArg { index: 6, ..arg(0) };
    assert!(matches!(
        compile_for(&allow_all_but("read", vec![seventh]), Arch::X86_64),
        Err(Error::Argument { index: 6 })
    ));
}
