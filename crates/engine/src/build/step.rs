//! One step: found in the cache, or done.
//!
//! A step is looked for twice. First by what it does and by the layers that it does it to, and copies from: that costs a hash of
//! a few hundred bytes. Then, if it copies, by the content of what it copies: so another way to the same files finds what
//! follows from them. What the second look finds, the first finds the next time.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ::build::graph::{Action, Change, Files, Mounted, Run, StepId};
use base::Digest;
use base::fs::At;
use rootfs::Scratch;
use rustix::fs::{CWD, Mode, OFlags};

use super::cache::Record;
use super::copied::{self, all_of};
use super::error::Error;
use super::files::{self, Source};
use super::key::{self, Key};
use super::mounts::{self, Mounts, View};
use super::progress::BuildEvent;
use super::run::Job;
use super::solve::{Done, Made, Solver, Tree};
use crate::error::Result;

/// Files that a step reads, beside those that it is upon.
struct Read {
    /// As people know them.
    name: String,
    from: StepId,
    /// What it would be to copy them.
    change: Change,
}

/// The layer of a step and what it is upon.
type Layered = (Made, Option<Done>);

impl Solver<'_> {
    /// Does a step, or finds it done, and tells of it.
    pub(super) fn step(&self, id: StepId, needed: &BTreeMap<StepId, Made>, vertex: usize) -> Result<Layered> {
        let step = &self.graph.steps[id.0];
        if matches!(step.action, Action::Scratch) {
            return Ok((Made::Layers(Arc::default()), None));
        }
        let began = Instant::now();
        let tell = |event: BuildEvent<'_>| self.progress.event(vertex, event);
        tell(BuildEvent::Began { title: &step.title });
        let made = match &step.action {
            Action::Scratch => Ok((Made::Layers(Arc::default()), None)),
            Action::Image(image) => self.image(&image.digest).map(|layers| (layers, None)),
            Action::Context(_) | Action::Git(_) | Action::Http(_) => {
                self.trees.open(&step.action).map(|tree| (Made::Tree(Arc::new(tree)), None))
            }
            Action::Run(run) => Doing { solver: self, id, needed, vertex, began }.run(run),
            Action::Files(files) => Doing { solver: self, id, needed, vertex, began }.files(files),
        };
        match &made {
            Ok((_, Some(done))) if done.cached => tell(BuildEvent::Cached),
            Ok(_) if let Action::Image(image) = &step.action => match self.pulled.get(&image.digest) {
                Some(took) => tell(BuildEvent::Done { took: *took + began.elapsed() }),
                None => tell(BuildEvent::Cached),
            },
            Ok(_) => tell(BuildEvent::Done { took: began.elapsed() }),
            Err(_) if self.cancel.check().is_err() => tell(BuildEvent::Canceled),
            Err(error) => tell(BuildEvent::Failed { error: &error.to_string(), took: began.elapsed() }),
        }
        made
    }

    /// The layers of an image, unpacked.
    fn image(&self, digest: &str) -> Result<Made> {
        let image = self.images.get(digest).ok_or_else(|| Error::NoImage(digest.to_owned()))?;
        let missing = image.layers.iter().any(|layer| !self.layers.has(&layer.diff_id));
        if missing {
            self.engine.unpack_missing(image, &base::progress::Silent)?;
        }
        Ok(Made::Layers(Arc::new(image.diff_ids().collect())))
    }
}

/// A step that is being done.
struct Doing<'d, 'b> {
    solver: &'d Solver<'b>,
    id: StepId,
    needed: &'d BTreeMap<StepId, Made>,
    vertex: usize,
    began: Instant,
}

impl Doing<'_, '_> {
    fn made(&self, id: StepId) -> Result<&Made> {
        Ok(self.needed.get(&id).ok_or(Error::NoFiles(id.0))?)
    }

    fn layers(&self, id: StepId) -> Result<Arc<Vec<Digest>>> {
        match self.made(id)? {
            Made::Layers(layers) => Ok(layers.clone()),
            Made::Tree(_) => Err(Error::NoFiles(id.0).into()),
        }
    }

