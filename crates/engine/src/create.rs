//! `create`: from what was asked to a container that waits to be started.

use base::Id;
use base::progress::Progress;
use state::options::ContainerOptions;

use crate::Engine;
use crate::error::{Result, unbuilt};

/// When an image is pulled before a container is made of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// If it is not here.
    #[default]
    Missing,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A created container, held by whoever created it: nobody else starts or removes it meanwhile.
#[derive(Debug)]
pub struct Created {
    /// The id.
    pub id: Id,
    /// The name.
    pub name: String,
    /// What was asked and cannot quite be given, for people.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Creates a container.
    pub fn create(
        &self,
        _options: ContainerOptions,
        _pull: PullPolicy,
        _progress: &dyn Progress,
    ) -> Result<Created> {
        Err(unbuilt("create"))
    }
}
