//! Plans made by hand, carried out: real containers of a busybox.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use ::build::graph::{
    Action, Change, Files, Graph, Mode, Mount, Mounted, Network, Plan, Run, Sharing, Step, StepId,
};
use base::Timestamp;
use oci::image::{History, ImageConfig};
use state::options::NetworkMode;

use super::cache::Cache;
use super::cancel::Cancel;
use super::carry::{Carried, Carry};
use super::error::Error;
use super::options::{BuildForm, BuildOptions, BuildOutput, SecretSource};
use super::progress::{BuildEvent, BuildProgress};
use super::solve::{Tree, Trees};
use crate::error::Result;
use crate::{Engine, Settings};

struct Fixture {
    engine: Engine,
    dir: tempfile::TempDir,
}

/// Overlay wants a real file system.
fn fixture() -> Fixture {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, "").unwrap();
    let settings =
        Settings { root: Some(dir.path().join("root")), config: Some(config), ..Settings::default() };
    Fixture { engine: Engine::open(&settings).unwrap(), dir }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.engine.reconcile().unwrap();
    }
}

#[derive(Default)]
struct Heard {
    said: Mutex<String>,
    cached: Mutex<Vec<usize>>,
    notes: Mutex<Vec<String>>,
}

impl BuildProgress for Heard {
    fn event(&self, vertex: usize, event: BuildEvent<'_>) {
        match event {
            BuildEvent::Output { bytes, .. } => {
                self.said.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
            }
            BuildEvent::Cached => self.cached.lock().unwrap().push(vertex),
            BuildEvent::Note { text } => self.notes.lock().unwrap().push(text.to_owned()),
            _ => {}
        }
    }

    fn note(&self, _: &str) {}
}

struct NoTrees;

impl Trees for NoTrees {
    fn open(&self, _: &Action) -> Result<Tree> {
        Err(Error::NoFiles(0).into())
    }
}

fn busybox() -> Vec<u8> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    found.expect("no busybox: install busybox-static")
}

fn step(action: Action, title: &str) -> Step {
    Step { action, title: title.to_owned(), lines: Some((1, 1)), no_cache: false }
}

