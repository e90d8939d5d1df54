//! `cargo xtask install`: a release build, laid out as its parts find each other: `bin/dhow` and `bin/dhow-runtime`, and beside them
//! `libexec/dhow` for what people do not call themselves.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{packages, shell};

/// The helpers that `dhow` starts.
pub(crate) const HELPERS: &[&str] =
    &["dhow-monitor", "dhow-netd", "dhow-egressd", "dhow-hello", "dhow-serve", "dhow-shipper"];

/// Those among them that talk to strangers for days: built apart, to lie elsewhere in memory each time they start. What
/// that costs (0.3 ms) matters to programs that start with every container, not to these.
const SERVERS: &[&str] = &["dhow-serve", "dhow-netd", "dhow-egressd"];
const SERVERS_FLAGS: &str = "-Ctarget-feature=+crt-static -Crelocation-model=pie";

/// What other programs call by name: the runtime, in the place of runc.
const PROGRAMS: &[&str] = &["dhow", "dhow-runtime"];

/// A shell, and where its completions belong below the prefix.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "share/bash-completion/completions/dhow"),
    ("zsh", "share/zsh/site-functions/_dhow"),
    ("fish", "share/fish/vendor_completions.d/dhow.fish"),
];

/// Builds and installs.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let prefix = match args {
        [] => PathBuf::from("/usr/local"),
        [option, directory] if option == "--prefix" => PathBuf::from(directory),
        _ => bail!("usage: cargo xtask install [--prefix DIR]"),
    };
    if !prefix.is_absolute() {
        bail!("--prefix must be an absolute path, not `{}`", prefix.display());
    }
    let built = build()?;
    for program in PROGRAMS {
        place(&built.join(program), &prefix.join("bin").join(program), "755")?;
    }
    for helper in HELPERS {
        place(&built.join(helper), &prefix.join("libexec/dhow").join(helper), "755")?;
    }
    let scratch = shell::target_dir().join("completion");
    for (shell_name, path) in COMPLETIONS {
        let text = shell::text(shell::program(built.join("dhow")).args(["completion", shell_name]))?;
        std::fs::write(&scratch, text + "\n").with_context(|| format!("writing {}", scratch.display()))?;
        place(&scratch, &prefix.join(path), "644")?;
    }
    std::fs::remove_file(&scratch)?;
    place(&shell::root().join("LICENSE"), &prefix.join("share/doc/dhow/LICENSE"), "644")?;
    println!("installed below {}", prefix.display());
    Ok(())
}

/// Builds the release binaries and tells where they lie.
pub(crate) fn build() -> Result<PathBuf> {
    packages::ensure(&[packages::BUILD])?;
    let mut cargo = shell::cargo();
    cargo.args([
        "build",
        "--release",
        "--bins",
        "--workspace",
        "--exclude",
        "xtask",
        "--exclude",
        "dhow-tests",
    ]);
    // For `dhow-runtime --version`. What was unpacked from an archive has no history.
    if let Ok(commit) = shell::text(shell::program("git").args(["describe", "--always", "--dirty"])) {
        cargo.env("DHOW_COMMIT", commit);
    }
    for server in SERVERS {
        cargo.args(["--exclude", server]);
    }
    shell::run(&mut cargo)?;
    let release = shell::binaries("release");
    servers(&release)?;
    Ok(release)
}

/// Builds the servers, and puts them beside the others.
fn servers(release: &Path) -> Result<()> {
    let place = shell::target_dir().join("servers");
    let below =
        release.strip_prefix(shell::target_dir()).context("binaries lie below the target directory")?;
    for server in SERVERS {
        let mut cargo = shell::cargo();
        cargo.args(["build", "--release", "--package", server, "--bin", server]);
        cargo.env("CARGO_TARGET_DIR", &place).env("RUSTFLAGS", SERVERS_FLAGS);
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
        shell::run(&mut cargo)?;
        // one that runs keeps its own
        let new = release.join(format!("{server}.new"));
        std::fs::copy(place.join(below).join(server), &new)?;
        std::fs::rename(&new, release.join(server))?;
    }
    Ok(())
}

/// Puts a file in place: `install` removes what was there first, so that a running `dhow` keeps its own.
fn place(from: &Path, to: &Path, mode: &str) -> Result<()> {
    let mut here = to.ancestors().skip(1);
    let existing = here.find(|directory| directory.exists()).unwrap_or(Path::new("/"));
    // probing is the only honest test of "may I write here"
    let probe = existing.join(format!(".dhow-install-{}", std::process::id()));
    let writable = std::fs::write(&probe, "").is_ok();
    let _ = std::fs::remove_file(&probe);
    let mut install = if writable { shell::program("install") } else { shell::as_root("install")? };
    shell::quiet(install.args(["-D", "-m", mode]).arg(from).arg(to)).map(drop)
}
