//! `--network`.

use std::str::FromStr;

use state::options::NetworkMode;

/// The network of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network(pub(crate) NetworkMode);

/// Not a network that there is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("want bridge, host or none; other networks cannot be made yet")]
pub(crate) struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        Ok(Self(match text {
            "bridge" | "default" => NetworkMode::Bridge,
            "host" => NetworkMode::Host,
            "none" => NetworkMode::None,
            _ => return Err(NotANetwork),
        }))
    }
}
