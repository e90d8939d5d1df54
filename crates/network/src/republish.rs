//! Ports that are published, or are not any more, while a container runs.
//!
//! The monitor holds the sockets, so it is the one who does it. New ports open before old ones close; what fails is taken
//! back, so that all is as it was.

use state::lock::Lock;
use state::options::PortMapping;

use crate::error::Attempt;
use crate::nft::elements::{self, Published};
use crate::plan::{OnBridge, Plan};
use crate::{PortReservations, Result, conntrack, ports};

impl Plan {
    /// Publishes these ports from now on, and no others. `linked`: the container runs; if not, [`Plan::attach`] opens the new
    /// ones at its next start. Where a port of the host's is 0, the plan has the one that it got.
    pub fn republish(
        &mut self,
        reservations: &mut PortReservations,
        wanted: &[PortMapping],
        linked: bool,
    ) -> Result<()> {
        let Some(place) = &self.bridge else { return Ok(()) };
        ports::check(wanted)?;
        let mut wanted = wanted.to_vec();
        let all = |wanted: &[PortMapping]| ports::published(wanted, place.ip);
        let before = all(&self.ports)?;
        let made_way = reservations.make_way(&wanted);
        let outcome = reservations.bind_more(&mut wanted).and_then(|more| {
            let all = all(&wanted)?;
            place.change(&before, &all, linked)?;
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
    ports::check(ports)?;
    PortReservations::bind(&mut ports.to_vec()).map(drop)
}

impl OnBridge {
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
