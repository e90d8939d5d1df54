//! The plan of the process: what it executes, as whom, with which rights and limits.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::runtime::{Linux, Process, Seccomp};
use rustix::fs::OFlags;
use rustix::process::{Resource, Rlimit};
use sys::confine::{CapabilityBits, Instruction};
use sys::process::Arguments;

use super::attributes::{self, Attributes};
use super::{PlanError, c_string};
use crate::bundle::Manner;
use crate::{apparmor, capability, seccomp, selinux};

/// The most supplementary groups that the kernel takes (`NGROUPS_MAX`).
const MOST_GROUPS: usize = 65536;
/// The most that are read from an image's `/etc/group`: nobody is in a thousand.
pub(crate) const MOST_READ_GROUPS: usize = 1024;
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
    /// `setgroups(2)` is known to be denied: the groups stay as they are.
    pub(crate) groups_denied: bool,
    /// None: the caller's.
    pub(crate) umask: Option<u32>,
    pub(crate) bounding: u64,
    pub(crate) capabilities: CapabilityBits,
    pub(crate) ambient: u64,
    pub(crate) no_new_privileges: bool,
    pub(crate) filter: Vec<Instruction>,
    pub(crate) filter_flags: u32,
    /// The filter hands calls to a listener.
    pub(crate) notifies: bool,
    pub(crate) rlimits: Vec<(Resource, Rlimit, String)>,
    pub(crate) oom_score_adj: Option<Vec<u8>>,
    pub(crate) attributes: Attributes,
    /// Written to `/proc/thread-self/attr/apparmor/exec`.
    pub(crate) apparmor: Option<Vec<u8>>,
    /// Written to `/proc/thread-self/attr/exec`, and for its keyring to `attr/keycreate`.
    pub(crate) selinux: Option<Vec<u8>>,
    /// A `/proc` of ours for those writes: of a process that joins, since what lies at `/proc` there is the
    /// container's; of one whose specification mounts none. Open only where something is to be written.
    pub(crate) proc: Option<OwnedFd>,
    /// It runs in another user namespace than we do: what needs rights in ours is done by the parent.
    pub(crate) foreign_users: bool,
    pub(crate) terminal: bool,
    pub(crate) console_size: Option<(u16, u16)>,
    pub(crate) manner: Manner,
    /// An ordinary user's in a new user namespace: it may be traced while it is held
    /// ([`NamespacePlan::traceable`](super::NamespacePlan)).
    pub(crate) traceable: bool,
    /// Where it waits to be told that it may take its rights and execute the command.
    pub(crate) held: Option<OwnedFd>,
    /// What was asked for and cannot be had.
    pub(crate) warnings: Vec<String>,
}

/// What a process's plan depends on besides its own part of the specification.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    /// The container's part of Linux.
    pub(crate) linux: Option<&'a Linux>,
    /// A compiled filter, in place of the one there.
    pub(crate) compiled: Option<&'a Path>,
    /// It runs in another user namespace than we do.
    pub(crate) foreign_users: bool,
    /// A `/proc` of ours will be mounted in its root.
    pub(crate) own_proc: bool,
    /// A further command.
    pub(crate) joining: bool,
    pub(crate) manner: Manner,
}

impl ProcessPlan {
    /// The name of a further group that is looked up, for the parent's words.
    pub(crate) fn further_group(&self, n: usize) -> Option<String> {
        match &self.user {
            UserPlan::LookUp { further, .. } => match further.get(n)? {
                Who::Name(name) => Some(String::from_utf8_lossy(name).into_owned()),
                Who::Number(number) => Some(number.to_string()),
            },
            UserPlan::Numbers { .. } => None,
        }
    }
}

/// As whom.
#[derive(Debug)]
pub(crate) enum UserPlan {
    /// Numbers, with the groups in [`ProcessPlan::groups`].
    Numbers { uid: u32, gid: u32 },
    /// To be looked up in the container's own files, Docker's `--user`: a user by name or number, a group by
    /// name or number, and further groups (`--group-add`).
    LookUp { user: Who, group: Option<Who>, further: Vec<Who> },
}

/// A user or group, by number or by name. What looks like a number is one, never a name (CVE-2026-46680), and
/// one that does not fit is an error, never another (CVE-2024-40635).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Number(u32),
    Name(Vec<u8>),
}

