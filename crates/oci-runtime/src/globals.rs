//! What comes before the command: the root, the log, how cgroups are managed.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use crate::arguments::{Flag, Parsed, switch, value};
use crate::error::Error;
use crate::report::Report;

/// The flags.
pub(crate) const FLAGS: &[Flag] = &[
    switch(&["debug"], "write what helps to find out to the log, too"),
    value(&["log"], "the file that errors are written to (default: \"/dev/stderr\")"),
    value(&["log-format"], "their form, text or json (default: \"text\")"),
    value(&["root"], "where containers are kept; should be a tmpfs (default: \"/run/dhow-runtime\")"),
    value(&["criu"], "ignored: there is no checkpoint and no restore"),
    switch(&["systemd-cgroup"], "let systemd make cgroups; cgroupsPath is then \"slice:prefix:name\""),
    value(&["cgroup-manager"], "cgroupfs, systemd or disabled (default: \"cgroupfs\")"),
    value(
        &["rootless"],
        "go on without cgroups where we may not have any: true, false or auto (default: \"auto\")",
    ),
    switch(&["version", "v"], "print the version"),
];

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupManager {
    /// We, in the file system.
    CgroupFs,
    /// systemd, asked over D-Bus.
    Systemd,
    /// Nobody: the container stays in the caller's.
    Disabled,
}

/// The global options.
#[derive(Debug)]
pub(crate) struct Globals {
    /// Where containers are kept.
    pub(crate) root: PathBuf,
    /// Where errors go.
    pub(crate) report: Report,
    /// Who makes cgroups.
    pub(crate) cgroups: CgroupManager,
    rootless: OnceCell<bool>,
}

impl Globals {
    /// From the flags.
    pub(crate) fn new(flags: &Parsed) -> Result<Self, Error> {
        let debug = flags.is_on("debug");
        let report = Report::new(flags.path("log"), flags.text("log-format")?.unwrap_or(""), debug)?;
        let rootless = match flags.text("rootless")? {
            None | Some("auto") => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => {
                return Err(Error::Usage(format!(
                    "invalid value {other:?} for flag -rootless: not true, false or auto"
                )));
            }
        };
        let cgroups = match flags.text("cgroup-manager")? {
            None if flags.is_on("systemd-cgroup") => CgroupManager::Systemd,
            Some("systemd") => CgroupManager::Systemd,
            None | Some("cgroupfs") => CgroupManager::CgroupFs,
            Some("disabled") => CgroupManager::Disabled,
            Some(other) => {
                return Err(Error::Usage(format!(
                    "unknown cgroup manager {other:?}: not cgroupfs, systemd or disabled"
                )));
            }
        };
        let root = match flags.path("root") {
            Some(root) => std::path::absolute(root)
                .map_err(|source| Error::System { what: format!("find {}", root.display()), source })?,
            None => default_root(),
        };
        let rootless = rootless.map_or_else(OnceCell::new, OnceCell::from);
        Ok(Self { root, report, cgroups, rootless })
    }

    /// Whether we do without what only the machine's root may do.
    pub(crate) fn rootless(&self) -> bool {
        *self.rootless.get_or_init(|| !is_root() || in_user_namespace())
    }
}

/// Root of whatever namespace we are in.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether our user namespace is another than the machine's, whose number is a constant of the kernel
/// (`PROC_USER_INIT_INO`).
fn in_user_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|link| link != Path::new("user:[4026531837]"))
}

/// The machine's `/run` is not an ordinary user's.
fn default_root() -> PathBuf {
    const NAME: &str = "dhow-runtime";
    let run = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute());
    match run {
        Some(run) if !is_root() || in_user_namespace() => Path::new(&run).join(NAME),
        _ => Path::new("/run").join(NAME),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globals(given: &[&str]) -> Result<Globals, Error> {
        Globals::new(&crate::arguments::parse(FLAGS, true, given.iter().map(Into::into)).unwrap())
    }

    #[test]
    fn global_options_are_those_of_runc_and_crun() {
        let given = globals(&["--root", "/x", "--systemd-cgroup", "--criu=x", "--rootless", "true"]).unwrap();
        assert_eq!((given.root.to_str(), given.cgroups), (Some("/x"), CgroupManager::Systemd));
        assert!(given.rootless());
        assert!(!globals(&["--rootless=false"]).unwrap().rootless());
        assert_eq!(globals(&["--cgroup-manager=disabled"]).unwrap().cgroups, CgroupManager::Disabled);
        assert!(globals(&["--root", "x"]).unwrap().root.is_absolute());
        for bad in ["--rootless=maybe", "--log-format=xml", "--cgroup-manager=none"] {
            assert!(globals(&[bad]).is_err(), "{bad}");
        }
    }
}
