//! `--security-opt`: an option that is not known is an error, never ignored.

use state::options::{SeccompChoice, SecurityOptions};

use crate::error::{Error, Result};
use crate::flags::file;

/// A seccomp profile that is larger is none.
const MAX_PROFILE: usize = 4 << 20;

/// Puts all `--security-opt`s together.
pub(crate) fn resolve(options: &[String]) -> Result<SecurityOptions> {
    let mut all = SecurityOptions::default();
    for option in options {
        // Docker still takes the old form with a colon.
        let (name, value) = match option.find(['=', ':']) {
            Some(at) => (&option[..at], Some(&option[at + 1..])),
            None => (option.as_str(), None),
        };
        match (name, value) {
            ("no-new-privileges", None | Some("true")) => all.no_new_privileges = Some(true),
            ("no-new-privileges", Some("false")) => all.no_new_privileges = Some(false),
            ("seccomp", Some("unconfined")) => all.seccomp = SeccompChoice::Unconfined,
            ("seccomp", Some("builtin")) => all.seccomp = SeccompChoice::Default,
            ("seccomp", Some(path)) if !path.is_empty() => {
                all.seccomp = SeccompChoice::Profile(profile(path)?);
            }
            ("apparmor", Some(profile)) if !profile.is_empty() => all.apparmor = Some(profile.to_owned()),
            ("systempaths", Some("unconfined")) => all.system_paths_unconfined = true,
            // Scripts give it wherever there may be SELinux; no process is labelled here, so it is so already.
            ("label", Some("disable")) | ("writable-cgroups", Some("false")) => {}
            ("label", Some(_)) => {
                return Err(meaningless(option, "Dhow gives no SELinux labels", "apparmor="));
            }
            ("writable-cgroups", None | Some("true")) => {
                let why = "a container's cgroups are read-only to it";
                return Err(meaningless(option, why, "--privileged, which has them writable"));
            }
            _ => {
                return Err(Error::flag(format!(
                    "invalid value '{option}' for '--security-opt': want no-new-privileges[=true|false], \
                     seccomp=unconfined|builtin|FILE, apparmor=PROFILE, systempaths=unconfined or label=disable"
                )));
            }
        }
    }
    Ok(all)
}

/// Docker's, and of no use here: who gives it is told so.
fn meaningless(option: &str, why: &str, instead: &str) -> Error {
    Error::Flag {
        message: format!("--security-opt {option} has no meaning here: {why}"),
        hints: vec![format!("there is {instead}")],
    }
}

fn profile(path: &str) -> Result<String> {
    let content = file::read_as("read the seccomp profile", path)?;
    if content.len() > MAX_PROFILE {
        return Err(Error::flag(format!("the seccomp profile {path} is larger than 4 MiB")));
    }
    String::from_utf8(content).map_err(|_| Error::flag(format!("the seccomp profile {path} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn parse(options: &[&str]) -> Result<SecurityOptions> {
        resolve(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn both_separators_and_the_last_wins() {
        let all =
            parse(&["seccomp=builtin", "seccomp:unconfined", "no-new-privileges", "apparmor=mine"]).unwrap();
        assert_eq!(all.seccomp, SeccompChoice::Unconfined);
        assert_eq!((all.no_new_privileges, all.apparmor.as_deref()), (Some(true), Some("mine")));
        assert_eq!(parse(&["no-new-privileges:false"]).unwrap().no_new_privileges, Some(false));
    }

    #[test]
    fn unknown_options_are_refused() {
        for bad in [
            "",
            "bla",
            "no-new-privileges=maybe",
            "seccomp",
            "seccomp=",
            "apparmor=",
            "systempaths",
            "systempaths=x",
            "label",
            "label=type:x_t",
            "writable-cgroups",
            "writable-cgroups=true",
        ] {
            assert_eq!(parse(&[bad]).unwrap_err().exit_code(), 125, "{bad}");
        }
        let error = parse(&["seccomp=/nope/x.json"]).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the seccomp profile /nope/x.json: "), "{error}");
    }

    #[test]
    fn what_docker_has_besides_is_given_or_called_meaningless() {
        assert!(parse(&["systempaths=unconfined"]).unwrap().system_paths_unconfined);
        assert_eq!(parse(&["label=disable", "writable-cgroups=false"]).unwrap(), SecurityOptions::default());
        let error = parse(&["label=level:s0"]).unwrap_err().to_string();
        assert!(error.contains("has no meaning here"), "{error}");
    }

    #[test]
    fn a_profile_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{}").unwrap();
        let all = parse(&[&format!("seccomp={}", file.path().display())]).unwrap();
        assert_eq!(all.seccomp, SeccompChoice::Profile("{}".into()));
    }
}
