//! The verb: what is asked becomes a plan, and that is carried out.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use ::build::graph::{Action, Git, Plan, Warning};
use ::build::{NamedContext, NoCache, Options};
use base::{Digest, Timestamp};
use image::Reference;
use oci::image::Platform;
use registry::{Client, Credentials};
use rootfs::Scratch;

use super::bases::Images;
use super::cache::Cache;
use super::cancel::{self, Cancel};
use super::carry::Carry;
use super::error::{Error, failed};
use super::files::{Owners, Remembered};
use super::options::{BuildOptions, BuildWarning, Built, BuiltImage, SecretSource};
use super::progress::{BuildEvent, BuildProgress};
use super::solve::{Tree, Trees};
use super::sources::context::{self, Asked, Fetch, Opened, Spec};
use super::sources::git::Access;
use super::sources::{Places, git, http};
use crate::Engine;
use crate::error::Result;
use crate::images::tag;

/// The variable that says when everything was made.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

impl Engine {
    /// Builds what a Dockerfile says.
    pub fn build(&self, options: &BuildOptions, progress: &dyn BuildProgress) -> Result<Built> {
        let cancel = Cancel::default();
        let build = || {
            let built = self.build_until(options, progress, &cancel);
            // What it had done before it failed takes its place, too. Who interrupts it wants it to end.
            if built.is_err() && !cancel.was_interrupted() {
                self.trim_build_cache(self.config.build.keep);
            }
            built
        };
        cancel::with_signals(&cancel, build).map_err(failed("watch for signals"))?
    }

    /// What the checks say of a Dockerfile, and what is wrong with it, if something is: nothing is built.
    pub fn check_build(
        &self,
        options: &BuildOptions,
        progress: &dyn BuildProgress,
    ) -> Result<(Vec<BuildWarning>, Option<String>)> {
        let cancel = Cancel::default();
        let prepared = Prepared::of(self, options, progress, &cancel)?;
        let ingest = self.image_store()?.ingest()?;
        let images = Images::new(self, &ingest, options.pull, progress, &prepared.vertices);
        let dockerfile = &prepared.main.dockerfile;
        let (warnings, error) = ::build::check(&dockerfile.text, &prepared.asked(options)?, &images);
        Ok((warnings.iter().map(shown).collect(), error.map(|error| error.report())))
    }

    fn build_until(
        &self,
        options: &BuildOptions,
        progress: &dyn BuildProgress,
        cancel: &Cancel,
    ) -> Result<Built> {
        let names: Vec<Reference> =
            options.tags.iter().map(|name| tag::new_name(name)).collect::<Result<_>>()?;
        check_secrets(options)?;
        let cache = Cache::of(&self.instance);
        cache.make()?;
        let layers_stay = cache.share()?;
        // What builds that were killed have left.
        self.layer_store().sweep()?;
        self.reconcile_live(|_| true)?;
        self.sweep_removing();
        cache.sweep();
        let prepared = Prepared::of(self, options, progress, cancel)?;
        let store = self.image_store()?;
        let ingest = store.ingest()?;
        let images = Images::new(self, &ingest, options.pull, progress, &prepared.vertices);
        let dockerfile = &prepared.main.dockerfile;
        let plan = ::build::plan(&dockerfile.text, &prepared.asked(options)?, &images);
        let plan = plan.map_err(|error| {
            progress.note(&error.excerpt());
            Error::Dockerfile(error)
        })?;
        check_platform(&plan, &prepared.platform)?;
        check_consent(&plan, options)?;
        let what = format!(
            "{}\0{}\0{}",
            options.context,
            options.file.as_deref().unwrap_or_default(),
            options.target.as_deref().unwrap_or_default()
        );
        let carry = Carry {
            engine: self,
            options,
            cache: &cache,
            ingest: &ingest,
            images: &images.found(),
            pulled: &images.pulled(),
            trees: &prepared.trees,
            progress,
            cancel,
            epoch: prepared.epoch,
            names: &names,
            source: (&dockerfile.name, &dockerfile.text),
            what: &what,
            vertices: &prepared.vertices,
        };
        let carried = carry.out(&plan)?;
        // What is kept of it makes the next build faster, and no more.
        prepared.trees.remembered.save().ok();
        let built = Built {
            image: carried.image.map(|image| BuiltImage {
                id: image.id,
                manifest: image.manifest,
                media_type: image.media_type.clone(),
                manifest_size: image.manifest_size,
                platform: image::platform::display(&image.config.platform),
                names: names.iter().map(Reference::canonical).collect(),
            }),
            warnings: plan.warnings.iter().map(shown).collect(),
            steps: carried.steps,
        };
        drop(layers_stay);
        if carried.steps.0 > carried.steps.1 {
            // Who was killed just before we came may have died only now.
            self.layer_store().sweep().ok();
            self.reconcile_live(|_| true).ok();
            self.trim_build_cache(self.config.build.keep);
        }
        Ok(built)
    }
}

