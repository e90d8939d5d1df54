//! The file systems in which the kernel shows itself: what looks like files there is none, and a copy of it means nothing.

use std::os::fd::BorrowedFd;

/// Their magic numbers (`linux/magic.h`).
const MAGIC: [u64; 18] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0x6265_6570, // configfs
    0x6573_5543, // fusectl
    0x4249_4e4d, // binfmt_misc
    0xf97c_ff8c, // selinuxfs
    0xde5e_81e4, // efivarfs
    0x6e73_6673, // nsfs
    0x5346_4846, // smackfs
];

/// Whether this file is one of theirs. `O_PATH` will do.
pub(crate) fn is_of(file: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(MAGIC.contains(&u64::from(rustix::fs::fstatfs(file)?.f_type.cast_unsigned() as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn proc_is_the_kernels_and_a_temporary_directory_is_not() {
        let is = |path: &std::path::Path| is_of(std::fs::File::open(path).unwrap().as_fd()).unwrap();
        assert!(is("/proc/self".as_ref()) && is("/sys".as_ref()));
        assert!(!is(&std::env::temp_dir()));
    }
}
