//! The `git` program, with nothing around it that somebody else decides.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base::failure::printable;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::GitError;
use super::address::{shown, split_login};

/// What of our own environment it sees: how to find programs, agents and proxies.
const PASSED: [&str; 12] = [
    "PATH",
    "SSH_AUTH_SOCK",
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

/// How it is run.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// For messages.
    url: String,
    /// Of the repository.
    directory: Option<PathBuf>,
    tree: Option<PathBuf>,
    env: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    protocols: &'static str,
}

impl Program {
    /// For a repository at this address; returns that without its login.
    pub(super) fn new(url: &str, local: bool) -> (Self, String) {
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
        let protocols = if local { "http:https:ssh:git:file" } else { OTHERS };
        let program =
            Self { url: shown(url), directory: None, tree: None, env: Vec::new(), settings, protocols };
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
        Self { protocols: OTHERS, ..self.clone() }
    }

    /// For a repository of our own, which is a directory.
    pub(super) fn of_a_directory(&self) -> Self {
        Self { protocols: "file", ..self.clone() }
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
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=20")
            .env("GIT_CONFIG_COUNT", self.settings.len().to_string());
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
        let output = command.output().map_err(GitError::Start)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let said: String = said.join("; ").chars().take(SAID).collect();
        let verb = words.first().copied().unwrap_or_default().to_owned();
        Err(GitError::Failed { verb, url: self.url.clone(), said: printable(said) })
    }
}
