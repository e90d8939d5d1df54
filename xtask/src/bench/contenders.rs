//! Who takes part: Dhow, the kernel's floor, the bare runtimes, the engines; each with the same root
//! filesystem, a busybox, and the same command, `true`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::stopwatch::{Place, Stopwatch};
use crate::{image, leaks, shell};

/// The image, in every engine's store.
pub(crate) const IMAGE: &str = "docker.io/bench/busybox:1";

/// Podman raises limits that a root without `CAP_SYS_RESOURCE` may not raise, unless told others.
pub(crate) const PODMAN_LIMITS: &[&str] = &["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

/// Which table a contender stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// A container from nothing to its end.
    Run,
    /// A command in a container that runs.
    Exec,
}

enum How {
    /// A command, `{}` in it replaced by a fresh name, timed from outside.
    Command { words: Vec<String>, place: Place },
    /// The floor measures itself: it is no engine, and its own start is not what it measures.
    Floor(&'static str),
}

/// One of them.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) group: Group,
    how: How,
}

/// The field: a directory, the contenders, and what must be undone when it is over.
pub(crate) struct Field {
    place: PathBuf,
    /// Those who take part.
    pub(crate) contenders: Vec<Contender>,
    /// Those who do not, and why.
    pub(crate) absent: Vec<String>,
    hybrid: bool,
    watches: Vec<(Place, Stopwatch)>,
    undo: Vec<Vec<String>>,
    docker: Option<Child>,
}

impl Field {
    /// Makes the directory, the root filesystem and the image.
    pub(crate) fn open() -> Result<Self> {
        let field = Self::bare()?;
        let place = &field.place;
        image::busybox_root(&place.join("rootfs"))?;
        let layer = place.join("layer.tar");
        image::tar(&place.join("rootfs"), &layer)?;
        image::archive(&layer, &place.join("image.tar"), IMAGE, &["sh"])?;
        Ok(field)
    }