    fn run(&self, run: &Run) -> Result<Layered> {
        let base = self.layers(run.base)?;
        let mut reads = Vec::new();
        for mount in &run.mounts {
            let (from, source) = match &mount.what {
                Mounted::Bind { from, source, .. } | Mounted::Cache { from: Some(from), source, .. } => {
                    (*from, source)
                }
                _ => continue,
            };
            let change = all_of(from, source, "/");
            reads.push(Read { name: format!("the files mounted on {}", mount.target), from, change });
        }
        let options = self.solver.options;
        let identify = |key: &mut Key| {
            key.layers("the files below", &base);
            key::run(key, run);
            key.part("--add-host", format!("{:?}", options.hosts).as_bytes());
            // What a command finds out of itself. Memory and processors only make it slower, or fail.
            key.part("--ulimit", format!("{:?}", options.limits.ulimits).as_bytes());
            key.part("--shm-size", format!("{:?}", options.limits.shm_size).as_bytes());
            key.part("--network", format!("{:?}", options.network).as_bytes());
            self.more(key);
        };
        self.layered("run", &base, &reads, &identify, &|| {
            let view = |id: StepId, source: &str| self.view(id, source);
            let fill = |id: StepId, source: &str, place: &Path| self.fill(id, source, place);
            let identity = |id: StepId, source: &str| match self.made(id)? {
                Made::Layers(layers) => Ok(layers.iter().map(Digest::hex).collect()),
                Made::Tree(_) => Ok(self.digest(id, &all_of(id, source, "/"))?.hex()),
            };
            let solver = self.solver;
            let context = mounts::Context {
                engine: solver.engine,
                options,
                cache: solver.cache,
                cancel: solver.cancel,
                view: &view,
                fill: &fill,
                identity: &identity,
            };
            let mounts = Mounts::find(run, &context)?;
            let began = Instant::now();
            let listener = |errors, bytes: &[u8]| {
                let event = BuildEvent::Output { errors, bytes, after: began.elapsed() };
                solver.progress.event(self.vertex, event);
            };
            let (engine, cancel, base) = (solver.engine, solver.cancel, &base[..]);
            Job { engine, options, cancel, run, base, listener: &listener }.run(mounts)
        })
    }

