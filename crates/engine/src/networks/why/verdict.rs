//! The attempt, and the rules that it has met.

use std::net::SocketAddr;

use network::look::{self, Dropped};

use super::attempt::{Attempt, Place, attempt};
use super::walk::{End, Walk};
use crate::error::Result;

impl Walk<'_> {
    /// The connection itself, and what drops it.
    pub(super) fn attempt(&mut self) -> Result<()> {
        let Some(address) = self.address else { return Ok(()) };
        let to = self.to.as_ref().and_then(End::namespace);
        let (outcome, dropped) =
            attempt(self.from().namespace(), to, address, &self.target, self.inner_port)?;
        let what = format!("{}/{}", SocketAddr::new(address, self.target.port), self.target.protocol());
        if outcome == Attempt::Made {
            self.works = true;
            self.good("attempt", format!("{what} answers"));
            return Ok(());
        }
        for (place, dropped) in &dropped {
            self.dropped(*place, dropped)?;
        }
        let from = self.from().name.clone();
        match outcome {
            Attempt::Made => {}
            Attempt::Sent => {
                self.works = dropped.is_empty();
                self.unknown(
                    "attempt",
                    format!("a datagram to {what} was sent; nothing came back, which not everybody does"),
                );
            }
            Attempt::Refused => {
                let words = format!("{what} refuses: the other machine is reached, and nobody listens there");
                self.bad(
                    "attempt",
                    "refused",
                    words,
                    format!("see on that machine what listens: ss -ln sport = :{}", self.target.port),
                );
            }
            Attempt::Silent => {
                let words = format!(
                    "{what} does not answer {from}: what was sent, or its answer, is lost on the way"
                );
                self.bad("attempt", "no-answer", words, "dhow network capture CONTAINER tells which");
            }
            Attempt::Failed(error) => {
                let mend = self.from().there(&format!("ip route get {address}"));
                self.bad("attempt", "unreachable", format!("{what} cannot be reached: {error}"), mend);
            }
        }
        Ok(())
    }

    pub(super) fn dropped(&mut self, place: Place, dropped: &Dropped) -> Result<()> {
        let Dropped { family, table, chain, rule } = dropped;
        let which = rule.map_or_else(|| "the policy".to_owned(), |handle| format!("rule {handle}"));
        let words =
            |whose: &str| format!("{which} of chain {chain} in {whose}table {family} {table} drops it");
        let list = format!("nft --handle list chain {family} {table} {chain}");
        let mend = |rule: &Option<u64>| match rule {
            Some(handle) => format!(
                "see it: {list}; if it is not wanted: nft delete rule {family} {table} {chain} handle {handle}"
            ),
            None => format!("see it: {list}"),
        };
        let own = self.engine.instance.global_name();
        match place {
            Place::Host if *table == own || *table == format!("{own}_pairs") => {
                let words = words("our own ");
                self.bad(
                    "rules",
                    "our-rules",
                    format!("{words}: the network is apart, closed or internal"),
                    format!("see it: {list}"),
                );
            }
            Place::Host => {
                let bridge =
                    self.from().endpoints().iter().chain(self.to.iter().flat_map(End::endpoints)).next();
                let bridge = bridge.map(|endpoint| endpoint.bridge_name().to_owned()).unwrap_or_default();
                if rule.is_none() {
                    let advice = look::dropping(&bridge)?;
                    let named = advice
                        .into_iter()
                        .find(|line| line.contains(&format!("chain {chain} in table {family} {table}")));
                    let mend = named
                        .and_then(|line| line.rsplit_once("to allow it: ").map(|(_, mend)| mend.to_owned()));
                    let words = words("somebody else's ");
                    self.bad(
                        "rules",
                        "foreign-policy",
                        words,
                        mend.unwrap_or_else(|| format!("see it: {list}")),
                    );
                } else {
                    self.bad("rules", "foreign-rule", words("somebody else's "), mend(rule));
                }
            }
            Place::From | Place::To => {
                let end = if place == Place::From { self.from.as_ref() } else { self.to.as_ref() };
                let Some(end) = end else { return Ok(()) };
                let words = words(&format!("the own firewall of {}, ", end.name));
                // Whoever has made them has named them: what is no plain name is not put into a command.
                let plain =
                    |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
                let mend = if plain(table) && plain(chain) {
                    end.there(&list)
                } else {
                    end.there("nft list ruleset")
                };
                self.bad("rules", "container-firewall", words, mend);
            }
        }
        Ok(())
    }
}
