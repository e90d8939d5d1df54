//! The plan of the process: what it executes, as whom, with which rights and limits.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::runtime::{Process, Seccomp};
use rustix::process::{Resource, Rlimit};
use sys::confine::{CapabilityBits, Instruction};
use sys::process::Arguments;

use super::{PlanError, c_string};
use crate::{apparmor, capability, seccomp};

/// The most supplementary groups that a process gets; the kernel allows 65536, nobody has a thousand.
pub(crate) const MOST_GROUPS: usize = 1024;
/// Bounds `/etc/passwd` and `/etc/group` of an image (CVE-2026-47262: a huge one exhausted a runtime).
const LARGEST_ACCOUNT_FILE: usize = 1 << 20;
/// The longest home directory.
const LONGEST_HOME: usize = 4096;

/// What will be executed, and how it is confined.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    /// Paths tried in order, as `execvp` would: the command itself if it has a slash, else along `PATH`.
    pub(crate) candidates: Vec<CString>,
    pub(crate) arguments: Arguments,
    /// With one spare place, for `HOME`.
    pub(crate) environment: Arguments,
    /// Where `HOME=…` is put together; empty where the environment has one.
    pub(crate) home: Vec<u8>,
    pub(crate) working_dir: PathBuf,
    pub(crate) user: UserPlan,
    /// Where `/etc/passwd` and `/etc/group` are read into.
    pub(crate) account_buffer: Vec<u8>,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: Option<u32>,
    pub(crate) bounding: u64,
    pub(crate) capabilities: CapabilityBits,
    pub(crate) ambient: u64,
    pub(crate) no_new_privileges: bool,
    pub(crate) filter: Vec<Instruction>,
    pub(crate) filter_flags: u32,
    pub(crate) rlimits: Vec<(Resource, Rlimit, String)>,
    pub(crate) oom_score_adj: Option<Vec<u8>>,
    /// Written to `/proc/self/attr/apparmor/exec`.
    pub(crate) apparmor: Option<Vec<u8>>,
    pub(crate) terminal: bool,
    pub(crate) console_size: Option<(u16, u16)>,
}

/// As whom.
#[derive(Debug)]
pub(crate) enum UserPlan {
    /// Numbers, with the groups in [`ProcessPlan::groups`].
    Numbers { uid: u32, gid: u32 },
    /// To be looked up in the container's own files, Docker's `--user`: a user by name or number, a group by
    /// name or number.
    LookUp { user: Who, group: Option<Who> },
}

/// A user or group, by number or by name. What looks like a number is one, never a name (CVE-2026-46680), and
/// one that does not fit is an error, never another (CVE-2024-40635).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Number(u32),
    Name(Vec<u8>),
}

