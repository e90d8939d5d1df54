//! `--ipc`, `--pid`, `--uts`, `--cgroupns`: whose namespaces a container is in.

use std::str::FromStr;

use state::options::{IpcMode, PidMode};

/// `--ipc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ipc(pub(crate) IpcMode);

/// `--pid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pid(pub(crate) PidMode);

/// `--uts`: whether it is the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uts(pub(crate) bool);

/// `--cgroupns`: whether it is the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroupns(pub(crate) bool);

/// Nobody's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("want {0}")]
pub(crate) struct NotAMode(&'static str);

fn container(text: &str) -> Option<&str> {
    text.strip_prefix("container:").filter(|name| !name.is_empty())
}

impl FromStr for Ipc {
    type Err = NotAMode;
    fn from_str(text: &str) -> Result<Self, NotAMode> {
        Ok(Self(match text {
            "" | "private" => IpcMode::Private,
            "none" => IpcMode::None,
            "shareable" => IpcMode::Shareable,
            "host" => IpcMode::Host,
            other => match container(other) {
                Some(name) => IpcMode::Container(name.to_owned()),
                None => return Err(NotAMode("private, shareable, none, host or container:NAME")),
            },
        }))
    }
}

impl FromStr for Pid {
    type Err = NotAMode;
    fn from_str(text: &str) -> Result<Self, NotAMode> {
        Ok(Self(match text {
            "" | "private" => PidMode::Private,
            "host" => PidMode::Host,
            other => match container(other) {
                Some(name) => PidMode::Container(name.to_owned()),
                None => return Err(NotAMode("host or container:NAME")),
            },
        }))
    }
}

impl FromStr for Uts {
    type Err = NotAMode;
    fn from_str(text: &str) -> Result<Self, NotAMode> {
        match text {
            "" | "private" => Ok(Self(false)),
            "host" => Ok(Self(true)),
            _ => Err(NotAMode("host")),
        }
    }
}

impl FromStr for Cgroupns {
    type Err = NotAMode;
    fn from_str(text: &str) -> Result<Self, NotAMode> {
        match text {
            "" | "private" => Ok(Self(false)),
            "host" => Ok(Self(true)),
            _ => Err(NotAMode("private or host")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_dockers() {
        assert_eq!("host".parse(), Ok(Ipc(IpcMode::Host)));
        assert_eq!("container:x".parse(), Ok(Ipc(IpcMode::Container("x".to_owned()))));
        assert_eq!("container:x".parse(), Ok(Pid(PidMode::Container("x".to_owned()))));
        assert_eq!("".parse(), Ok(Pid(PidMode::Private)));
        for bad in ["HOST", "container", "container:", "shared", "none "] {
            assert!(bad.parse::<Ipc>().is_err() && bad.parse::<Pid>().is_err(), "{bad}");
        }
        assert!("none".parse::<Pid>().is_err());
        assert!("container:x".parse::<Uts>().is_err() && "container:x".parse::<Cgroupns>().is_err());
    }
}
