//! `exec`: one more process in a running container.

use std::path::PathBuf;

use crate::error::{Result, unbuilt};
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

impl Engine {
    /// Executes a command in a running container.
    pub fn exec(&self, _name: &str, _options: ExecOptions) -> Result<Session> {
        Err(unbuilt("exec"))
    }
}
