//! The whole of an instance: what it is, what it takes of the disk, and whether it is sound.

pub(crate) mod check;
pub(crate) mod info;
pub(crate) mod usage;
pub(crate) mod version;
