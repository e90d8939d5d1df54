//! Containers: the verbs that make, run, watch and end them.
//!
//! What the verbs share: `records` finds containers, `ownership` and `reconcile` say whose they are and put right what the
//! dead have left, `spec` makes the OCI specification, `control` and `session` talk to the monitor, `undo` takes back, `storage` is
//! what a container mounts.

pub(crate) mod attach;
pub(crate) mod control;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod health;
pub(crate) mod inspect;
pub(crate) mod joins;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod names;
pub(crate) mod notes;
pub(crate) mod ownership;
pub(crate) mod pause;
pub(crate) mod ports;
pub(crate) mod prune;
pub(crate) mod reconcile;
pub(crate) mod records;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod session;
pub(crate) mod set;
pub(crate) mod shipping;
pub(crate) mod signal;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod still;
pub(crate) mod stop;
pub(crate) mod storage;
pub(crate) mod top;
pub(crate) mod undo;
pub(crate) mod update;
pub(crate) mod wait;
