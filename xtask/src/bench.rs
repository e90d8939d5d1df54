//! `cargo xtask bench`: how long a start takes beside the other engines and beside the kernel's floor.
//!
//! All contenders run alternately in one go, so that a noisy machine is noisy to all of them; what counts
//! are the ratios of the medians. A time is that of a whole command, from its spawn to its end, by a clock
//! in a process that does nothing else (see `stopwatch`).

mod build;
mod contenders;
mod crowd;
mod dns;
mod life;
mod memory;
mod net;
mod pairs;
mod parallel;
mod parcel;
mod pull;
mod runtimes;
mod save;
mod stopwatch;
mod table;
mod traffic;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{install, packages, shell, vm};
use contenders::Field;
pub(crate) use stopwatch::{STOPWATCH, serve as stopwatch};
use table::Samples;
pub(crate) use traffic::{TRAFFIC, be as traffic};

/// Rounds that are not counted: caches fill, cgroups and bridges appear.
const WARM_UP: usize = 3;
/// Between two commands: the kernel takes down the last one's namespaces behind its back, and the next one
/// must not pay for that.
const SETTLE: Duration = Duration::from_millis(30);

/// Runs what was asked for.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut runs, mut make, mut what, mut vm) = (None, true, "start", false);
    let (mut binary, mut part, mut quick) = (None, None, false);
    let mut words = args.iter().peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--runs" => {
                let number: Option<usize> = words.next().and_then(|runs| runs.parse().ok());
                runs = Some(number.filter(|runs| *runs > 0).context("--runs needs a number of at least 1")?);
            }
            "--no-build" => make = false,
            "--memory" => what = "memory",
            "--parallel" => what = "parallel",
            "--dns" => what = "dns",
            "--net" => what = "net",
            "--pull" => what = "pull",
            "--save" => what = "save",
            "--life" => what = "life",
            "--build" => what = "build",
            "--quick" => quick = true,
            "--runtime" => {
                what = "runtime";
                binary = words.next_if(|word| !word.starts_with('-')).map(PathBuf::from);
            }
            "--part" => {
                let parts = match what {
                    "pull" => pull::PARTS,
                    "save" => save::PARTS,
                    "life" => life::PARTS,
                    "build" => build::PARTS,
                    _ => runtimes::PARTS,
                };
                let name = words.next().filter(|name| parts.contains(&name.as_str()));
                part = Some(name.with_context(|| format!("--part is one of {}", parts.join(" ")))?.clone());
            }
            "--vm" => vm = true,
            other => bail!("`bench` has no option `{other}`"),
        }
    }
    if what != "runtime" && (vm || part.is_some() && !matches!(what, "pull" | "save" | "life" | "build")) {
        bail!("--vm belongs to --runtime, and --part to that, to --pull, to --save, to --life or to --build");
    }
    if quick && what != "life" {
        bail!("--quick belongs to --life");
    }
    packages::ensure(&[packages::PEERS])?;
    if make {
        install::build()?;
    }
    if vm {
        return in_vm(args);
    }
    let again: Vec<&str> =
        ["bench", "--no-build"].into_iter().chain(args.iter().map(String::as_str)).collect();
    if shell::become_root(&again)? {
        return Ok(());
    }
    match what {
        "memory" => memory::run(),
        "parallel" => parallel::run(),
        "dns" => dns::run(),
        "net" => net::run(),
        "pull" => pull::run(runs.unwrap_or(5), part.as_deref()),
        "save" => save::run(runs.unwrap_or(5), part.as_deref()),
        "build" => build::run(runs.unwrap_or(5), part.as_deref()),
        "life" => life::run(&life::Request { runs: runs.unwrap_or(20), part, quick }),
        "runtime" => runtimes::run(&runtimes::Request { pairs: runs.unwrap_or(200), binary, part }),
        _ => starts(runs.unwrap_or(60)),
    }
}

/// The same in a virtual machine, where cgroup v2 is alone. Times there are those of an emulated processor; what the
/// limits say holds.
fn in_vm(args: &[String]) -> Result<()> {
    let me = std::env::current_exe().context("finding this program")?;
    let mut words = vec!["--".to_owned(), me.to_str().context("a path that is not UTF-8")?.to_owned()];
    words.extend(["bench", "--no-build"].map(str::to_owned));
    words.extend(args.iter().filter(|word| *word != "--vm").cloned());
    vm::run(&words)
}

fn starts(runs: usize) -> Result<()> {
    let mut field = Field::open()?;
    field.enter_all();
    for reason in &field.absent {
        println!("not measured: {reason}");
    }
    let mut samples: Vec<Samples> = field.contenders.iter().map(Samples::new).collect();
    for round in 0..runs + WARM_UP {
        // there and back again, so that nobody always follows the same neighbour
        let mut order: Vec<usize> = (0..field.contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            std::thread::sleep(SETTLE);
            let took = field.time(index, round)?;
            if round >= WARM_UP {
                samples[index].add(took);
            }
        }
    }
    drop(field);
    table::print(&samples);
    Ok(())
}
