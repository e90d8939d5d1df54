//! The `git` program, with nothing around it that somebody else decides.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use base::failure::printable;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::GitError;
use super::address::{shown, split_login};
use crate::build::cancel::Cancel;

/// What of our own environment it sees: how to find programs and proxies.
const PASSED: [&str; 11] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "GIT_SSL_CAINFO",
    "TMPDIR",
];
/// The most that is shown of what it says.
const SAID: usize = 600;

/// How repositories that are elsewhere are fetched.
const OTHERS: &str = "http:https:ssh:git";

/// How ssh is run as the one who builds.
const SSH: &str = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=20";
/// What keeps it from that one's keys and settings.
const NOTHING_OF_THEIRS: &str = "-F /dev/null -o IdentityFile=none";
/// The variable that leads to an agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// With whose keys repositories are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys<'a> {
    /// Those of the one who builds, who has given the address on the command line.
    User,
    /// Those of an agent that was lent to the build, if one was: somebody else has written the address.
    Lent(Option<&'a Path>),
}

/// What a fetch may use of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    /// The address may be a path of this machine: the user gave it on the command line.
    pub(crate) local: bool,
    /// For the repository.
    pub(crate) keys: Keys<'a>,
    /// The agent that was lent to the build: for submodules, whose addresses are the repository's.
    pub(crate) lent: Option<&'a Path>,
}

impl<'a> Access<'a> {
    /// Of what the user gave as the context.
    pub(crate) fn of_user(lent: Option<&'a Path>) -> Self {
        Self { local: false, keys: Keys::User, lent }
    }

    /// Of what others have written.
    pub(crate) fn of_others(lent: Option<&'a Path>) -> Self {
        Self { local: false, keys: Keys::Lent(lent), lent }
    }
}

/// How it is run.
#[derive(Debug, Clone)]
pub(super) struct Program<'a> {
    keys: Keys<'a>,
    lent: Option<&'a Path>,
    cancel: &'a Cancel,
    /// For messages.
    url: String,
    /// Of the repository.
    directory: Option<PathBuf>,
    tree: Option<PathBuf>,
    env: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    protocols: &'static str,
}

