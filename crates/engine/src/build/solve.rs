//! Steps are done: each once, each after those that it needs, those that need nothing of each other at the same time.
//!
//! Whoever asks for the result works on it: the calling thread, and helpers that are started when there is more to do than there
//! is somebody to do it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use ::build::graph::{Action, Graph, Mounted, Step, StepId};
use ::build::ignore::Patterns;
use base::{Digest, Timestamp};
use image::Resolved;
use rootfs::LayerStore;

use super::cache::{Cache, Record};
use super::cancel::Cancel;
use super::explain::Explain;
use super::files::{Owners, Remembered};
use super::options::BuildOptions;
use super::progress::BuildProgress;
use crate::Engine;
use crate::error::{Error, Result};

/// More steps at once only wait for each other.
const MOST: usize = 16;

/// The files of one who builds, of a repository, from the web.
pub(super) struct Tree {
    pub(super) root: OwnedFd,
    pub(super) ignore: Option<Patterns>,
    pub(super) remembered: Option<Arc<Remembered>>,
    pub(super) owners: Owners,
}

/// Who opens what is no image and no step's.
pub(super) trait Trees: Sync {
    /// A context, a repository, or a file from the web; an error for any other action.
    fn open(&self, action: &Action) -> Result<Tree>;
}

/// What a step has made.
#[derive(Clone)]
pub(super) enum Made {
    /// Layers, the lowest first.
    Layers(Arc<Vec<Digest>>),
    /// A directory.
    Tree(Arc<Tree>),
}

/// A step that made a layer.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) record: Record,
    pub(super) cached: bool,
}

/// All that the doing of steps needs.
pub(super) struct Solver<'b> {
    pub(super) engine: &'b Engine,
    pub(super) options: &'b BuildOptions,
    pub(super) graph: &'b Graph,
    pub(super) cache: &'b Cache,
    pub(super) layers: LayerStore,
    /// The images of the steps, by the digest of their manifest.
    pub(super) images: &'b BTreeMap<String, Resolved>,
    /// How long those took that were pulled for this build.
    pub(super) pulled: &'b BTreeMap<String, Duration>,
    pub(super) trees: &'b dyn Trees,
    pub(super) progress: &'b dyn BuildProgress,
    pub(super) cancel: &'b Cancel,
    /// No file's time is later.
    pub(super) epoch: Option<Timestamp>,
    pub(super) explain: &'b Explain,
    /// The number of the last vertex that was told of before the first step.
    pub(super) vertices: usize,
}

/// How far it is.
#[derive(Default)]
struct State {
    ready: BTreeSet<StepId>,
    /// How many of those that a step needs are not done.
    waiting: Vec<usize>,
    dependents: Vec<Vec<StepId>>,
    made: Vec<Option<Made>>,
    done: BTreeMap<StepId, Done>,
    left: usize,
    idle: usize,
    threads: usize,
    /// Steps that were told of.
    told: usize,
    failed: Option<(StepId, Error)>,
}

struct Work {
    state: Mutex<State>,
    changed: Condvar,
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) made: Vec<Option<Made>>,
    pub(super) done: BTreeMap<StepId, Done>,
}

impl Outcome {
    /// The layers of a step, lowest first.
    pub(super) fn layers(&self, id: StepId) -> Vec<Digest> {
        match self.made.get(id.0) {
            Some(Some(Made::Layers(layers))) => layers.to_vec(),
            _ => Vec::new(),
        }
    }
}

