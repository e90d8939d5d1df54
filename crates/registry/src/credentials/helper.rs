//! Docker's credential helpers: programs `docker-credential-NAME`, which are told what is wanted by their argument and
//! standard input, and answer on standard output.
//!
//! ```text
//! get     https://index.docker.io/v1/                      → {"ServerURL":…,"Username":…,"Secret":…}
//! store   {"ServerURL":…,"Username":…,"Secret":…}          →
//! erase   https://index.docker.io/v1/                      →
//! ```
//!
//! The user `<token>` means that the secret is an identity token. A failure is told on standard output, with exit code
//! 1; that there is no such login is one of those failures, and told apart by its text.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Login;
use crate::{Error, Result};

/// How long a helper may think: some ask a person.
const PATIENCE: Duration = Duration::from_mins(1);
/// An answer of more bytes than this is none.
const MAX_ANSWER: u64 = 1 << 20;
/// What helpers call the user of an identity token.
const TOKEN: &str = "<token>";
/// What helpers say where they have no login (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default, rename = "ServerURL")]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// The login of a server, if the helper has one.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Login>> {
    let output = match call(name, "get", server.as_bytes()) {
        Err(Error::Helper { why, .. }) if why.contains(NOT_FOUND) => return Ok(None),
        other => other?,
    };
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| failed(name, "get", "its answer is not the JSON that it should be"))?;
    // Docker: whoever is nobody has no login.
    Ok(match (answer.username, answer.secret) {
        (user, secret) if user.is_empty() && secret.is_empty() => None,
        (user, secret) if user == TOKEN => Some(Login::Identity(secret)),
        (user, password) => Some(Login::Password { user, password }),
    })
}

/// Keeps a login.
pub(super) fn store(name: &str, server: &str, login: &Login) -> Result<()> {
    let (username, secret) = match login {
        Login::Password { user, password } => (user.clone(), password.clone()),
        Login::Identity(token) => (TOKEN.to_owned(), token.clone()),
    };
    let question = Answer { server_url: server.to_owned(), username, secret };
    let question = serde_json::to_vec(&question).map_err(|e| Error::Setup(Box::new(e)))?;
    call(name, "store", &question).map(drop)
}

/// Forgets a login.
pub(super) fn erase(name: &str, server: &str) -> Result<()> {
    match call(name, "erase", server.as_bytes()) {
        Err(Error::Helper { why, .. }) if why.contains(NOT_FOUND) => Ok(()),
        other => other.map(drop),
    }
}

fn call(name: &str, action: &'static str, input: &[u8]) -> Result<Vec<u8>> {
    // The name becomes a program: one that PATH leads to, and no other.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(failed(name, action, "that is no name of a helper"));
    }
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => failed(name, action, "there is no such program in PATH"),
            _ => failed(name, action, &e.to_string()),
        })?;
    let output = converse(&mut child, input).map_err(|why| failed(name, action, &why));
    if output.is_err() {
        child.kill().ok();
    }
    let status = child.wait().map_err(|e| failed(name, action, &e.to_string()))?;
    let output = output?;
    if status.success() {
        return Ok(output);
    }
    let said: String =
        String::from_utf8_lossy(&output).trim().chars().filter(|c| !c.is_control()).take(200).collect();
    Err(failed(name, action, if said.is_empty() { "it failed without a word" } else { &said }))
}

/// Says what there is to say, and hears the answer out. Threads do it, which a helper that never ends holds up alone.
fn converse(child: &mut Child, input: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("it has no streams".to_owned());
    };
    let question = input.to_vec();
    // A helper that does not read has its reasons, and tells them.
    std::thread::spawn(move || stdin.write_all(&question).ok());
    let (answer, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(MAX_ANSWER + 1).read_to_end(&mut output).map(|_| output);
        answer.send(read).ok();
    });
    match heard.recv_timeout(PATIENCE) {
        Ok(Ok(output)) if output.len() as u64 > MAX_ANSWER => Err("its answer has no end".to_owned()),
        Ok(Ok(output)) => Ok(output),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("it has not answered within {} seconds", PATIENCE.as_secs())),
    }
}

fn failed(name: &str, action: &'static str, why: &str) -> Error {
    Error::Helper { name: name.chars().take(50).collect(), action, why: why.to_owned() }
}
