//! `dhow-runtime`: the command line that callers of runc use, flag for flag, over Dhow's runtime.
//!
//! ```text
//!   arguments   the flags as Go reads them      help     the words about them
//!   globals     what comes before the command   report   where errors go, and in which form
//!   verbs/      a file a command
//!   store       the state directory: claims, locks, records
//!   config      config.json: read once, checked, kept as it was
//!   input       what callers give us to read, up to a size
//!   begin       what `create` and `run` have in common
//!   relay       what a command in the foreground needs: signals, terminal, its end
//!   armour      our own binary, out of the container's reach (CVE-2019-5736)
//! ```
//!
//! A container is a directory below the root; nobody stays with it. A command reads that directory, does its work and
//! ends; only `run` and `exec` in the foreground wait.

mod arguments;
mod armour;
mod begin;
mod config;
mod descriptors;
mod error;
mod globals;
mod handover;
mod help;
mod input;
mod later;
mod location;
mod notify;
mod relay;
mod release;
mod report;
mod signals;
mod store;
mod time;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::error::Error;
use crate::globals::Globals;
use crate::report::Report;

fn main() -> ExitCode {
    sys::process::keep_ended_children();
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    ExitCode::from(run(given))
}

fn run(given: Vec<OsString>) -> u8 {
    let parsed = match arguments::parse(globals::FLAGS, true, given) {
        Ok(parsed) => parsed,
        Err(error) => return wrong_usage(&Report::default(), &error, help::program),
    };
    if parsed.is_on("version") {
        return tell(&help::version());
    }
    let (name, rest) = match parsed.arguments.split_first() {
        Some((name, rest)) if !parsed.help => (name, rest),
        _ => return tell(&help::program()),
    };
    let globals = match Globals::new(&parsed) {
        Ok(globals) => globals,
        Err(error) => return fail(&Report::default(), &error),
    };
    if name == "help" || name == "h" {
        return match rest.first() {
            None => tell(&help::program()),
            Some(name) => match verbs::find(name) {
                Some(command) => tell(&help::command(command)),
                None => no_such_command(&globals.report, name),
            },
        };
    }
    let Some(command) = verbs::find(name) else { return no_such_command(&globals.report, name) };
    let parsed = match arguments::parse(command.flags, command.in_order, rest.to_vec()) {
        Ok(parsed) => parsed,
        Err(error) => return wrong_usage(&globals.report, &error, || help::command(command)),
    };
    if parsed.help {
        return match verbs::no_help(command) {
            None => tell(&help::command(command)),
            Some(error) => fail(&globals.report, &error),
        };
    }
    let (least, most) = command.arguments;
    if parsed.arguments.len() < least || parsed.arguments.len() > most {
        let count = match (least, most) {
            (least, most) if least == most => format!("exactly {least} argument(s)"),
            (least, _) if parsed.arguments.len() < least => format!("a minimum of {least} argument(s)"),
            (_, most) => format!("a maximum of {most} argument(s)"),
        };
        let error = Error::Usage(format!("dhow-runtime: {:?} requires {count}", command.name));
        tell(&format!("Incorrect Usage.\n\n{}", help::command(command)));
        return fail(&globals.report, &error);
    }
    match (command.run)(&globals, &parsed) {
        Ok(code) => code,
        Err(error) => fail(&globals.report, &error),
    }
}

/// Help is no more than that: who does not hear it has closed the ear.
fn tell(text: &str) -> u8 {
    u8::from(report::answer(text).is_err())
}

/// Says what is wrong, in the form that the caller asked for.
fn fail(report: &Report, error: &Error) -> u8 {
    report.error(&error.in_one_line());
    error.exit_code()
}

fn wrong_usage(report: &Report, error: &Error, help: impl FnOnce() -> String) -> u8 {
    tell(&format!("Incorrect Usage: {error}\n\n{}", help()));
    fail(report, error)
}

fn no_such_command(report: &Report, name: &std::ffi::OsStr) -> u8 {
    report.error(&format!("No help topic for '{}'", name.display()));
    3
}