fn shown(warning: &Warning) -> BuildWarning {
    BuildWarning { rule: warning.rule.to_owned(), message: warning.message.clone(), lines: warning.lines }
}

/// What is known before the Dockerfile is planned.
struct Prepared<'e> {
    main: Arc<Opened>,
    platform: Platform,
    epoch: Option<Timestamp>,
    arguments: BTreeMap<String, String>,
    trees: Contexts<'e>,
    vertices: Cell<usize>,
}

impl<'e> Prepared<'e> {
    fn of(
        engine: &'e Engine,
        options: &BuildOptions,
        progress: &dyn BuildProgress,
        cancel: &'e Cancel,
    ) -> Result<Self> {
        let platform = crate::images::pull::platform_of(options.platform.as_deref())?;
        let mut arguments = options.build_args.clone();
        if let Ok(epoch) = std::env::var(EPOCH) {
            arguments.entry(EPOCH.to_owned()).or_insert(epoch);
        }
        let epoch =
            arguments.get(EPOCH).filter(|text| !text.is_empty()).map(|text| epoch(text)).transpose()?;
        let vertices = Cell::new(1);
        let began = Instant::now();
        let file = options.file.as_deref().unwrap_or("Dockerfile");
        let title = format!("[internal] load build definition from {file}");
        progress.event(1, BuildEvent::Began { title: &title });
        let opened = Contexts::open(engine, options, cancel);
        match &opened {
            Ok(_) => progress.event(1, BuildEvent::Done { took: began.elapsed() }),
            Err(_) if cancel.check().is_err() => {
                progress.event(1, BuildEvent::Canceled);
                return Err(Error::Interrupted.into());
            }
            Err(error) => {
                let error = error.to_string();
                progress.event(1, BuildEvent::Failed { error: &error, took: began.elapsed() });
            }
        }
        let trees = opened?;
        Ok(Self { main: trees.main.clone(), platform, epoch, arguments, trees, vertices })
    }

    /// What is asked of the Dockerfile.
    fn asked(&self, options: &BuildOptions) -> Result<Options> {
        let mut contexts = BTreeMap::new();
        for (name, value) in &options.contexts {
            let context = NamedContext::parse(value);
            let context = context.map_err(|e| Error::Option(format!("--build-context {name}: {e}")))?;
            contexts.insert(name.clone(), context);
        }
        let no_cache = match (options.no_cache, &options.no_cache_stages) {
            (true, _) => NoCache::All,
            (false, stages) if stages.is_empty() => NoCache::None,
            (false, stages) => NoCache::Stages(stages.clone()),
        };
        Ok(Options {
            file: self.main.dockerfile.name.clone(),
            target: options.target.clone(),
            build_args: self.arguments.clone(),
            platform: self.platform.clone(),
            build_platform: crate::images::pull::platform_of(None)?,
            labels: options.labels.clone(),
            no_cache,
            contexts,
            ignore: Some(self.main.ignore.clone()),
            ..Options::default()
        })
    }
}

/// The time that a number of seconds says.
fn epoch(text: &str) -> Result<Timestamp> {
    let seconds = text.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000_000));
    let invalid = || Error::Option(format!("{EPOCH}: `{text}` is no number of seconds since 1970"));
    Ok(Timestamp(seconds.ok_or_else(invalid)?))
}

/// What has to be allowed is asked before anything is done, and of steps that are in the cache, too: they were allowed once, by
/// somebody.
fn check_consent(plan: &Plan, options: &BuildOptions) -> Result<()> {
    for step in &plan.graph.steps {
        if let Action::Run(run) = &step.action {
            super::run::check_consent(run, options)?;
        }
    }
    Ok(())
}

/// That the file of a secret is missing is said before anything is done, not by the step that wants it.
fn check_secrets(options: &BuildOptions) -> Result<()> {
    for (id, source) in &options.secrets {
        if let SecretSource::File(path) = source {
            std::fs::metadata(path).map_err(|source| Error::Secret { id: id.clone(), source })?;
        }
    }
    Ok(())
}

/// Commands of another machine's run only where the kernel knows who runs them.
fn check_platform(plan: &Plan, wanted: &Platform) -> Result<()> {
    let own = image::platform::host();
    let runs = plan.graph.steps.iter().any(|step| matches!(step.action, Action::Run(_)));
    let related = wanted.architecture == own.architecture
        || matches!((&*own.architecture, &*wanted.architecture), ("amd64", "386") | ("arm64", "arm"));
    if !runs || wanted.os == own.os && (related || is_emulated(&wanted.architecture)) {
        return Ok(());
    }
    let (asked, own) = (image::platform::display(wanted), image::platform::display(&own));
    Err(Error::Platform { asked, own }.into())
}

