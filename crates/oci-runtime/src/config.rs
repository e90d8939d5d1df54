//! `config.json`: read once, checked, its paths made absolute.
//!
//! Two directions of trust. The configuration is the caller's word, and what it asks for is done; but what this
//! repository's own parts say to each other in its types is not for others to say, so it is cleared here.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use base::fs::At as _;
use oci::runtime::{Linux, Process, Spec};
use serde::Deserialize;

use crate::error::{Doing as _, Error};
use crate::input;

/// The file's name in a bundle.
pub(crate) const NAME: &str = "config.json";

/// A bundle's configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// As it was read.
    pub(crate) bytes: Vec<u8>,
    /// What it says.
    pub(crate) spec: Spec,
    /// The bundle, absolute.
    pub(crate) bundle: PathBuf,
    /// The root file system, absolute.
    pub(crate) rootfs: PathBuf,
}

impl Config {
    /// Reads a bundle; none: the working directory.
    pub(crate) fn load(bundle: Option<&Path>) -> Result<Self, Error> {
        let bundle = match bundle {
            Some(bundle) => std::path::absolute(bundle).at("find", bundle)?,
            None => std::env::current_dir().doing("find the working directory")?,
        };
        let path = bundle.join(NAME);
        let bytes = match input::regular(&path)? {
            Some(bytes) => bytes,
            None if bundle.is_dir() => return Err(Error::NoConfig(path)),
            None => {
                return Err(std::fs::read_dir(&bundle)
                    .map(drop)
                    .at("use the bundle", &bundle)
                    .err()
                    .map_or(Error::NoConfig(path), Error::File));
            }
        };
        Self::read(bytes, bundle)
    }

    fn read(bytes: Vec<u8>, bundle: PathBuf) -> Result<Self, Error> {
        let mut spec: Spec = serde_json::from_slice(&bytes)
            .map_err(|source| Error::Json { path: bundle.join(NAME), source })?;
        check_version(&spec.oci_version)?;
        let Some(process) = &mut spec.process else {
            return Err(Error::Config("process property must not be empty".to_owned()));
        };
        check_process(process)?;
        let Some(root) = &mut spec.root else {
            return Err(Error::Config("root must be specified".to_owned()));
        };
        if root.path.as_os_str().is_empty() {
            return Err(Error::Config("root.path must not be empty".to_owned()));
        }
        if spec.annotations.keys().any(String::is_empty) {
            return Err(Error::Config("the key of an annotation must not be empty".to_owned()));
        }
        if let Some(linux) = &spec.linux {
            for path in linux.masked_paths.iter().chain(&linux.readonly_paths) {
                if !path.is_absolute() {
                    let what = "a masked or read-only path must be absolute, not";
                    return Err(Error::Config(format!("{what} {}", path.display())));
                }
            }
        }
        root.path = bundle.join(&root.path);
        let rootfs = root.path.clone();
        for mount in &mut spec.mounts {
            let bound = mount.kind.as_deref() == Some("bind")
                || mount.options.iter().any(|option| option == "bind" || option == "rbind");
            if let Some(source) = &mut mount.source
                && bound
                && source.is_relative()
            {
                *source = bundle.join(&*source);
            }
        }
        Ok(Self { bytes, spec, bundle, rootfs })
    }

    /// The command that it runs.
    pub(crate) fn command(&self) -> String {
        self.spec.process.as_ref().and_then(|process| process.args.first()).cloned().unwrap_or_default()
    }

    /// Whether it has a terminal.
    pub(crate) fn terminal(&self) -> bool {
        self.spec.process.as_ref().is_some_and(|process| process.terminal)
    }
}

/// What is the same for a container's first process and further ones. Clears what only our own parts may say.
pub(crate) fn check_process(process: &mut Process) -> Result<(), Error> {
    process.user.username = None;
    process.user.additional_groups.clear();
    if process.cwd.as_os_str().is_empty() {
        return Err(Error::Config("cwd property must not be empty".to_owned()));
    }
    if !process.cwd.is_absolute() {
        return Err(Error::Config(format!("cwd must be an absolute path, not {}", process.cwd.display())));
    }
    if process.args.is_empty() {
        return Err(Error::Config("args must not be empty".to_owned()));
    }
    settle_environment(&mut process.env)
}

/// Of several values of a variable the last counts: whoever reads them finds the first, and programs differ in what they
/// make of two.
fn settle_environment(environment: &mut Vec<String>) -> Result<(), Error> {
    for entry in &*environment {
        if entry.find('=').is_none_or(|at| at == 0) {
            return Err(Error::Config(format!("invalid environment variable: {entry:?}")));
        }
    }
    let name = |entry: &str| entry.find('=').unwrap_or(entry.len());
    let again: Vec<bool> = {
        let mut later = HashSet::with_capacity(environment.len());
        environment.iter().rev().map(|entry| !later.insert(&entry[..name(entry)])).collect()
    };
    // From the end on, as they were looked at.
    let mut again = again.into_iter().rev();
    environment.retain(|_| again.next() == Some(false));
    Ok(())
}

