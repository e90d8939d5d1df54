//! The rest of a container's life, beside Docker and Podman: `exec` into it, `ps` of a hundred, `stop`, and what it says
//! (see `logs`). Pairs, each measured in turns; what counts are the medians.

mod logs;

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::contenders::{Field, IMAGE, PODMAN_LIMITS, dhow};
use super::pairs::{Pairs, median_of};
use super::stopwatch::Place;
use super::{SETTLE, WARM_UP};
use crate::shell;

/// The parts.
pub(crate) const PARTS: &[&str] = &["exec", "ps", "stop", "logs"];

/// At most so much of what Docker takes.
const EXEC: f64 = 1.0 / 12.0;
const PS: f64 = 1.0 / 3.0;
/// A stop is over so many milliseconds after the container's end.
const STOP: f64 = 20.0;
/// Containers in a list.
const LISTED: usize = 100;

/// What was asked for.
pub(crate) struct Request {
    /// How many pairs.
    pub(crate) runs: usize,
    /// One part alone.
    pub(crate) part: Option<String>,
    /// A tenth of the lines, a fifth of the containers.
    pub(crate) quick: bool,
}

/// An engine, the image in its store.
struct Engine {
    name: &'static str,
    start: Vec<String>,
}

impl Engine {
    fn words(&self, rest: &[&str]) -> Vec<String> {
        self.start.iter().cloned().chain(rest.iter().map(|word| (*word).to_owned())).collect()
    }

    /// A container without a network that goes on in the background.
    fn run(&self, name: &str, flags: &[&str], command: &[&str]) -> Vec<String> {
        let limits = if self.name == "podman" { PODMAN_LIMITS } else { &[] };
        let idle = ["--detach", "--network", "none", "--name", name];
        self.words(&[&["run"], limits, &idle, flags, &[IMAGE], command].concat())
    }
}

/// Who takes part: Dhow first.
struct Life {
    field: Field,
    engines: Vec<Engine>,
}

pub(crate) fn run(request: &Request) -> Result<()> {
    // the tools that the machine lacks are on the tests' PATH
    let path = crate::test::path()?;
    if std::env::var_os("PATH").as_ref() != Some(&path) {
        let me = std::env::current_exe().context("finding this program")?;
        let mut again = shell::program(me);
        again.args(["bench", "--no-build", "--life", "--runs", &request.runs.to_string()]).env("PATH", path);
        again.args(request.part.iter().flat_map(|part| ["--part", part]));
        return shell::run(again.args(request.quick.then_some("--quick")));
    }
    let mut field = Field::open()?;
    field.load_dhow()?;
    let mut engines = vec![Engine { name: "dhow", start: dhow(&[]) }];
    for (name, start) in [("docker", field.docker()), ("podman", podman(&mut field))] {
        match start {
            Ok(start) => engines.push(Engine { name, start }),
            Err(error) => println!("not measured: {name}: {error:#}"),
        }
    }
    let mut life = Life { field, engines };
    let wanted = |part: &str| request.part.as_deref().is_none_or(|only| only == part);
    if wanted("exec") {
        life.exec(request.runs)?;
    }
    if wanted("ps") {
        life.ps(request.runs, if request.quick { LISTED / 5 } else { LISTED })?;
    }
    if wanted("stop") {
        life.stop(request.runs)?;
    }
    if wanted("logs") {
        life.logs(request)?;
    }
    Ok(())
}

fn podman(field: &mut Field) -> Result<Vec<String>> {
    shell::find("podman").context("not installed")?;
    field.podman()
}

/// Whether a promise is kept.
fn verdict(kept: bool, what: &str) {
    println!("{:>8}: {what}", if kept { "kept" } else { "MISSED" });
}

/// Names that are nobody else's, also in a store that is not ours.
fn name_of(what: &str, number: usize) -> String {
    format!("dhow-bench-{}-{what}{number}", std::process::id())
}

impl Life {
    /// A command of ours and one of theirs, in turns.
    fn pairs(&mut self, runs: usize, other: usize, words: &[&str]) -> Result<Pairs> {
        let (ours, theirs) = (self.engines[0].words(words), self.engines[other].words(words));
        let mut pairs = Pairs::default();
        for round in 0..runs + WARM_UP {
            let mut time = |words: &[String]| -> Result<f64> {
                std::thread::sleep(SETTLE);
                Ok(self.field.watch(Place::Here)?.time(&[words.to_vec()])?.as_secs_f64() * 1e3)
            };
            // nobody is always the second
            let (ours, theirs) = if round % 2 == 0 {
                let ours = time(&ours)?;
                (ours, time(&theirs)?)
            } else {
                let theirs = time(&theirs)?;
                (time(&ours)?, theirs)
            };
            if round >= WARM_UP {
                pairs.add(ours, theirs);
            }
        }
        Ok(pairs)
    }

