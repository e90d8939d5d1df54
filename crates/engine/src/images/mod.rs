//! Images: the verbs that bring, give, make, show and remove them.
//!
//! What the verbs share: `fetch` brings layers from a registry and unpacks them as they come, `unpack` does that from the
//! store; `change` applies a Dockerfile's instructions; `holdings` and `sizes` know what each image takes of the disk, and
//! `garbage` removes what nothing needs.

pub(crate) mod budget;
pub(crate) mod builtin;
pub(crate) mod change;
pub(crate) mod commit;
pub(crate) mod fetch;
pub(crate) mod garbage;
pub(crate) mod history;
pub(crate) mod holdings;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod load;
mod notes;
pub(crate) mod pattern;
pub(crate) mod platforms;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod remove;
pub(crate) mod remove_platform;
pub(crate) mod save;
pub(crate) mod sizes;
pub(crate) mod tag;
pub(crate) mod tree;
pub(crate) mod unpack;
