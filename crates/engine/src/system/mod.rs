//! The whole of an instance: what it is, what it takes of the disk, and whether it is sound.

pub(crate) mod boot;
pub(crate) mod check;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod prune;
pub(crate) mod unit;
pub(crate) mod usage;
pub(crate) mod version;
