//! The seccomp compiler beside a reference that reads the rules one by one: the same verdict for every call; and
//! every program is one that the kernel takes.
#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use fuzz::machine;
use libfuzzer_sys::fuzz_target;
use oci::runtime::{Seccomp, SyscallArg, SyscallRule};
use runtime::seccomp::Error;
use runtime::seccomp::reference::{Call, Machine, answer, compile_for};

/// What a filter may have, by the compiler's own tables.
static OPERATORS: LazyLock<Vec<&str>> = LazyLock::new(runtime::seccomp::operators);
static ACTIONS: LazyLock<Vec<&str>> = LazyLock::new(runtime::seccomp::actions);
const MACHINES: [Machine; 3] = [Machine::X86_64, Machine::Aarch64, Machine::Riscv64];
/// A convention that is none of a machine's own may be named, and changes nothing; so may one that we have no table of.
const ARCHITECTURES: [&str; 7] = [
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390X",
];
/// What the kernel reports of each; x32 hides behind the first.
const AUDIT: [u32; 5] = [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0xc000_00f3];
/// Set in the number of every x32 call.
const X32_BIT: u32 = 0x4000_0000;

/// Every name that 64-bit x86 knows, some that others know, and one that nobody does.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let most = (0..1024).filter_map(syscalls::x86_64::Sysno::new).map(|call| call.name().to_owned());
    let others =
        ["socketcall", "umount", "waitpid", "set_tls", "breakpoint", "riscv_flush_icache", "nosuchcall"];
    most.chain(others.map(str::to_owned)).collect()
});

/// A call's number somewhere.
fn number(u: &mut Unstructured<'_>, name: &str) -> Result<u32> {
    let id = match u.int_in_range(0..=5_u8)? {
        0 => return Ok(512 + X32_BIT + u.int_in_range(0..=40)?),
        1 => name.parse().ok().map(|call: syscalls::x86::Sysno| call.id()),
        2 => name.parse().ok().map(|call: syscalls::arm::Sysno| call.id()),
        3 => name.parse().ok().map(|call: syscalls::aarch64::Sysno| call.id()),
        4 => name.parse().ok().map(|call: syscalls::x86_64::Sysno| call.id() | X32_BIT as i32),
        _ => name.parse().ok().map(|call: syscalls::x86_64::Sysno| call.id()),
    };
    Ok(id.map_or(0x000f_0002, |id| id as u32))
}

/// Halves that collide often, and sometimes any.
fn value(u: &mut Unstructured<'_>) -> Result<u64> {
    let half = |u: &mut Unstructured<'_>| -> Result<u64> {
        Ok(match u.int_in_range(0..=9_u8)? {
            0..=5 => u64::from(u.int_in_range(0..=3_u8)?),
            6 | 7 => u64::from(u32::MAX) - u64::from(u.int_in_range(0..=3_u8)?),
            8 => u64::from(1_u32 << u.int_in_range(0..=31_u8)?),
            _ => u64::from(u32::arbitrary(u)?),
        })
    };
    let low = half(u)?;
    Ok(if u.ratio(1, 3)? { half(u)? << 32 | low } else { low })
}

/// An action and its number, which only two of them take.
fn action(u: &mut Unstructured<'_>) -> Result<(String, Option<u32>)> {
    let name = *u.choose(&ACTIONS)?;
    let errno = match u.int_in_range(0..=15_u8)? {
        0 => Some(u32::arbitrary(u)?),
        1..=7 if takes_errno(name) => Some(u.int_in_range(0..=40)?),
        _ => None,
    };
    Ok((name.to_owned(), errno))
}

fn takes_errno(action: &str) -> bool {
    matches!(action, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE")
}

fn rule(u: &mut Unstructured<'_>, pool: &[usize]) -> Result<SyscallRule> {
    let (action, errno_ret) = action(u)?;
    let mut rule = SyscallRule { action, errno_ret, ..SyscallRule::default() };
    for _ in 0..u.int_in_range(1..=6_u8)? {
        let index = if u.ratio(3, 4)? { *u.choose(pool)? } else { u.choose_index(NAMES.len())? };
        rule.names.push(NAMES[index].clone());
    }
    if u.ratio(2, 3)? {
        for _ in 0..u.int_in_range(0..=4_u8)? {
            let index = if u.ratio(1, 200)? { u32::arbitrary(u)? } else { u.int_in_range(0..=5)? };
            let op = (*u.choose(&OPERATORS)?).to_owned();
            rule.args.push(SyscallArg { index, value: value(u)?, value_two: value(u)?, op });
        }
    }
    Ok(rule)
}

fn filter(u: &mut Unstructured<'_>) -> Result<Seccomp> {
    let (default_action, default_errno_ret) = action(u)?;
    let mut filter = Seccomp { default_action, default_errno_ret, ..Seccomp::default() };
    let mask = u8::arbitrary(u)?;
    let listed = ARCHITECTURES.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0);
    filter.architectures = listed.map(|(_, name)| (*name).to_owned()).collect();
    // rules meet only where they name the same calls
    let pool = [(); 4].map(|()| u.choose_index(NAMES.len()).unwrap_or(0));
    for _ in 0..u.int_in_range(0..=if mask & 0x80 != 0 { 100 } else { 8_u8 })? {
        filter.syscalls.push(rule(u, &pool)?);
    }
    Ok(filter)
}

