//! The contents of a container's `/etc/hosts` and `/etc/resolv.conf`.

use std::net::Ipv4Addr;

use state::options::NetworkMode;

use crate::Result;

/// The content of `/etc/hosts`. With the host's network: the host's own file.
pub fn hosts(_mode: &NetworkMode, _hostname: &str, _address: Option<Ipv4Addr>) -> Result<String> {
    Ok(String::new())
}

/// A `resolv.conf`, and what the user should be told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// The file's content.
    pub text: String,
    /// What had to be changed in a way that may surprise.
    pub warnings: Vec<String>,
}

/// The content of `/etc/resolv.conf`, made from the host's. With the host's network: the host's own file.
pub fn resolv_conf(_mode: &NetworkMode) -> Result<ResolvConf> {
    Ok(ResolvConf { text: String::new(), warnings: Vec::new() })
}
