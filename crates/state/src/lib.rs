//! What is written where: the directories of an instance, the records of containers, claims of names and
//! addresses, locks, and the protocol between front doors and monitors.
//!
//! **The file system is the database.** One directory per object, its record one small file replaced by
//! write and rename. Names are claimed by making a file that must not exist; locks are `flock(2)`s on
//! directories, which the kernel drops with their holder, however that ends.

pub mod claim;
pub mod container;
pub mod egress;
pub mod events;
pub mod exit;
pub mod instance;
pub mod lock;
pub mod mounts;
pub mod netd;
pub mod options;
pub mod protocol;
pub mod shipping;

pub use instance::Instance;