/// Plans a process.
pub(crate) fn plan(process: &Process, around: Circumstances<'_>) -> Result<ProcessPlan, PlanError> {
    let first = process.args.first().ok_or(PlanError::Missing("command to run"))?;
    if !process.cwd.is_absolute() {
        let value = format!("`{}` is not absolute", process.cwd.display());
        return Err(PlanError::Invalid { field: "working directory", value });
    }
    // The last one counts, as for a shell that has exported it twice.
    let path = process.env.iter().rev().find_map(|e| e.strip_prefix("PATH="));
    let has_home = process.env.iter().any(|e| e.len() > 5 && e.starts_with("HOME="));
    let user = user(process)?;
    let reads_accounts = !has_home || matches!(user, UserPlan::LookUp { .. });
    // In a new user namespace a process has every capability; in ours, what we have.
    let available = if around.foreign_users { capability::Set::KNOWN } else { capability::Set::all() };
    let (sets, warnings) = match &process.capabilities {
        Some(wanted) => capability::grant(wanted, available),
        None => (capability::Sets::default(), Vec::new()),
    };
    let filter = load_filter(around.linux.and_then(|l| l.seccomp.as_ref()), around.compiled)?;
    let apparmor = process.apparmor_profile.as_deref().filter(|name| !name.is_empty());
    let apparmor = apparmor.map(|name| apparmor::exec_attribute(name).into_bytes());
    let selinux = selinux::attribute(process.selinux_label.as_deref())?;
    let oom_score_adj = process.oom_score_adj.map(oom_score_adj).transpose()?;
    let writes = apparmor.is_some() || selinux.is_some() || oom_score_adj.is_some();
    Ok(ProcessPlan {
        candidates: candidates(first, path.unwrap_or(DEFAULT_PATH))?,
        arguments: Arguments::new(strings("args", &process.args)?, 0),
        environment: Arguments::new(environment(&process.env)?, 1),
        home: if has_home { Vec::new() } else { Vec::with_capacity(LONGEST_HOME + 8) },
        working_dir: process.cwd.clone(),
        account_buffer: Vec::with_capacity(if reads_accounts { LARGEST_ACCOUNT_FILE } else { 0 }),
        groups: groups(process, &user)?,
        user,
        // With a /proc of its own the child finds out by itself, should it ever have to.
        groups_denied: !around.own_proc && !around.joining && setgroups_denied(std::process::id()),
        umask: process.user.umask,
        bounding: sets.bounding.bits(),
        capabilities: CapabilityBits {
            effective: sets.effective.bits(),
            permitted: sets.permitted.bits(),
            inheritable: sets.inheritable.bits(),
        },
        ambient: sets.ambient.bits(),
        no_new_privileges: process.no_new_privileges,
        filter: filter.instructions,
        filter_flags: filter.flags,
        notifies: filter.notifies,
        rlimits: rlimits(&process.rlimits)?,
        oom_score_adj,
        attributes: attributes::plan(process, around.linux, around.joining)?,
        apparmor,
        selinux,
        proc: if writes && !around.own_proc { Some(own_proc()?) } else { None },
        foreign_users: around.foreign_users,
        terminal: process.terminal,
        console_size: process.console_size.map(|s| (s.height, s.width)),
        manner: around.manner,
        traceable: false,
        held: None,
        warnings,
    })
}

/// Whether the user namespace of this process is one in which groups can be neither given nor dropped: it was made
/// without privilege (user_namespaces(7)).
pub(crate) fn setgroups_denied(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/setgroups")).is_ok_and(|text| text.starts_with(b"deny"))
}

/// Our own `/proc`, if it is one.
fn own_proc() -> Result<OwnedFd, PlanError> {
    use base::fs::At;
    const PROC_MAGIC: i64 = 0x9fa0;
    let path = Path::new("/proc");
    let proc = super::open(path, OFlags::PATH | OFlags::DIRECTORY)?;
    if rustix::fs::fstatfs(&proc).at("look at", path)?.f_type as i64 == PROC_MAGIC {
        Ok(proc)
    } else {
        Err(PlanError::Missing("/proc to set the process's attributes by"))
    }
}

fn oom_score_adj(value: i32) -> Result<Vec<u8>, PlanError> {
    if (-1000..=1000).contains(&value) {
        Ok(value.to_string().into_bytes())
    } else {
        let value = format!("{value} is not between -1000 and 1000");
        Err(PlanError::Invalid { field: "oomScoreAdj", value })
    }
}

/// The given ones, or room for those that an image's `/etc/group` lists.
fn groups(process: &Process, user: &UserPlan) -> Result<Vec<u32>, PlanError> {
    let given = &process.user.additional_gids;
    if given.len() > MOST_GROUPS {
        let value = format!("{} groups are more than the kernel's {MOST_GROUPS}", given.len());
        return Err(PlanError::Invalid { field: "additionalGids", value });
    }
    let room =
        if let UserPlan::LookUp { further, .. } = user { 1 + MOST_READ_GROUPS + further.len() } else { 0 };
    let mut groups = Vec::with_capacity(given.len() + room);
    groups.extend(given);
    Ok(groups)
}

