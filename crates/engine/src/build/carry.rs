//! A plan is carried out: its steps are done, and what they make goes where it shall.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use ::build::graph::{Action, Plan};
use base::{Digest, Timestamp};
use image::{Ingest, Reference, Resolved};

use super::cache::Cache;
use super::cancel::Cancel;
use super::error::Error;
use super::excerpt::excerpt;
use super::explain::Explain;
use super::export::Export;
use super::options::{BuildForm, BuildOptions, BuildOutput};
use super::progress::BuildProgress;
use super::result::Parts;
use super::solve::{Outcome, Solver, Trees};
use crate::Engine;
use crate::error::Result;

/// What carrying out a plan needs beside it.
pub(super) struct Carry<'c> {
    pub(super) engine: &'c Engine,
    pub(super) options: &'c BuildOptions,
    pub(super) cache: &'c Cache,
    pub(super) ingest: &'c Ingest,
    pub(super) images: &'c BTreeMap<String, Resolved>,
    /// How long those took that were pulled for this build.
    pub(super) pulled: &'c BTreeMap<String, Duration>,
    pub(super) trees: &'c dyn Trees,
    pub(super) progress: &'c dyn BuildProgress,
    pub(super) cancel: &'c Cancel,
    pub(super) epoch: Option<Timestamp>,
    pub(super) names: &'c [Reference],
    /// The Dockerfile, for errors: its name, and its text.
    pub(super) source: (&'c str, &'c str),
    /// What is built, for [`Explain`].
    pub(super) what: &'c str,
    pub(super) vertices: &'c Cell<usize>,
}

/// What came of a plan.
pub(super) struct Carried {
    /// The image, if one was asked for.
    pub(super) image: Option<Resolved>,
    /// How many steps there were that make a layer, and how many of them were cached.
    pub(super) steps: (usize, usize),
}

impl Carry<'_> {
    pub(super) fn out(&self, plan: &Plan) -> Result<Carried> {
        let explain = Explain::of(self.cache, self.what, self.options.explain);
        let layers = self.engine.layer_store();
        let solver = Solver {
            engine: self.engine,
            options: self.options,
            graph: &plan.graph,
            cache: self.cache,
            layers: layers.clone(),
            images: self.images,
            pulled: self.pulled,
            trees: self.trees,
            progress: self.progress,
            cancel: self.cancel,
            epoch: self.epoch,
            explain: &explain,
            vertices: self.vertices.get(),
        };
        let solved = solver.solve();
        // Bridge, table and groups that runs have shared.
        if plan.graph.steps.iter().any(|step| matches!(step.action, Action::Run(_)))
            && solved.as_ref().map_or(true, |outcome| outcome.done.values().any(|done| !done.cached))
        {
            self.engine.sweep_unused();
        }
        let outcome = solved.map_err(|(id, error)| {
            if self.cancel.was_interrupted() {
                return Error::Interrupted.into();
            }
            if let Some(lines) = id.and_then(|id| plan.graph.steps[id.0].lines) {
                self.progress.note(&excerpt(self.source.0, self.source.1, lines));
            }
            error
        })?;
        explain.keep();
        self.vertices.set(self.vertices.get() + plan.graph.steps.len());
        let image = self.deliver(plan, &outcome, &layers)?;
        let cached = outcome.done.values().filter(|done| done.cached).count();
        let steps = (outcome.done.len(), cached);
        Ok(Carried { image, steps })
    }

    fn deliver(
        &self,
        plan: &Plan,
        outcome: &Outcome,
        layers: &rootfs::LayerStore,
    ) -> Result<Option<Resolved>> {
        let store =
            [BuildOutput { form: BuildForm::Image, destination: None, names: Vec::new(), push: false }];
        let outputs: &[BuildOutput] =
            if self.options.outputs.is_empty() { &store } else { &self.options.outputs };
        let wants_image = |output: &BuildOutput| {
            !matches!(output.form, BuildForm::Tar | BuildForm::Local | BuildForm::CacheOnly)
        };
        let parts =
            Parts { ingest: self.ingest, cache: self.cache, layers, images: self.images, epoch: self.epoch };
        let image = if outputs.iter().any(wants_image) {
            Some(parts.image(plan, outcome, &self.options.annotations)?)
        } else {
            None
        };
        let stack: Vec<Digest> = outcome.layers(plan.output);
        let export = Export {
            engine: self.engine,
            ingest: self.ingest,
            layers,
            stack: &stack,
            image: image.as_ref(),
            names: self.names,
            epoch: self.epoch,
            progress: self.progress,
        };
        for output in outputs {
            self.cancel.check()?;
            self.vertices.set(self.vertices.get() + 1);
            export.send(output, self.vertices.get())?;
        }
        Ok(image)
    }
}
