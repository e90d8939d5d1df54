//! The clock: a process of its own, small and otherwise idle, that spawns commands and waits for them.
//!
//! It is a process so that it can stand in a mount namespace of its own: crun and youki refuse a host with
//! cgroup v1 and v2 side by side unless v2 is unmounted, and an `unshare` around each of their commands
//! would be counted against them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The hidden task that is the clock.
pub(crate) const STOPWATCH: &str = "bench-stopwatch";

/// Where a clock stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where we are.
    Here,
    /// Where cgroup v2 beside v1 cannot be seen.
    WithoutCgroup2,
    /// In a network namespace of its own, which takes bridges and firewall rules along when it goes.
    OwnNetwork,
}

/// The clock's other end.
pub(crate) struct Stopwatch {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Stopwatch {
    /// Starts one.
    pub(crate) fn start(place: Place, environment: &[(&str, &Path)]) -> Result<Self> {
        let me = std::env::current_exe().context("finding this program")?;
        let (namespace, prepare) = match place {
            Place::Here => (None, ""),
            Place::WithoutCgroup2 => (Some("--mount"), "umount /sys/fs/cgroup/unified"),
            Place::OwnNetwork => (Some("--net"), "ip link set lo up"),
        };
        let mut command = if let Some(namespace) = namespace {
            let mut command = Command::new("unshare");
            let script = format!("{prepare} && exec \"$0\" \"$@\"");
            command.args([namespace, "--mount", "sh", "-c", &script]).arg(me);
            command
        } else {
            Command::new(me)
        };
        command.arg(STOPWATCH).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.envs(environment.iter().copied());
        let mut child = command.spawn().context("starting the stopwatch")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).context("the stopwatch has no pipes")?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// From the first spawn to the end of the last of these commands, all started at once; an error if one
    /// of them fails.
    pub(crate) fn time(&mut self, commands: &[Vec<String>]) -> Result<Duration> {
        writeln!(self.input, "{}", json!(commands)).context("telling the stopwatch")?;
        let mut line = String::new();
        self.output.read_line(&mut line).context("asking the stopwatch")?;
        let answer: Value = serde_json::from_str(&line).context("the stopwatch ended")?;
        if let Some(failed) = answer["failed"].as_str() {
            bail!("{failed}");
        }
        Ok(Duration::from_nanos(answer["nanoseconds"].as_u64().context("the stopwatch gave no time")?))
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The clock itself: a line in, a line out.
pub(crate) fn serve(_: &[String]) -> Result<()> {
    let path = std::env::temp_dir().join(format!("xtask-stopwatch-{}", std::process::id()));
    let mut errors = File::options().create_new(true).read(true).append(true).open(&path)?;
    std::fs::remove_file(&path)?;
    for line in std::io::stdin().lines() {
        let commands: Vec<Vec<String>> = serde_json::from_str(&line?).context("reading a command")?;
        errors.set_len(0)?;
        let answer = match one(&commands, &errors) {
            Ok(took) => json!({ "nanoseconds": took.as_nanos() as u64 }),
            Err(error) => {
                let mut said = String::new();
                errors.rewind()?;
                errors.read_to_string(&mut said)?;
                json!({ "failed": format!("{error:#} {}", said.trim()) })
            }
        };
        println!("{answer}");
    }
    Ok(())
}

fn one(commands: &[Vec<String>], errors: &File) -> Result<Duration> {
    let mut prepared = Vec::with_capacity(commands.len());
    for words in commands {
        let (program, arguments) = words.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.try_clone()?);
        prepared.push(command);
    }
    // nothing but spawn and wait from here: std spawns by posix_spawn, which costs the same whoever we are
    let began = Instant::now();
    let mut children = Vec::with_capacity(prepared.len());
    for command in &mut prepared {
        children.push(command.spawn()?);
    }
    let mut failed = 0;
    for child in &mut children {
        failed += usize::from(!child.wait()?.success());
    }
    let took = began.elapsed();
    if failed > 0 {
        bail!("{failed} of {} commands failed: `{}`", commands.len(), commands[0].join(" "));
    }
    Ok(took)
}
