//! (being written)

pub mod apparmor;
pub mod capability;
pub mod cgroup;
pub mod seccomp;
