//! `dhow system check`.

use clap::Parser;
use engine::{CheckOptions, Checked, Outcome, Problem, ProblemKind};

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{human, output, progress};

/// Look whether all that is kept here is what it should be. Exit code 1 if it is not.
#[derive(Debug, Parser)]
#[command(name = "system check")]
pub(crate) struct Arguments {
    /// Mend what can be mended: fetch, unpack, write and remove
    #[arg(long)]
    repair: bool,
    /// Look at sizes and presence, not at every byte
    #[arg(long)]
    quick: bool,
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
    /// `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        if let Some(bad) = self.format.as_deref().filter(|format| *format != "json") {
            return Err(Error::Format(format!("`{bad}`: there is `json` alone")));
        }
        let engine = context.engine()?;
        let progress = progress::on_terminal(self.quiet);
        let checked = engine.check(CheckOptions { repair: self.repair, quick: self.quick }, &*progress)?;
        drop(progress);
        let text = match self.format {
            Some(_) => serde_json::to_string(&checked).map_err(|e| Error::Format(e.to_string()))? + "\n",
            None => told(&checked),
        };
        output::text(&text)?;
        Ok(u8::from(!checked.is_sound()))
    }
}

/// A line or two for each problem, and one for all.
fn told(checked: &Checked) -> String {
    let Checked { records, blobs, blob_bytes, layers, problems } = checked;
    let problem_texts: String = problems.iter().map(problem).collect();
    let mended = problems.iter().filter(|p| matches!(p.outcome, Outcome::Repaired(_))).count();
    let untried = problems.iter().all(|p| p.outcome == Outcome::Found);
    let many = several(problems.len() as u64, "problem");
    let verdict = match (problems.len(), mended) {
        (0, _) => "all is well".to_owned(),
        (all, mended) if all == mended => format!("{many}, all mended"),
        _ if untried => format!("{many}; `dhow system check --repair` mends what can be mended"),
        _ => format!("{many}, {mended} mended"),
    };
    format!(
        "{problem_texts}{}, {} ({}), {}: {verdict}\n",
        several(*records, "image"),
        several(*blobs, "blob"),
        human::size(*blob_bytes, 3),
        several(*layers, "layer")
    )
}

fn several(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn problem(problem: &Problem) -> String {
    let what = match problem.kind {
        ProblemKind::Record => "broken record of the image",
        ProblemKind::ContainerRecord => "broken record of the container",
        ProblemKind::DamagedBlob => "damaged blob",
        ProblemKind::MissingBlob => "missing blob",
        ProblemKind::Layout => "stale file",
        ProblemKind::DamagedLayer => "damaged layer",
        ProblemKind::MissingLayer => "missing layer",
        ProblemKind::Orphan => "orphan",
        ProblemKind::Leftover => "leftover",
        ProblemKind::Claim => "claimed name",
        _ => "problem",
    };
    let needed_by = match &problem.needed_by[..] {
        [] => String::new(),
        all => format!("  needed by {}\n", all.join(", ")),
    };
    let outcome = match &problem.outcome {
        Outcome::Found => String::new(),
        Outcome::Repaired(how) => format!("  mended: {how}\n"),
        Outcome::NotRepaired(why) => format!("  not mended: {why}\n"),
    };
    format!("{what} {}: {}\n{needed_by}{outcome}", problem.object, problem.detail)
}
