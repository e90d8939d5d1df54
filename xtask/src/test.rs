//! `cargo xtask test`: all that must hold before a change is taken, in phases, cheap ones first.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{arrows, fuzz, leaks, packages, shell, upgrade, vm};

/// cargo-deny reads tomorrow's licence names with tomorrow's release: pinned, so that a run is repeatable.
const CARGO_DENY: &str = "0.20.2";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Packages,
    Fmt,
    Arrows,
    Clippy,
    Doc,
    Deny,
    Build,
    Unit,
    Fuzz,
    EndToEnd,
    Vm,
    Leaks,
}

const PHASES: &[(Phase, &str, &str)] = &[
    (Phase::Packages, "packages", "what the tests need of Debian"),
    (Phase::Fmt, "fmt", "formatting"),
    (Phase::Arrows, "arrows", "who imports whom"),
    (Phase::Build, "build", "all binaries"),
    (Phase::Clippy, "clippy", "lints"),
    (Phase::Doc, "doc", "documentation"),
    (Phase::Deny, "deny", "bans, licences and sources of dependencies"),
    (Phase::Unit, "unit", "the crates' own tests"),
    (Phase::Fuzz, "fuzz", "half a minute of each fuzz target"),
    (Phase::EndToEnd, "e2e", "end to end"),
    (Phase::Vm, "vm", "a quick subset under Debian's kernel with cgroup v2"),
    (Phase::Leaks, "leaks", "nothing is left"),
];

/// Runs the phases that were asked for: all, unless told otherwise.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let chosen = choose(args)?;
    let mut before = None;
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let began = Instant::now();
    for &(phase, name, about) in PHASES {
        if !chosen.contains(&phase) {
            continue;
        }
        println!("── {name}: {about}");
        let phase_began = Instant::now();
        if matches!(phase, Phase::Unit | Phase::EndToEnd | Phase::Leaks) && before.is_none() {
            before = Some(leaks::snapshot());
        }
        let outcome = match (phase, &before) {
            (Phase::Leaks, Some(before)) => leaks::check(before),
            _ => act(phase),
        };
        times.push((name, phase_began.elapsed()));
        if let Err(error) = outcome {
            summary(&times, began.elapsed());
            return Err(error.context(format!("{name} failed")));
        }
    }
    summary(&times, began.elapsed());
    println!("all is well");
    Ok(())
}

fn choose(args: &[String]) -> Result<Vec<Phase>> {
    let mut chosen: Vec<Phase> = PHASES.iter().map(|&(phase, ..)| phase).collect();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--fast" => chosen.retain(|phase| {
                !matches!(
                    phase,
                    Phase::Fmt | Phase::Clippy | Phase::Doc | Phase::Deny | Phase::Fuzz | Phase::Vm
                )
            }),
            "--only" => {
                let wanted = words.next().context("--only needs a phase")?;
                let phase = PHASES.iter().find(|(_, name, _)| name == wanted);
                let Some(&(phase, ..)) = phase else { bail!("there is no phase `{wanted}`") };
                chosen = vec![phase];
            }
            other => bail!("`test` has no option `{other}`"),
        }
    }
    Ok(chosen)
}

fn summary(times: &[(&str, Duration)], total: Duration) {
    println!();
    for (name, time) in times {
        println!("{name:>10} {:7.1} s", time.as_secs_f64());
    }
    println!("{:>10} {:7.1} s", "total", total.as_secs_f64());
}

