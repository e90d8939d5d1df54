//! The programs of an earlier revision, for the tests of upgrades: with its command line containers are started that today's
//! finds running. They are built once, from the history of the checkout, and kept below `target/upgrade`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;

/// The first revision whose monitors could keep containers and start them again: nothing older is supported.
const REVISION: &str = "ef8cbf3f535f2a6e6f5bf9fd8a3a1b13b6a1874d";
/// Where the tests find the programs.
const VARIABLE: &str = "DHOW_OLD_BIN_DIR";

/// Tells the tests where the programs are, if they have been built.
pub(crate) fn tell(command: &mut Command) {
    if let Some(programs) = built() {
        command.env(VARIABLE, programs);
    }
}

/// Builds the programs, if they are not there. Without the history of the checkout, it says so: the tests skip what they
/// cannot show.
pub(crate) fn ensure() -> Result<()> {
    if built().is_some() {
        return Ok(());
    }
    let known = format!("{REVISION}^{{commit}}");
    if !succeeds(shell::program("git").args(["cat-file", "-e", &known])) {
        println!(
            "no history of this checkout: upgrades are tested with what earlier programs have written, not with them"
        );
        return Ok(());
    }
    let source = home().join("src");
    std::fs::create_dir_all(&source).with_context(|| format!("making {}", source.display()))?;
    unpack(&source)?;
    let mut cargo = shell::cargo();
    cargo.current_dir(&source).env("CARGO_TARGET_DIR", home().join("target"));
    // By name: where it were missing, cargo would look above, and find us.
    cargo.args(["build", "--quiet", "--manifest-path"]).arg(source.join("Cargo.toml"));
    for package in ["dhow", "dhow-monitor", "dhow-hello"] {
        cargo.args(["--package", package]);
    }
    shell::run(&mut cargo)
}

fn home() -> PathBuf {
    shell::target_dir().join("upgrade").join(&REVISION[..7])
}

fn built() -> Option<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let programs = home().join("target").join(triple).join("debug");
    ["dhow", "dhow-monitor", "dhow-hello"]
        .iter()
        .all(|name| programs.join(name).is_file())
        .then_some(programs)
}

/// The files of the revision.
fn unpack(into: &Path) -> Result<()> {
    let mut git = shell::program("git").args(["archive", REVISION]).stdout(Stdio::piped()).spawn()?;
    let archive = git.stdout.take().context("git's output is piped")?;
    let unpacked = succeeds(shell::program("tar").arg("-xC").arg(into).stdin(archive));
    if !(git.wait()?.success() && unpacked) {
        bail!("cannot unpack the revision {REVISION} into {}", into.display());
    }
    Ok(())
}

fn succeeds(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