    /// Makes the directory alone.
    pub(crate) fn bare() -> Result<Self> {
        // short, since sockets lie below it
        let place = PathBuf::from(format!("/tmp/dhow-bench-{}", std::process::id()));
        std::fs::create_dir_all(place.join("floor"))?;
        let hybrid = Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists();
        let (contenders, absent, watches, undo) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { place, contenders, absent, hybrid, watches, undo, docker: None })
    }

    /// Whether cgroup v1 and v2 are mounted side by side.
    pub(crate) fn hybrid(&self) -> bool {
        self.hybrid
    }

    /// A command for the end, before those that were asked for earlier.
    pub(crate) fn undo_with(&mut self, words: Vec<String>) {
        self.undo.push(words);
    }

    /// Lets everybody in who is installed and can start a container.
    pub(crate) fn enter_all(&mut self) {
        type Entry = fn(&mut Field) -> Result<()>;
        let entries: &[(&str, Entry)] = &[
            ("dhow", Self::enter_dhow),
            ("floor", Self::enter_floor),
            ("crun", |field| field.enter_runtime("crun")),
            ("runc", |field| field.enter_runtime("runc")),
            ("youki", |field| field.enter_runtime("youki")),
            ("podman", Self::enter_podman),
            ("docker", Self::enter_docker),
        ];
        for (name, enter) in entries {
            let before = self.contenders.len();
            if let Err(error) = enter(self) {
                self.contenders.truncate(before);
                self.absent.push(format!("{name}: {error:#}"));
            }
        }
    }

    /// The directory that everything lies in.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Loads the image into Dhow's store of this field.
    pub(crate) fn load_dhow(&mut self) -> Result<()> {
        let archive = self.path("image.tar")?;
        self.act(&dhow(&["load", "-i", &archive])).map(drop)
    }

    fn enter_dhow(&mut self) -> Result<()> {
        self.load_dhow()?;
        self.add(
            "dhow run, no network",
            Group::Run,
            dhow(&["run", "--rm", "--network", "none", IMAGE, "true"]),
        )?;
        self.add("dhow run, bridge", Group::Run, dhow(&["run", "--rm", IMAGE, "true"]))?;
        self.act(&dhow(&["run", "-d", "--name", "idle", IMAGE, "sleep", "36000"]))?;
        self.undo.push(dhow(&["rm", "-f", "idle"]));
        self.add("dhow exec", Group::Exec, dhow(&["exec", "idle", "true"]))
    }

    fn enter_floor(&mut self) -> Result<()> {
        for (name, mode) in [("the kernel alone, no network", "fcN"), ("the kernel alone, bridge", "fcn")] {
            self.contenders.push(Contender {
                name: name.to_owned(),
                group: Group::Run,
                how: How::Floor(mode),
            });
            self.time(self.contenders.len() - 1, 0)?;
        }
        Ok(())
    }

    /// A bare runtime of the OCI kind, with its own default specification.
    pub(crate) fn enter_runtime(&mut self, name: &'static str) -> Result<()> {
        let program = shell::find(name).context("not installed")?;
        let program = program.display().to_string();
        // runc alone takes both cgroup versions side by side
        let place = if name != "runc" && self.hybrid { Place::WithoutCgroup2 } else { Place::Here };
        let bundle = self.bundle(&program, &format!("{name}-true"), &["true"])?;
        let idle = self.bundle(&program, &format!("{name}-idle"), &["sleep", "36000"])?;
        let state = self.path(&format!("{name}-state"))?;
        let words = |rest: &[&str]| words(&program, &[&["--root", &state], rest].concat());
        self.add_with(&format!("{name} run"), Group::Run, words(&["run", "--bundle", &bundle, "{}"]), place)?;
        let idle_name = format!("{name}-idle-{}", std::process::id());
        self.undo.push(words(&["delete", "--force", &idle_name]));
        let start = words(&["run", "--detach", "--bundle", &idle, &idle_name]);
        self.watch(place)?.time(&[start])?;
        self.add_with(&format!("{name} exec"), Group::Exec, words(&["exec", &idle_name, "true"]), place)
    }

    fn enter_podman(&mut self) -> Result<()> {
        shell::find("podman").context("not installed")?;
        let command = self.podman_words()?;
        self.enter_engine(&command)
    }

    /// The beginning of a podman command line, with stores of its own.
    pub(crate) fn podman_words(&self) -> Result<Vec<String>> {
        let (store, run) = (self.path("podman")?, self.path("podman-run")?);
        let mut start = vec!["--root", &store, "--runroot", &run, "--cgroup-manager", "cgroupfs"];
        if self.hybrid {
            start.extend(["--runtime", "runc"]);
        }
        Ok(words("podman", &start))
    }

    /// The same, with the image loaded.
    pub(crate) fn podman(&mut self) -> Result<Vec<String>> {
        let start = self.podman_words()?;
        let mut load = start.clone();
        load.extend(["load".to_owned(), "--input".to_owned(), self.path("image.tar")?]);
        self.act(&load)?;
        Ok(start)
    }

    /// Docker: the one that runs, or one of ours, in a network namespace of its own so that its bridge and
    /// its firewall rules go with it.
    fn enter_docker(&mut self) -> Result<()> {
        let start = self.docker_words()?;
        self.enter_engine(&start)
    }

    /// The same, with the image loaded.
    pub(crate) fn docker(&mut self) -> Result<Vec<String>> {
        let start = self.docker_words()?;
        let mut load = start.clone();
        load.extend(["load".to_owned(), "--input".to_owned(), self.path("image.tar")?]);
        self.act(&load)?;
        Ok(start)
    }

    /// The beginning of a docker command line.
    fn docker_words(&mut self) -> Result<Vec<String>> {
        shell::find("docker").context("not installed")?;
        if shell::quiet(shell::program("docker").arg("info")).is_ok() {
            return Ok(words("docker", &[]));
        }
        let daemon = shell::find("dockerd").context("no daemon runs and none is installed")?;
        let socket = format!("unix://{}", self.path("docker.sock")?);
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]).arg(daemon);
        command.arg("--host").arg(&socket).arg("--data-root").arg(self.place.join("docker"));
        command
            .arg("--exec-root")
            .arg(self.place.join("dx"))
            .arg("--pidfile")
            .arg(self.place.join("docker.pid"));
        command.args(["--log-level", "error"]).stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::create(self.place.join("docker.log"))?;
        self.docker = Some(command.stderr(log).spawn().context("starting dockerd")?);
        let deadline = Instant::now() + Duration::from_secs(30);
        while shell::quiet(shell::program("docker").args(["--host", &socket, "info"])).is_err() {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.place.join("docker.log")).unwrap_or_default();
                bail!("its daemon did not start: {}", log.lines().last().unwrap_or("it said nothing"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(words("docker", &["--host", &socket]))
    }

    /// The network namespace of our own daemon of Docker's; none where the machine's is asked.
    pub(crate) fn docker_namespace(&self) -> Option<PathBuf> {
        self.docker.as_ref().map(|daemon| PathBuf::from(format!("/proc/{}/ns/net", daemon.id())))
    }

    fn enter_engine(&mut self, start: &[String]) -> Result<()> {
        let name = &start[0];
        let podman = name == "podman";
        let limits = if podman { PODMAN_LIMITS } else { &[] };
        // podman makes its bridge and its firewall rules where it runs, and leaves them there
        let place = if podman { Place::OwnNetwork } else { Place::Here };
        let words = |rest: &[&str]| {
            start.iter().cloned().chain(rest.iter().map(|word| (*word).to_owned())).collect::<Vec<_>>()
        };
        let archive = self.path("image.tar")?;
        self.act(&words(&["load", "--input", &archive]))?;
        let idle = format!("dhow-bench-{}", std::process::id());
        self.undo.push(words(&["rm", "--force", &idle]));
        let run = |rest: &[&str]| words(&[&["run"], limits, rest].concat());
        let none = run(&["--rm", "--network", "none", IMAGE, "true"]);
        self.add_with(&format!("{name} run, no network"), Group::Run, none, place)?;
        self.add_with(&format!("{name} run, bridge"), Group::Run, run(&["--rm", IMAGE, "true"]), place)?;
        let sleep = ["--detach", "--network", "none", "--name", &idle, IMAGE, "sleep", "36000"];
        self.act(&run(&sleep))?;
        self.add_with(&format!("{name} exec"), Group::Exec, words(&["exec", &idle, "true"]), place)
    }

    /// A bundle with the runtime's own default specification, without a terminal.
    pub(crate) fn bundle(&self, program: &str, name: &str, command: &[&str]) -> Result<String> {
        self.bundle_of(program, name, command, &self.place.join("rootfs"), |_| {})
    }

    /// The same on another root filesystem, with the specification changed.
    pub(crate) fn bundle_of(
        &self,
        program: &str,
        name: &str,
        command: &[&str],
        rootfs: &Path,
        change: impl Fn(&mut Value),
    ) -> Result<String> {
        let bundle = self.place.join(name);
        std::fs::create_dir_all(&bundle)?;
        let path = bundle.join("config.json");
        // `spec` writes over nothing
        let _ = std::fs::remove_file(&path);
        shell::quiet(shell::program(program).arg("spec").current_dir(&bundle))?;
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(command);
        spec["root"]["path"] = json!(rootfs);
        change(&mut spec);
        std::fs::write(&path, spec.to_string())?;
        self.path(name)
    }

    /// Runs a command with Dhow's roots set, and returns what it prints.
    pub(crate) fn act(&self, words: &[String]) -> Result<String> {
        shell::text(&mut self.command(words)?)
    }

    /// A command with Dhow's roots set.
    pub(crate) fn command(&self, words: &[String]) -> Result<Command> {
        let (program, args) = words.split_first().context("an empty command")?;
        let mut command = shell::program(program);
        command.env("DHOW_ROOT", self.place.join("root")).env("DHOW_RUN_ROOT", self.place.join("run"));
        command.args(args);
        Ok(command)
    }

    /// The clock at a place, started when first needed.
    pub(crate) fn watch(&mut self, place: Place) -> Result<&mut Stopwatch> {
        let index = if let Some(index) = self.watches.iter().position(|(there, _)| *there == place) {
            index
        } else {
            let (root, run) = (self.place.join("root"), self.place.join("run"));
            let environment = [("DHOW_ROOT", root.as_path()), ("DHOW_RUN_ROOT", run.as_path())];
            self.watches.push((place, Stopwatch::start(place, &environment)?));
            self.watches.len() - 1
        };
        Ok(&mut self.watches[index].1)
    }

    /// The clock for bare crun.
    pub(crate) fn crun_watch(&mut self) -> Result<&mut Stopwatch> {
        self.watch(if self.hybrid { Place::WithoutCgroup2 } else { Place::Here })
    }

    fn add(&mut self, name: &str, group: Group, words: Vec<String>) -> Result<()> {
        self.add_with(name, group, words, Place::Here)
    }

    /// Adds one who has shown once that it can.
    fn add_with(&mut self, name: &str, group: Group, words: Vec<String>, place: Place) -> Result<()> {
        let how = How::Command { words, place };
        self.contenders.push(Contender { name: name.to_owned(), group, how });
        self.time(self.contenders.len() - 1, usize::MAX).map(drop)
    }

    /// One run of one contender.
    pub(crate) fn time(&mut self, index: usize, round: usize) -> Result<Duration> {
        let contender = &self.contenders[index];
        match &contender.how {
            How::Command { words, place } => {
                let place = *place;
                let fresh = format!("bench-{}-{index}-{round}", std::process::id());
                let words = words.iter().map(|word| word.replace("{}", &fresh)).collect();
                let name = contender.name.clone();
                self.watch(place)?.time(&[words]).with_context(|| format!("measuring {name}"))
            }
            How::Floor(mode) => floor(mode, &self.place.join("rootfs"), &self.place.join("floor")),
        }
    }

    /// A path below the directory, as text.
    pub(crate) fn path(&self, name: &str) -> Result<String> {
        Ok(self.place.join(name).to_str().context("a temporary path that is not UTF-8")?.to_owned())
    }
}