    fn files(&self, files: &Files) -> Result<Layered> {
        let base = self.layers(files.base)?;
        let reads: Vec<Read> = files
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Copy(copy) => Some(Read {
                    name: format!("the files copied to {}", copy.target),
                    from: copy.from,
                    change: change.clone(),
                }),
                _ => None,
            })
            .collect();
        let identify = |key: &mut Key| {
            if !files.link {
                key.layers("the files below", &base);
            }
            key::files(key, files);
            self.more(key);
        };
        self.layered("files", &base, &reads, &identify, &|| {
            let scratch = self.solver.layers.scratch()?;
            let below: &[Digest] = if files.link { &[] } else { &base };
            let overlay = scratch.overlay(below)?;
            let target = rootfs::pack::written(&overlay)?;
            let trees = Opened::of(self, reads.iter().map(|read| read.from))?;
            files::apply(&files.changes, &|id| trees.source(id), target.as_fd(), self.solver.epoch)?;
            Ok(scratch)
        })
    }

    /// What else makes a layer another one.
    fn more(&self, key: &mut Key) {
        if let Some(epoch) = self.solver.epoch {
            key.part("SOURCE_DATE_EPOCH", &epoch.0.to_le_bytes());
        }
    }

    /// Finds the layer of a step, or makes it with `make`.
    fn layered(
        &self,
        kind: &'static str,
        base: &Arc<Vec<Digest>>,
        reads: &[Read],
        identify: &dyn Fn(&mut Key),
        make: &dyn Fn() -> Result<Scratch>,
    ) -> Result<Layered> {
        let solver = self.solver;
        let step = &solver.graph.steps[self.id.0];
        let trees_below = reads.iter().all(|read| matches!(self.made(read.from), Ok(Made::Tree(_))));
        let mut key = Key::new(kind);
        identify(&mut key);
        let mut contents = BTreeMap::new();
        for (n, read) in reads.iter().enumerate() {
            match self.made(read.from)? {
                Made::Layers(layers) => key.layers(&read.name, layers),
                // What is no layer has no other name than what is in it.
                Made::Tree(_) => {
                    let content = self.content(read)?;
                    contents.insert(n, content);
                    key.part(&read.name, content.hex().as_bytes());
                }
            }
        }
        let (fast, parts) = key.finish();
        let forced = step.no_cache || solver.options.no_cache;
        let hit = |record: Record| {
            let mut layers = base.to_vec();
            layers.push(record.layer);
            (Made::Layers(Arc::new(layers)), Some(Done { record, cached: true }))
        };
        if !forced && let Some(record) = self.look(&fast)? {
            return Ok(hit(record));
        }
        // By content, where that is another key.
        let slow = if trees_below {
            None
        } else {
            let mut key = Key::new(kind);
            identify(&mut key);
            for (n, read) in reads.iter().enumerate() {
                let content = match contents.get(&n) {
                    Some(content) => *content,
                    None => self.content(read)?,
                };
                key.part(&read.name, content.hex().as_bytes());
            }
            Some(key.finish().0)
        };
        if !forced
            && let Some(slow) = &slow
            && let Some(record) = self.look(slow)?
        {
            solver.cache.put(&fast, &record)?;
            return Ok(hit(record));
        }
        let _claim = solver.cache.claim(slow.as_ref().unwrap_or(&fast), solver.cancel)?;
        // Whoever did it while we waited has done it for us.
        if !forced && let Some(record) = self.look(slow.as_ref().unwrap_or(&fast))? {
            return Ok(hit(record));
        }
        let mut parts = parts;
        for read in reads {
            if let (Made::Tree(tree), Change::Copy(copy)) = (self.made(read.from)?, &read.change) {
                let digest = |change: &Change| self.digest(read.from, change);
                parts.extend(super::explain::files(tree, copy, &digest));
            }
        }
        if let Some(why) = solver.explain.why(&step.title, forced, &parts) {
            solver.progress.event(self.vertex, BuildEvent::Note { text: &why });
        }
        let scratch = make()?;
        solver.cancel.check()?;
        let sealed = scratch.seal(solver.epoch)?;
        let kept = sealed.layer();
        let record = Record::new(kept.diff_id, kept.size, self.began.elapsed(), &step.title);
        // A context that was changed meanwhile: nobody knows which of its states was copied.
        let mut same = true;
        for (n, content) in &contents {
            same &= self.content(&reads[*n])? == *content;
        }
        if same {
            solver.cache.put(&fast, &record)?;
            if let Some(slow) = &slow {
                solver.cache.put(slow, &record)?;
            }
        }
        // After its record: a layer that nothing names would be nobody's to remove.
        sealed.publish()?;
        let mut layers = base.to_vec();
        layers.push(record.layer);
        Ok((Made::Layers(Arc::new(layers)), Some(Done { record, cached: false })))
    }

    /// A record whose layer is there.
    fn look(&self, key: &Digest) -> Result<Option<Record>> {
        let solver = self.solver;
        let Some(record) = solver.cache.find(key)? else { return Ok(None) };
        if !solver.layers.has(&record.layer) {
            solver.cache.remove(key)?;
            return Ok(None);
        }
        solver.cache.touch(key);
        Ok(Some(record))
    }

    fn content(&self, read: &Read) -> Result<Digest> {
        self.digest(read.from, &read.change)
    }

    fn digest(&self, from: StepId, change: &Change) -> Result<Digest> {
        let trees = Opened::of(self, [from])?;
        files::digest(change, &|id| trees.source(id))
    }

    /// The files of a step, as something to be mounted: so that what is at `source` is there.
    fn view(&self, id: StepId, source: &str) -> Result<View> {
        match self.made(id)? {
            Made::Layers(layers) => Ok(View::Layers(self.solver.layers.stack(layers)?)),
            Made::Tree(_) => {
                let scratch = self.solver.layers.scratch()?;
                let trees = Opened::of(self, [id])?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let upper = scratch.upper();
                let target = rustix::fs::openat(CWD, &upper, flags, Mode::empty()).at("open", &upper)?;
                let change = all_of(id, source, &format!("/{}", copied::NAME));
                files::apply(&[change], &|id| trees.source(id), target.as_fd(), None)?;
                copied::only_files(&upper.join(copied::NAME))?;
                Ok(View::Copied(scratch))
            }
        }
    }

    /// Copies what is at a path of a step into a directory.
    fn fill(&self, id: StepId, source: &str, place: &Path) -> Result<()> {
        let trees = Opened::of(self, [id])?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(CWD, place, flags, Mode::empty()).at("open", place)?;
        files::apply(&[all_of(id, source, "/")], &|id| trees.source(id), target.as_fd(), None)
    }
}

/// The trees of steps, open.
struct Opened {
    layers: BTreeMap<StepId, OwnedFd>,
    trees: BTreeMap<StepId, Arc<Tree>>,
}

impl Opened {
    fn of(doing: &Doing<'_, '_>, ids: impl IntoIterator<Item = StepId>) -> Result<Self> {
        let mut opened = Self { layers: BTreeMap::new(), trees: BTreeMap::new() };
        for id in ids {
            match doing.made(id)? {
                Made::Tree(tree) => drop(opened.trees.insert(id, tree.clone())),
                Made::Layers(_) if opened.layers.contains_key(&id) => {}
                Made::Layers(layers) => {
                    let mut lowers = doing.solver.layers.stack(layers)?;
                    if lowers.is_empty() {
                        // An empty directory.
                        lowers.push(doing.solver.engine.instance.spare());
                    }
                    opened.layers.insert(id, rootfs::pack::merged(&lowers)?);
                }
            }
        }
        Ok(opened)
    }

    fn source(&self, id: StepId) -> Result<Source<'_>> {
        if let Some(tree) = self.trees.get(&id) {
            let source = Source::context(tree.root.as_fd(), tree.ignore.as_ref(), tree.remembered.as_deref());
            return Ok(Source { owners: tree.owners, ..source });
        }
        let root = self.layers.get(&id).ok_or(Error::NoFiles(id.0))?;
        Ok(Source::tree(root.as_fd()))
    }
}
