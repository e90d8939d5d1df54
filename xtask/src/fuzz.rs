//! `cargo xtask fuzz`: the targets of `fuzz/`, built with coverage and run for a while.
//!
//! libFuzzer without a nightly compiler: what it needs of the compiler is a pass of LLVM that stable compilers have
//! too; what nightly would add are the sanitizers, which safe code has little use for. The targets are a workspace
//! of their own, built below `target/fuzz`, where their corpora stay from run to run and crashes are kept.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{packages, shell};

/// The targets, and the longest input of each, in bytes.
const TARGETS: &[(&str, u32)] = &[
    ("config", 16384),
    ("dockerfile", 4096),
    ("expansion", 1024),
    ("ignore", 1024),
    ("layer", 32768),
    ("log", 8192),
    ("manifest", 16384),
    ("names", 4096),
    ("passage", 4096),
    ("reference", 800),
    ("routes", 1024),
    ("seccomp", 8192),
];
/// What a run without `--seconds` takes; in the tests, where it is a phase, and by hand.
pub(crate) const QUICK: u64 = 30;
/// The same in the soak.
pub(crate) const LONG: u64 = 1800;

/// The coverage that libFuzzer reads: edges counted in place, a table of them, and the operands of comparisons.
/// Dynamically linked, unlike all else: it looks for the functions that it wraps with `dlsym`.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg=fuzzing";

/// An input that takes longer hangs (seconds); a process that grows larger has no bound (MiB; they stay below 100).
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=512"];

/// Runs the targets that were named, or all, one on each processor; or one of them with inputs from files.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut seconds, mut named, mut inputs) = (QUICK, Vec::new(), Vec::new());
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                let number = words.next().and_then(|word| word.parse().ok());
                seconds = number.filter(|seconds| *seconds > 0).context("--seconds needs a number")?;
            }
            other if other.starts_with('-') => bail!("`fuzz` has no option `{other}`"),
            name => match TARGETS.iter().find(|(target, _)| *target == name) {
                Some(target) => named.push(*target),
                None if Path::new(name).is_file() => inputs.push(std::fs::canonicalize(name)?),
                None => bail!("there is no fuzz target and no file `{name}`"),
            },
        }
    }
    packages::ensure(&[packages::BUILD, packages::FUZZ])?;
    build()?;
    if !inputs.is_empty() {
        let [target] = named.as_slice() else { bail!("which target? `cargo xtask fuzz TARGET FILE…`") };
        return replay(*target, &inputs);
    }
    all(if named.is_empty() { TARGETS } else { &named }, seconds)
}

/// Builds them.
pub(crate) fn build() -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.current_dir(shell::root().join("fuzz")).args(["build", "--quiet", "--release"]);
    cargo.env("CARGO_TARGET_DIR", place().join("build")).env("RUSTFLAGS", FLAGS);
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
    shell::run(&mut cargo)
}

/// Runs a command of cargo's that looks at them, and builds nothing that could run: not even libFuzzer, which takes longer
/// than all else.
pub(crate) fn lint(command: &[&str]) -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.current_dir(shell::root().join("fuzz")).args(command);
    cargo.env("CARGO_TARGET_DIR", place().join("lint")).env("CUSTOM_LIBFUZZER_PATH", "/not/built.a");
    shell::run(&mut cargo)
}

fn place() -> PathBuf {
    shell::target_dir().join("fuzz")
}

/// One target at work.
struct Running {
    name: &'static str,
    child: Child,
    home: PathBuf,
    deadline: Instant,
}

