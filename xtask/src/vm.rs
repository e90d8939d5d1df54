//! `cargo xtask vm`: the end-to-end tests on another kernel: Debian's own, with cgroup v2 alone.
//!
//! `vm-run` boots it over this machine's files, read-only, so that the test programs run as they are. It
//! emulates the processor: everything takes 10 to 25 times as long, hence `--quick` for every day.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{packages, shell, test};

/// What `--quick` runs: of these test programs, the tests whose name contains one of the words (none: all).
/// Chosen for what differs there: cgroup v2, the overlay and the mounts of an older kernel.
const QUICK: Selection = &[
    (
        "run",
        &["the_exit_code", "limit", "read_only", "capabilities", "tells_what_it_sees", "rm_leaves_nothing"],
    ),
    ("exec", &["a_command_runs", "commands_die"]),
    ("lifecycle", &["stop_is_heeded", "rm_removes"]),
    ("network", &["published_ports"]),
    ("oci_cgroup2", &[]),
    ("oci_lifecycle", &["goes_through_its_life", "paused", "ps_shows"]),
    ("oci_spec_cgroups", &["limits_are_applied", "a_limit_below"]),
    ("oci_update", &["limits", "events"]),
];

/// The same in the machine with systemd as process 1, and in the one with AppArmor.
const QUICK_SYSTEMD: Selection = &[("oci_systemd", &[]), ("system_unit", &[])];
const QUICK_APPARMOR: Selection = &[("oci_apparmor", &[])];

/// Test programs, and of each the words in the names of its tests.
type Selection = &'static [(&'static str, &'static [&'static str])];

/// How long a machine may live, in seconds.
const QUICK_LIMIT: &str = "600";
const FULL_LIMIT: &str = "7200";

/// Boots a machine and runs the tests, or the command after `--`, in it.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut quick, mut kernel, mut command, mut names) = (false, None, None, Vec::new());
    let mut features = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--systemd" => features.push(Feature::Systemd),
            "--apparmor" => features.push(Feature::AppArmor),
            "--kernel-root" | "--kernel" => {
                let directory = words.next().context("--kernel-root needs a directory")?;
                kernel = Some(PathBuf::from(directory));
            }
            "--" => command = Some(words.by_ref().cloned().collect::<Vec<_>>()),
            other if other.starts_with('-') => bail!("`vm` has no option `{other}`"),
            name => names.push(name.to_owned()),
        }
    }
    packages::ensure(&[packages::VM, packages::TEST, packages::CALLERS])?;
    let kernel = match kernel {
        Some(directory) => Some(directory),
        None => packages::kernel()?,
    };
    let limit = if quick { QUICK_LIMIT } else { FULL_LIMIT };
    let machine = Machine { kernel, limit };
    let shell = |script: &str| ["sh", "-euc", script].map(str::to_owned).to_vec();
    match command {
        Some(command) if !command.is_empty() => return machine.run(&features, &command),
        Some(_) => bail!("which command? `cargo xtask vm -- COMMAND…`"),
        None => {}
    }
    let programs = test_programs()?;
    let chosen = !(features.is_empty() && names.is_empty());
    if quick && chosen {
        bail!("`--quick` chooses by itself what runs where");
    }
    if let Some(name) = names.iter().find(|name| programs.iter().all(|(program, _)| program != *name)) {
        bail!("there is no test program `{name}`");
    }
    if chosen {
        let works: String = features.iter().map(|feature| feature.works()).collect();
        return machine.run(&features, &shell(&(works + &script(&programs, None, &names))));
    }
    let whole = [(Some(Feature::AppArmor), None), (Some(Feature::Systemd), Some(QUICK_SYSTEMD))];
    let few = [
        (None, Some(QUICK)),
        (Some(Feature::Systemd), Some(QUICK_SYSTEMD)),
        (Some(Feature::AppArmor), Some(QUICK_APPARMOR)),
    ];
    // what only machines with a feature have, once each
    for &(feature, selection) in if quick { &few[..] } else { &whole[..] } {
        let works = feature.map_or("", Feature::works).to_owned();
        let feature: Vec<Feature> = feature.into_iter().collect();
        machine.run(&feature, &shell(&(works + &script(&programs, selection, &[]))))?;
    }
    Ok(())
}

