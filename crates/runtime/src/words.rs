//! The words for what failed in a child: it tells a step, an errno and an index; here is the plan that they are about.

use std::io;

use base::Kind;
use rustix::io::Errno;

use crate::handshake::{Failed, Step};
use crate::launch::LaunchError;
use crate::plan::LaunchPlan;

/// `MAX_ARG_STRLEN`: the longest argument or variable that the kernel takes, with its end.
const LONGEST_STRING: usize = 128 << 10;
/// How much of a command's name is repeated.
const MOST_OF_A_COMMAND: usize = 200;

/// The words for a failed step of a container's start.
pub(crate) fn describe(plan: &LaunchPlan, failed: Failed) -> LaunchError {
    let n = usize::from(failed.index);
    let destination = || plan.mounts.get(n).map_or("?".into(), |m| m.destination.display().to_string());
    let listed = |list: &[std::path::PathBuf]| list.get(n).map_or("?".into(), |p| p.display().to_string());
    let what = match failed.step {
        Step::Clone => "cannot make a process in new namespaces".to_owned(),
        Step::Users => "cannot become root of the user namespace".to_owned(),
        Step::Time => "cannot make a time namespace".to_owned(),
        Step::Session => "cannot begin a session".to_owned(),
        Step::Propagation => "cannot make the mount namespace private".to_owned(),
        Step::Root if failed.errno == Errno::ROFS => return read_only(plan),
        Step::Root => {
            format!("cannot mount the root file system at {}", plan.root.mountpoint.to_string_lossy())
        }
        Step::MountTarget => format!("cannot find or make the mount point {}", destination()),
        Step::Mount => format!("cannot mount on {}", destination()),
        Step::MountOverProc => {
            format!("cannot mount on {}: nothing may be mounted inside /proc", destination())
        }
        Step::MountParameter => {
            let (destination, option) = nth_parameter(plan, n);
            format!("cannot mount on {destination}: the kernel does not accept the option `{option}`")
        }
        Step::MountIds => format!("cannot map the ids of the mount on {}", destination()),
        Step::CopyUp => format!("cannot copy what lies at {} into the tmpfs on it", destination()),
        Step::Device => format!("cannot make the device {}", plan.devices.name(n)),
        Step::DeviceExists => {
            format!("cannot make the device {}: something else is there", plan.devices.name(n))
        }
        Step::Mask => format!("cannot mask {}", listed(&plan.masked)),
        Step::ReadOnly => format!("cannot make {} read-only", listed(&plan.readonly)),
        Step::Hostname => "cannot set the host name".to_owned(),
        Step::DomainName => "cannot set the domain name".to_owned(),
        Step::Join => {
            let path = plan.namespaces.joined.get(n).map_or("?".into(), |j| j.path.display().to_string());
            format!("cannot join the namespace {path}")
        }
        Step::Go => "the monitor went away during the start".to_owned(),
        Step::Netlink => format!("cannot configure the network inside the container (request {n})"),
        Step::CgroupNamespace => "cannot make a cgroup namespace".to_owned(),
        Step::CgroupMount => "cannot mount /sys/fs/cgroup".to_owned(),
        Step::Sysctl => {
            let name =
                plan.sysctls.get(n).map_or("?".into(), |(path, _)| path.to_string_lossy().into_owned());
            format!("cannot set /proc/{name}")
        }
        Step::Pivot => "cannot change the root".to_owned(),
        _ => return describe_process(&plan.process, failed),
    };
    child_error(what, failed)
}

/// Overlayfs had to do without what it is to write to (`child::mounts::writable`). A full disk is why, or it is told
/// only to the kernel's log.
fn read_only(plan: &LaunchPlan) -> LaunchError {
    let Some(upper) = plan.root.source.upper() else {
        return child_error(
            "cannot mount the root file system".to_owned(),
            Failed::new(Step::Root, 0, Errno::ROFS),
        );
    };
    let full = base::space::is_full(upper);
    let errno = if full { Errno::NOSPC } else { Errno::ROFS };
    let what = format!("cannot mount the root file system with its writable layer {}", upper.display());
    let mut error = child_error(what, Failed::new(Step::Root, 0, errno));
    if let LaunchError::Child { hints, source: Some(source), .. } = &mut error {
        *hints = if full {
            base::space::hints(source, upper)
        } else {
            vec!["look for `overlayfs` in the kernel's log: dmesg".to_owned()]
        };
    }
    error
}

