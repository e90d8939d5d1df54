//! `dhow network why`.

use clap::Parser;
use engine::{WhyOutcome, WhyReport};
use serde_json::json;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::{output, terminal};

/// Tell why a container, or the host, does not reach something, and what mends it.
///
/// The way of a packet is walked: name, networks, rules, links, routes, what listens, and back; at the end the connection is tried
/// for real, while the kernel tells of each rule that drops it. The exit code is 0 if it works, 1 if not.
#[derive(Debug, Parser)]
#[command(name = "network why")]
pub(crate) struct Arguments {
    /// `json`, for programs
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// From where: a container, or `host`
    #[arg(value_name = "FROM")]
    from: String,
    /// To where: a name or an address with a port, or a URL of http or https
    #[arg(value_name = "TO:PORT[/udp]")]
    to: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let report = context.engine()?.why(&self.from, &self.to)?;
        if self.format.is_some() {
            output::line(&shown(&report))?;
        } else {
            output::text(&plain(&report))?;
        }
        Ok(u8::from(!report.works))
    }
}

fn shown(report: &WhyReport) -> String {
    let steps: Vec<_> = report
        .steps
        .iter()
        .map(|step| {
            let outcome = match step.outcome {
                WhyOutcome::Good => "good",
                WhyOutcome::Bad => "bad",
                WhyOutcome::Unknown => "unknown",
            };
            json!({ "Check": step.check, "Outcome": outcome, "Words": step.words, "Culprit": step.culprit, "Mend": step.mend })
        })
        .collect();
    json!({
        "From": report.from,
        "To": report.to,
        "Works": report.works,
        "Culprit": report.culprit,
        "Steps": steps,
    })
    .to_string()
}

fn plain(report: &WhyReport) -> String {
    let utf8 = terminal::speaks_utf8();
    let mut text = String::new();
    for step in &report.steps {
        let sign = match (step.outcome, utf8) {
            (WhyOutcome::Good, true) => "✓",
            (WhyOutcome::Bad, true) => "✗",
            (WhyOutcome::Good, false) => "+",
            (WhyOutcome::Bad, false) => "x",
            (WhyOutcome::Unknown, _) => "?",
        };
        text.extend([sign, " ", &step.words, "\n"]);
        if let (WhyOutcome::Bad, Some(mend)) = (step.outcome, &step.mend) {
            text.extend(["    ", mend, "\n"]);
        }
    }
    let verdict = match report.culprit {
        _ if report.works => format!("{} reaches {}\n", report.from, report.to),
        Some(culprit) => format!("{} does not reach {}: {culprit}\n", report.from, report.to),
        None => format!("{} does not reach {}, and nothing of the above tells why\n", report.from, report.to),
    };
    text + &verdict
}
