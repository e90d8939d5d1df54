//! What an idle container costs: the proportional memory (PSS) of the processes that an engine leaves beside it, and
//! what the machine has less with it (MemAvailable), the kernel's part and the container's own process included; over a
//! hundred containers.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::contenders::{Field, IMAGE, PODMAN_LIMITS, dhow};
use crate::shell;

const CONTAINERS: usize = 100;

pub(crate) fn run() -> Result<()> {
    let mut field = Field::open()?;
    field.load_dhow()?;
    let (ours, in_all) = measure(&field, &dhow(&[]), "dhow-monitor")?;
    println!("dhow-monitor   {ours:7.1} KiB per container, {in_all:7.1} KiB in all");
    if shell::find("podman").is_none() {
        println!("not measured: podman: not installed");
        return Ok(());
    }
    let podman = field.podman()?;
    let (theirs, in_all) = measure(&field, &podman, "conmon")?;
    println!("conmon         {theirs:7.1} KiB per container, {in_all:7.1} KiB in all");
    let verdict = if ours < theirs { "kept" } else { "MISSED" };
    println!("{verdict:>8}: {:.2} of podman's (less than 1)", ours / theirs);
    Ok(())
}

/// Starts the containers, adds up their keepers, removes the containers. KiB per container: of the keeper, and in all.
fn measure(field: &Field, engine: &[String], keeper: &str) -> Result<(f64, f64)> {
    let command = |args: &[&str]| {
        engine.iter().cloned().chain(args.iter().map(|arg| (*arg).to_owned())).collect::<Vec<_>>()
    };
    let names: Vec<String> = (0..CONTAINERS).map(|n| format!("idle{n}")).collect();
    let mut outcome = Ok(());
    let limits = if keeper == "conmon" { PODMAN_LIMITS } else { &[] };
    // the first one's costs are not those of each: it makes what all share
    field.act(&command(&[&["run"], limits, &["--rm", "--network", "none", IMAGE, "true"]].concat()))?;
    let before = available()?;
    for name in &names {
        let idle = ["-d", "--network", "none", "--name", name, IMAGE, "sleep", "36000"];
        outcome = field.act(&command(&[&["run"], limits, &idle].concat())).map(drop);
        if outcome.is_err() {
            break;
        }
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
    let keepers: Vec<u32> = processes(keeper, field.place());
    // less than nothing where somebody else gave memory back meanwhile: that is to be seen
    let gone = before as f64 - available()? as f64;
    let sum: Result<u64> = keepers.iter().map(|pid| pss(*pid)).sum();
    let mut remove = command(&["rm", "-f"]);
    remove.extend(names);
    let removed = field.act(&remove);
    outcome?;
    removed?;
    if keepers.len() < CONTAINERS {
        bail!("{} processes of the name {keeper} for {CONTAINERS} containers", keepers.len());
    }
    Ok((sum? as f64 / CONTAINERS as f64, gone / CONTAINERS as f64))
}

/// What the machine could still give, in KiB.
fn available() -> Result<u64> {
    number_in("/proc/meminfo", "MemAvailable:")
}

/// The processes of that name that hold something open below the place, or name it on their command line:
/// others of the name may run beside ours.
pub(super) fn processes(name: &str, place: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let holds = || {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|file| file.starts_with(place))
        };
        program.trim_end() == name
            && (String::from_utf8_lossy(&command).contains(&place.display().to_string()) || holds())
    })
    .collect()
}

/// In KiB.
pub(super) fn pss(pid: u32) -> Result<u64> {
    number_in(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// The number behind a word that a line of the file begins with.
fn number_in(path: &str, what: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(what)).with_context(|| format!("no {what} in it"))?;
    line.split_whitespace().next().and_then(|number| number.parse().ok()).context("an odd number")
}
