//! The way of a packet, hop by hop.

use std::fs::File;
use std::net::IpAddr;

use base::failure::printable;
use network::Endpoint;
use state::container::{Live, Record, Status};

use super::target::Target;
use super::{WhyOutcome, WhyReport, WhyStep};
use crate::Engine;
use crate::containers::records::Found;
use crate::error::Result;

/// What is looked at, in this order, once it is known whom it is about.
const CHECKS: &[fn(&mut Walk<'_>) -> Result<()>] = &[
    |walk| {
        walk.networks();
        Ok(())
    },
    |walk| walk.permission(),
    |walk| walk.links(),
    |walk| walk.route_there(),
    |walk| walk.host(),
    |walk| {
        walk.listener();
        Ok(())
    },
    |walk| walk.route_back(),
    |walk| walk.sizes(),
    |walk| walk.attempt(),
];

/// A container on the way, or the host.
pub(super) struct End {
    pub(super) name: String,
    pub(super) container: Option<Container>,
}

pub(super) struct Container {
    pub(super) record: Record,
    pub(super) live: Live,
    pub(super) namespace: File,
    pub(super) endpoints: Vec<Endpoint>,
}

impl End {
    pub(super) fn namespace(&self) -> Option<&File> {
        self.container.as_ref().map(|container| &container.namespace)
    }

    pub(super) fn process(&self) -> String {
        self.container.as_ref().map_or_else(|| "self".to_owned(), |container| container.live.pid.to_string())
    }

    pub(super) fn endpoints(&self) -> &[Endpoint] {
        self.container.as_ref().map_or(&[], |container| &container.endpoints)
    }

    /// A command, done in there.
    pub(super) fn there(&self, command: &str) -> String {
        match &self.container {
            Some(container) => format!("nsenter --net=/proc/{}/ns/net {command}", container.live.pid),
            None => command.to_owned(),
        }
    }

    pub(super) fn is_host(&self) -> bool {
        self.container.is_none()
    }
}

/// A walk.
pub(super) struct Walk<'a> {
    pub(super) engine: &'a Engine,
    pub(super) target: Target,
    pub(super) from: Option<End>,
    /// Whose the address is, if it is a container's.
    pub(super) to: Option<End>,
    pub(super) address: Option<IpAddr>,
    /// The port behind a translation.
    pub(super) inner_port: u16,
    pub(super) steps: Vec<WhyStep>,
    pub(super) works: bool,
    /// There is no next hop.
    pub(super) ended: bool,
}

impl<'a> Walk<'a> {
    /// Begins at a container, or at the host. That there is no such container is an error, not a finding.
    pub(super) fn begin(engine: &'a Engine, from: &str, target: Target) -> Result<Self> {
        let inner_port = target.port;
        let mut walk = Self {
            engine,
            target,
            from: None,
            to: None,
            address: None,
            inner_port,
            steps: Vec::new(),
            works: false,
            ended: false,
        };
        if from == "host" {
            walk.from = Some(End { name: "the host".to_owned(), container: None });
            return Ok(walk);
        }
        let found = engine.find(from)?;
        walk.from = walk.running(found)?;
        Ok(walk)
    }

    pub(super) fn go(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.name()?;
        for check in CHECKS {
            if self.ended {
                return Ok(());
            }
            check(self)?;
        }
        Ok(())
    }

    pub(super) fn report(mut self, from: &str, to: &str) -> WhyReport {
        if self.works {
            // What looked bad was not in the way; but for what only large packets meet.
            for step in self.steps.iter_mut().filter(|step| step.culprit != Some("mtu")) {
                if step.outcome == WhyOutcome::Bad {
                    step.outcome = WhyOutcome::Unknown;
                    step.culprit = None;
                }
            }
        }
        let culprit =
            self.steps.iter().find(|step| step.outcome == WhyOutcome::Bad).and_then(|step| step.culprit);
        WhyReport {
            from: from.to_owned(),
            to: to.to_owned(),
            works: self.works && culprit.is_none(),
            culprit,
            steps: self.steps,
        }
    }

    pub(super) fn good(&mut self, check: &'static str, words: impl Into<String>) {
        self.step(check, WhyOutcome::Good, words.into(), None, None);
    }

    pub(super) fn unknown(&mut self, check: &'static str, words: impl Into<String>) {
        self.step(check, WhyOutcome::Unknown, words.into(), None, None);
    }

    pub(super) fn bad(
        &mut self,
        check: &'static str,
        culprit: &'static str,
        words: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.step(check, WhyOutcome::Bad, words.into(), Some(culprit), Some(mend.into()));
    }

    pub(super) fn step(
        &mut self,
        check: &'static str,
        outcome: WhyOutcome,
        words: String,
        culprit: Option<&'static str>,
        mend: Option<String>,
    ) {
        // Names of links, tables and chains may be a container's own.
        let mend = mend.filter(|mend| !mend.is_empty()).map(printable);
        self.steps.push(WhyStep { check, outcome, words: printable(words), culprit, mend });
    }

    /// A container that runs; else that it does not is what is wrong.
    pub(super) fn running(&mut self, found: Found) -> Result<Option<End>> {
        let name = found.record.name.clone();
        let live = match (found.status, found.live) {
            (Status::Running, Some(live)) => live,
            (Status::Paused, Some(_)) => {
                self.bad("running", "paused", format!("{name} is paused"), format!("dhow unpause {name}"));
                self.ended = true;
                return Ok(None);
            }
            _ => {
                self.bad(
                    "running",
                    "not-running",
                    format!("{name} does not run"),
                    format!("dhow start {name}"),
                );
                self.ended = true;
                return Ok(None);
            }
        };
        let namespace = network::namespace_of(live.pid)?;
        let endpoints = self.engine.endpoints_of(&found.record.id)?;
        Ok(Some(End {
            name,
            container: Some(Container { record: found.record, live, namespace, endpoints }),
        }))
    }

    /// From whom: there is somebody, or the walk has ended.
    pub(super) fn from(&self) -> &End {
        const HOST: &End = &End { name: String::new(), container: None };
        self.from.as_ref().unwrap_or(HOST)
    }
}

/// Whether an address is of this place on a network.
pub(super) fn has(endpoint: &Endpoint, address: IpAddr) -> bool {
    super::super::connect::addresses(endpoint).contains(&address)
}

/// Whether an address is reached from there without a router.
pub(super) fn near(endpoint: &Endpoint, address: IpAddr) -> bool {
    let place = endpoint.address();
    let subnet = |address, prefix| state::netd::Subnet { address, prefix };
    subnet(place.ip.into(), place.prefix).contains(address, 32)
        || endpoint.address6().is_some_and(|(ip, prefix, _)| subnet(ip.into(), prefix).contains(address, 128))
}
