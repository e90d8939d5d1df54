//! The flags that a filter is installed with (seccomp(2), `SECCOMP_SET_MODE_FILTER`).

use oci::runtime::Seccomp;

use super::Error;

/// Only with a listener, so it is left out of a filter that has none: the kernel would refuse it.
const WAIT_KILLABLE_RECV: u32 = 1 << 5;
/// Goes with the one before.
const NEW_LISTENER: u32 = 1 << 3;

/// The specification's flags, and the kernel's bits.
const FLAGS: [(&str, u32); 4] = [
    // One thread exists when a filter is installed: there is nobody to synchronise with.
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_LOG", 1 << 1),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 1 << 2),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE_RECV),
];

/// The bits of a filter's flags.
pub(super) fn of(filter: &Seccomp, notifies: bool) -> Result<u32, Error> {
    let mut flags = 0;
    for name in &filter.flags {
        let known = FLAGS.iter().find(|(known, _)| known == name);
        flags |= known.ok_or_else(|| Error::Flag { name: name.clone() })?.1;
    }
    Ok(if notifies { flags } else { flags & !WAIT_KILLABLE_RECV })
}

/// Whether the kernel takes these bits.
fn is_supported(bits: u32) -> bool {
    let with = if bits & WAIT_KILLABLE_RECV == 0 { 0 } else { NEW_LISTENER };
    sys::confine::knows_seccomp_flags(bits | with)
}

/// That the running kernel takes the flags of a program. Those that every kernel has which we run on (5.15) cost no
/// question.
pub(crate) fn check(bits: u32) -> Result<(), Error> {
    const SINCE_4_17: u32 = 1 << 1 | 1 << 2;
    if bits & !SINCE_4_17 == 0 {
        return Ok(());
    }
    match FLAGS.iter().find(|(_, bit)| bits & bit != 0 && !is_supported(*bit)) {
        None => Ok(()),
        Some((name, _)) => Err(Error::UnsupportedFlag { name }),
    }
}

/// All that the specification has.
pub fn known() -> Vec<&'static str> {
    FLAGS.iter().map(|(name, _)| *name).collect()
}

/// Those that the running kernel takes.
pub fn supported() -> Vec<&'static str> {
    FLAGS.iter().filter(|(_, bits)| is_supported(*bits)).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_the_kernels_bits() {
        let filter =
            Seccomp { flags: known().iter().map(|f| (*f).to_owned()).collect(), ..Seccomp::default() };
        assert_eq!(of(&filter, true).unwrap(), 0x26);
        assert_eq!(of(&filter, false).unwrap(), 0x06, "waiting belongs to a listener");
        let wrong = Seccomp { flags: vec!["SECCOMP_FILTER_FLAG_NONE".to_owned()], ..Seccomp::default() };
        assert!(of(&wrong, true).is_err());
    }

    #[test]
    fn a_flag_that_no_kernel_has_is_not_supported() {
        assert!(!is_supported(1 << 30));
        assert!(supported().contains(&"SECCOMP_FILTER_FLAG_LOG"));
        assert!(check(0x06).is_ok());
    }
}