/// The environment, without a `HOME` that says nothing: it is looked up then, as if there were none.
fn environment(env: &[String]) -> Result<Vec<CString>, PlanError> {
    env.iter().filter(|e| *e != "HOME=").map(|e| c_string("env", e.as_bytes())).collect()
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
    Ok(UserPlan::LookUp {
        user,
        group: group.filter(|g| !g.is_empty()).map(who).transpose()?,
        further: process.user.additional_groups.iter().map(|group| who(group)).collect::<Result<_, _>>()?,
    })
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

/// A filter as the child installs it.
#[derive(Default)]
struct Filter {
    instructions: Vec<Instruction>,
    flags: u32,
    notifies: bool,
}

fn load_filter(filter: Option<&Seccomp>, compiled: Option<&Path>) -> Result<Filter, PlanError> {
    if filter.is_some_and(|f| f.listener_metadata.is_some() && f.listener_path.is_none()) {
        let value = "there is none without a listenerPath".to_owned();
        return Err(PlanError::Invalid { field: "listenerMetadata", value });
    }
    let program = match (compiled, filter) {
        (Some(path), Some(filter)) => match seccomp::Program::load(path) {
            // Somebody has tidied the cache up since.
            Err(seccomp::Error::File(e)) if e.is_not_found() => seccomp::compile(filter)?,
            loaded => loaded?,
        },
        (Some(path), None) => seccomp::Program::load(path)?,
        (None, Some(filter)) => seccomp::compile(filter)?,
        (None, None) => return Ok(Filter::default()),
    };
    let notifies = program.notifies();
    if notifies && filter.is_none_or(|f| f.listener_path.is_none()) {
        return Err(seccomp::Error::Listener.into());
    }
    seccomp::check_flags(program.flags())?;
    let instructions = program
        .instructions()
        .iter()
        .map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k })
        .collect();
    Ok(Filter { instructions, flags: program.flags(), notifies })
}

/// The limits, each at most once: of two of a kind nobody could say which is meant.
fn rlimits(list: &[oci::runtime::Rlimit]) -> Result<Vec<(Resource, Rlimit, String)>, PlanError> {
    for (n, limit) in list.iter().enumerate() {
        if list[..n].iter().any(|earlier| earlier.kind == limit.kind) {
            let value = format!("{} is listed twice", limit.kind);
            return Err(PlanError::Invalid { field: "rlimits", value });
        }
    }
    list.iter().map(rlimit).collect()
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

    fn circumstances() -> Circumstances<'static> {
        Circumstances {
            linux: None,
            compiled: None,
            foreign_users: false,
            own_proc: true,
            joining: false,
            manner: Manner::default(),
        }
    }

    fn process() -> Process {
        Process { args: vec!["true".to_owned()], cwd: "/".into(), ..Process::default() }
    }

    #[test]
    fn limits_are_known_and_listed_once() {
        let limit = |kind: &str, soft, hard| oci::runtime::Rlimit { kind: kind.to_owned(), soft, hard };
        let refused = |list: &[oci::runtime::Rlimit]| rlimits(list).unwrap_err().to_string();
        assert!(refused(&[limit("RLIMIT_FUN", 1, 1)]).contains("RLIMIT_FUN"));
        assert!(refused(&[limit("RLIMIT_CPU", 2, 1)]).contains("exceeds"));
        let twice = [limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_AS", 1, 1), limit("RLIMIT_CPU", 1, 1)];
        assert!(refused(&twice).contains("RLIMIT_CPU is listed twice"));
        assert_eq!(rlimits(&twice[..2]).unwrap().len(), 2);
    }

    #[test]
    fn groups_are_as_many_as_the_kernel_takes() {
        let mut process = process();
        process.user.additional_gids = (0..65536).collect();
        let plan = plan(&process, circumstances()).unwrap();
        assert_eq!(plan.groups.len(), 65536);
        process.user.additional_gids.push(1);
        assert!(super::plan(&process, circumstances()).is_err());
        process.user.additional_gids = vec![u32::MAX];
        assert!(super::plan(&process, circumstances()).is_err());
    }

    #[test]
    fn a_home_is_looked_up_where_there_is_none_and_where_it_is_empty() {
        let mut process = process();
        for (env, looked_up, left) in
            [(&["A=1"][..], true, 1), (&["HOME=", "A=1"], true, 1), (&["HOME=/x", "A=1"], false, 2)]
        {
            process.env = env.iter().map(|e| (*e).to_owned()).collect();
            let plan = plan(&process, circumstances()).unwrap();
            assert_eq!(
                (plan.home.capacity() > 0, plan.environment.strings().len()),
                (looked_up, left),
                "{env:?}"
            );
            assert_eq!(plan.account_buffer.capacity() > 0, looked_up);
        }
    }

    #[test]
    fn unknown_capabilities_are_warned_of_and_nothing_else_is_done() {
        let mut process = process();
        let names = vec!["CAP_CHOWN".to_owned(), "CAP_DANCE".to_owned()];
        process.capabilities =
            Some(oci::runtime::Capabilities { bounding: names, ..oci::runtime::Capabilities::default() });
        let plan = plan(&process, circumstances()).unwrap();
        assert_eq!(plan.bounding, 1);
        assert!(plan.warnings[0].contains("CAP_DANCE"));
    }

    #[test]
    fn listener_metadata_without_a_listener_is_an_error() {
        let filter = Seccomp {
            default_action: "SCMP_ACT_ALLOW".to_owned(),
            listener_metadata: Some("x".to_owned()),
            ..Seccomp::default()
        };
        assert!(load_filter(Some(&filter), None).is_err());
    }
}