/// What a machine has beside a kernel.
#[derive(Debug, Clone, Copy)]
enum Feature {
    /// systemd as process 1, and D-Bus's system bus.
    Systemd,
    /// The kernel's AppArmor, and its parser.
    AppArmor,
}

impl Feature {
    /// A script that fails where it is not there: tests that need it would only skip.
    const fn works(self) -> &'static str {
        match self {
            Self::Systemd => SYSTEMD_WORKS,
            Self::AppArmor => APPARMOR_WORKS,
        }
    }
}

/// A process in a scope that it asked systemd for over the bus, as the systemd driver does.
const SYSTEMD_WORKS: &str = "\
test \"$(cat /proc/1/comm)\" = systemd
systemd-run --quiet --scope --unit dhow-check --property MemoryMax=64M sh -euc '
    grep -q dhow-check.scope /proc/self/cgroup
    test \"$(cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max)\" = 67108864
'
echo 'systemd: a scope with a limit was made'
";

/// A profile that denies one file, loaded and obeyed.
const APPARMOR_WORKS: &str = "\
grep -q Y /sys/module/apparmor/parameters/enabled
echo 'profile dhow-check flags=(attach_disconnected) { file, signal, deny /etc/hostname r, }' | apparmor_parser -r -K
(echo 'exec dhow-check' >/proc/self/attr/exec; exec cat /etc/passwd) >/dev/null
if (echo 'exec dhow-check' >/proc/self/attr/exec; exec cat /etc/hostname) 2>/dev/null; then
    echo 'a profile was not obeyed' >&2; exit 1
fi
echo 'AppArmor: a profile was loaded and obeyed'
";

/// Machines of one kernel.
struct Machine {
    kernel: Option<PathBuf>,
    limit: &'static str,
}

impl Machine {
    /// Boots one and runs a command in it.
    fn run(&self, features: &[Feature], job: &[String]) -> Result<()> {
        let mut vm = shell::as_root(shell::root().join("xtask/vm-run"))?;
        vm.args(["--memory", "3072", "--timeout", self.limit]);
        vm.args(["-e", "CI", "-e", "DHOW_SOAK", "-e", "RUST_BACKTRACE", "-e"]);
        vm.arg(format!("PATH={}", test::path()?.to_string_lossy()));
        if let Some(directory) = &self.kernel {
            vm.arg("--kernel-root").arg(directory);
        }
        for feature in features {
            match feature {
                Feature::Systemd => vm.arg("--systemd").arg("--layer").arg(packages::systemd()?),
                Feature::AppArmor => vm
                    .args(["--append", "apparmor=1 security=apparmor", "--layer"])
                    .arg(packages::apparmor()?),
            };
        }
        shell::run(vm.arg("--").args(job))
    }
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
fn script(programs: &[(String, PathBuf)], selection: Option<Selection>, names: &[String]) -> String {
    let mut script = String::from("failed=\n");
    for (name, path) in programs {
        let filters: Vec<&str> = if let Some(selection) = selection {
            let Some((_, filters)) = selection.iter().find(|(program, _)| program == name) else { continue };
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
        let all = script(&programs, None, &[]);
        assert!(all.contains("'/t/run-1' --test-threads=2  ||") && all.contains("exec-1"));
        let one = script(&programs, None, &["exec".to_owned()]);
        assert!(!one.contains("run-1") && one.contains("exec-1"));
        let some = script(&programs, Some(&[("run", &["a", "b"])]), &[]);
        assert!(some.contains("'/t/run-1' --test-threads=2 a b ||") && !some.contains("exec-1"));
    }
}
