//! A Dockerfile, and what is asked of it → a [`Plan`].
//!
//! ```text
//! Dockerfile ──► stages ─────────────► dispatch ──────────► graph, configuration, history
//!                which are needed,     one instruction
//!                what they are upon    after the other
//! ```

mod bases;
mod build;
mod copy;
mod finish;
mod metadata;
mod ports;
mod reference;
mod run;
mod scope;
mod stages;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use oci::image::Platform;

use crate::check::Checks;
use crate::dockerfile::Dockerfile;
use crate::error::{Checked, Error};
use crate::graph::{Bases, Git, Plan, Warning};
use crate::ignore::Patterns;

/// What is asked of a Dockerfile.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the Dockerfile is called in messages; `Dockerfile`, if empty.
    pub file: String,
    /// The stage to build, by name or number; the last, if none.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// What the image is for.
    pub platform: Platform,
    /// The machine that builds.
    pub build_platform: Platform,
    /// More than one platform is built: titles say which.
    pub several_platforms: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--no-cache`, `--no-cache-filter`.
    pub no_cache: NoCache,
    /// `--build-context`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The `.dockerignore`, which only the check `CopyIgnoredFile` asks here.
    pub ignore: Option<Patterns>,
}

/// Which stages take nothing from the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those of these names.
    Stages(Vec<String>),
}

/// What a name given by `--build-context` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of the one who builds: a step [`graph::Context`](crate::graph::Context) of this name.
    Directory,
    /// An image, by its reference.
    Image(String),
    /// A repository.
    Git(Git),
    /// An archive on a web server.
    Http(String),
}

impl NamedContext {
    /// Reads the value of a `--build-context`: `docker-image://…`, an address, or else a directory.
    ///
    /// # Errors
    /// What cannot be a context, in words.
    pub fn parse(value: &str) -> Result<Self, String> {
        if let Some(image) = value.strip_prefix("docker-image://") {
            return match reference::full(image) {
                Some(_) => Ok(Self::Image(image.to_owned())),
                None => Err(format!("`{image}` is no name of an image")),
            };
        }
        if value.starts_with("oci-layout://") {
            return Err(
                "contexts from an OCI layout are not supported: load the image, and name it docker-image://…"
                    .to_owned(),
            );
        }
        match crate::source::git(value) {
            Some(git) => git.map(Self::Git),
            None if crate::source::is_http(value) => Ok(Self::Http(value.to_owned())),
            None => Ok(Self::Directory),
        }
    }
}

/// Plans the build of a Dockerfile's target.
///
/// # Errors
/// Where the Dockerfile is wrong, or asks for what there is not; the first such place.
pub fn plan(source: &str, options: &Options, bases: &dyn Bases) -> Result<Plan, Error> {
    let located = |fault: crate::error::Fault| fault.locate(file(options), source);
    let (dockerfile, checks) = read(source, options).map_err(located)?;
    let mut planner = stages::Planner::new(&dockerfile, options, bases, checks).map_err(located)?;
    let plan = planner.plan(false).and_then(|plan| planner.checks.verdict().map(|()| plan));
    plan.map_err(located)
}

/// What the checks say of a Dockerfile, as `docker build --check` does: of all stages, where no target is named. It goes on as far as
/// it can; what stopped it, if something did, is told too.
pub fn check(source: &str, options: &Options, bases: &dyn Bases) -> (Vec<Warning>, Option<Error>) {
    let located = |fault: crate::error::Fault| fault.locate(file(options), source);
    let (dockerfile, checks) = match read(source, options) {
        Ok(read) => read,
        Err(fault) => {
            let error = located(fault);
            return (before(source, options, error.line()), Some(error));
        }
    };
    let mut planner = match stages::Planner::new(&dockerfile, options, bases, checks) {
        Ok(planner) => planner,
        Err(fault) => return (Vec::new(), Some(located(fault))),
    };
    let outcome = planner.plan(options.target.is_none()).and_then(|_| planner.checks.verdict());
    (planner.checks.sorted(), outcome.err().map(located))
}

/// What the text says up to a line that cannot be read.
fn before(source: &str, options: &Options, line: usize) -> Vec<Warning> {
    let lines: Vec<&str> = source.split_inclusive('\n').take(line.saturating_sub(1)).collect();
    // The line may be one of an instruction that began above it.
    for count in (1..=lines.len()).rev().take(5) {
        if let Ok((_, checks)) = read(&lines[..count].concat(), options) {
            return checks.sorted();
        }
    }
    Vec::new()
}

fn file(options: &Options) -> &str {
    if options.file.is_empty() { "Dockerfile" } else { &options.file }
}

fn read(source: &str, options: &Options) -> Checked<(Dockerfile, Checks)> {
    let dockerfile = Dockerfile::parse(source)?;
    let mut checks = match (options.build_args.get("BUILDKIT_DOCKERFILE_CHECK"), &dockerfile.check) {
        (Some(options), _) => Checks::parse(options, crate::error::Place::default())?,
        (None, Some(directive)) => Checks::parse(&directive.value, directive.place)?,
        (None, None) => Checks::default(),
    };
    crate::check::text::check(&dockerfile, &mut checks);
    Ok((dockerfile, checks))
}