/// Whether binfmt_misc has an emulator of this architecture, by the names that QEMU's are registered under.
fn is_emulated(architecture: &str) -> bool {
    let name = match architecture {
        "arm64" => "aarch64",
        "amd64" => "x86_64",
        "386" => "i386",
        other => other,
    };
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return false;
    }
    let path = format!("/proc/sys/fs/binfmt_misc/qemu-{name}");
    std::fs::read_to_string(path).is_ok_and(|text| text.starts_with("enabled"))
}

/// The contexts of a build, and what it fetches.
struct Contexts<'e> {
    main: Arc<Opened>,
    named: BTreeMap<String, String>,
    remembered: Arc<Remembered>,
    /// What is unpacked lies in it, and goes with it.
    work: Scratch,
    store: PathBuf,
    engine: &'e Engine,
    /// The agent that was lent to the build, for what others' addresses lead to.
    agent: Option<PathBuf>,
    cancel: &'e Cancel,
}

impl<'e> Contexts<'e> {
    fn open(engine: &'e Engine, options: &BuildOptions, cancel: &'e Cancel) -> Result<Self> {
        let cache = Cache::of(&engine.instance);
        cache.make()?;
        let spec = Spec::parse(&options.context)?;
        let work = engine.layer_store().scratch()?;
        let upper = work.upper();
        let agent = options.ssh.get("default").cloned();
        let places = Places { store: cache.dir(), work: &upper };
        let fetch = Elsewhere { engine, places, access: Access::of_user(agent.as_deref()), cancel };
        let asked = Asked { spec: &spec, dockerfile: options.file.as_deref(), work: &upper };
        let main = context::open(&asked, &mut std::io::stdin().lock(), &fetch)?;
        let place = match &spec {
            Spec::Directory(path) => std::fs::canonicalize(path).unwrap_or_else(|_| path.clone()),
            _ => PathBuf::from("-"),
        };
        let name = Digest::of(place.as_os_str().as_encoded_bytes()).hex();
        let remembered = Remembered::open(&cache.dir().join("digests").join(name));
        Ok(Self {
            main: Arc::new(main),
            named: options.contexts.clone(),
            remembered: Arc::new(remembered),
            work,
            store: cache.dir().to_owned(),
            engine,
            agent,
            cancel,
        })
    }

    fn tree(&self, opened: &Opened) -> Result<Tree> {
        let root = opened.root.try_clone().map_err(failed("open a context"))?;
        let ignore = (!opened.ignore.is_empty()).then(|| opened.ignore.clone());
        let remembered = opened.lasting.then(|| self.remembered.clone());
        Ok(Tree { root, ignore, remembered, owners: opened.owners })
    }
}

impl Trees for Contexts<'_> {
    fn open(&self, action: &Action) -> Result<Tree> {
        let work = self.work.upper();
        let places = Places { store: &self.store, work: &work };
        let access = Access::of_others(self.agent.as_deref());
        let fetch = Elsewhere { engine: self.engine, places, access, cancel: self.cancel };
        match action {
            Action::Context(context) => match &context.name {
                None => self.tree(&self.main),
                Some(name) => {
                    let spec = self.named.get(name).map_or(name.as_str(), String::as_str);
                    self.tree(&context::open_named(&Spec::parse(spec)?, &work, &fetch)?)
                }
            },
            Action::Git(git) => {
                let (root, _) = fetch.git(git)?;
                Ok(Tree { root, ignore: None, remembered: None, owners: Owners::Root })
            }
            Action::Http(file) => {
                let fetched = fetch.with(|client| Ok(http::fetch(file, places, client, self.cancel)?))?;
                Ok(Tree { root: fetched.root, ignore: None, remembered: None, owners: Owners::Root })
            }
            _ => Err(Error::NoFiles(0).into()),
        }
    }
}

/// Fetches what is elsewhere. Who asks the web is made only when somebody has to be asked.
struct Elsewhere<'f> {
    engine: &'f Engine,
    places: Places<'f>,
    access: Access<'f>,
    cancel: &'f Cancel,
}

impl Elsewhere<'_> {
    fn with<T>(&self, fetch: impl FnOnce(&Client) -> Result<T>) -> Result<T> {
        fetch(&self.engine.registry_client_with(Credentials::default())?)
    }
}

impl Fetch for Elsewhere<'_> {
    fn http(&self, url: &str) -> Result<File> {
        self.with(|client| Ok(http::open(url, self.places, client, self.cancel)?))
    }

    fn git(&self, git: &Git) -> Result<(OwnedFd, String)> {
        let fetched = git::fetch(git, self.places, self.access, self.cancel)?;
        Ok((fetched.root, fetched.commit))
    }
}