/// Runs each target for so many seconds, one on each processor: more at once would only share them. An error if one
/// of them found something.
fn all(targets: &[(&'static str, u32)], seconds: u64) -> Result<()> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut waiting = targets.iter();
    let mut running: Vec<Running> = Vec::new();
    let mut failures = Vec::new();
    loop {
        while running.len() < at_once
            && let Some(target) = waiting.next()
        {
            running.push(start(*target, seconds)?);
        }
        if running.is_empty() {
            break;
        }
        let mut index = 0;
        while index < running.len() {
            match running[index].look(seconds) {
                Ok(false) => {
                    index += 1;
                    continue;
                }
                Ok(true) => {}
                Err(error) => {
                    eprintln!("{error:#}");
                    failures.push(running[index].name);
                }
            }
            running.swap_remove(index);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    if !failures.is_empty() {
        bail!("something was found in: {}", failures.join(" "));
    }
    Ok(())
}

fn start((name, longest): (&'static str, u32), seconds: u64) -> Result<Running> {
    let home = prepare(name)?;
    let mut command = command(name, &home)?;
    command.args([format!("-max_total_time={seconds}"), format!("-max_len={longest}")]);
    command.args(["-artifact_prefix=crashes/", "-print_final_stats=1", "-verbosity=1", "corpus", "seeds"]);
    let log = File::create(home.join("log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().with_context(|| format!("starting `{}`", shell::words(&command)))?;
    // it ends by itself; what does not is stuck outside of its own clock
    let deadline = Instant::now() + Duration::from_secs(seconds + 120);
    Ok(Running { name, child, home, deadline })
}

impl Running {
    /// Whether it has ended; an error if it found something.
    fn look(&mut self, seconds: u64) -> Result<bool> {
        let Some(status) = self.child.try_wait()? else {
            if Instant::now() > self.deadline {
                let _ = self.child.kill();
                self.child.wait()?;
                bail!("{}: it did not end by itself; see {}", self.name, self.home.join("log").display());
            }
            return Ok(false);
        };
        let log = self.home.join("log");
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        let statistic = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("stat::{name}:")))?;
            line.trim().parse().ok()
        };
        if status.success() {
            let runs = statistic("number_of_executed_units").unwrap_or(0);
            // it may have been compiled without coverage, or refused every input
            if runs < 100 * seconds || statistic("new_units_added").is_none() {
                bail!("{}: only {runs} inputs in {seconds} s; see {}", self.name, log.display());
            }
            let corpus = std::fs::read_dir(self.home.join("corpus"))?.count();
            println!("{:>10}: {runs} inputs, {corpus} kept in the corpus, nothing found", self.name);
            return Ok(true);
        }
        let interesting = |line: &&str| {
            line.contains("panicked at")
                || line.contains("ERROR: libFuzzer")
                || line.contains("Test unit written")
        };
        let said: Vec<&str> = text.lines().filter(interesting).collect();
        let input = text.lines().find_map(|line| line.split("Test unit written to ").nth(1));
        let input = input.map_or_else(|| log.clone(), |file| self.home.join(file.trim()));
        bail!(
            "{}: {}\n  the input: {}\n  all it said: {}\n  again: cargo xtask fuzz {} {}",
            self.name,
            if said.is_empty() { text.lines().last().unwrap_or("it said nothing") } else { said[0] },
            input.display(),
            log.display(),
            self.name,
            input.display()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The target's directory, which is its root too: its corpus, its seeds, and what a plan looks for.
fn prepare(name: &str) -> Result<PathBuf> {
    let home = place().join(name);
    let directories = [
        "corpus",
        "crashes",
        "seeds",
        "proc",
        "sys/fs/cgroup",
        "rootfs",
        "upper",
        "work",
        "etc",
        "data",
        "scratch",
    ];
    for directory in directories {
        std::fs::create_dir_all(home.join(directory)).with_context(|| format!("making {directory}"))?;
    }
    std::fs::write(home.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    std::fs::write(home.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    std::fs::remove_dir_all(home.join("seeds"))?;
    std::fs::create_dir(home.join("seeds"))?;
    let seeds = shell::root().join("fuzz/seeds").join(name);
    if seeds.is_dir() {
        for seed in std::fs::read_dir(&seeds).with_context(|| format!("reading {}", seeds.display()))? {
            let seed = seed?;
            std::fs::copy(seed.path(), home.join("seeds").join(seed.file_name()))?;
        }
    }
    Ok(home)
}

/// A target in namespaces of its own: what it opens at the word of an input is nothing of this machine's.
fn command(name: &str, home: &Path) -> Result<Command> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "--cgroup"]);
    if !shell::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let script = "mount -t proc proc proc && mount -t cgroup2 none sys/fs/cgroup && \
                  mount -t tmpfs -o size=64m scratch scratch && exec \"$0\" \"$@\"";
    command.args(["sh", "-c", script]);
    let build = place().join("build").join(format!("{}-unknown-linux-gnu/release", std::env::consts::ARCH));
    command.arg(std::fs::canonicalize(build.join(name)).context("finding the target")?);
    command.args(LIMITS).current_dir(home).env("FUZZ_ROOT", "1").stdin(Stdio::null());
    Ok(command)
}

/// Runs single inputs, with all that the target says.
fn replay((name, _): (&str, u32), inputs: &[PathBuf]) -> Result<()> {
    let home = prepare(name)?;
    std::fs::create_dir_all(home.join("again"))?;
    let mut command = command(name, &home)?;
    for (number, input) in inputs.iter().enumerate() {
        let file = format!("again/{number}");
        std::fs::copy(input, home.join(&file)).with_context(|| format!("copying {}", input.display()))?;
        command.arg(file);
    }
    let outcome = shell::run(&mut command);
    std::fs::remove_dir_all(home.join("again"))?;
    outcome
}
