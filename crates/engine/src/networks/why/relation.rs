//! Whether a network leads there, and whether the two may speak to each other.

use network::Endpoint;
use state::options::AllowRule;

use super::walk::{Walk, has};
use crate::error::Result;

impl Walk<'_> {
    /// Whether a network leads there.
    pub(super) fn networks(&mut self) {
        let (Some(address), false) = (self.address, self.from().is_host()) else { return };
        let translated = self.steps.iter().any(|step| step.check == "published");
        let from = self.from().name.clone();
        let Some(to) = self.to.as_ref().filter(|_| !translated) else {
            let all_internal = !self.from().endpoints().is_empty()
                && self.from().endpoints().iter().all(Endpoint::is_internal);
            if all_internal && !address.is_loopback() {
                let words = format!("{from} is on internal networks alone, out of which nothing leads");
                self.bad("network", "internal-network", words, format!("dhow network connect bridge {from}"));
            }
            return;
        };
        let of_address =
            to.endpoints().iter().find(|endpoint| has(endpoint, address)).map(|e| e.network().to_owned());
        let Some(network) = of_address else { return };
        let to = to.name.clone();
        if self.from().endpoints().iter().any(|endpoint| endpoint.network() == network) {
            self.good("network", format!("{from} and {to} are on the network {network}"));
        } else {
            let words = format!(
                "{to} has {address} on the network {network}, on which {from} is not: networks are apart"
            );
            self.bad(
                "network",
                "not-on-same-network",
                words,
                format!("dhow network connect {network} {from}"),
            );
        }
    }

    /// Whether the two may speak to each other.
    pub(super) fn permission(&mut self) -> Result<()> {
        let (Some(address), Some(to)) = (self.address, &self.to) else { return Ok(()) };
        let Some(there) = to.endpoints().iter().find(|endpoint| has(endpoint, address)) else {
            return Ok(());
        };
        let network = there.network().to_owned();
        let Some(here) = self.from().endpoints().iter().find(|endpoint| endpoint.network() == network) else {
            return Ok(());
        };
        let (from, to) = (self.from().name.clone(), to.name.clone());
        let (port, protocol) = (self.target.port, self.target.protocol());
        let definition = self.engine.network_store().find(&network)?;
        let options = network::BridgeOptions::parse(&definition.options, true);
        let closed = !definition.is_macvlan() && options.is_ok_and(|options| !options.open);
        let rules = self.rules_on(&network);
        let allowed = rules.iter().any(|rule| {
            (rule.port, rule.protocol.to_string().as_str()) == (port, protocol)
                && self.is_called(&rule.name, &network)
        });
        let mend = format!(
            "dhow network disconnect {network} {from} && dhow network connect --allow {to}:{port}/{protocol} {network} {from}"
        );
        if allowed {
            self.good("permission", format!("{from} may speak to {to} at {port}/{protocol} (--allow)"));
        } else if here.is_closed() {
            let words = format!(
                "{from} may speak only to those that it is allowed to, and {to}:{port}/{protocol} is none of them"
            );
            self.bad("permission", "not-allowed", words, mend);
        } else if closed {
            let words =
                format!("containers on the network {network} are closed to one another (enable_icc=false)");
            self.bad("permission", "closed-network", words, mend);
        }
        Ok(())
    }

    pub(super) fn rules_on(&self, network: &str) -> Vec<AllowRule> {
        let options = self.from().container.as_ref().map(|container| &container.record.options);
        let here =
            options.into_iter().flat_map(|options| &options.endpoints).filter(|e| e.network == network);
        here.flat_map(|endpoint| endpoint.allow.clone()).collect()
    }

    /// Whether the target is called so on a network.
    pub(super) fn is_called(&self, name: &str, network: &str) -> bool {
        let Some(container) = self.to.as_ref().and_then(|to| to.container.as_ref()) else { return false };
        let record = &container.record;
        let aliases =
            record.options.endpoints.iter().filter(|e| e.network == network).flat_map(|e| &e.aliases);
        [&record.name, &record.resolved.hostname]
            .into_iter()
            .chain(aliases)
            .any(|called| called.eq_ignore_ascii_case(name))
            || record.id.short() == name
    }
}
