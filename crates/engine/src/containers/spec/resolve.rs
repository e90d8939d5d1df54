//! Options and image's defaults, put together and checked. Nothing is touched here but what the kernel says
//! of the machine.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use base::{Failure, Id, Kind};
use oci::image::Execution;
use runtime::capability;
use state::container::Resolved;
use state::options::{
    BindMount, ContainerOptions, ExposedPort, NetworkMode, Protocol, RestartPolicy, SeccompChoice, TmpfsMount,
};

use super::{devices, limits, surroundings};
use crate::config::Config;
use crate::containers::signal;

/// What of the machine decides whether a request makes sense.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Processors.
    pub cpus: u32,
    /// The host's name, which containers in its network share.
    pub hostname: String,
    /// The numbers of its processors, where it says so.
    pub processors: Option<String>,
    /// The numbers of its memory nodes, where it says so.
    pub nodes: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Resolution {
    /// Entrypoint and command as they run.
    pub args: Vec<String>,
    /// Everything else.
    pub resolved: Resolved,
    /// What is given otherwise than asked.
    pub warnings: Vec<String>,
}

/// A request that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("no command: the image `{0}` has none of its own, and none was given")]
    NoCommand(String),
    #[error("{what} contains a NUL byte")]
    Nul { what: String },
    #[error("invalid environment variable `{0}`: want NAME=value")]
    Environment(String),
    #[error("invalid working directory `{0}`: want an absolute path")]
    WorkingDirectory(String),
    #[error("{0} and the network of another container: that is for the container whose network it is")]
    OfJoinedNetwork(&'static str),
    #[error("invalid host name `{0}`: want at most 64 letters, digits, dots and dashes")]
    Hostname(String),
    #[error("invalid mount source `{}`: want an absolute path without ..", .0.display())]
    MountSource(PathBuf),
    #[error("invalid mount destination `{}`: want an absolute path other than /", .0.display())]
    MountDestination(PathBuf),
    #[error("invalid subpath `{}`: want a relative path without ..", .0.display())]
    Subpath(PathBuf),
    #[error("duplicate mount point: {}", .0.display())]
    DuplicateMount(PathBuf),
    #[error("unknown mount propagation `{0}`: want private, rprivate, slave, rslave, shared or rshared")]
    Propagation(String),
    #[error("unknown tmpfs option `{option}` for {}", path.display())]
    TmpfsOption { path: PathBuf, option: String },
    #[error("the container's port cannot be 0")]
    Port,
    #[error("port {port}/{protocol} of the host is published twice")]
    DuplicatePort { port: u16, protocol: Protocol },
    #[error("invalid user `{0}`: want name, uid, name:group or uid:gid")]
    User(String),
    #[error("a seccomp profile of {0} bytes is too long")]
    SeccompProfile(usize),
    #[error(
        "a container that is removed when it ends cannot be started again: --rm and --restart exclude each other"
    )]
    RestartAndRemove,
    #[error("--no-healthcheck and --health-… exclude each other")]
    HealthDisabled,
    #[error("--health-… without a command: neither --health-cmd nor the image says one")]
    NoHealthCommand,
    #[error("{0} is less than a millisecond")]
    HealthTime(&'static str),
    #[error("more than {most} {what}")]
    TooMany { what: &'static str, most: usize },
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        match self {
            Self::DuplicateMount(_) | Self::DuplicatePort { .. } => Kind::Conflict,
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoCommand(image) => vec![format!("name a command after the image: {image} COMMAND")],
            _ => Vec::new(),
        }
    }
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The kernel's (`__NEW_UTS_LEN`).
const MAX_HOSTNAME: usize = 64;
/// More makes a record that nobody would want to read; a command line has a limit of the kernel's anyway.
const MAX_WORDS: usize = 100_000;
const MAX_MOUNTS: usize = 1000;
const MAX_PROFILE: usize = 4 << 20;
const DEFAULT_STOP_TIMEOUT: u64 = 10;

/// Puts the options and the image's defaults together, or says what of them makes no sense.
pub(crate) fn resolve(
    options: &ContainerOptions,
    image: &Execution,
    config: &Config,
    machine: &Machine,
    id: &Id,
) -> crate::Result<Resolution> {
    bounded(options)?;
    let args = command_line(options, image)?;
    let hostname = hostname(options, machine, id)?;
    let env = container_environment(options, image, &hostname)?;
    let user = options.user.clone().unwrap_or_else(|| image.user.clone());
    check_user(&user)?;
    check_mounts(options)?;
    let warnings = limits::check(options, machine)?;
    surroundings::check(options)?;
    devices::check(&options.devices, &options.device_rules)?;
    check_ports(options)?;
    check_joined_network(options)?;
    check_security(options)?;
    if options.auto_remove && options.restart != RestartPolicy::No {
        return Err(Invalid::RestartAndRemove.into());
    }
    let chosen = capability::Set::chosen(&options.cap_add, &options.cap_drop)?;
    // Docker's: nothing is dropped then.
    let capabilities = if options.privileged { capability::Set::all() } else { chosen };
    // An image's nonsense is not the user's fault, and keeps nobody from running it; Docker takes SIGTERM then, too.
    let of_image = || image.stop_signal.as_deref().and_then(|name| signal::parse(name).ok());
    let resolved = Resolved {
        env,
        user,
        working_dir: working_dir(options, image)?,
        hostname,
        stop_signal: match options.stop_signal.as_deref() {
            Some(name) => signal::parse(name)?,
            None => of_image().unwrap_or(signal::TERM),
        },
        stop_timeout: options.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT),
        capabilities: capabilities.names(),
        no_new_privileges: options.security.no_new_privileges.unwrap_or(config.no_new_privileges),
        health: super::health::resolve(options, image)?,
        exposed: exposed(options, image),
    };
    Ok(Resolution { args, resolved, warnings })
}

