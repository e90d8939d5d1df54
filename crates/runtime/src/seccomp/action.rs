//! What a filter answers, as the kernel encodes it (include/uapi/linux/seccomp.h).

use super::Error;

pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const KILL_THREAD: u32 = 0;
pub(super) const TRAP: u32 = 0x0003_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const NOTIFY: u32 = 0x7fc0_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;

pub(super) const EPERM: u32 = 1;
pub(super) const ENOSYS: u32 = 38;
/// The kernel caps what a filter may return as errno (`MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;

/// The actions of the specification, and the kernel's values, without a number.
pub(super) const ACTIONS: [(&str, u32); 9] = [
    ("SCMP_ACT_ALLOW", ALLOW),
    ("SCMP_ACT_ERRNO", ERRNO),
    ("SCMP_ACT_KILL", KILL_THREAD),
    ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
    ("SCMP_ACT_KILL_THREAD", KILL_THREAD),
    ("SCMP_ACT_LOG", LOG),
    ("SCMP_ACT_NOTIFY", NOTIFY),
    ("SCMP_ACT_TRACE", TRACE),
    ("SCMP_ACT_TRAP", TRAP),
];

/// The value of an action's name. Without a number, ERRNO and TRACE carry `EPERM`; a number for any other is an error,
/// as the specification has it.
pub(super) fn value(name: &str, errno: Option<u32>) -> Result<u32, Error> {
    let known = ACTIONS.iter().find(|(known, _)| *known == name);
    let (_, value) = known.ok_or_else(|| Error::Action { name: name.to_owned() })?;
    match (most(*value), errno) {
        (None, None) => Ok(*value),
        (None, Some(_)) => Err(Error::NoErrno { action: name.to_owned() }),
        (Some(most), errno) => match errno.unwrap_or(EPERM) {
            data if data <= most => Ok(value | data),
            data => Err(Error::Errno { value: data }),
        },
    }
}

/// Whether the action carries an error number.
pub(super) fn carries_errno(name: &str) -> bool {
    ACTIONS.iter().any(|(known, value)| *known == name && most(*value).is_some())
}

/// The highest number that goes with an action that carries one.
fn most(value: u32) -> Option<u32> {
    match value {
        ERRNO => Some(MAX_ERRNO),
        TRACE => Some(0xffff),
        _ => None,
    }
}

/// Calls newer than the filter get `ENOSYS` rather than its default, so that programs fall back to older
/// calls; but not where the default lets calls through, or a tracer emulates them (runc has the same rule).
pub(super) fn hides_new_calls(default: u32) -> bool {
    !matches!(default & 0xffff_0000, ALLOW | LOG | TRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_kernels() {
        for (name, errno, expected) in [
            ("SCMP_ACT_KILL", None, 0),
            ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
            ("SCMP_ACT_TRAP", None, 0x0003_0000),
            ("SCMP_ACT_ERRNO", None, 0x0005_0001),
            ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
            ("SCMP_ACT_ERRNO", Some(38), 0x0005_0026),
            ("SCMP_ACT_TRACE", Some(9), 0x7ff0_0009),
            ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
            ("SCMP_ACT_LOG", None, 0x7ffc_0000),
            ("SCMP_ACT_ALLOW", None, 0x7fff_0000),
        ] {
            assert_eq!(value(name, errno).unwrap(), expected, "{name}");
        }
        assert!(value("SCMP_ACT_ERRNO", Some(4096)).is_err());
        assert!(value("ALLOW", None).is_err());
        for (name, _) in ACTIONS {
            assert!(value(name, None).is_ok(), "{name}");
            assert_eq!(value(name, Some(7)).is_ok(), carries_errno(name), "{name}");
        }
    }
}
