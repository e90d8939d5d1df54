//! `exec`: one more process in a running container.

use std::path::PathBuf;

use base::fs::At;
use base::{Failure, Id, Kind};
use monitor::{ExecRequest, REQUEST_VERSION};
use oci::runtime::Process;
use runtime::capability;

use crate::containers::control::StateError;
use crate::containers::notes::container_event;
use crate::containers::spec::{capabilities, environment, limits, user};
use crate::containers::start::first_word;
use crate::error::Result;
use crate::{Engine, Session};

/// What to execute, and how.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// The command line.
    pub command: Vec<String>,
    /// `-e`, added to the container's environment.
    pub env: Vec<String>,
    /// `-u`; none: the container's.
    pub user: Option<String>,
    /// `-w`; none: the container's.
    pub working_dir: Option<PathBuf>,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
    /// `-d`.
    pub detach: bool,
    /// `--privileged`: all capabilities, no filter.
    pub privileged: bool,
}

/// A request that makes no sense.
#[derive(Debug, thiserror::Error)]
enum Invalid {
    #[error("no command was given")]
    NoCommand,
    #[error("the command contains a NUL byte")]
    Nul,
    #[error("invalid working directory `{}`: want an absolute path", .0.display())]
    WorkingDirectory(PathBuf),
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// How much of a command line an event says: the journal holds a few MiB of everybody's.
const MOST_OF_A_LINE: usize = 4096;

/// A command line for an event.
fn line_of(words: &[String]) -> String {
    let line = words.join(" ");
    match line.char_indices().nth(MOST_OF_A_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl Engine {
    /// Executes a command in a running container. Returns once it is executed, or has failed to be.
    pub fn exec(&self, name: &str, options: ExecOptions) -> Result<Session> {
        if options.command.is_empty() {
            return Err(Invalid::NoCommand.into());
        }
        if options.command.iter().any(|word| word.contains('\0')) {
            return Err(Invalid::Nul.into());
        }
        if let Some(dir) = options.working_dir.as_ref().filter(|dir| !dir.is_absolute()) {
            return Err(Invalid::WorkingDirectory(dir.clone()).into());
        }
        let found = self.find_running(name)?;
        let Some(live) = &found.live else { return Err(StateError::NotRunning(name.to_owned()).into()) };
        let record = &found.record;
        let resolved = &record.resolved;
        let names =
            if options.privileged { capability::Set::all().names() } else { resolved.capabilities.clone() };
        let mut env = resolved.env.clone();
        if options.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        let exec_id = [("execID", Id::random().at("read", "/dev/urandom")?.to_string())];
        let request = ExecRequest {
            version: REQUEST_VERSION,
            instance: self.instance.clone(),
            id: record.id.clone(),
            pid: live.pid,
            process: Process {
                terminal: options.tty,
                user: user(options.user.as_deref().unwrap_or(&resolved.user), &record.options.groups),
                rlimits: limits::rlimits(&record.options),
                oom_score_adj: record.options.limits.oom_score_adj,
                args: options.command,
                env: environment(env, options.env.iter())?,
                cwd: options.working_dir.unwrap_or_else(|| PathBuf::from(&resolved.working_dir)),
                capabilities: Some(capabilities(&names)),
                no_new_privileges: resolved.no_new_privileges,
                apparmor_profile: if options.privileged { None } else { self.apparmor(record)?.0 },
                ..Process::default()
            },
            seccomp: if options.privileged { None } else { self.seccomp(record)? },
            cgroup: Some(self.location(record)),
            interactive: options.interactive,
            detach: options.detach,
            end: Some(container_event("exec_die", record, &exec_id)),
        };
        let line = line_of(&request.process.args);
        let stream = monitor::client::spawn_exec(&request)?;
        // While it starts; nobody can see it run before.
        self.note_container(&format!("exec_create: {line}"), record, &exec_id);
        let session = first_word(stream, &record.id, options.tty)?;
        self.note_container(&format!("exec_start: {line}"), record, &exec_id);
        Ok(session)
    }
}
