//! `dhow`, the command line: arguments in, calls of the engine, tables out. It holds no logic of its own.
//!
//! The way of a command: [`globals`] takes what stands before the verb; [`commands`] finds the verb and builds
//! that verb's argument tree only (a tree of all of them would cost more than starting a container);
//! [`flags`] translates Docker's notations; the verb's file calls the engine and prints. Data goes to standard
//! output, talk to standard error, and [`error`] decides the exit code.

mod attached;
mod branches;
mod building;
mod commands;
mod completion;
mod detach_keys;
mod error;
mod flags;
mod format;
mod globals;
mod help;
mod human;
mod output;
mod progress;
mod table;
mod terminal;
mod top;

use std::ffi::OsString;
use std::process::ExitCode;

use error::Error;
use globals::{Context, Start};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A panic has unwound (the terminal is restored) and has said where it was; 101 might be a command's code.
    let code = std::panic::catch_unwind(|| dhow(words)).unwrap_or_else(|_| {
        output::talk("dhow: this is a mistake in dhow, not yours");
        125
    });
    ExitCode::from(code)
}

fn dhow(words: Vec<OsString>) -> u8 {
    let (context, result) = match globals::parse(words) {
        Err(error) => (Context::default(), Err(error)),
        Ok(Start::Help) => (Context::default(), output::text(&help::overview()).map(|()| 0)),
        Ok(Start::Version) => (Context::default(), commands::version::short().map(|()| 0)),
        Ok(Start::Verb(context, words)) => {
            let result = commands::dispatch(&context, words);
            (context, result)
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => report(&context, &error),
    }
}

/// One line that says what went wrong and why, and a line for each hint.
fn report(context: &Context, error: &Error) -> u8 {
    if !error.is_silent() {
        output::talk(&format!("dhow: {error}"));
        for hint in error.hints() {
            output::talk(&format!("  hint: {hint}"));
        }
        if let Some(kind) = error.kind() {
            context.trace(&format!("the error's kind is {kind:?}"));
        }
    }
    error.exit_code()
}
