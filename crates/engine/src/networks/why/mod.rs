//! `network why`: why a container, or the host, does not reach something; or that it does.
//!
//! The way of a packet is walked hop by hop ([`walk`]): each check looks at one thing and says what it has found, and what would
//! mend it. At the end the connection is tried for real, while the kernel tells of each rule that drops a packet of it, whoever's
//! that is. What has failed first is the culprit. A check more is one function more in `walk::CHECKS`.

mod attempt;
mod dns;
mod name;
mod relation;
mod sockets;
mod target;
mod verdict;
mod walk;
mod way;

use base::{Failure, Kind};

use crate::Engine;
use crate::error::Result;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhyReport {
    /// From where.
    pub from: String,
    /// To where.
    pub to: String,
    /// Whether it works.
    pub works: bool,
    /// What has failed first, in a word that stays the same.
    pub culprit: Option<&'static str>,
    /// All that was looked at, in the order of the way.
    pub steps: Vec<WhyStep>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhyStep {
    /// Which, in a word that stays the same: `name`, `route`, …
    pub check: &'static str,
    /// How it is.
    pub outcome: WhyOutcome,
    /// What was found.
    pub words: String,
    /// What is wrong, in a word that stays the same.
    pub culprit: Option<&'static str>,
    /// The command that mends it.
    pub mend: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyOutcome {
    /// As it should be.
    Good,
    /// It keeps the packet from arriving.
    Bad,
    /// It could not be looked at, or need not matter.
    Unknown,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "`{0}` is nothing to be reached: want NAME:PORT[/udp], ADDRESS:PORT[/udp], or a URL of http or https"
    )]
    Target(String),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Engine {
    /// Looks why `from` (a container, or `host`) does not reach `to` (`NAME:PORT`, or a URL).
    pub fn why(&self, from: &str, to: &str) -> Result<WhyReport> {
        let target = to.parse().map_err(|()| Error::Target(to.chars().take(80).collect()))?;
        let mut walk = walk::Walk::begin(self, from, target)?;
        walk.go()?;
        Ok(walk.report(from, to))
    }
}