fn act(phase: Phase) -> Result<()> {
    match phase {
        Phase::Packages => {
            shell::root_prefix()?;
            packages::ensure(&[packages::BUILD, packages::FUZZ, packages::TEST, packages::VM])?;
            packages::ensure(&[packages::CALLERS])?;
            packages::registry()?;
            packages::daemons()?;
            packages::collectors()?;
            packages::firewalls()?;
            packages::programs()?;
            packages::systemd()?;
            packages::apparmor()?;
            packages::kernel().map(drop)
        }
        Phase::Fmt => {
            shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
            shell::run(shell::cargo().current_dir(shell::root().join("fuzz")).args(["fmt", "--check"]))
        }
        Phase::Arrows => arrows::run(),
        Phase::Build => shell::run(shell::cargo().args(["build", "--quiet", "--workspace", "--bins"])),
        Phase::Clippy => {
            let lint = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
            shell::run(shell::cargo().args(lint))?;
            fuzz::lint(&lint)
        }
        Phase::Doc => shell::run(
            shell::cargo()
                .args(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        ),
        Phase::Deny => {
            let deny = cargo_deny()?;
            shell::run(shell::program(deny).args(["--workspace", "check", "bans", "licenses", "sources"]))
        }
        Phase::Unit => tests(&["--workspace", "--exclude", "dhow-tests"]),
        Phase::Fuzz => fuzz::run(&[]),
        Phase::EndToEnd => end_to_end(),
        Phase::Vm => vm::run(&["--quick".to_owned()]),
        Phase::Leaks => Ok(()),
    }
}

/// Runs tests as root, by nextest where it is installed: it gives each a process and stops what hangs.
pub(crate) fn tests(selection: &[&str]) -> Result<()> {
    let mut cargo = if shell::find("cargo-nextest").is_some() {
        let mut cargo = shell::cargo();
        cargo.args(["nextest", "run", "--no-tests=pass"]);
        if std::env::var_os("CI").is_some() {
            cargo.args(["--profile", "ci"]);
        }
        cargo
    } else {
        let mut cargo = shell::cargo();
        cargo.args(["test", "--quiet"]);
        if std::env::var_os("CI").is_some() {
            cargo.arg("--no-fail-fast");
        }
        cargo
    };
    prepare(&mut cargo)?;
    let list = skips();
    // Of an earlier run.
    if list.exists() {
        std::fs::remove_file(&list)?;
    }
    let outcome = shell::run(cargo.args(selection));
    tell_skips(&std::fs::read_to_string(&list).unwrap_or_default());
    outcome
}

/// Where tests add a line for what they skip.
fn skips() -> PathBuf {
    shell::root().join("target/skips")
}

fn tell_skips(list: &str) {
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    for line in &lines {
        println!("{line}");
    }
    println!("{} skipped", lines.len());
}

/// What nextest's group `heavy` (`.config/nextest.toml`) has in the names of its tests.
const HEAVY: &[&str] = &["heavy", "parallel", "soak", "crash", "disk_full"];

/// The end-to-end tests. Without nextest, which knows groups, what is heavy gets runs of its own, a test at a time:
/// several daemons, or some hundred containers more than once, are too much for one machine.
fn end_to_end() -> Result<()> {
    if shell::find("cargo-nextest").is_some() {
        // They mostly wait: one more than there are processors keeps those busy.
        let threads = std::thread::available_parallelism()?.get() + 1;
        return tests(&["--package", "dhow-tests", "--test-threads", &threads.to_string()]);
    }
    for run in runs_without_nextest(&programs()?) {
        let selection: Vec<&str> = run.iter().map(String::as_str).collect();
        tests(&[&["--package", "dhow-tests"], &selection[..]].concat())?;
    }
    Ok(())
}

/// The names of the end-to-end test programs.
fn programs() -> Result<Vec<String>> {
    let directory = shell::root().join("tests/tests");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// The arguments of `cargo test` for each run.
fn runs_without_nextest(programs: &[String]) -> [Vec<String>; 3] {
    let (callers, others): (Vec<&String>, Vec<&String>) =
        programs.iter().partition(|name| name.starts_with("callers_"));
    let of = |programs: &[&String], more: &[&str]| {
        let selected = programs.iter().flat_map(|name| ["--test", name.as_str()]);
        selected.chain(["--"]).chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let light: Vec<&str> = HEAVY.iter().flat_map(|name| ["--skip", name]).collect();
    let one = ["--test-threads=1"];
    [of(&others, &light), of(&others, &[&one, HEAVY].concat()), of(&callers, &one)]
}

/// The environment of tests: tools of ours on PATH, and root for the test programs alone (what they compile
/// to stays the user's).
pub(crate) fn prepare(cargo: &mut Command) -> Result<()> {
    let path = path()?;
    cargo.env("PATH", &path).env("DHOW_TEST_SKIPS", skips());
    upgrade::tell(cargo);
    let prefix = shell::root_prefix()?;
    if !prefix.is_empty() {
        let arch = std::env::consts::ARCH.to_uppercase();
        // sudo has a PATH of its own mind
        let (path, skips) = (path.to_string_lossy(), skips());
        let runner = format!("{} env PATH={path} DHOW_TEST_SKIPS={}", prefix.join(" "), skips.display());
        cargo.env(format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"), runner);
    }
    Ok(())
}

/// PATH with the directories of what was unpacked rather than installed.
pub(crate) fn path() -> Result<OsString> {
    let ours = packages::registry()?
        .into_iter()
        .chain(packages::daemons()?)
        .chain(packages::collectors()?)
        .chain(packages::programs()?)
        .chain([packages::firewalls()?]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // each once, so that who is already on this path can see it
    let more: Vec<PathBuf> = ours.filter(|dir| !here.contains(dir)).collect();
    // the machine's own programs come first: a docker of ours must not stand before the user's
    Ok(std::env::join_paths(here.into_iter().chain(more))?)
}

/// The machine's cargo-deny if it is the pinned one, else ours, built once below `target/tools`.
fn cargo_deny() -> Result<PathBuf> {
    let is_right = |path: &PathBuf| {
        shell::text(shell::program(path).arg("--version")).is_ok_and(|version| version.ends_with(CARGO_DENY))
    };
    let ours = shell::tools_dir().join("bin/cargo-deny");
    if let Some(found) = shell::find("cargo-deny").into_iter().chain([ours.clone()]).find(is_right) {
        return Ok(found);
    }
    println!("building cargo-deny {CARGO_DENY}, once (this takes minutes)");
    let mut install = shell::cargo();
    // from outside the checkout, whose configuration is for static binaries; unoptimised: it compiles in
    // half the time and runs for a second either way
    install.current_dir("/").args(["install", "--quiet", "--locked", "--debug", "--version", CARGO_DENY]);
    install.arg("--root").arg(shell::tools_dir()).arg("--target-dir").arg(shell::tools_dir().join("build"));
    install.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
    shell::run(install.arg("cargo-deny"))?;
    let _ = std::fs::remove_dir_all(shell::tools_dir().join("build"));
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(words: &[&str]) -> Result<Vec<Phase>> {
        choose(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn without_nextest_what_is_heavy_runs_alone() {
        let [light, heavy, callers] = runs_without_nextest(&["callers_x".to_owned(), "oci_y".to_owned()]);
        assert_eq!(light[..5], ["--test", "oci_y", "--", "--skip", "heavy"]);
        assert_eq!(heavy[..5], ["--test", "oci_y", "--", "--test-threads=1", "heavy"]);
        assert_eq!(callers, ["--test", "callers_x", "--", "--test-threads=1"]);
        assert!(programs().unwrap().iter().any(|name| name.starts_with("callers_")));
        // Both speak of the same tests.
        let groups = std::fs::read_to_string(shell::root().join(".config/nextest.toml")).unwrap();
        assert!(groups.contains(&format!("test(/{}/)", HEAVY.join("|"))), "{groups}");
    }

    #[test]
    fn phases_are_chosen() {
        assert_eq!(chosen(&[]).unwrap().len(), PHASES.len());
        assert_eq!(chosen(&["--only", "arrows"]).unwrap(), [Phase::Arrows]);
        let fast = chosen(&["--fast"]).unwrap();
        assert!(fast.contains(&Phase::EndToEnd) && !fast.contains(&Phase::Clippy));
        assert!(
            chosen(&["--only"]).is_err() && chosen(&["--only", "x"]).is_err() && chosen(&["--slow"]).is_err()
        );
    }
}
