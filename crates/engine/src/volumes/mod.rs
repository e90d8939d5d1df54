//! Volumes: the verbs that make, show and remove them. What a container does with them is `containers::storage`.

pub(crate) mod create;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod prune;
pub(crate) mod remove;

use crate::Engine;

impl Engine {
    /// The volumes of the instance. Touches nothing.
    pub(crate) fn volume_store(&self) -> volume::Store {
        volume::Store::open(&self.instance)
    }
}
