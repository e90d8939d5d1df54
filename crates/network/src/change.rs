//! Connecting a running container to a network, and taking it off one.
//!
//! What is claimed is written down beside the container's plan before it is used, so that whoever finds the container dead
//! gives it back; and the monitor that starts it again looks there.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use base::Id;
use base::fs::At;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use state::Instance;
use state::options::PortMapping;

use crate::endpoint::{Endpoint, Wish};
use crate::error::Attempt;
use crate::netlink::{Protocol, Request, Socket};
use crate::shape::Bandwidth;
use crate::{Error, Plan, Result};

/// A running container whose networks change.
pub struct Running<'a> {
    /// Whose it is.
    pub instance: &'a Instance,
    /// Which.
    pub id: &'a Id,
    /// Its networks as they are by now ([`Plan::by_now`]).
    pub plan: &'a Plan,
    /// Its published ports, none of which is 0.
    pub ports: &'a [PortMapping],
    /// Its network namespace (see [`namespace_of`]).
    pub namespace: &'a File,
}

/// The network namespace of a process. It stays the one it is, whatever becomes of the process and its number.
pub fn namespace_of(pid: u32) -> Result<File> {
    Ok(base::fs::open(Path::new(&format!("/proc/{pid}/ns/net")))?)
}

impl Running<'_> {
    /// Connects it to a further network. Also gives what the user should be told.
    pub fn connect(&self, wish: &Wish<'_>) -> Result<(Endpoint, Vec<String>)> {
        let before: Vec<Endpoint> = self.plan.endpoints().cloned().collect();
        let number = before.iter().map(|endpoint| endpoint.number() + 1).max().unwrap_or(0);
        let (endpoint, warnings) = Endpoint::claim(self.instance, self.id, wish, number)?;
        let leads_out = before.iter().any(|other| !other.is_internal());
        let mut after = before.clone();
        if leads_out || endpoint.is_internal() {
            after.push(endpoint.clone());
        } else {
            // The first one is where ports are published and the default route leads.
            after.insert(0, endpoint.clone());
        }
        let made = Plan::write_endpoints(self.instance, self.id, &after)
            .and_then(|()| self.bring_up(&endpoint, !leads_out));
        match made {
            Ok(()) => Ok((endpoint, warnings)),
            Err(error) => {
                // The first error is what matters; what cannot be undone is released with the container.
                self.unlink(&endpoint).ok();
                Plan::write_endpoints(self.instance, self.id, &before).ok();
                endpoint.release(self.id).ok();
                Err(error)
            }
        }
    }

    fn bring_up(&self, endpoint: &Endpoint, default_route: bool) -> Result<()> {
        endpoint.link_into(self.namespace)?;
        if endpoint.address6().is_some() {
            self.inside(|| allow_ipv6(endpoint.number()))?;
        }
        let mut request = Request::new();
        endpoint.messages(&mut request, default_route);
        self.send(&request)?;
        if default_route && !endpoint.is_internal() { self.publish(endpoint) } else { Ok(()) }
    }

    fn unlink(&self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.is_macvlan() { self.inside(|| endpoint.remove_inside()) } else { endpoint.unlink() }
    }

    /// Opens its ports on what is its first network now.
    fn publish(&self, first: &Endpoint) -> Result<()> {
        if self.ports.is_empty() || first.is_macvlan() { Ok(()) } else { first.publish(self.ports) }
    }

    /// Takes it off a network that it is on. Published ports move to the network that is the first now.
    pub fn disconnect(&self, leaving: &Endpoint) -> Result<()> {
        let mut after: Vec<Endpoint> =
            self.plan.endpoints().filter(|other| *other != leaving).cloned().collect();
        let was_first = self.plan.endpoints().next() == Some(leaving);
        let next = after.iter().position(|endpoint| !endpoint.is_internal());
        if let Some(next) = next {
            after[..=next].rotate_right(1);
        }
        self.unlink(leaving)?;
        // Written down first: what was given back is another's.
        Plan::write_endpoints(self.instance, self.id, &after)?;
        leaving.release(self.id)?;
        let Some(first) = after.first().filter(|_| was_first && next.is_some()) else { return Ok(()) };
        let mut request = Request::new();
        first.default_route(&mut request);
        self.send(&request)?;
        self.publish(first)
    }

    /// Changes how much it may send and be sent on each of its networks.
    pub fn limit(&self, bandwidth: Bandwidth) -> Result<()> {
        let before: Vec<Endpoint> = self.plan.endpoints().cloned().collect();
        let after: Vec<Endpoint> = before.iter().map(|e| e.with_bandwidth(bandwidth)).collect();
        // Written down first, so that whoever finds the container dead takes away what is beside its links.
        let both = Bandwidth {
            incoming: bandwidth.incoming,
            outgoing: bandwidth.outgoing.or(before.iter().find_map(|e| e.bandwidth().outgoing)),
        };
        let widest: Vec<Endpoint> = before.iter().map(|e| e.with_bandwidth(both)).collect();
        Plan::write_endpoints(self.instance, self.id, &widest)?;
        for (old, new) in before.iter().zip(&after) {
            if let Err(error) = new.reshape(old.bandwidth()) {
                // The first error is what matters.
                for (old, new) in before.iter().zip(&after) {
                    old.reshape(new.bandwidth()).ok();
                }
                Plan::write_endpoints(self.instance, self.id, &before).ok();
                return Err(error);
            }
        }
        Plan::write_endpoints(self.instance, self.id, &after)
    }

    /// Sends messages inside its namespace.
    fn send(&self, request: &Request) -> Result<()> {
        let sent = self
            .inside(|| Ok(Socket::open(Protocol::Route).and_then(|s| s.transact(request, request.len()))))?;
        sent.link(|| format!("set addresses and routes of container {}", self.id.short()))
    }

    /// Does something inside.
    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside_of(self.namespace, work)
    }
}

/// Does something in a network namespace, in a thread of its own, which ends there.
pub(crate) fn inside_of<T: Send>(namespace: &File, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .at("enter", Path::new("/proc/self/ns/net"))?;
            work()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Where a container began without IPv6, its interfaces have it switched off.
fn allow_ipv6(number: u32) -> Result<()> {
    let conf = Path::new("/proc/sys/net/ipv6/conf").join(format!("eth{number}"));
    for (name, value) in [("accept_ra", "0"), ("disable_ipv6", "0")] {
        let path = conf.join(name);
        std::fs::write(&path, value).at("write", &path).map_err(Error::from)?;
    }
    Ok(())
}