/// The mount and the option that the child means by a number that counts the options of all mounts.
fn nth_parameter(plan: &LaunchPlan, mut n: usize) -> (String, String) {
    for mount in &plan.mounts {
        if let Some((key, value)) = mount.parameters().get(n) {
            let mut option = key.to_string_lossy().into_owned();
            if let Some(value) = value {
                option = option + "=" + &value.to_string_lossy();
            }
            return (mount.destination.display().to_string(), option);
        }
        n = n.saturating_sub(mount.parameters().len());
    }
    ("?".to_owned(), "?".to_owned())
}

/// The name of the user, or of the group, that is looked for in the container's files.
fn name_of(process: &crate::plan::ProcessPlan, group: bool) -> String {
    use crate::plan::{UserPlan, Who};
    let who = match &process.user {
        UserPlan::LookUp { group: Some(who), .. } if group => Some(who),
        UserPlan::LookUp { user, .. } if !group => Some(user),
        _ => None,
    };
    match who {
        Some(Who::Name(name)) => format!(" `{}`", String::from_utf8_lossy(name)),
        Some(Who::Number(number)) => format!(" {number}"),
        None => String::new(),
    }
}

/// The words for what a container's start and a further command have in common.
pub(crate) fn describe_process(process: &crate::plan::ProcessPlan, failed: Failed) -> LaunchError {
    let n = usize::from(failed.index);
    let command =
        || process.arguments.strings().first().map_or("?".into(), |a| a.to_string_lossy().into_owned());
    if failed.step == Step::Exec && failed.errno == Errno::NOENT && !command().contains('/') {
        // Found out by looking along the path: of no single file has the kernel said that it is missing.
        let what = format!("cannot execute `{}`: no such command along the container's PATH", command());
        return LaunchError::Child { what, kind: Kind::CommandNotFound, source: None, hints: Vec::new() };
    }
    if failed.step == Step::Exec && failed.errno == Errno::TOOBIG {
        return too_big(process, command());
    }
    if let Some(what) = crate::plan::attribute_words(process, failed) {
        return child_error(what, failed);
    }
    let what = match failed.step {
        Step::WorkingDir if failed.errno == Errno::XDEV => {
            format!("the working directory {} lies outside of the container", process.working_dir.display())
        }
        Step::WorkingDir => format!("cannot enter the working directory {}", process.working_dir.display()),
        Step::Accounts if failed.errno == Errno::FBIG => {
            format!("the image's {} is larger than 1 MiB", ["/etc/passwd", "/etc/group"][n.min(1)])
        }
        Step::Accounts => format!("cannot read the image's {}", ["/etc/passwd", "/etc/group"][n.min(1)]),
        Step::UnknownUser => {
            format!("cannot find the user{} in the image's /etc/passwd", name_of(process, false))
        }
        Step::UnknownGroup => match n.checked_sub(1).and_then(|n| process.further_group(n)) {
            Some(name) => format!("cannot find the group `{name}` in the image's /etc/group"),
            None => format!("cannot find the group{} in the image's /etc/group", name_of(process, true)),
        },
        Step::Terminal => "cannot make a terminal".to_owned(),
        Step::Stdio => "cannot set the standard streams".to_owned(),
        Step::OomScore => "cannot set oom_score_adj".to_owned(),
        Step::Rlimit => {
            let (name, limit) = process.rlimits.get(n).map_or(("?", None), |(_, l, name)| (name, Some(l)));
            format!("cannot set {name} to {:?}", limit.map(|l| (l.current, l.maximum)))
        }
        Step::Keyring => "cannot make a session keyring".to_owned(),
        Step::Bounding | Step::Capabilities | Step::Ambient => "cannot set the capabilities".to_owned(),
        Step::NoNewPrivileges => "cannot set no_new_privs".to_owned(),
        Step::Seccomp => "cannot install the system call filter".to_owned(),
        Step::Groups if failed.errno == Errno::PERM && !process.groups.is_empty() => {
            "cannot set the additional groups: only root may, and in a user namespace only where it or newgidmap has \
             mapped the groups"
                .to_owned()
        }
        Step::Groups => "cannot set the groups".to_owned(),
        Step::User => "cannot become the user".to_owned(),
        Step::Hold => "cannot wait for the start of the command".to_owned(),
        Step::Init => "cannot start the init process".to_owned(),
        Step::Cgroup => "cannot join the container's cgroup".to_owned(),
        Step::Join => "cannot join the container's namespaces".to_owned(),
        Step::Go => "the monitor went away during the start".to_owned(),
        Step::Exec => format!("cannot execute `{}` in the container", command()),
        other => format!("cannot start the command (step {other:?})"),
    };
    child_error(what, failed)
}

