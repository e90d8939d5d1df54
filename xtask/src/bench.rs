//! `cargo xtask bench`: how long a start takes beside the other engines and beside the kernel's floor.
//!
//! All contenders run alternately in one go, so that a noisy machine is noisy to all of them; what counts
//! are the ratios of the medians. A time is that of a whole command, from its spawn to its end, by a clock
//! in a process that does nothing else (see `stopwatch`).

mod contenders;
mod memory;
mod parallel;
mod stopwatch;
mod table;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{install, packages, shell};
use contenders::Field;
pub(crate) use stopwatch::{STOPWATCH, serve as stopwatch};
use table::Samples;

/// Rounds that are not counted: caches fill, cgroups and bridges appear.
const WARM_UP: usize = 3;
/// Between two commands: the kernel takes down the last one's namespaces behind its back, and the next one
/// must not pay for that.
const SETTLE: Duration = Duration::from_millis(30);

/// Runs what was asked for.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut runs, mut build, mut what) = (60, true, "start");
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--runs" => {
                runs = words.next().and_then(|runs| runs.parse().ok()).context("--runs needs a number")?;
            }
            "--no-build" => build = false,
            "--memory" => what = "memory",
            "--parallel" => what = "parallel",
            other => bail!("`bench` has no option `{other}`"),
        }
    }
    if runs == 0 {
        bail!("--runs must be at least 1");
    }
    packages::ensure(&[packages::PEERS])?;
    if build {
        install::build()?;
    }
    let again: Vec<&str> =
        ["bench", "--no-build"].into_iter().chain(args.iter().map(String::as_str)).collect();
    if shell::become_root(&again)? {
        return Ok(());
    }
    match what {
        "memory" => memory::run(),
        "parallel" => parallel::run(),
        _ => starts(runs),
    }
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