/// A call that has something to do with the filter, mostly.
fn call(u: &mut Unstructured<'_>, filter: &Seccomp, machine: Machine) -> Result<Call> {
    let arch = match u.int_in_range(0..=15_u8)? {
        0 => u32::arbitrary(u)?,
        1..=5 => *u.choose(&AUDIT)?,
        _ => machine.audit(),
    };
    let mut call = Call { number: 0, arch, args: [0; 6] };
    for arg in &mut call.args {
        *arg = value(u)?;
    }
    if filter.syscalls.is_empty() || u.ratio(1, 8)? {
        call.number = if u.ratio(1, 4)? { u32::MAX } else { u32::arbitrary(u)? };
        return Ok(call);
    }
    let rule = u.choose(&filter.syscalls)?;
    let name = u.choose(&rule.names)?;
    let own = machine.number(name).filter(|_| arch == machine.audit());
    call.number = own.map_or_else(|| number(u, name), Ok)?.wrapping_add_signed(u.int_in_range(-1..=1)?);
    for arg in rule.args.iter().filter(|arg| arg.index < 6) {
        if u.ratio(3, 4)? {
            let near = if arg.op == "SCMP_CMP_MASKED_EQ" { arg.value_two } else { arg.value };
            call.args[arg.index as usize] = near.wrapping_add_signed(u.int_in_range(-1..=1)?);
        }
    }
    Ok(call)
}

/// Whether an error that the compiler gives is about something that is in the filter.
fn is_deserved(error: &Error, filter: &Seccomp) -> bool {
    let pairs = || {
        let rules = filter.syscalls.iter().map(|rule| (rule.action.as_str(), rule.errno_ret));
        rules.chain([(filter.default_action.as_str(), filter.default_errno_ret)])
    };
    match error {
        Error::TooLong => filter.syscalls.len() > 8,
        Error::Errno { value } => *value > 4095 && pairs().any(|(_, errno)| errno == Some(*value)),
        Error::NoErrno { action } => pairs().any(|(name, errno)| name == action && errno.is_some()),
        Error::Argument { index } => {
            *index > 5 && filter.syscalls.iter().flat_map(|rule| &rule.args).any(|arg| arg.index == *index)
        }
        Error::NotifyDefault => filter.default_action == "SCMP_ACT_NOTIFY",
        Error::NotifyCall { call } => filter
            .syscalls
            .iter()
            .any(|rule| rule.action == "SCMP_ACT_NOTIFY" && rule.names.iter().any(|name| name == call)),
        _ => false,
    }
}

/// Whether the filter has what the compiler has to refuse.
fn is_wrong(filter: &Seccomp) -> bool {
    let wrong = |action: &str, errno: Option<u32>| match action {
        "SCMP_ACT_ERRNO" => errno > Some(4095),
        "SCMP_ACT_TRACE" => errno > Some(0xffff),
        _ => errno.is_some(),
    };
    filter.default_action == "SCMP_ACT_NOTIFY"
        || wrong(&filter.default_action, filter.default_errno_ret)
        || filter
            .syscalls
            .iter()
            .any(|rule| wrong(&rule.action, rule.errno_ret) || rule.args.iter().any(|arg| arg.index > 5))
}

fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let Ok(machine) = u.choose(&MACHINES).copied() else { return };
    let Ok(filter) = filter(&mut u) else { return };
    let program = match compile_for(&filter, machine) {
        Ok(program) => program,
        Err(error) => {
            assert!(is_deserved(&error, &filter), "{error}: {filter:?}");
            return;
        }
    };
    assert!(!is_wrong(&filter), "it was compiled: {filter:?}");
    machine::check(program.instructions());
    for _ in 0..24 {
        let Ok(call) = call(&mut u, &filter, machine) else { break };
        let (ours, meant) = (machine::run(program.instructions(), &call), answer(&filter, machine, &call));
        assert_eq!(ours, meant, "{call:x?} on {machine:?} under {filter:?}");
    }
});
