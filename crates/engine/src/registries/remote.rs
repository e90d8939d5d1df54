//! Registries, as this user and this machine talk to them: who we are, where names lead, and what is remembered of
//! logins.
//!
//! All of it is read when a registry is to be asked, and not before: a command that asks none does not pay for it.

use std::path::PathBuf;

use image::Reference;
use registry::{Client, Credentials, Location, Registries};

use crate::Engine;
use crate::error::Result;

impl Engine {
    /// A client with the user's logins and this machine's `registries.toml`.
    pub(crate) fn registry_client(&self) -> Result<Client> {
        self.registry_client_with(credentials()?)
    }

    /// The same with these logins.
    pub(crate) fn registry_client_with(&self, credentials: Credentials) -> Result<Client> {
        let settings = registry::Settings {
            credentials,
            registries: self.registries()?,
            tokens: Some(self.instance.run().join("tokens")),
            ..Default::default()
        };
        Ok(Client::new(settings)?)
    }

    /// Where names lead: what the system says, and what the user does.
    fn registries(&self) -> Result<Registries> {
        let user = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
        let (files, certificates) =
            registry::registries::places(self.config_directory.as_deref(), user.as_deref());
        Ok(Registries::load(&files, certificates)?.with_offline(self.offline))
    }
}

/// The repository that a reference names.
pub(crate) fn location(reference: &Reference) -> Location {
    Location { host: reference.registry().to_owned(), repository: reference.repository().to_owned() }
}

/// The user's logins: where Docker keeps them, then where Podman does.
pub(crate) fn credentials() -> Result<Credentials> {
    let home = variable("HOME");
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
    let podman = [
        variable("REGISTRY_AUTH_FILE"),
        Some(variable("XDG_RUNTIME_DIR").map_or_else(
            || PathBuf::from(format!("/run/containers/{}/auth.json", rustix::process::geteuid().as_raw())),
            |dir| dir.join("containers/auth.json"),
        )),
        variable("XDG_CONFIG_HOME")
            .or_else(|| Some(home?.join(".config")))
            .map(|dir| dir.join("containers/auth.json")),
    ];
    let podman: Vec<PathBuf> = podman.into_iter().flatten().collect();
    match docker {
        Some(dir) => Ok(Credentials::load(&dir.join("config.json"), &podman)?),
        None => Ok(Credentials::default()),
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