impl<'a> Program<'a> {
    /// For a repository at this address; returns that without its login.
    pub(super) fn new(url: &str, access: Access<'a>, cancel: &'a Cancel) -> (Self, String) {
        let (plain, login) = split_login(url);
        let mut settings = vec![
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("core.askPass", ""),
            ("credential.helper", ""),
            ("submodule.recurse", "false"),
            ("fetch.recurseSubmodules", "false"),
            ("transfer.credentialsInUrl", "die"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("advice.detachedHead", "false"),
            ("http.followRedirects", "initial"),
            ("http.lowSpeedLimit", "1000"),
            ("http.lowSpeedTime", "60"),
            ("init.defaultBranch", "main"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect::<Vec<_>>();
        if let Some((user, password)) = login {
            let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
            // For this server alone.
            let end = plain.find("://").map_or(0, |at| at + 3);
            let host = plain[end..].find('/').map_or(plain.len(), |at| end + at);
            let key = format!("http.{}/.extraHeader", &plain[..host]);
            settings.push((key, format!("Authorization: Basic {both}")));
        }
        let protocols = if access.local { "http:https:ssh:git:file" } else { OTHERS };
        let program = Self {
            keys: access.keys,
            lent: access.lent,
            cancel,
            url: shown(url),
            directory: None,
            tree: None,
            env: Vec::new(),
            settings,
            protocols,
        };
        (program, plain)
    }

    /// In this repository.
    pub(super) fn within(&self, directory: &Path) -> Self {
        Self { directory: Some(directory.to_owned()), ..self.clone() }
    }

    /// With files there.
    pub(super) fn at(&self, tree: &Path) -> Self {
        Self { tree: Some(tree.to_owned()), ..self.clone() }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// For addresses that are not the user's.
    pub(super) fn of_others(&self) -> Self {
        Self { protocols: OTHERS, keys: Keys::Lent(self.lent), ..self.clone() }
    }

    /// For a repository of our own, which is a directory.
    pub(super) fn of_a_directory(&self) -> Self {
        Self { protocols: "file", ..self.clone() }
    }

    /// Whose keys ssh has.
    fn lend(&self, command: &mut Command) {
        let (agent, how) = match self.keys {
            Keys::User => (std::env::var_os(AGENT), SSH.to_owned()),
            Keys::Lent(None) => (None, format!("{SSH} {NOTHING_OF_THEIRS} -o IdentityAgent=none")),
            Keys::Lent(Some(agent)) => {
                let how = format!("{SSH} {NOTHING_OF_THEIRS} -o IdentityAgent={AGENT}");
                (Some(agent.as_os_str().to_owned()), how)
            }
        };
        command.env("GIT_SSH_COMMAND", how);
        if let Some(agent) = agent {
            command.env(AGENT, agent);
        }
    }

    /// Runs it, and returns what it says.
    pub(super) fn run(&self, words: &[&str]) -> Result<String, GitError> {
        let mut command = Command::new("git");
        command.args(words).env_clear().stdin(Stdio::null());
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("HOME", "/nonexistent")
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", self.protocols)
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        self.lend(&mut command);
        for (number, (key, value)) in self.settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        if let Some(directory) = &self.directory {
            command.env("GIT_DIR", directory);
        }
        if let Some(tree) = &self.tree {
            command.env("GIT_WORK_TREE", tree).current_dir(tree);
        } else {
            // Not in a repository that we happen to stand in.
            command.current_dir("/");
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let (status, output, errors) = finish(command, self.cancel)?;
        if status.success() {
            return Ok(output);
        }
        let said: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let said: String = said.join("; ").chars().take(SAID).collect();
        let verb = words.first().copied().unwrap_or_default().to_owned();
        Err(GitError::Failed { verb, url: self.url.clone(), said: printable(said) })
    }
}

/// How a program ended, and what it said on its output and its errors.
type Ended = (ExitStatus, String, String);

/// Runs a program to its end, or to that of the build. It starts others, which shall not outlive it or us: it is the first
/// process of a PID namespace, where we may make one, and the leader of a group in any case. Its thread can make only
/// processes in that namespace from then on, so it has one of its own.
fn finish(command: Command, cancel: &Cancel) -> Result<Ended, GitError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("git".to_owned());
        let thread = thread.spawn_scoped(scope, || {
            sys::process::unshare(sys::process::namespaces::PID as u32).ok();
            here(command, cancel)
        });
        let thread = thread.map_err(GitError::Start)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn here(mut command: Command, cancel: &Cancel) -> Result<Ended, GitError> {
    cancel.check().map_err(|_| GitError::Interrupted)?;
    let (mut output, mut errors) = (anonymous()?, anonymous()?);
    // Not pipes: those of a process that somebody killed may stay open in another.
    command.stdout(output.try_clone().map_err(GitError::Start)?);
    command.stderr(errors.try_clone().map_err(GitError::Start)?);
    command.process_group(0);
    sys::process::die_with_us(&mut command);
    let mut child = command.spawn().map_err(GitError::Start)?;
    let group = Pid::from_child(&child);
    let waited = watched(group, cancel);
    // Those that it started are not to go on without it; its number is its own until it is reaped.
    if waited.is_err() {
        child.kill().ok();
    }
    kill_process_group(group, Signal::KILL).ok();
    let status = child.wait().map_err(GitError::Start)?;
    waited.map_err(GitError::Start)?;
    cancel.check().map_err(|_| GitError::Interrupted)?;
    Ok((status, said(&mut output)?, said(&mut errors)?))
}

/// Waits for the end of a process, which comes with that of the build.
fn watched(process: Pid, cancel: &Cancel) -> io::Result<()> {
    let pidfd = pidfd_open(process, PidfdFlags::empty())?;
    let _watched = cancel.watch(&pidfd)?;
    loop {
        match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

fn anonymous() -> Result<File, GitError> {
    let made = rustix::fs::memfd_create(c"git", MemfdFlags::CLOEXEC);
    made.map(File::from).map_err(|e| GitError::Start(e.into()))
}

fn said(file: &mut File) -> Result<String, GitError> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(GitError::Start)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
