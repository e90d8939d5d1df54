//! v2's files by their names, as `linux.resources.unified` has them: written as they are, whatever they mean.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Need, Write};
use crate::cgroup::Error;
use crate::cgroup::hierarchy::Controller;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) struct Setting {
    pub(in crate::cgroup) file: String,
    pub(in crate::cgroup) value: String,
}

impl Setting {
    /// What stands before the first dot.
    pub(in crate::cgroup) fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// Files by which processes are moved, stopped and killed, or the groups below are shaped. They limit nothing, and
/// some of them would reach processes that are no part of the container.
const NOT_LIMITS: [&str; 6] = [
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.kill",
    "cgroup.freeze",
    "cgroup.type",
    "cgroup.subtree_control",
];

pub(super) fn settings(
    unified: &BTreeMap<String, String>,
    list: &mut Vec<super::Setting>,
) -> Result<(), Error> {
    for (file, value) in unified {
        let plain = file.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let dotted = file.split_once('.').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        if !plain || !dotted || file.len() > 128 {
            return Err(Error::Invalid { reason: "a name in `unified` is not like CONTROLLER.FILE" });
        }
        if NOT_LIMITS.contains(&file.as_str()) {
            return Err(Error::Invalid { reason: "a file in `unified` sets no limit" });
        }
        if value.contains('\0') {
            return Err(Error::Invalid { reason: "a value in `unified` has a zero byte" });
        }
        list.push(super::Setting::Unified(Setting { file: file.clone(), value: value.clone() }));
    }
    Ok(())
}

pub(super) fn v2(setting: &Setting) -> Write {
    Write {
        controller: Controller::from_v2_name(setting.controller()).unwrap_or(Controller::Core),
        file: Cow::Owned(setting.file.clone()),
        value: setting.value.clone(),
        otherwise: None,
        need: Need::Asked,
        limit: Cow::Owned(format!("cgroup file {}", setting.file)),
    }
}

/// On v1 there is no such file.
pub(super) fn v1(setting: &Setting) -> Error {
    Error::Missing {
        limit: Cow::Owned(format!("cgroup file {}", setting.file)),
        controller: Cow::Owned(format!("{} of version 2", setting.controller())),
    }
}
