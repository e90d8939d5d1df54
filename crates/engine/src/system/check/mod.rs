//! `system check`: is all that is here what it should be? What is not is named and, if asked, mended.
//!
//! ```text
//! records ─► blobs ─► index.json ─► layers ─► leftovers ─► what nothing needs
//! names/     hashed   for others    compared  of the dead
//! images/                           with the
//!                                   blobs
//! ```
//!
//! In this order, because each relies on the one before: a record tells which blobs an image needs, a blob what a
//! layer should be, and only where all records can be read is it known what nothing needs.
//!
//! Nothing is mended in a way that breaks what is in use: files and layers are replaced by rename, and a layer that
//! a container runs on is named, not replaced. Others may pull, load, run and remove meanwhile: what they took
//! away in the middle is no finding.

mod blobs;
mod layers;
mod leftovers;
mod records;
mod report;

use base::progress::Progress;

pub use report::{Checked, Outcome, Problem, ProblemKind};

use crate::Engine;
use crate::error::Result;

/// How to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Mend what can be mended.
    pub repair: bool,
    /// Sizes instead of digests, and presence instead of content.
    pub quick: bool,
}

/// A check under way.
struct Check<'e> {
    engine: &'e Engine,
    options: CheckOptions,
    progress: &'e dyn Progress,
    found: Checked,
}

impl Engine {
    /// Looks at everything. Errors are of what keeps it from looking; what is wrong is in the result.
    pub fn check(&self, options: CheckOptions, progress: &dyn Progress) -> Result<Checked> {
        let mut check = Check { engine: self, options, progress, found: Checked::default() };
        // Before anything is done that would sweep them.
        let leftovers = check.leftovers()?;
        let images = check.records()?;
        let damaged = check.blobs(&images)?;
        check.layout()?;
        check.layers(&images, &damaged)?;
        check.settle_leftovers(leftovers)?;
        check.orphans()?;
        Ok(check.found)
    }
}

impl Check<'_> {
    /// Notes a problem; mends it by `mend` if that is wanted. `mend` tells what it did.
    fn problem(&mut self, problem: Problem, mend: impl FnOnce(&Engine) -> Result<String>) {
        let outcome = if self.options.repair {
            match mend(self.engine) {
                Ok(how) => Outcome::Repaired(how),
                Err(e) => Outcome::NotRepaired(e.to_string()),
            }
        } else {
            Outcome::Found
        };
        self.found.problems.push(Problem { outcome, ..problem });
    }

    /// Notes a problem that we cannot mend.
    fn hopeless(&mut self, problem: Problem, why: &str) {
        self.found.problems.push(Problem { outcome: Outcome::NotRepaired(why.to_owned()), ..problem });
    }
}