/// A version of SemVer 2.0.0 of the specification's first major version: minor ones only add (config.md,
/// "Specification version").
pub(crate) fn check_version(version: &str) -> Result<(), Error> {
    let bad = |why: &str| Err(Error::Config(format!("ociVersion {version:?} {why}")));
    if version.is_empty() {
        return bad("is missing");
    }
    let (core, extra) = match version.find(['-', '+']) {
        Some(at) => (&version[..at], &version[at + 1..]),
        None => (version, "0"),
    };
    let numbers: Vec<&str> = core.split('.').collect();
    let number = |text: &&str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'))
    };
    let extra_is_good = extra
        .split(['.', '+'])
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    if numbers.len() != 3 || !numbers.iter().all(number) || !extra_is_good {
        return bad("is no semantic version");
    }
    if numbers[0] != "1" {
        return bad(&format!(
            "is not supported: this runtime knows {} and what is compatible",
            oci::runtime::VERSION
        ));
    }
    Ok(())
}

/// What a further command needs of the configuration that the container was made with.
#[derive(Debug, Deserialize)]
pub(crate) struct Saved {
    /// The first process.
    pub(crate) process: Process,
    /// Linux' own part.
    #[serde(default)]
    pub(crate) linux: Option<Linux>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(edit: impl FnOnce(&mut serde_json::Value)) -> Result<Config, Error> {
        let mut config = json!({
            "ociVersion": "1.2.0",
            "process": {"cwd": "/", "args": ["true"], "user": {"uid": 1, "gid": 1, "username": "root"}},
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/a", "source": "here", "type": "bind"},
                {"destination": "/b", "source": "here", "options": ["rbind"]},
                {"destination": "/c", "source": "/there", "options": ["bind"]},
                {"destination": "/proc", "source": "proc", "type": "proc"},
            ],
            "somethingNew": {"is": "ignored"},
        });
        edit(&mut config);
        Config::read(serde_json::to_vec(&config).unwrap(), "/bundle".into())
    }

    #[test]
    fn paths_are_relative_to_the_bundle() {
        let config = read(|_| {}).unwrap();
        assert_eq!(config.rootfs, Path::new("/bundle/rootfs"));
        let sources: Vec<_> =
            config.spec.mounts.iter().map(|m| m.source.as_deref().unwrap().to_str().unwrap()).collect();
        assert_eq!(sources, ["/bundle/here", "/bundle/here", "/there", "proc"]);
        let absolute = read(|c| c["root"]["path"] = json!("/r")).unwrap();
        assert_eq!(absolute.rootfs, Path::new("/r"));
    }

    #[test]
    fn our_extensions_are_not_for_others() {
        assert_eq!(read(|_| {}).unwrap().spec.process.unwrap().user.username, None);
    }

    #[test]
    fn versions_that_are_compatible_are_taken() {
        for good in ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0", "1.0.0-rc5", "1.0.0-rc.1+git.5"] {
            assert!(read(|c| c["ociVersion"] = json!(good)).is_ok(), "{good}");
        }
        for bad in
            ["", "1", "1.0", "2.0.0", "0.9.0", "1.0.0.0", "01.0.0", "1.00.0", "v1.0.0", "1.0.x", "1.0.0-"]
        {
            assert!(matches!(read(|c| c["ociVersion"] = json!(bad)), Err(Error::Config(_))), "{bad:?}");
        }
    }

    #[test]
    fn of_two_values_the_last_counts() {
        let mut given = ["A=1", "PATH=/bin", "A=2", "B=", "A=3=4"].map(str::to_owned).to_vec();
        settle_environment(&mut given).unwrap();
        assert_eq!(given, ["PATH=/bin", "B=", "A=3=4"]);
        for bad in ["FOO", "=x", "", "="] {
            assert!(settle_environment(&mut vec!["A=1".to_owned(), bad.to_owned()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_a_start_needs_must_be_there() {
        for (pointer, value) in [
            ("/process", json!(null)),
            ("/root", json!(null)),
            ("/root/path", json!("")),
            ("/process/cwd", json!("relative")),
            ("/process/cwd", json!("")),
            ("/process/args", json!([])),
            ("/process/args", json!(null)),
        ] {
            let refused = read(|c| *c.pointer_mut(pointer).unwrap() = value.clone());
            assert!(matches!(refused, Err(Error::Config(_))), "{pointer} {value}: {refused:?}");
        }
        assert!(matches!(read(|c| c["process"]["args"] = json!("sh")), Err(Error::Json { .. })));
    }
}