/// More than `execve(2)` takes.
fn too_big(process: &crate::plan::ProcessPlan, command: String) -> LaunchError {
    let sizes = |strings: &[std::ffi::CString]| {
        let sizes = strings.iter().map(|string| string.as_bytes_with_nul().len());
        (sizes.clone().sum::<usize>(), sizes.max().unwrap_or(0))
    };
    let (arguments, longest) = sizes(process.arguments.strings());
    let (environment, longest_variable) = sizes(process.environment.strings());
    let what = format!(
        "cannot execute `{}` in the container with arguments of {arguments} bytes and an environment of {environment}",
        command.chars().take(MOST_OF_A_COMMAND).collect::<String>()
    );
    let mut error = child_error(what, Failed::new(Step::Exec, 0, Errno::TOOBIG));
    if let LaunchError::Child { hints, .. } = &mut error {
        *hints = if longest.max(longest_variable) > LONGEST_STRING {
            vec![format!(
                "shorten what is longer than {LONGEST_STRING} bytes, or pass it in a file: the kernel takes no \
                          longer argument or variable"
            )]
        } else {
            vec!["pass less, or pass it in a file: the kernel takes a quarter of the limit of the stack (--ulimit \
                  stack=…), and 6 MiB at the most"
                .to_owned()]
        };
    }
    error
}

/// The words for what a held process could not do once it was told to go on. Its plan was somebody else's.
pub(crate) fn describe_held(failed: Failed) -> LaunchError {
    let what = match failed.step {
        Step::WorkingDir => "cannot enter the working directory as the container's user",
        Step::Bounding | Step::Capabilities | Step::Ambient => "cannot set the capabilities",
        Step::NoNewPrivileges => "cannot set no_new_privs",
        Step::Seccomp => "cannot install the system call filter",
        Step::Groups => "cannot set the groups",
        Step::User => "cannot become the user",
        Step::Init => "cannot start the init process",
        Step::Exec => "cannot execute the command in the container",
        _ => "cannot start the command",
    };
    child_error(what.to_owned(), failed)
}

fn child_error(what: String, failed: Failed) -> LaunchError {
    let source = io::Error::from(failed.errno);
    let kind = match (failed.step, failed.errno) {
        (Step::Exec, Errno::NOENT | Errno::NOTDIR) => Kind::CommandNotFound,
        // Docker says 126 for all that is there and cannot be executed: a directory, a wrong format, no permission.
        (Step::Exec, Errno::NOMEM | Errno::AGAIN) => Kind::Exhausted,
        (Step::Exec, _) => Kind::CommandNotExecutable,
        (Step::WorkingDir, Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::XDEV | Errno::LOOP)
        | (
            Step::UnknownUser
            | Step::UnknownGroup
            | Step::Accounts
            | Step::MountOverProc
            | Step::MountParameter
            | Step::DeviceExists,
            _,
        ) => Kind::Invalid,
        _ => base::failure::kind_of_io(&source),
    };
    // A name that is not in a file is nothing that the kernel has said.
    let source = (!matches!(failed.step, Step::UnknownUser | Step::UnknownGroup)).then_some(source);
    LaunchError::Child { what, kind, source, hints: Vec::new() }
}