fn bounded(options: &ContainerOptions) -> Result<(), Invalid> {
    let counts = [
        ("words in the command", options.command.len(), MAX_WORDS),
        ("environment variables", options.env.len(), MAX_WORDS),
        ("labels", options.labels.len(), MAX_WORDS),
        ("mounts", options.destinations().count(), MAX_MOUNTS),
        ("published ports", options.ports.len(), 2 * 65535),
        ("exposed ports", options.expose.len(), 2 * 65535),
    ];
    match counts.into_iter().find(|(_, count, most)| count > most) {
        Some((what, _, most)) => Err(Invalid::TooMany { what, most }),
        None => Ok(()),
    }
}

/// Docker's rule: an entrypoint of the user's drops the image's command too; one empty word clears it.
fn command_line(options: &ContainerOptions, image: &Execution) -> Result<Vec<String>, Invalid> {
    let (entrypoint, default) = match &options.entrypoint {
        Some(words) if words.len() == 1 && words[0].is_empty() => (&[][..], &[][..]),
        Some(words) => (&words[..], &[][..]),
        None => (
            image
                .entrypoint
                .as_deref()
                .filter(|e| !matches!(e, [only] if only.is_empty()))
                .unwrap_or_default(),
            image.cmd.as_deref().unwrap_or_default(),
        ),
    };
    let command = if options.command.is_empty() { default } else { &options.command[..] };
    let args: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    if args.is_empty() {
        return Err(Invalid::NoCommand(options.image.clone()));
    }
    match args.iter().find(|word| word.contains('\0')) {
        Some(_) => Err(Invalid::Nul { what: "the command".to_owned() }),
        None => Ok(args),
    }
}