pub(super) fn plan(
    process: &Process,
    filter: Option<&Seccomp>,
    compiled: Option<&Path>,
) -> Result<ProcessPlan, PlanError> {
    let first = process.args.first().ok_or(PlanError::Missing("command to run"))?;
    if !process.cwd.is_absolute() {
        let value = format!("`{}` is not absolute", process.cwd.display());
        return Err(PlanError::Invalid { field: "working directory", value });
    }
    let path = process.env.iter().rev().find_map(|e| e.strip_prefix("PATH="));
    let has_home = process.env.iter().any(|e| e.starts_with("HOME="));
    let caps = process.capabilities.clone().unwrap_or_default();
    let bits = |names: &[String]| -> Result<u64, PlanError> {
        let set = capability::Set::from_names(names);
        Ok(set.map_err(|e| PlanError::Invalid { field: "capabilities", value: e.to_string() })?.bits())
    };
    let (filter, filter_flags) = load_filter(filter, compiled)?;
    Ok(ProcessPlan {
        candidates: candidates(first, path.unwrap_or(DEFAULT_PATH))?,
        arguments: Arguments::new(strings("args", &process.args)?, 0),
        environment: Arguments::new(strings("env", &process.env)?, 1),
        home: if has_home { Vec::new() } else { Vec::with_capacity(LONGEST_HOME + 8) },
        working_dir: process.cwd.clone(),
        user: user(process)?,
        account_buffer: Vec::with_capacity(LARGEST_ACCOUNT_FILE),
        groups: {
            let mut groups = Vec::with_capacity(MOST_GROUPS);
            groups.extend(process.user.additional_gids.iter().take(MOST_GROUPS));
            groups
        },
        umask: process.user.umask,
        bounding: bits(&caps.bounding)?,
        capabilities: CapabilityBits {
            effective: bits(&caps.effective)?,
            permitted: bits(&caps.permitted)?,
            inheritable: bits(&caps.inheritable)?,
        },
        ambient: bits(&caps.ambient)?,
        no_new_privileges: process.no_new_privileges,
        filter,
        filter_flags,
        rlimits: process.rlimits.iter().map(rlimit).collect::<Result<_, _>>()?,
        oom_score_adj: process.oom_score_adj.map(|n| n.to_string().into_bytes()),
        apparmor: process.apparmor_profile.as_deref().map(|p| apparmor::exec_attribute(p).into_bytes()),
        terminal: process.terminal,
        console_size: process.console_size.map(|s| (s.height, s.width)),
    })
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn strings(field: &'static str, list: &[String]) -> Result<Vec<CString>, PlanError> {
    list.iter().map(|s| c_string(field, s.as_bytes())).collect()
}

fn candidates(command: &str, path: &str) -> Result<Vec<CString>, PlanError> {
    if command.is_empty() {
        return Err(PlanError::Invalid { field: "args", value: "the command is empty".to_owned() });
    }
    if command.contains('/') {
        return Ok(vec![c_string("args", command)?]);
    }
    path.split(':')
        // An empty element means the working directory to a shell; to a container runtime it means a mistake.
        .filter(|dir| !dir.is_empty())
        .map(|dir| c_string("args", Path::new(dir).join(command).as_os_str().as_bytes()))
        .collect()
}

fn user(process: &Process) -> Result<UserPlan, PlanError> {
    let Some(text) = &process.user.username else {
        let (uid, gid) = (process.user.uid, process.user.gid);
        // To setresuid(2) it means "as it is", which would be root.
        if uid == u32::MAX || gid == u32::MAX || process.user.additional_gids.contains(&u32::MAX) {
            return Err(PlanError::Invalid { field: "user", value: format!("`{}`", u32::MAX) });
        }
        return Ok(UserPlan::Numbers { uid, gid });
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (&**text, None),
    };
    let user = if user.is_empty() { Who::Number(0) } else { who(user)? };
    Ok(UserPlan::LookUp { user, group: group.filter(|g| !g.is_empty()).map(who).transpose()? })
}

fn who(text: &str) -> Result<Who, PlanError> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        // Docker's limit: ids above 2^31 - 1 wrap somewhere, sooner or later.
        return match text.parse::<u32>() {
            Ok(n) if i32::try_from(n).is_ok() => Ok(Who::Number(n)),
            _ => {
                let value = format!("`{text}` is not between 0 and {}", i32::MAX);
                Err(PlanError::Invalid { field: "user", value })
            }
        };
    }
    // A sign or a separator of the files is never part of a name that they hold.
    if text.starts_with(['-', '+']) || text.contains([':', '\n', '\0']) {
        return Err(PlanError::Invalid { field: "user", value: format!("`{}`", text.escape_debug()) });
    }
    Ok(Who::Name(text.as_bytes().to_vec()))
}

fn load_filter(
    filter: Option<&Seccomp>,
    compiled: Option<&Path>,
) -> Result<(Vec<Instruction>, u32), PlanError> {
    let program = match (compiled, filter) {
        (Some(path), _) => seccomp::Program::load(path)?,
        (None, Some(filter)) => seccomp::compile(filter)?,
        (None, None) => return Ok((Vec::new(), 0)),
    };
    let instructions = program
        .instructions()
        .iter()
        .map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k })
        .collect();
    Ok((instructions, program.flags()))
}

fn rlimit(limit: &oci::runtime::Rlimit) -> Result<(Resource, Rlimit, String), PlanError> {
    let resource = match &*limit.kind {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        other => return Err(PlanError::Invalid { field: "rlimit", value: format!("`{other}`") }),
    };
    if limit.soft > limit.hard {
        let value = format!("{}: soft {} exceeds hard {}", limit.kind, limit.soft, limit.hard);
        return Err(PlanError::Invalid { field: "rlimit", value });
    }
    let value = |n: u64| if n == u64::MAX { None } else { Some(n) };
    let limits = Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
    Ok((resource, limits, limit.kind.clone()))
}

/// The plan of a further command in a container.
pub(crate) fn plan_joining(process: &Process, compiled: Option<&Path>) -> Result<ProcessPlan, PlanError> {
    plan(process, None, compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_never_names_and_never_wrap() {
        assert_eq!(who("1000").unwrap(), Who::Number(1000));
        assert_eq!(who("www-data").unwrap(), Who::Name(b"www-data".to_vec()));
        for bad in ["4294967296", "2147483648", "99999999999999999999", "-1", "+1", "a:b", "a\nb"] {
            assert!(who(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_command_without_a_slash_is_looked_for_along_the_path() {
        let found = candidates("ls", "/bin::/usr/bin").unwrap();
        assert_eq!(found, [c"/bin/ls".to_owned(), c"/usr/bin/ls".to_owned()]);
        assert_eq!(candidates("./ls", "/bin").unwrap(), [c"./ls".to_owned()]);
        assert!(candidates("", "/bin").is_err());
    }
}
