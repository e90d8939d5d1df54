//! Ports that are published, or are not any more, while a container runs.
//!
//! The monitor holds the sockets, so it is the one who does it. New ports open before old ones close; what fails is taken
//! back, so that all is as it was.

use base::Id;
use state::Instance;
use state::lock::Lock;
use state::options::PortMapping;

use crate::endpoint::Endpoint;
use crate::error::Attempt;
use crate::nft::elements::{self, Published};
use crate::plan::Plan;
use crate::{PortReservations, Result, conntrack, ports};

impl Plan {
    /// Publishes these ports from now on, and no others, on the network that is its first by now. `linked`: the container runs;
    /// if not, [`Plan::attach`] opens the new ones at its next start. Where a port of the host's is 0, the plan has the one that it got.
    pub fn republish(
        &mut self,
        (instance, id): (&Instance, &Id),
        reservations: &mut PortReservations,
        wanted: &[PortMapping],
        linked: bool,
    ) -> Result<()> {
        let now = self.by_now(instance, id)?;
        let Some(place) = now.bridge.as_ref().filter(|place| !place.is_internal() && !place.is_macvlan())
        else {
            return Ok(());
        };
        ports::check(wanted, place.address6().is_some())?;
        let mut wanted = wanted.to_vec();
        let before = place.published(&self.ports);
        let made_way = reservations.make_way(&wanted);
        let outcome = reservations.bind_more(&mut wanted).and_then(|more| {
            place.change(&before, &place.published(&wanted), linked)?;
            Ok(more)
        });
        match outcome {
            Ok(more) => {
                reservations.replace(more, &wanted);
                self.ports = wanted;
                Ok(())
            }
            Err(error) => {
                // Nobody is likely to have taken in this instant what was ours a moment ago.
                reservations.hold_again(made_way);
                Err(error)
            }
        }
    }
}

/// Looks whether ports of the host could be published now, by publishing them for an instant. Whoever asks will publish
/// them in a moment; whoever comes in between is seen then.
pub fn are_free(ports: &[PortMapping]) -> Result<()> {
    let ipv6 = ports.iter().any(|port| port.host_ip.is_some_and(|ip| ip.is_ipv6()));
    PortReservations::bind(&mut ports.to_vec(), ipv6).map(drop)
}

impl Endpoint {
    /// From what is published to what shall be.
    fn change(&self, before: &[Published], all: &[Published], linked: bool) -> Result<()> {
        let closing: Vec<Published> = before.iter().filter(|port| !all.contains(port)).copied().collect();
        let opening: Vec<Published> = all.iter().filter(|port| !before.contains(port)).copied().collect();
        let only_if_linked = |ports: &[Published]| if linked { ports.to_vec() } else { Vec::new() };
        let done = self.exchange(before, all, &only_if_linked(&opening), &closing);
        if done.is_err() {
            // The first error matters more.
            self.exchange(all, before, &only_if_linked(&closing), &opening).ok();
        }
        done
    }

    fn exchange(
        &self,
        before: &[Published],
        all: &[Published],
        opening: &[Published],
        closing: &[Published],
    ) -> Result<()> {
        let dir = &self.bridge.dir;
        if !opening.is_empty() {
            // In the file is at any time all that may be in the table.
            ports::remember(dir, self.ip, &[before, opening].concat())?;
            self.open(opening)?;
        }
        if !closing.is_empty() {
            let _lock = Lock::shared(dir)?;
            for port in closing {
                elements::remove(&self.bridge.table, port)
                    .firewall(|| format!("unpublish port {}", port.host_port))?;
            }
            conntrack::forget(closing).firewall(|| format!("forget the flows to {}", self.ip))?;
        }
        if all.is_empty() { ports::forget(dir, self.ip) } else { ports::remember(dir, self.ip, all) }
    }
}
