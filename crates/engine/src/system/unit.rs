//! The one systemd unit: it starts the containers that come back when the machine comes up, and stops all when it goes
//! down. Containers need no other service.

use std::path::{Path, PathBuf};
use std::process::Command;

use base::fs::{self, At, Durability};
use base::{Failure, Kind};
use state::instance::{DEFAULT_ROOT, DEFAULT_RUN_ROOT};

use crate::Engine;
use crate::error::Result;

const UNITS: &str = "/etc/systemd/system";

/// Systemd cannot be asked, or says no.
#[derive(Debug, thiserror::Error)]
enum UnitError {
    #[error("this machine was not started by systemd: there is nobody who would start the unit")]
    NoSystemd,
    #[error("cannot run systemctl")]
    Systemctl(#[source] std::io::Error),
    #[error("systemctl {words} failed: {said}")]
    Refused { words: String, said: String },
    #[error("the path {0} cannot be written into a unit")]
    Path(PathBuf),
}

impl Failure for UnitError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSystemd => Kind::Unsupported,
            Self::Path(_) => Kind::Invalid,
            _ => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoSystemd => vec![
                "have `dhow system start` run when the machine comes up, and `dhow system stop` when it goes down"
                    .to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

impl Engine {
    /// The text of the unit.
    pub fn unit(&self) -> Result<String> {
        let program = std::env::current_exe().at("find", "/proc/self/exe")?;
        let mut command = quoted(&program)?;
        for (flag, path, default) in [
            ("--root", self.instance.root(), DEFAULT_ROOT),
            ("--run-root", self.instance.run(), DEFAULT_RUN_ROOT),
        ] {
            if path != Path::new(default) {
                command = format!("{command} {flag} {}", quoted(path)?);
            }
        }
        // Monitors stay when the unit goes: what ends them is its ExecStop.
        Ok(format!(
            "[Unit]\n\
             Description=Dhow's containers: those that come back start with the machine, all stop with it\n\
             Wants=network-online.target\n\
             After=network-online.target local-fs.target\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             ExecStart={command} system start\n\
             ExecStop={command} system stop\n\
             KillMode=process\n\
             TimeoutStopSec=infinity\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        ))
    }

    /// Installs the unit and has systemd start it with the machine. Its file.
    pub fn enable_unit(&self) -> Result<PathBuf> {
        check_systemd()?;
        let path = self.unit_path();
        fs::write_atomic(&path, self.unit()?.as_bytes(), Durability::Synced)?;
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", "--now", &self.unit_name()])?;
        Ok(path)
    }

    /// Takes the unit away again. The containers go on.
    pub fn disable_unit(&self) -> Result<()> {
        check_systemd()?;
        // Not `--now`: that would stop all containers, which nobody asked for.
        systemctl(&["disable", &self.unit_name()])?;
        fs::remove_file(&self.unit_path())?;
        systemctl(&["daemon-reload"])
    }

    fn unit_name(&self) -> String {
        format!("{}.service", self.instance.global_name())
    }

    fn unit_path(&self) -> PathBuf {
        Path::new(UNITS).join(self.unit_name())
    }
}

fn check_systemd() -> Result<()> {
    // What sd_booted(3) looks at.
    if Path::new("/run/systemd/system").is_dir() { Ok(()) } else { Err(UnitError::NoSystemd.into()) }
}

fn systemctl(words: &[&str]) -> Result<()> {
    let output = Command::new("systemctl").args(words).output().map_err(UnitError::Systemctl)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(UnitError::Refused { words: words.join(" "), said }.into())
}

/// A path as a word of `ExecStart=` (systemd.service(5)).
fn quoted(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .filter(|t| !t.contains(['\n', '\0']))
        .ok_or_else(|| UnitError::Path(path.to_owned()))?;
    let mut word = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '%' | '$' => word.extend([c, c]),
            _ => word.push(c),
        }
    }
    word.push('"');
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        assert_eq!(quoted(Path::new("/a b/%n\"$x")).unwrap(), r#""/a b/%%n\"$$x""#);
        assert!(quoted(Path::new("/a\nb")).is_err());
    }
}
