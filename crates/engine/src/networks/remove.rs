//! `network rm`.

use base::{Failure, Kind};

use crate::Engine;
use crate::error::Result;

/// Why a network was not removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the network `{0}` is always there: it cannot be removed")]
    Predefined(String),
    #[error("the network `{name}` is in use by {users}")]
    InUse { name: String, users: String },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Predefined(_) => Vec::new(),
            Self::InUse { name, .. } => {
                vec![format!(
                    "stop or remove them, or take them off it: dhow network disconnect {name} CONTAINER"
                )]
            }
        }
    }
}

impl Engine {
    /// Removes a network that no running container is on. Returns its name.
    pub fn remove_network(&self, name: &str) -> Result<String> {
        // What died may seem to be on it.
        self.reconcile()?;
        if matches!(name, "host" | "none") {
            return Err(Error::Predefined(name.to_owned()).into());
        }
        let store = self.network_store();
        let locked = store.lock()?;
        let definition = store.find(name)?;
        if definition.is_default() {
            return Err(Error::Predefined(definition.name).into());
        }
        let users = network::users(&self.instance, &definition)?;
        if !users.is_empty() || !network::bring_down(&self.instance, &definition)? {
            let mut names: Vec<&str> = users.values().map(|id| id.short()).collect();
            names.sort_unstable();
            names.dedup();
            let users =
                if names.is_empty() { "a container that starts".to_owned() } else { names.join(", ") };
            return Err(Error::InUse { name: definition.name, users }.into());
        }
        store.remove(&definition, &locked)?;
        network::forget(&self.instance, &definition)?;
        self.note_network("destroy", &definition, None);
        Ok(definition.name)
    }
}
