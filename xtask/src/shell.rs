//! Running other programs: with what they said in the error when they fail, and as root where that is needed.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// The directory of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Cargo's target directory: the one that this binary was built into.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where tools and packages are unpacked that the machine itself lacks.
pub(crate) fn tools_dir() -> PathBuf {
    target_dir().join("tools")
}

/// Where the binaries of a profile lie: the configuration builds for the host by name.
pub(crate) fn binaries(profile: &str) -> PathBuf {
    target_dir().join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).join(profile)
}

/// A program in the checkout's directory, without standard input.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // set by the outer `cargo run` for us; it would only confuse the build scripts of the inner one
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
            Some(line.split_whitespace().nth(1)? == "0")
        })
        .unwrap_or(false)
}

/// The words before a command that make it root's: none, or `sudo`.
pub(crate) fn root_prefix() -> Result<Vec<String>> {
    if is_root() {
        return Ok(Vec::new());
    }
    if find("sudo").is_none() {
        bail!("containers, mounts and networks need root, and there is no sudo: run this as root");
    }
    // without a terminal nobody can type a password: fail at once rather than hang
    let batch = !std::io::stdin().is_terminal();
    Ok(["sudo", "-E"].into_iter().chain(batch.then_some("-n")).map(str::to_owned).collect())
}

/// A program run as root.
pub(crate) fn as_root(name: impl AsRef<OsStr>) -> Result<Command> {
    let prefix = root_prefix()?;
    let Some((sudo, flags)) = prefix.split_first() else { return Ok(program(name)) };
    let mut command = program(sudo);
    // sudo resets PATH, which may hold the tools unpacked below target/
    command.args(flags).arg("env").arg(format!("PATH={}", std::env::var("PATH").unwrap_or_default()));
    command.arg(name);
    command.stdin(Stdio::inherit());
    Ok(command)
}

/// Starts this task anew as root and ends with its status; returns when we are root already.
pub(crate) fn become_root(args: &[&str]) -> Result<bool> {
    if is_root() {
        return Ok(false);
    }
    let me = std::env::current_exe().context("finding this program")?;
    let mut command = as_root(me)?;
    run(command.args(args))?;
    Ok(true)
}

/// Whether a command exists, and where.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // root's programs are not on every user's PATH
    let beyond = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(beyond).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The command as a person would type it.
pub(crate) fn words(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Runs with our own output; an error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting `{}`", words(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", words(command));
    }
    Ok(())
}

/// Runs silently; what it said is in the error when it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("starting `{}`", words(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({})\n{}{}",
            words(command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// Its standard output as text, without the last newline.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let output = quiet(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
