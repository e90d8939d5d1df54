//! `dhow network denied`.

use base::failure::printable;
use clap::Parser;
use engine::DeniedOptions;
use serde_json::{Value, json};
use state::egress::journal::Denial;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::{format, human, output};

/// Show what containers tried to reach and may not (see --egress).
#[derive(Debug, Parser)]
#[command(name = "network denied")]
pub(crate) struct Arguments {
    /// Go on as more is refused
    #[arg(short, long)]
    follow: bool,
    /// A Go template, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only of this container
    #[arg(value_name = "CONTAINER")]
    container: Option<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let options = DeniedOptions { container: self.container, follow: self.follow };
        for denial in context.engine()?.denied(options)? {
            let denial = denial?;
            match &self.format {
                Some(format) => format::one(format, &shown(&denial))?,
                None => output::line(&plain(&denial))?,
            }
        }
        Ok(0)
    }
}

/// `TIME NAME tcp 192.0.2.1:25 (no rule …), 3 times`.
fn plain(denial: &Denial) -> String {
    let Denial { time, what, count } = denial;
    let port = what.port.map(|port| format!(":{port}")).unwrap_or_default();
    let to = if what.port.is_some() && what.to.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{}]", what.to)
    } else {
        what.to.clone()
    };
    let times = if *count == 1 { String::new() } else { format!(", {count} times") };
    let time = human::local_rfc3339(*time);
    // What is asked for is what a container has written.
    printable(format!("{time} {} {} {to}{port} ({}){times}", what.name, what.protocol, what.rule))
}

fn shown(denial: &Denial) -> Value {
    let Denial { time, what, count } = denial;
    json!({
        "Time": human::local_rfc3339(*time),
        "ID": what.container.as_str(),
        "Container": what.name,
        "Protocol": what.protocol,
        "To": what.to,
        "Port": what.port,
        "Rule": what.rule,
        "Count": count,
    })
}

#[cfg(test)]
mod tests {
    use base::Timestamp;
    use state::egress::journal::What;

    use super::*;

    #[test]
    fn a_line_says_who_wanted_what_and_cannot_be_forged() {
        let what = What {
            container: "a".repeat(64).parse().unwrap(),
            name: "web".to_owned(),
            to: "2001:db8::1".to_owned(),
            port: Some(25),
            protocol: "tcp".to_owned(),
            rule: "no rule".to_owned(),
        };
        let mut denial = Denial { time: Timestamp(1_700_000_000_000_000_001), what, count: 2 };
        assert!(plain(&denial).ends_with(" web tcp [2001:db8::1]:25 (no rule), 2 times"));
        denial.what.to = "x\n2026 web".to_owned();
        assert!(!plain(&denial).contains('\n'));
        assert_eq!(shown(&denial)["Count"], 2);
    }
}
