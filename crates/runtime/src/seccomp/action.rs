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

/// The value of an action's name. Without a number, ERRNO and TRACE carry `EPERM`, as runc has it.
pub(super) fn value(name: &str, errno: Option<u32>) -> Result<u32, Error> {
    let data = errno.unwrap_or(EPERM);
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_ERRNO" if data <= MAX_ERRNO => ERRNO | data,
        "SCMP_ACT_TRACE" if data <= 0xffff => TRACE | data,
        "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE" => return Err(Error::Errno { value: data }),
        "SCMP_ACT_NOTIFY" => NOTIFY,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_ALLOW" => ALLOW,
        _ => return Err(Error::Action { name: name.to_owned() }),
    })
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
            ("SCMP_ACT_KILL_PROCESS", Some(7), 0x8000_0000),
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
    }
}