fn hostname(options: &ContainerOptions, machine: &Machine, id: &Id) -> Result<String, Invalid> {
    let Some(name) = &options.hostname else {
        let joins = matches!(options.network, NetworkMode::Host | NetworkMode::Container(_));
        let shares = joins || options.namespaces.host_uts;
        return Ok(if shares { machine.hostname.clone() } else { id.short().to_owned() });
    };
    let good = (1..=MAX_HOSTNAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && !name.starts_with(['-', '.']);
    if good { Ok(name.clone()) } else { Err(Invalid::Hostname(name.chars().take(80).collect())) }
}

/// Docker's order: PATH, HOSTNAME, TERM, then the image's, then the user's; a later one replaces.
fn container_environment(
    options: &ContainerOptions,
    image: &Execution,
    hostname: &str,
) -> Result<Vec<String>, Invalid> {
    let mut own = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if options.tty {
        own.push("TERM=xterm".to_owned());
    }
    environment(own, image.env.iter().chain(&options.env))
}

/// `start`, with each of `changes` replacing the variable of its name, or added. A name alone removes.
pub(crate) fn environment<'a>(
    start: Vec<String>,
    changes: impl Iterator<Item = &'a String>,
) -> Result<Vec<String>, Invalid> {
    let name_of = |entry: &str| entry.split_once('=').map_or(entry.len(), |(name, _)| name.len());
    // Positions by name: a hundred thousand variables must not cost their square.
    let mut positions: std::collections::HashMap<String, usize> =
        start.iter().enumerate().map(|(i, entry)| (entry[..name_of(entry)].to_owned(), i)).collect();
    let mut result: Vec<Option<String>> = start.into_iter().map(Some).collect();
    for entry in changes {
        let name = &entry[..name_of(entry)];
        if entry.contains('\0') {
            return Err(Invalid::Nul { what: format!("the environment variable {name}") });
        }
        if name.is_empty() {
            return Err(Invalid::Environment(entry.chars().take(80).collect()));
        }
        let value = entry.contains('=').then(|| entry.clone());
        match positions.get(name) {
            Some(&position) => result[position] = value,
            None if value.is_some() => {
                positions.insert(name.to_owned(), result.len());
                result.push(value);
            }
            None => {}
        }
    }
    Ok(result.into_iter().flatten().collect())
}

fn working_dir(options: &ContainerOptions, image: &Execution) -> Result<String, Invalid> {
    let Some(chosen) = &options.working_dir else {
        // An image's is taken from the root: it is the image's fault if it is relative, not the user's.
        return Ok(clean(&Path::new("/").join(image.working_dir.trim_start_matches('/'))));
    };
    let text = chosen.to_string_lossy();
    if !chosen.is_absolute() || text.contains('\0') {
        return Err(Invalid::WorkingDirectory(text.into_owned()));
    }
    Ok(clean(chosen))
}

/// Without `.`, doubled slashes and a slash at the end. `..` stays: only the container knows what it means.
fn clean(path: &Path) -> String {
    path.components().collect::<PathBuf>().to_string_lossy().into_owned()
}

fn check_user(user: &str) -> Result<(), Invalid> {
    let parts: Vec<&str> = user.split(':').collect();
    let good = user.is_empty()
        || (parts.len() <= 2
            && user.len() <= 256
            && parts.iter().all(|part| !part.is_empty() && !part.contains(['\0', '\n', ' ']))
            // A number beyond 2^31 must not wrap to root (CVE-2024-40635).
            && parts.iter().all(|part| !all_digits(part) || part.parse::<i32>().is_ok()));
    if good { Ok(()) } else { Err(Invalid::User(user.chars().take(80).collect())) }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn check_mounts(options: &ContainerOptions) -> Result<(), Invalid> {
    let mut seen = BTreeSet::new();
    for BindMount { source, propagation, .. } in &options.binds {
        if !source.is_absolute() || has_parent(source) || has_nul(source) {
            return Err(Invalid::MountSource(source.clone()));
        }
        let known = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];
        if let Some(unknown) = propagation.as_ref().filter(|p| !known.contains(&p.as_str())) {
            return Err(Invalid::Propagation(unknown.clone()));
        }
    }
    for TmpfsMount { destination, options, .. } in &options.tmpfs {
        if let Some(unknown) = options.iter().find(|option| !is_tmpfs_option(option)) {
            return Err(Invalid::TmpfsOption { path: destination.clone(), option: unknown.clone() });
        }
    }
    let volumes = options.volumes.iter().filter_map(|v| v.subpath.as_ref());
    for subpath in volumes.chain(options.image_mounts.iter().filter_map(|m| m.subpath.as_ref())) {
        // The kernel keeps it inside whatever it is; but what is meant to lead out was not meant well.
        if subpath.is_absolute() || has_parent(subpath) || has_nul(subpath) {
            return Err(Invalid::Subpath(subpath.clone()));
        }
    }
    for destination in options.destinations() {
        let normal: PathBuf = destination.components().collect();
        if !destination.is_absolute()
            || has_parent(destination)
            || has_nul(destination)
            || normal == Path::new("/")
        {
            return Err(Invalid::MountDestination(destination.to_owned()));
        }
        if !seen.insert(normal) {
            return Err(Invalid::DuplicateMount(destination.to_owned()));
        }
    }
    Ok(())
}