impl Drop for Field {
    /// Undoes everything, on and on whatever fails.
    fn drop(&mut self) {
        let name = self.act(&dhow(&["info", "--format", "{{.CgroupParent}}"]));
        for words in std::mem::take(&mut self.undo).iter().rev() {
            let _ = self.act(words);
        }
        if let Ok(name) = name {
            leaks::await_sweep(name.trim_matches('/'));
        }
        if let Some(mut docker) = self.docker.take() {
            // the head of its pid namespace: all its processes end with it
            let _ = docker.kill();
            let _ = docker.wait();
        }
        let place = self.place.display().to_string();
        // engines leave mounts below their stores
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if mount.starts_with(&place) {
                let _ = shell::quiet(shell::program("umount").args(["--lazy", mount]));
            }
        }
        for _ in 0..50 {
            if std::fs::remove_dir_all(&self.place).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("warning: {place} could not be removed");
    }
}

fn words(program: &str, args: &[&str]) -> Vec<String> {
    std::iter::once(program).chain(args.iter().copied()).map(str::to_owned).collect()
}

/// What the kernel alone takes for this: the median of three, by the floor's own clock.
pub(crate) fn floor(mode: &str, rootfs: &Path, work: &Path) -> Result<Duration> {
    let mut floor = shell::program(shell::binaries("release").join("dhow-floor"));
    let text = shell::text(floor.arg(mode).arg(rootfs).arg(work).arg("3"))?;
    let median = text.split_whitespace().skip_while(|word| *word != "median").nth(1);
    let milliseconds: f64 = median.and_then(|text| text.parse().ok()).context("reading the floor")?;
    Ok(Duration::from_secs_f64(milliseconds / 1e3))
}

/// A Dhow command line.
pub(crate) fn dhow(args: &[&str]) -> Vec<String> {
    words(&shell::binaries("release").join("dhow").display().to_string(), args)
}
