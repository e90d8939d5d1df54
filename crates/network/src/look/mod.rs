//! What a network namespace looks like, for somebody who asks why a packet does not arrive. Nothing is changed but for
//! [`Trace`], which says so.

mod trace;

use std::fs::File;
use std::io;
use std::net::IpAddr;

use rustix::io::Errno;

use crate::error::Attempt;
use crate::{Result, change, link};

pub use trace::{Dropped, Flow, Trace};

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Somebody set it up.
    pub up: bool,
    /// Its largest packet.
    pub mtu: u32,
    /// The bridge that it is a port of.
    pub bridge: Option<u32>,
}

/// Where packets to an address go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Through this link.
    pub link: u32,
    /// By way of this router; none: it is on the link.
    pub gateway: Option<IpAddr>,
    /// From this address.
    pub source: Option<IpAddr>,
    /// The address is the namespace's own.
    pub local: bool,
}

/// Does something in a network namespace, or here, in a thread of its own, which ends there.
pub fn inside<T: Send>(namespace: Option<&File>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match namespace {
        Some(namespace) => change::inside_of(namespace, work),
        None => work(),
    }
}

/// Does something that talks to the network in a network namespace.
pub fn try_inside<T: Send>(
    namespace: Option<&File>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> Result<io::Result<T>> {
    inside(namespace, || Ok(work()))
}

/// All links of a namespace.
pub fn links(namespace: Option<&File>) -> Result<Vec<Link>> {
    inside(namespace, || link::all().link(|| "list links".to_owned()))
}

/// The route to an address; none where there is none.
pub fn route(namespace: Option<&File>, to: IpAddr) -> Result<Option<Route>> {
    inside(namespace, || match link::route_to(to) {
        Ok(route) => Ok(Some(route)),
        Err(refusal)
            if matches!(
                refusal.errno,
                Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL | Errno::SRCH
            ) =>
        {
            Ok(None)
        }
        Err(refusal) => Err(refusal).link(|| format!("ask for the route to {to}")),
    })
}

/// The advice about each chain of somebody else's that drops forwarded packets of a bridge by its policy.
pub fn dropping(bridge: &str) -> Result<Vec<String>> {
    let found = crate::nft::others::dropping(bridge).firewall(|| "list the firewall's chains".to_owned())?;
    Ok(found.iter().map(|chain| chain.advice(bridge)).collect())
}