fn has_parent(path: &Path) -> bool {
    path.components().any(|c| c == Component::ParentDir)
}

fn has_nul(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&0)
}

fn is_tmpfs_option(option: &str) -> bool {
    const FLAGS: [&str; 14] = [
        "ro",
        "rw",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "sync",
        "async",
        "atime",
        "noatime",
        "nodiratime",
        "relatime",
    ];
    match option.split_once('=') {
        None => FLAGS.contains(&option),
        Some(("size" | "nr_blocks" | "nr_inodes", value)) => {
            let digits = value.strip_suffix(['k', 'm', 'g', 'K', 'M', 'G', '%']).unwrap_or(value);
            !digits.is_empty() && all_digits(digits)
        }
        Some(("mode", value)) => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        Some(("uid" | "gid", value)) => value.parse::<i32>().is_ok_and(|id| id >= 0) && all_digits(value),
        Some(_) => false,
    }
}

fn check_ports(options: &ContainerOptions) -> Result<(), Invalid> {
    let mut seen = BTreeSet::new();
    for port in &options.ports {
        if port.container_port == 0 {
            return Err(Invalid::Port);
        }
        if port.host_port != 0 && !seen.insert((port.host_ip, port.host_port, port.protocol)) {
            return Err(Invalid::DuplicatePort { port: port.host_port, protocol: port.protocol });
        }
    }
    Ok(())
}

/// What belongs to a network belongs to the container that has it.
fn check_joined_network(options: &ContainerOptions) -> Result<(), Invalid> {
    if !matches!(options.network, NetworkMode::Container(_)) {
        return Ok(());
    }
    let asked = [
        (!options.ports.is_empty() || options.publish_all, "a published port"),
        (!options.expose.is_empty(), "an exposed port"),
        (options.hostname.is_some() && !options.namespaces.host_uts, "a host name"),
        (!options.hosts.is_empty(), "--add-host"),
        (!options.dns.is_default(), "a name server"),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Invalid::OfJoinedNetwork(what)),
        None => Ok(()),
    }
}

/// The ports on which it listens: its image's, those that are said to be, and those that are published.
fn exposed(options: &ContainerOptions, image: &Execution) -> Vec<ExposedPort> {
    let published =
        options.ports.iter().map(|p| ExposedPort { port: p.container_port, protocol: p.protocol });
    // What in an image is no port keeps nobody from running it.
    let of_image = image.exposed_ports.iter().flat_map(|text| image_ports(text));
    let all: BTreeSet<ExposedPort> =
        of_image.chain(options.expose.iter().copied()).chain(published).collect();
    all.into_iter().collect()
}

/// `80/tcp`, `8000-8010/udp`.
fn image_ports(text: &str) -> Vec<ExposedPort> {
    let (numbers, protocol) = match text.split_once('/') {
        Some((numbers, "tcp")) => (numbers, Protocol::Tcp),
        Some((numbers, "udp")) => (numbers, Protocol::Udp),
        Some((numbers, "sctp")) => (numbers, Protocol::Sctp),
        Some(_) => return Vec::new(),
        None => (text, Protocol::Tcp),
    };
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first @ 1..), Ok(last)) => (first..=last).map(|port| ExposedPort { port, protocol }).collect(),
        _ => Vec::new(),
    }
}

fn check_security(options: &ContainerOptions) -> Result<(), Invalid> {
    match &options.security.seccomp {
        SeccompChoice::Profile(text) if text.len() > MAX_PROFILE => Err(Invalid::SeccompProfile(text.len())),
        _ => Ok(()),
    }
}