impl Solver<'_> {
    /// Does all steps. The error is that of the first that failed, with its number.
    pub(super) fn solve(&self) -> std::result::Result<Outcome, (Option<StepId>, Error)> {
        let count = self.graph.steps.len();
        let mut state = State {
            waiting: vec![0; count],
            dependents: vec![Vec::new(); count],
            made: vec![None; count],
            left: count,
            threads: 1,
            ..State::default()
        };
        for (n, step) in self.graph.steps.iter().enumerate() {
            let needed = needs(step);
            if let Some(StepId(bad)) = needed.iter().find(|id| id.0 >= n) {
                return Err((Some(StepId(n)), super::error::Error::NoFiles(*bad).into()));
            }
            state.waiting[n] = needed.len();
            for id in needed {
                state.dependents[id.0].push(StepId(n));
            }
            if state.waiting[n] == 0 {
                state.ready.insert(StepId(n));
            }
        }
        let work = Work { state: Mutex::new(state), changed: Condvar::new() };
        std::thread::scope(|scope| self.work(scope, &work));
        let state = work.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.failed {
            Some((id, error)) => Err((Some(id), error)),
            None => Ok(Outcome { made: state.made, done: state.done }),
        }
    }

    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>, work: &'s Work) {
        let mut state = work.lock();
        loop {
            if state.failed.is_some() || state.left == 0 {
                return;
            }
            let Some(id) = state.ready.pop_first() else {
                state.idle += 1;
                state = work.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            // Of nothing at all nobody is told.
            state.told += usize::from(!matches!(self.graph.steps[id.0].action, Action::Scratch));
            let vertex = self.vertices + state.told;
            self.help(scope, work, &mut state);
            let needed: BTreeMap<StepId, Made> = needs(&self.graph.steps[id.0])
                .into_iter()
                .filter_map(|id| Some((id, state.made[id.0].clone()?)))
                .collect();
            drop(state);
            let made =
                self.cancel.check().map_err(Error::from).and_then(|()| self.caught(id, &needed, vertex));
            state = work.lock();
            match made {
                Ok((made, done)) => {
                    state.made[id.0] = Some(made);
                    state.done.extend(done.map(|done| (id, done)));
                    state.left -= 1;
                    for next in std::mem::take(&mut state.dependents[id.0]) {
                        state.waiting[next.0] -= 1;
                        if state.waiting[next.0] == 0 {
                            state.ready.insert(next);
                        }
                    }
                }
                Err(error) => {
                    if state.failed.is_none() {
                        state.failed = Some((id, error));
                        // What still runs is for nothing.
                        self.cancel.stop();
                    }
                }
            }
            work.changed.notify_all();
        }
    }

    /// Does a step. A panic in it is an error of it: nobody else would ever learn that it has ended.
    fn caught(
        &self,
        id: StepId,
        needed: &BTreeMap<StepId, Made>,
        vertex: usize,
    ) -> Result<(Made, Option<Done>)> {
        let step = || self.step(id, needed, vertex);
        // What it was at is not looked at again: the build fails.
        catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| {
            let title = self.graph.steps[id.0].title.clone();
            Err(super::error::Error::Panicked(title).into())
        })
    }

    /// Starts one who helps, if there is more to do than there is somebody for.
    fn help<'s>(&'s self, scope: &'s Scope<'s, '_>, work: &'s Work, state: &mut State) {
        if state.ready.len() > state.idle && state.threads < MOST {
            let helper = std::thread::Builder::new().name("step".to_owned());
            // Where there can be no more threads, those that are have to do.
            if helper.spawn_scoped(scope, move || self.work(scope, work)).is_ok() {
                state.threads += 1;
            }
        }
    }
}

/// The steps that a step needs, each once.
pub(super) fn needs(step: &Step) -> BTreeSet<StepId> {
    use ::build::graph::Change;
    let mut needed = BTreeSet::new();
    match &step.action {
        Action::Run(run) => {
            needed.insert(run.base);
            for mount in &run.mounts {
                match &mount.what {
                    Mounted::Bind { from, .. } | Mounted::Cache { from: Some(from), .. } => {
                        needed.insert(*from);
                    }
                    _ => {}
                }
            }
        }
        Action::Files(files) => {
            needed.insert(files.base);
            for change in &files.changes {
                if let Change::Copy(copy) = change {
                    needed.insert(copy.from);
                }
            }
        }
        _ => {}
    }
    needed
}