    /// Prints them; Docker's have a bound.
    fn tell(&self, what: &str, other: usize, pairs: &Pairs, most: f64) {
        let name = self.engines[other].name;
        let (ours, theirs, ratio) = (pairs.ours(), pairs.theirs(), pairs.ratio());
        println!("{what:<28} dhow {ours} ms, {name} {theirs} ms");
        if name == "docker" {
            verdict(ratio.value <= most, &format!("{what} is {ratio} of docker's (at most {most:.3})"));
        } else {
            println!("          {what} is {ratio} of {name}'s");
        }
    }

    /// Puts so many idle containers into each engine, does something, and removes them whatever comes of it.
    fn with_idle(
        &mut self,
        what: &str,
        count: usize,
        act: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let names: Vec<String> = (0..count).map(|number| name_of(what, number)).collect();
        let start = |life: &Self| -> Result<()> {
            for engine in &life.engines {
                for name in &names {
                    life.field.act(&engine.run(name, &[], &["sleep", "36000"]))?;
                }
            }
            Ok(())
        };
        let outcome = start(self).and_then(|()| act(self));
        for engine in &self.engines {
            let mut remove = engine.words(&["rm", "--force"]);
            remove.extend(names.iter().cloned());
            if let Err(error) = self.field.act(&remove) {
                eprintln!("warning: {error:#}");
            }
        }
        outcome
    }

    fn exec(&mut self, runs: usize) -> Result<()> {
        self.with_idle("exec", 1, |life| {
            let name = name_of("exec", 0);
            for other in 1..life.engines.len() {
                let pairs = life.pairs(runs, other, &["exec", &name, "true"])?;
                life.tell("exec of true", other, &pairs, EXEC);
            }
            Ok(())
        })
    }

    fn ps(&mut self, runs: usize, count: usize) -> Result<()> {
        self.with_idle("ps", count, |life| {
            for other in 1..life.engines.len() {
                let pairs = life.pairs(runs, other, &["ps"])?;
                life.tell(&format!("ps of {count} containers"), other, &pairs, PS);
            }
            Ok(())
        })
    }

    /// How long after the end of a container that heeds its signal the command returns.
    fn stop(&mut self, runs: usize) -> Result<()> {
        let mut late = Vec::with_capacity(runs);
        for round in 0..runs + WARM_UP {
            let name = name_of("stop", round);
            let outcome = self.stop_one(&name);
            self.field.act(&self.engines[0].words(&["rm", "--force", &name]))?;
            let after = outcome?.as_secs_f64() * 1e3;
            if round >= WARM_UP {
                late.push(after);
            }
        }
        let most = late.iter().copied().fold(0.0, f64::max);
        let late = median_of(late);
        verdict(
            late.value <= STOP,
            &format!("stop returns {late} ms after the end, at most {most:.1} (at most {STOP})"),
        );
        Ok(())
    }

    fn stop_one(&self, name: &str) -> Result<Duration> {
        let (field, engine) = (&self.field, &self.engines[0]);
        let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 100 & wait $!; done";
        field.act(&engine.run(name, &[], &["sh", "-c", script]))?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !field.act(&engine.words(&["logs", name]))?.contains("ready") {
            if Instant::now() > deadline {
                bail!("{name} is not ready");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let pid = field.act(&engine.words(&["inspect", "--format", "{{.State.Pid}}", name]))?;
        let pid = Pid::from_raw(pid.trim().parse().context("reading its process")?).context("it has none")?;
        let process = pidfd_open(pid, PidfdFlags::empty()).context("opening its process")?;
        let watch = std::thread::spawn(move || end_of(&process));
        let mut stop = field.command(&engine.words(&["stop", name]))?;
        let mut child = stop.stdout(Stdio::null()).spawn().context("starting dhow stop")?;
        let status = child.wait()?;
        let returned = Instant::now();
        if !status.success() {
            bail!("dhow stop failed");
        }
        let ended = watch.join().ok().context("the watch ended")??;
        Ok(returned.saturating_duration_since(ended))
    }
}

/// When a process ends.
fn end_of(process: &OwnedFd) -> Result<Instant> {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    poll(&mut fds, None).context("waiting for a process")?;
    Ok(Instant::now())
}
