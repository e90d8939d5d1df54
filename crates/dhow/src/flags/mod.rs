//! Docker's notations for the values of flags, each parsed where it stands: the errors say what is expected,
//! clap adds which flag and which value.

pub(crate) mod allow;
pub(crate) mod build;
pub(crate) mod container;
pub(crate) mod copy_end;
pub(crate) mod cpus;
pub(crate) mod device;
pub(crate) mod duration;
pub(crate) mod environment;
pub(crate) mod expose;
pub(crate) mod file;
pub(crate) mod filter;
pub(crate) mod host_entry;
pub(crate) mod id_map;
pub(crate) mod label;
pub(crate) mod limits;
pub(crate) mod mount;
pub(crate) mod namespaces;
pub(crate) mod network;
pub(crate) mod number;
pub(crate) mod port;
pub(crate) mod rate;
pub(crate) mod restart;
pub(crate) mod security;
pub(crate) mod selection;
pub(crate) mod size;
pub(crate) mod time;
pub(crate) mod tmpfs;
pub(crate) mod ulimit;
pub(crate) mod volume;
pub(crate) mod volumes_from;