fn run(base: usize, script: &str) -> Run {
    Run {
        base: StepId(base),
        arguments: ["/bin/busybox", "sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        unkeyed: Vec::new(),
        directory: "/".to_owned(),
        user: String::new(),
        mounts: Vec::new(),
        network: Network::None,
        insecure: false,
        pipes: BTreeMap::new(),
    }
}

/// Step 1 has a busybox in it.
struct Made(Plan);

impl Made {
    fn new() -> Self {
        let write = Change::Write {
            target: "/bin/busybox".to_owned(),
            content: busybox(),
            owner: None,
            mode: Some(Mode::Octal(0o755)),
        };
        let files = Files { base: StepId(0), changes: vec![write], link: false };
        let mut made = Self(Plan {
            graph: Graph { steps: vec![step(Action::Scratch, "scratch")] },
            output: StepId(0),
            config: ImageConfig::default(),
            layers: Vec::new(),
            base: None,
            warnings: Vec::new(),
        });
        made.0.config.platform.os = "linux".to_owned();
        made.0.config.platform.architecture = "amd64".to_owned();
        made.add(Action::Files(files), "COPY busybox");
        made
    }

    fn add(&mut self, action: Action, title: &str) -> usize {
        let plan = &mut self.0;
        plan.graph.steps.push(step(action, title));
        let id = plan.graph.steps.len() - 1;
        plan.output = StepId(id);
        plan.layers.push(StepId(id));
        plan.config.history.push(History { created_by: Some(title.to_owned()), ..History::default() });
        id
    }

    fn run(&mut self, run: Run) -> usize {
        let title = format!("RUN {}", run.arguments[3]);
        self.add(Action::Run(Box::new(run)), &title)
    }
}

fn options() -> BuildOptions {
    BuildOptions { network: NetworkMode::None, ..BuildOptions::default() }
}

fn carry(fixture: &Fixture, plan: &Plan, options: &BuildOptions, heard: &Heard) -> Result<Carried> {
    carry_with(fixture, plan, options, heard, None, &Cancel::default())
}

/// With other trees than none.
fn carry_from(fixture: &Fixture, plan: &Plan, trees: &dyn Trees) -> Result<Carried> {
    carry_all(fixture, plan, &options(), &Heard::default(), (None, &Cancel::default(), trees))
}

fn carry_with(
    fixture: &Fixture,
    plan: &Plan,
    options: &BuildOptions,
    heard: &Heard,
    epoch: Option<Timestamp>,
    cancel: &Cancel,
) -> Result<Carried> {
    carry_all(fixture, plan, options, heard, (epoch, cancel, &NoTrees))
}

fn carry_all(
    fixture: &Fixture,
    plan: &Plan,
    options: &BuildOptions,
    heard: &Heard,
    (epoch, cancel, trees): (Option<Timestamp>, &Cancel, &dyn Trees),
) -> Result<Carried> {
    let cache = Cache::of(&fixture.engine.instance);
    cache.make()?;
    let _lock = cache.share()?;
    let store = fixture.engine.image_store()?;
    let ingest = store.ingest()?;
    let names = ["made:1".parse().unwrap()];
    Carry {
        engine: &fixture.engine,
        options,
        cache: &cache,
        ingest: &ingest,
        images: &BTreeMap::new(),
        pulled: &BTreeMap::new(),
        trees,
        progress: heard,
        cancel,
        epoch,
        names: &names,
        source: ("Dockerfile", "FROM scratch\n"),
        what: "test",
        vertices: &Cell::new(0),
    }
    .out(plan)
}

/// The files of what was built.
fn tree(fixture: &Fixture, plan: &Plan) -> PathBuf {
    let out = fixture.dir.path().join("out");
    std::fs::remove_dir_all(&out).ok();
    let output = BuildOutput {
        form: BuildForm::Local,
        destination: Some(out.clone()),
        names: Vec::new(),
        push: false,
    };
    let options = BuildOptions { outputs: vec![output], ..options() };
    carry(fixture, plan, &options, &Heard::default()).unwrap();
    out
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn steps_are_done_once_and_found_again() {
    let fixture = fixture();
    let mut made = Made::new();
    let one = made.run(run(1, "echo one >/one; echo said; echo more >&2"));
    made.run(run(one, "cat /one >/two"));
    let heard = Heard::default();
    let first = carry(&fixture, &made.0, &options(), &heard).unwrap();
    assert_eq!(first.steps, (3, 0));
    let said = heard.said.lock().unwrap().clone();
    assert!(said.contains("said\n") && said.contains("more\n"), "{said}");
    let heard = Heard::default();
    let second = carry(&fixture, &made.0, &options(), &heard).unwrap();
    assert_eq!((second.steps, &**heard.said.lock().unwrap()), ((3, 3), ""));
    assert_eq!(first.image.unwrap().id, second.image.unwrap().id);
    let out = tree(&fixture, &made.0);
    assert_eq!(text(&out.join("two")), "one\n");
    // What was made to mount on is not there.
    let mut names = base::fs::names(&out).unwrap();
    names.sort();
    assert_eq!(names, ["bin", "one", "two"]);
    // Without the cache everything is done again.
    let all = BuildOptions { no_cache: true, ..options() };
    assert_eq!(carry(&fixture, &made.0, &all, &Heard::default()).unwrap().steps, (3, 0));
}

#[test]
fn a_command_that_fails_says_so_with_its_code() {
    let fixture = fixture();
    let mut made = Made::new();
    made.run(run(1, "exit 2"));
    let error = carry(&fixture, &made.0, &options(), &Heard::default()).err().unwrap();
    let text = "process \"/bin/busybox sh -c exit 2\" did not complete successfully: exit code: 2";
    assert_eq!(error.to_string(), text);
    // What was done before is in the cache.
    assert_eq!(fixture.engine.build_cache().unwrap().len(), 1);
    assert!(base::fs::names(&fixture.engine.instance.live_containers()).unwrap().is_empty());
}

#[test]
fn independent_steps_run_at_once() {
    let fixture = fixture();
    let mut made = Made::new();
    // Each waits for the other, through a cache mount that they share.
    let cache = Mount {
        target: "/shared".to_owned(),
        what: Mounted::Cache {
            id: "x".to_owned(),
            from: None,
            source: String::new(),
            sharing: Sharing::Shared,
            mode: 0o755,
            uid: 0,
            gid: 0,
            read_only: false,
        },
    };
    let script = |own: &str, other: &str| {
        format!(
            "touch /shared/{own}; n=0; until [ -e /shared/{other} ]; do n=$((n+1)); [ $n -lt 500 ] || exit 1; usleep 10000 2>/dev/null || sleep 0.01; done; touch /{own}"
        )
    };
    let a = made.run(Run { mounts: vec![cache.clone()], ..run(1, &script("a", "b")) });
    let b = made.run(Run { mounts: vec![cache], ..run(1, &script("b", "a")) });
    let mount = |from| Mount {
        target: "/other".to_owned(),
        what: Mounted::Bind { from: StepId(from), source: "/".to_owned(), writable: true },
    };
    made.run(Run { mounts: vec![mount(a)], ..run(b, "test -e /other/a && touch /other/thrown-away") });
    carry(&fixture, &made.0, &options(), &Heard::default()).unwrap();
}

#[test]
fn secrets_are_seen_and_leave_nothing() {
    let fixture = fixture();
    let (id, required) = ("token".to_owned(), true);
    let mounts = vec![
        Mount {
            target: "/run/secrets/token".to_owned(),
            what: Mounted::Secret { id: id.clone(), required, mode: 0o400, uid: 0, gid: 0 },
        },
        Mount {
            target: "/dev/null-of-no-meaning".to_owned(),
            what: Mounted::SecretEnv { id: id.clone(), required, name: "TOKEN".to_owned() },
        },
        Mount { target: "/t".to_owned(), what: Mounted::Tmpfs { size: Some(1 << 20) } },
    ];
    let mut made = Made::new();
    let script = "test ${#TOKEN} = 9 && test $(wc -c </run/secrets/token) = 9 && cp /run/secrets/token /t/";
    made.run(Run { mounts, ..run(1, script) });
    let refused = carry(&fixture, &made.0, &options(), &Heard::default()).err().unwrap();
    assert_eq!(refused.to_string(), "secret token: not found");
    let file = fixture.dir.path().join("secret");
    std::fs::write(&file, "hush-hush").unwrap();
    let mut options = options();
    options.secrets.insert(id, SecretSource::File(file.clone()));
    carry(&fixture, &made.0, &options, &Heard::default()).unwrap();
    std::fs::remove_file(file).unwrap();
    let grep = std::process::Command::new("grep")
        .args(["-rl", "hush-hush"])
        .arg(fixture.dir.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
    let out = tree(&fixture, &made.0);
    assert_eq!(base::fs::names(&out).unwrap(), ["bin"]);
}

#[test]
fn the_same_at_any_time_is_the_same_image_with_an_epoch() {
    let epoch = Some(Timestamp(1_700_000_000_000_000_000));
    let build = |fixture: &Fixture| {
        let mut made = Made::new();
        made.run(run(1, "mkdir /d; echo x >/d/f; ln -s f /d/l"));
        carry_with(fixture, &made.0, &options(), &Heard::default(), epoch, &Cancel::default())
            .unwrap()
            .image
            .unwrap()
    };
    let one = build(&fixture());
    std::thread::sleep(Duration::from_millis(1100));
    let two = build(&fixture());
    assert_eq!((one.id, one.manifest), (two.id, two.manifest));
}

#[test]
fn an_interrupted_build_ends_at_once_and_leaves_nothing() {
    let fixture = fixture();
    let mut made = Made::new();
    made.run(run(1, "sleep 100"));
    let cancel = Cancel::default();
    std::thread::scope(|scope| {
        let build = scope.spawn(|| {
            carry_with(&fixture, &made.0, &options(), &Heard::default(), None, &cancel).err().unwrap()
        });
        std::thread::sleep(Duration::from_millis(400));
        cancel.interrupt();
        assert_eq!(build.join().unwrap().to_string(), "the build was interrupted");
    });
    assert!(base::fs::names(&fixture.engine.instance.live_containers()).unwrap().is_empty());
    assert!(fixture.engine.layer_store().leftovers().unwrap().is_empty());
}

#[test]
fn a_step_that_panics_fails_and_holds_nobody_up() {
    struct Panics;
    impl Trees for Panics {
        fn open(&self, _: &Action) -> Result<Tree> {
            panic!("a mistake of ours");
        }
    }
    let fixture = fixture();
    let mut made = Made::new();
    made.run(run(1, "sleep 100"));
    made.add(Action::Context(::build::graph::Context { name: None }), "load the context");
    let began = std::time::Instant::now();
    let error = carry_from(&fixture, &made.0, &Panics).err().unwrap();
    assert!(error.to_string().contains("load the context"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_record_whose_layer_is_gone_is_none_and_pruning_frees_all() {
    let fixture = fixture();
    let mut made = Made::new();
    made.run(run(1, "echo one >/one"));
    let options = options();
    let first = carry(&fixture, &made.0, &options, &Heard::default()).unwrap().image.unwrap();
    let top = first.diff_ids().last().unwrap();
    fixture.engine.layer_store().remove(&top).unwrap();
    assert_eq!(carry(&fixture, &made.0, &options, &Heard::default()).unwrap().steps, (2, 1));
    fixture.engine.remove_image(&first.id.to_string(), &crate::RemoveImageOptions::default()).unwrap();
    fixture.engine.remove_image("made:1", &crate::RemoveImageOptions::default()).unwrap();
    // Two layers, and what the steps were made of.
    assert_eq!(fixture.engine.build_cache().unwrap().len(), 3);
    assert_eq!(carry(&fixture, &made.0, &options, &Heard::default()).unwrap().steps, (2, 2));
    fixture.engine.remove_image("made:1", &crate::RemoveImageOptions::default()).unwrap();
    let pruned = fixture.engine.prune_build_cache(&super::prune::BuildPruneOptions::default()).unwrap();
    assert_eq!(pruned.removed.len(), 3);
    assert!(fixture.engine.build_cache().unwrap().is_empty());
    assert!(fixture.engine.layer_store().list().unwrap().is_empty());
}
