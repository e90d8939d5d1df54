//! `cargo xtask bench --runtime`: `dhow-runtime` beside crun and runc, and youki where it is installed, all bare: what a
//! start takes, what a further command takes, what stays in memory, with how little memory a container still starts,
//! and what a system call costs inside.
//!
//! Each runtime runs the bundle of its own `spec` command, without a terminal, on a root file system of two static
//! programs. Two are measured in turns ([`super::pairs`]); crun and youki where the hybrid cgroup v2 mount is hidden,
//! which is done before the clock runs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::contenders::{Field, floor};
use super::pairs::{Median, Pairs, median_of};
use super::stopwatch::Place;
use super::{SETTLE, WARM_UP};
use crate::shell;

/// What is promised beside crun, each a ratio of ours to its.
const RUN: f64 = 0.5;
const RUN_FLOOR: f64 = 1.6;
const EXEC: f64 = 0.75;

/// What the floor does that is nearest to the bundle of `spec`: all mounts and masks, a network namespace with nothing
/// in it, cgroups.
const FLOOR: &str = "fcN";

/// The parts, by the names that `--part` takes.
pub(crate) const PARTS: &[&str] = &["run", "exec", "memory", "limit", "calls"];

/// What is asked for.
pub(crate) struct Request {
    /// Pairs of `run`; the other parts take fewer, in proportion.
    pub(crate) pairs: usize,
    /// The binary that is ours; none: the release build.
    pub(crate) binary: Option<PathBuf>,
    /// One part alone.
    pub(crate) part: Option<String>,
}

/// One of the runtimes.
struct Peer {
    name: &'static str,
    program: String,
    place: Place,
    state: String,
}

impl Peer {
    fn words(&self, rest: &[&str]) -> Vec<String> {
        let start = [self.program.as_str(), "--root", &self.state];
        start.iter().chain(rest).map(|word| (*word).to_owned()).collect()
    }

