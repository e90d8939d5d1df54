//! Where containers may go: policy, networks and options put together; and what was refused, or learned, shown.

mod denied;
mod policy;

use base::{Failure, Id, Kind};
use network::Definition;
use state::container::Record;
use state::egress::learned::{self, Learned};
use state::egress::link::{Registration, VERSION};
use state::egress::{Egress, NotLimits};
use state::options::{ContainerOptions, EndpointOptions, NetworkMode};

use crate::Engine;
use crate::containers::reconcile;
use crate::error::Result;
use crate::networks::{endpoints, names};

pub use denied::{Denied, DeniedOptions};
pub(crate) use policy::Policy;

/// Why a container cannot be kept within limits.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the limits of where container {container} may go make no sense: {why}")]
    Limits { container: String, why: NotLimits },
    #[error("nobody can limit where a container goes that is in the host's network")]
    Host,
    #[error(
        "a container in the network of another one goes where that may go: it has no --egress of its own"
    )]
    Joined,
    #[error(
        "container {0} runs, and its networks cannot be changed meanwhile: where it may go would change with them"
    )]
    Running(String),
    #[error(
        "where container {container} goes is limited or learned, and nothing can do that on the macvlan network `{network}`: what it sends there goes to the wire past every rule of this host"
    )]
    OnWire { container: String, network: String },
    #[error(
        "the containers of a macvlan network cannot be kept to where they may go: what they send goes to the wire past every rule of this host"
    )]
    NetworkOnWire,
    #[error("nothing was learned of `{0}`: it was never started with --egress learn")]
    NothingLearned(String),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NothingLearned(_) => Kind::NotFound,
            Self::Running(_) => Kind::Conflict,
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Host => {
                vec![
                    "leave --network host away; or see whether policy.toml should be about this container"
                        .to_owned(),
                ]
            }
            Self::OnWire { network, .. } => vec![
                format!("put it on a bridge network instead of `{network}` (dhow network create)"),
                "or let it go everywhere: without --egress, where no network of it has one and policy.toml says `allow` of it; \
                 then the link's own firewall has to limit it"
                    .to_owned(),
            ],
            Self::NetworkOnWire => vec![
                "leave --egress away, or make a bridge network (-d bridge)".to_owned(),
            ],
            Self::Running(name) => vec![format!("stop it first: dhow stop {name}")],
            _ => Vec::new(),
        }
    }
}

/// Refuses what cannot be, before a container is made.
pub(crate) fn check(options: &ContainerOptions) -> Result<()> {
    match options.network {
        _ if options.egress.is_allow() => Ok(()),
        NetworkMode::Host => Err(Error::Host.into()),
        NetworkMode::Container(_) => Err(Error::Joined.into()),
        _ => Ok(()),
    }
}

/// Refuses limits of a network that cannot keep them.
pub(crate) fn check_network(is_macvlan: bool, egress: &Egress) -> Result<()> {
    if is_macvlan && !egress.is_allow() { Err(Error::NetworkOnWire.into()) } else { Ok(()) }
}

fn on_wire(record: &Record, network: &str) -> Error {
    Error::OnWire { container: record.name.clone(), network: network.to_owned() }
}

impl Engine {
    /// Refuses a container with limits on a macvlan network. Looked at when it is made and connected, so that it is said then;
    /// what holds is what is looked at when it starts ([`registration`]).
    pub(crate) fn check_wire(&self, record: &Record) -> Result<()> {
        if record.options.network != NetworkMode::Networks {
            return Ok(());
        }
        let store = self.network_store();
        let mut definitions = Vec::new();
        for endpoint in &record.options.endpoints {
            definitions.push(store.find(&endpoint.network)?);
        }
        let Some(wire) = definitions.iter().find(|definition| definition.is_macvlan()) else { return Ok(()) };
        let egress = self.egress_of(record, definitions.iter().map(|definition| &definition.egress))?;
        if egress.is_allow() { Ok(()) } else { Err(on_wire(record, &wire.name).into()) }
    }

    /// Where a container may go: where its options, its networks and the policy allow it.
    pub(crate) fn egress_of<'a>(
        &self,
        record: &Record,
        of_networks: impl Iterator<Item = &'a Egress>,
    ) -> Result<Egress> {
        let options = &record.options;
        // Whoever has no network goes nowhere; whoever joins another's is limited as that is.
        if matches!(options.network, NetworkMode::None | NetworkMode::Container(_)) {
            return Ok(Egress::Allow);
        }
        let networks = names(options);
        let limits = |result: std::result::Result<Egress, NotLimits>| {
            result.map_err(|why| Error::Limits { container: record.name.clone(), why })
        };
        let mut egress = limits(Policy::load(self.config_directory.as_deref())?.egress(record, &networks))?;
        for network in of_networks {
            egress = limits(egress.and(network))?;
        }
        let egress = limits(egress.and(&options.egress))?;
        if options.network == NetworkMode::Host && !egress.is_allow() {
            return Err(Error::Host.into());
        }
        Ok(egress)
    }

    /// Where a container that runs may go.
    pub(crate) fn egress_in_force(&self, id: &Id) -> Egress {
        let request = reconcile::read_request(&self.instance.live(id));
        request.and_then(|request| request.limits).map(|limits| limits.egress).unwrap_or_default()
    }

    /// Refuses to connect a container that runs to a network, or take it off one, where that would change its limits: they
    /// are told before it has a link, and stay as they are.
    pub(crate) fn check_connection(&self, record: &Record, network: &Definition) -> Result<()> {
        let mut then = record.clone();
        then.options.network = NetworkMode::Networks;
        then.options.endpoints = endpoints(&record.options);
        then.options.endpoints.push(EndpointOptions::on(&network.name));
        if self.egress_in_force(&record.id).is_allow()
            && self.egress_of(&then, std::iter::once(&network.egress))?.is_allow()
        {
            return Ok(());
        }
        Err(Error::Running(record.name.clone()).into())
    }

    /// What a container needed that was started with `--egress learn`.
    pub fn learned(&self, name: &str) -> Result<Learned> {
        // By its id, or the beginning of that, as well, while it is there.
        let name = self.find(name).map_or_else(|_| name.to_owned(), |found| found.record.name);
        let learned = learned::read(&self.instance, &name)?;
        Ok(learned.ok_or(Error::NothingLearned(name))?)
    }
}

/// What is told to whoever keeps the container within its limits; none where it has none.
pub(crate) fn registration(
    record: &Record,
    plan: &network::Plan,
    egress: &Egress,
) -> Result<Option<Registration>> {
    if egress.is_allow() || plan.endpoints().next().is_none() {
        return Ok(None);
    }
    // No rule of ours sees what goes over such a link.
    if let Some(wire) = plan.endpoints().find(|endpoint| endpoint.is_macvlan()) {
        return Err(on_wire(record, wire.network()).into());
    }
    Ok(Some(Registration {
        version: VERSION,
        container: record.id.clone(),
        name: record.name.clone(),
        places: plan.endpoints().map(network::Endpoint::place).collect(),
        egress: egress.clone(),
        program: monitor::client::find_egressd()?,
    }))
}
