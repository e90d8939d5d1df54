//! `dhow login`.

use std::io::Read;

use clap::Parser;
use engine::LoginKept;

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{output, terminal};

/// A password of more bytes than this is none.
const MAX_PASSWORD: u64 = 64 << 10;

/// Log in to a registry.
#[derive(Debug, Parser)]
#[command(name = "login")]
pub(crate) struct Arguments {
    /// The user
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Their password or access token; others can see it in the list of processes
    #[arg(short, long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// The registry [default: Docker Hub]
    server: Option<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        if self.password_stdin && self.password.is_some() {
            return Err(Error::flag("--password and --password-stdin exclude each other"));
        }
        if self.password_stdin && self.username.is_none() {
            return Err(Error::flag("--password-stdin needs the user too: --username NAME"));
        }
        if self.password.is_some() {
            output::talk("dhow: warning: others can see a password on a command line: use --password-stdin");
        }
        let engine = context.engine()?;
        let server = self.server.as_deref();
        let done =
            if self.username.is_none() && self.password.is_none() && engine.known_user(server)?.is_some() {
                output::talk("Authenticating with existing credentials...");
                engine.login_again(server)?
            } else {
                let user = match self.username {
                    Some(user) => user,
                    None => ask("Username: ", "--username", terminal::Echo::On)?,
                };
                let password = match self.password {
                    Some(password) => password,
                    None if self.password_stdin => password_from_stdin()?,
                    None => ask("Password: ", "--password-stdin", terminal::Echo::Off)?,
                };
                engine.login(server, &user, &password)?
            };
        if let LoginKept::File(path) = &done.kept {
            output::talk(&format!(
                "dhow: warning: the login is kept unencrypted in {}; a credential helper would encrypt it",
                path.display()
            ));
        }
        if !done.needed {
            output::talk(&format!("dhow: warning: {} wants no login, and has not looked at it", done.host));
        }
        output::line("Login Succeeded")?;
        Ok(0)
    }
}

/// `--password-stdin`: all of standard input but the end of its line.
fn password_from_stdin() -> Result<String> {
    let read = |source| Error::File { action: "read", path: "standard input".to_owned(), source };
    let mut text = String::new();
    std::io::stdin().take(MAX_PASSWORD).read_to_string(&mut text).map_err(read)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks whoever sits at the terminal.
fn ask(question: &str, flag: &str, echo: terminal::Echo) -> Result<String> {
    if !terminal::stdin_is_terminal() {
        return Err(Error::Usage {
            message: "login: there is no terminal to ask at".to_owned(),
            hints: vec![format!("say it with {flag}")],
        });
    }
    terminal::ask(question, echo)
}
