//! `cargo xtask vm`: the end-to-end tests on another kernel: Debian's own, with cgroup v2 alone.
//!
//! `vm-run` boots it over this machine's files, read-only, so that the test programs run as they are. It
//! emulates the processor: everything takes 10 to 25 times as long, hence `--quick` for every day.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{packages, shell};

/// What `--quick` runs: of these test programs, the tests whose name contains one of the words (none: all).
/// Chosen for what differs there: cgroup v2, the overlay and the mounts of an older kernel.
const QUICK: &[(&str, &[&str])] = &[
    (
        "run",
        &["the_exit_code", "limit", "read_only", "capabilities", "tells_what_it_sees", "rm_leaves_nothing"],
    ),
    ("exec", &["a_command_runs", "commands_die"]),
    ("lifecycle", &["stop_is_heeded", "rm_removes"]),
    ("network", &["published_ports"]),
];

/// How long a machine may live, in seconds.
const QUICK_LIMIT: &str = "600";
const FULL_LIMIT: &str = "7200";

/// Boots a machine and runs the tests, or the command after `--`, in it.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut quick, mut kernel, mut command, mut names) = (false, None, None, Vec::new());
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--kernel-root" | "--kernel" => {
                let directory = words.next().context("--kernel-root needs a directory")?;
                kernel = Some(PathBuf::from(directory));
            }
            "--" => command = Some(words.by_ref().cloned().collect::<Vec<_>>()),
            other if other.starts_with('-') => bail!("`vm` has no option `{other}`"),
            name => names.push(name.to_owned()),
        }
    }
    packages::ensure(&[packages::VM])?;
    let kernel = match kernel {
        Some(directory) => Some(directory),
        None => packages::kernel()?,
    };
    let job = match command {
        Some(command) if !command.is_empty() => command,
        Some(_) => bail!("which command? `cargo xtask vm -- COMMAND…`"),
        None => vec!["sh".to_owned(), "-euc".to_owned(), script(&test_programs()?, quick, &names)],
    };
    let mut vm = shell::as_root(shell::root().join("xtask/vm-run"))?;
    vm.args(["--memory", "3072", "--timeout", if quick { QUICK_LIMIT } else { FULL_LIMIT }]);
    vm.args(["-e", "CI", "-e", "DHOW_SOAK", "-e", "RUST_BACKTRACE"]);
    if let Some(directory) = kernel {
        vm.arg("--kernel-root").arg(directory);
    }
    shell::run(vm.arg("--").args(job))
}

/// Builds the end-to-end tests and what they run, and tells where the test programs lie.
fn test_programs() -> Result<Vec<(String, PathBuf)>> {
    shell::run(shell::cargo().args(["build", "--quiet", "--workspace", "--bins"]))?;
    let mut build = shell::cargo();
    build.args(["test", "--quiet", "--package", "dhow-tests", "--no-run", "--message-format", "json"]);
    let programs: Vec<_> = shell::text(&mut build)?
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["profile"]["test"] == true && message["target"]["kind"][0] == "test")
        .filter_map(|message| {
            Some((
                message["target"]["name"].as_str()?.to_owned(),
                PathBuf::from(message["executable"].as_str()?),
            ))
        })
        .collect();
    if programs.is_empty() {
        bail!("there are no end-to-end test programs");
    }
    Ok(programs)
}

/// The shell script for the guest: every program, and at the end a failure if one failed.
fn script(programs: &[(String, PathBuf)], quick: bool, names: &[String]) -> String {
    let mut script = String::from("failed=\n");
    for (name, path) in programs {
        let filters: Vec<&str> = if quick {
            let Some((_, filters)) = QUICK.iter().find(|(program, _)| program == name) else { continue };
            filters.to_vec()
        } else if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            Vec::new()
        } else {
            continue;
        };
        let filters = filters.join(" ");
        let path = path.display();
        // libtest takes several filters and runs what matches any of them
        let line = format!("'{path}' --test-threads=2 {filters} || failed=\"$failed {name}\"");
        script.extend([format!("echo '== {name}'\n"), line, "\n".to_owned()]);
    }
    script + "[ -z \"$failed\" ] || { echo \"failed:$failed\" >&2; exit 1; }\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_runs_what_was_named() {
        let programs =
            [("run".to_owned(), PathBuf::from("/t/run-1")), ("exec".to_owned(), PathBuf::from("/t/exec-1"))];
        let all = script(&programs, false, &[]);
        assert!(all.contains("'/t/run-1' --test-threads=2  ||") && all.contains("exec-1"));
        let one = script(&programs, false, &["exec".to_owned()]);
        assert!(!one.contains("run-1") && one.contains("exec-1"));
    }
}