    fn command(&self, rest: &[&str]) -> Command {
        let words = self.words(rest);
        let (program, arguments) = if self.place == Place::WithoutCgroup2 {
            // hidden from this one command, since the clock is another process
            let hide = "umount /sys/fs/cgroup/unified && exec \"$0\" \"$@\"";
            let mut all: Vec<String> = ["--mount", "sh", "-c", hide].map(str::to_owned).to_vec();
            all.extend(words);
            ("unshare".to_owned(), all)
        } else {
            (words[0].clone(), words[1..].to_vec())
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

/// The bench: the field with its clocks, and who runs in it.
struct Bench {
    field: Field,
    rootfs: PathBuf,
    ours: Peer,
    others: Vec<Peer>,
    pairs: usize,
    fresh: usize,
    kept: bool,
}

/// Runs the parts that were asked for; an error where a promise is not kept.
pub(crate) fn run(request: &Request) -> Result<()> {
    let mut bench = Bench::open(request)?;
    let wanted = |part: &str| request.part.as_deref().is_none_or(|name| name == part);
    if wanted("run") {
        bench.starts()?;
    }
    if wanted("exec") {
        bench.execs()?;
    }
    if wanted("memory") {
        bench.memory()?;
    }
    if wanted("limit") {
        bench.limits()?;
    }
    if wanted("calls") {
        bench.calls()?;
    }
    if !bench.kept {
        bail!("not every promise is kept");
    }
    Ok(())
}

impl Bench {
    fn open(request: &Request) -> Result<Self> {
        let field = Field::bare()?;
        let built = shell::binaries("release");
        let rootfs = field.place().join("small");
        for (from, to) in [("dhow-true", "bin/true"), ("dhow-syscost", "bin/syscost")] {
            let to = rootfs.join(to);
            std::fs::create_dir_all(to.parent().context("a place")?)?;
            let from = built.join(from);
            std::fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
        // what some runtimes want to find
        for directory in ["proc", "sys", "dev", "etc", "tmp"] {
            std::fs::create_dir_all(rootfs.join(directory))?;
        }
        std::fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/:/bin/true\n")?;
        let hybrid = field.hybrid();
        let peer = |name: &'static str, program: PathBuf| -> Result<Peer> {
            let refuses_hybrid = matches!(name, "crun" | "youki") && hybrid;
            Ok(Peer {
                name,
                program: program.to_str().context("a program's path that is not UTF-8")?.to_owned(),
                place: if refuses_hybrid { Place::WithoutCgroup2 } else { Place::Here },
                state: field.path(&format!("{name}-state"))?,
            })
        };
        let binary = request.binary.clone().unwrap_or_else(|| built.join("dhow-runtime"));
        let binary =
            std::fs::canonicalize(&binary).with_context(|| format!("finding {}", binary.display()))?;
        let ours = peer("dhow-runtime", binary)?;
        let mut others = Vec::new();
        for name in ["crun", "runc", "youki"] {
            match shell::find(name) {
                Some(program) => others.push(peer(name, program)?),
                None => println!("not measured: {name}: not installed"),
            }
        }
        Ok(Self { field, rootfs, ours, others, pairs: request.pairs, fresh: 0, kept: true })
    }

    /// A runtime's own bundle with this command, changed as asked.
    fn bundle(
        &self,
        peer: &Peer,
        name: &str,
        command: &[&str],
        change: impl Fn(&mut Value),
    ) -> Result<String> {
        let name = format!("{}-{name}", peer.name);
        self.field.bundle_of(&peer.program, &name, command, &self.rootfs, change)
    }

    fn fresh(&mut self, name: &str) -> String {
        self.fresh += 1;
        format!("bench-{name}-{}-{}", std::process::id(), self.fresh)
    }

    fn time(&mut self, place: Place, words: Vec<String>) -> Result<f64> {
        std::thread::sleep(SETTLE);
        Ok(self.field.watch(place)?.time(&[words])?.as_secs_f64() * 1e3)
    }

    fn time_run(&mut self, other: Option<usize>, bundle: &str) -> Result<f64> {
        let name = self.fresh("run");
        let peer = other.map_or(&self.ours, |index| &self.others[index]);
        let (place, words) = (peer.place, peer.words(&["run", "--bundle", bundle, &name]));
        self.time(place, words)
    }

    fn starts(&mut self) -> Result<()> {
        println!(
            "\nrun of a static `true`, from the command's start to its end: ms, median and its interval"
        );
        let ours = self.bundle(&self.ours, "true", &["/bin/true"], |_| {})?;
        let mut beside_crun = None;
        for index in 0..self.others.len() {
            let theirs = self.bundle(&self.others[index], "true", &["/bin/true"], |_| {})?;
            let pairs = self.alternate(self.pairs, |bench, us| {
                let (who, bundle) = if us { (None, &ours) } else { (Some(index), &theirs) };
                bench.time_run(who, bundle)
            })?;
            self.print(&pairs, self.others[index].name);
            if self.others[index].name == "crun" {
                beside_crun = Some(pairs.ratio());
            }
        }
        let (rootfs, work) = (self.rootfs.clone(), self.field.place().join("floor"));
        let pairs = self.alternate(self.pairs, |bench, us| {
            if us {
                bench.time_run(None, &ours)
            } else {
                Ok(floor(FLOOR, &rootfs, &work)?.as_secs_f64() * 1e3)
            }
        })?;
        self.print(&pairs, "the kernel alone");
        let Some(beside_crun) = beside_crun else { return Ok(()) };
        let floor = pairs.ratio();
        let kept = beside_crun.value <= RUN || floor.value <= RUN_FLOOR;
        self.verdict(
            kept,
            &format!(
                "run takes {beside_crun} of crun's and {floor} of the floor's (at most {RUN} or at most {RUN_FLOOR})"
            ),
        );
        Ok(())
    }

    fn execs(&mut self) -> Result<()> {
        println!("\nexec of a static `true` in a container that runs: ms");
        let ours = self.idle(None)?;
        for index in 0..self.others.len() {
            let theirs = self.idle(Some(index))?;
            let pairs = self.alternate(self.pairs, |bench, us| {
                let (peer, name) = if us { (&bench.ours, &ours) } else { (&bench.others[index], &theirs) };
                let (place, words) = (peer.place, peer.words(&["exec", name, "/bin/true"]));
                bench.time(place, words)
            })?;
            self.print(&pairs, self.others[index].name);
            if self.others[index].name == "crun" {
                let ratio = pairs.ratio();
                self.verdict(ratio.value <= EXEC, &format!("exec takes {ratio} of crun's (at most {EXEC})"));
            }
        }
        Ok(())
    }

    /// A container that waits, and is deleted with the field.
    fn idle(&mut self, other: Option<usize>) -> Result<String> {
        let name = self.fresh("idle");
        let peer = other.map_or(&self.ours, |index| &self.others[index]);
        let bundle = self.bundle(peer, "idle", &["/bin/syscost", "wait"], |_| {})?;
        let (place, undo) = (peer.place, peer.words(&["delete", "--force", &name]));
        let start = peer.words(&["run", "--detach", "--bundle", &bundle, &name]);
        self.field.undo_with(undo);
        self.field.watch(place)?.time(&[start])?;
        Ok(name)
    }

    /// What a runtime keeps in memory while it waits for a container in the foreground.
    fn memory(&mut self) -> Result<()> {
        println!(
            "\nresident while a container runs in the foreground: KiB, and the part that is its alone (PSS)"
        );
        let (resident, proportional) = self.resident(None)?;
        println!("  {:<44} {resident:9} {proportional:9}", self.ours.name);
        for index in 0..self.others.len() {
            let (theirs, part) = self.resident(Some(index))?;
            println!("  {:<44} {theirs:9} {part:9}", self.others[index].name);
            if self.others[index].name == "crun" {
                let kept = resident < theirs && proportional < part;
                self.verdict(
                    kept,
                    &format!("resident memory is {:.2} of crun's (below 1)", ratio(resident, theirs)),
                );
            }
        }
        Ok(())
    }

    fn resident(&mut self, other: Option<usize>) -> Result<(u64, u64)> {
        let name = self.fresh("foreground");
        let peer = other.map_or(&self.ours, |index| &self.others[index]);
        let bundle = self.bundle(peer, "idle", &["/bin/syscost", "wait"], |_| {})?;
        let pid_file = self.field.place().join(format!("{name}.pid"));
        let pid_path = pid_file.to_str().context("a path that is not UTF-8")?;
        let mut command = peer.command(&["run", "--bundle", &bundle, "--pid-file", pid_path, &name]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().context("starting a container")?;
        let measured = wait_for_pid(&pid_file, &mut child).and_then(|container| {
            // it may have memory to give back, and the container is still on its way to its command
            std::thread::sleep(Duration::from_secs(1));
            let mut sum = (0, 0);
            for pid in below(child.id()).into_iter().filter(|pid| *pid != container) {
                sum.0 += memory_of(pid, "Rss:")?;
                sum.1 += memory_of(pid, "Pss:")?;
            }
            Ok(sum)
        });
        let _ = peer.command(&["delete", "--force", &name]).output();
        let _ = child.kill();
        child.wait()?;
        measured
    }

    /// The smallest limit of memory with which a container of `true` comes to its end.
    fn limits(&mut self) -> Result<()> {
        println!("\nthe smallest limit of memory that a container of a static `true` survives: KiB");
        let ours = self.smallest(None)?;
        println!("  {:<44} {ours:9.0}", self.ours.name);
        for index in 0..self.others.len() {
            let theirs = self.smallest(Some(index))?;
            println!("  {:<44} {theirs:9.0}", self.others[index].name);
            if self.others[index].name == "crun" {
                self.verdict(
                    ours.value <= theirs.value,
                    &format!("the smallest limit is {:.2} of crun's (at most 1)", ours.value / theirs.value),
                );
            }
        }
        Ok(())
    }

    /// The kernel charges in batches and behind one's back: the search is done several times.
    fn smallest(&mut self, other: Option<usize>) -> Result<Median> {
        const SEARCHES: usize = 3;
        const STEP: u64 = 16;
        const MOST: u64 = 65536;
        let mut found = Vec::new();
        for _ in 0..SEARCHES {
            if !self.survives(other, MOST)? {
                bail!("even {MOST} KiB are not enough");
            }
            let (mut low, mut high) = (0, MOST);
            while high - low > STEP {
                let middle = u64::midpoint(low, high);
                *if self.survives(other, middle)? { &mut high } else { &mut low } = middle;
            }
            found.push(high as f64);
        }
        Ok(median_of(found))
    }

    fn survives(&mut self, other: Option<usize>, limit: u64) -> Result<bool> {
        for _ in 0..3 {
            let name = self.fresh("limit");
            let peer = other.map_or(&self.ours, |index| &self.others[index]);
            let bundle = self.bundle(peer, "limit", &["/bin/true"], |spec| {
                spec["linux"]["resources"]["memory"] = json!({ "limit": limit * 1024 });
            })?;
            let mut command = peer.command(&["run", "--bundle", &bundle, &name]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().context("starting a container")?;
            // where the kernel's killer does not come, a process waits for memory for ever
            let status = wait_at_most(&mut child, Duration::from_secs(20))?;
            if status != Some(true) {
                let _ = peer.command(&["delete", "--force", &name]).output();
                let _ = child.kill();
                child.wait()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What system calls cost under the same filter.
    fn calls(&mut self) -> Result<()> {
        println!("\na system call under Dhow's default filter: ns");
        let program = shell::binaries("release").join("dhow-syscost");
        let profile: Value = serde_json::from_str(&shell::text(shell::program(program).arg("profile"))?)?;
        for index in 0..self.others.len() {
            let mut profile = profile.clone();
            if self.others[index].name == "runc" {
                // versions before 1.1.8 refuse all flags
                profile["flags"] = json!([]);
            }
            let filtered = |spec: &mut Value| spec["linux"]["seccomp"] = profile.clone();
            let ours = self.bundle(&self.ours, "calls", &["/bin/syscost"], filtered)?;
            let theirs = self.bundle(&self.others[index], "calls", &["/bin/syscost"], filtered)?;
            let mut names: Vec<String> = Vec::new();
            let mut pairs: Vec<Pairs> = Vec::new();
            for round in 0..=(self.pairs / 8).max(5) {
                let first =
                    self.measure_calls(if round % 2 == 0 { None } else { Some(index) }, &ours, &theirs)?;
                let second =
                    self.measure_calls(if round % 2 == 0 { Some(index) } else { None }, &ours, &theirs)?;
                if round == 0 {
                    names = first.iter().map(|(name, _)| name.clone()).collect();
                    pairs = names.iter().map(|_| Pairs::default()).collect();
                    continue;
                }
                let (us, them) = if round % 2 == 0 { (first, second) } else { (second, first) };
                for ((pair, us), them) in pairs.iter_mut().zip(us).zip(them) {
                    pair.add(us.1, them.1);
                }
            }
            let other = self.others[index].name;
            for (name, pairs) in names.iter().zip(&pairs) {
                self.print(pairs, &format!("{other}: {name}"));
                if other == "crun" {
                    let ratio = pairs.ratio();
                    // no more, as far as the measurement can tell
                    self.verdict(
                        ratio.low <= 1.0,
                        &format!("{name} costs {ratio} of what it does under crun (at most 1)"),
                    );
                }
            }
        }
        Ok(())
    }

    fn measure_calls(
        &mut self,
        other: Option<usize>,
        ours: &str,
        theirs: &str,
    ) -> Result<Vec<(String, f64)>> {
        let name = self.fresh("calls");
        let (peer, bundle) = other.map_or((&self.ours, ours), |index| (&self.others[index], theirs));
        let text = shell::text(&mut peer.command(&["run", "--bundle", bundle, &name]))?;
        let line = |line: &str| {
            let (name, time) = line.split_once(' ')?;
            Some((name.to_owned(), time.parse().ok()?))
        };
        let lines: Vec<_> = text.lines().filter_map(line).collect();
        if lines.is_empty() {
            bail!("{} measured nothing: {text}", peer.name);
        }
        Ok(lines)
    }

    /// Pairs of measurements, ours first in every other one.
    fn alternate(
        &mut self,
        count: usize,
        mut measure: impl FnMut(&mut Self, bool) -> Result<f64>,
    ) -> Result<Pairs> {
        let mut pairs = Pairs::default();
        for round in 0..count + WARM_UP {
            let ours_first = round % 2 == 0;
            let first = measure(self, ours_first)?;
            let second = measure(self, !ours_first)?;
            let (ours, theirs) = if ours_first { (first, second) } else { (second, first) };
            if round >= WARM_UP {
                pairs.add(ours, theirs);
            }
        }
        Ok(pairs)
    }

    fn print(&self, pairs: &Pairs, other: &str) {
        let (ours, theirs, ratio) = (pairs.ours(), pairs.theirs(), pairs.ratio());
        println!("  {:<24} {ours}   {other:<24} {theirs}   ratio {ratio}", self.ours.name);
    }

    fn verdict(&mut self, kept: bool, words: &str) {
        println!("{:>8}: {words}", if kept { "kept" } else { "MISSED" });
        self.kept &= kept;
    }
}

fn ratio(ours: u64, theirs: u64) -> f64 {
    ours as f64 / theirs as f64
}

fn wait_for_pid(file: &Path, child: &mut Child) -> Result<u32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if let Ok(pid) = text.trim().parse() {
            return Ok(pid);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the container ended at once ({status})");
        }
        if Instant::now() > deadline {
            bail!("no pid in {}", file.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether it succeeded; `None` if it still runs.
fn wait_at_most(child: &mut Child, time: Duration) -> Result<Option<bool>> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(None)
}

/// A process and all that descend from it.
fn below(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    std::iter::once(pid).chain(children.flat_map(below)).collect()
}

/// In KiB.
fn memory_of(pid: u32, what: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(what)).with_context(|| format!("no {what} in it"))?;
    line.split_whitespace().next().and_then(|number| number.parse().ok()).context("an odd number")
}
