//! From words to a verb's struct, in Docker's manner: flags may be repeated (the last wins), a switch may be
//! given a value (`--rm=false`), a value may begin with a hyphen (`--pids-limit -1`).

use std::ffi::OsString;

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Command, Parser};

use crate::error::{Error, Result};
use crate::flags::container::LeftOut;
use crate::{help, output};

/// Parses a verb's words. `None` where help was asked for and given.
pub(crate) fn parse<T: Parser>(name: &str, words: Vec<OsString>) -> Result<Option<T>> {
    let _left_out = LeftOut::of(&words);
    let command = docker_style(T::command());
    match command.try_get_matches_from(words).and_then(|matches| T::from_arg_matches(&matches)) {
        Ok(arguments) => Ok(Some(arguments)),
        Err(e) if e.kind() == ErrorKind::DisplayHelp => {
            output::text(&help::of(name, T::command()))?;
            Ok(None)
        }
        Err(e) => Err(describe(name, &e)),
    }
}

/// The tree that words are parsed with. Help is made from the plain one, where a switch looks like a switch.
pub(crate) fn docker_style(command: Command) -> Command {
    command.no_binary_name(true).args_override_self(true).mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(BoolishValueParser::new()),
        ArgAction::Set | ArgAction::Append if !arg.is_positional() && !arg.is_require_equals_set() => {
            arg.allow_hyphen_values(true)
        }
        _ => arg,
    })
}

/// clap's paragraphs as one line and hints.
fn describe(name: &str, error: &clap::Error) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let argument = text(ContextKind::InvalidArg);
    let see = format!("see `dhow {name} --help`");
    match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            Error::Usage { message: format!("{name}: missing {argument}"), hints: vec![see] }
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let mut hints = vec![see];
            let close = text(ContextKind::SuggestedArg);
            if !close.is_empty() {
                hints.insert(0, format!("did you mean `{close}`?"));
            }
            Error::Flag { message: format!("{name}: unknown flag: {argument}"), hints }
        }
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues => {
            Error::Usage { message: format!("{name}: one argument too many: `{argument}`"), hints: vec![see] }
        }
        // `invalid value 'x' for '--memory <BYTES>': want …`
        _ => {
            let whole = error.to_string();
            let first = whole.lines().next().unwrap_or_default();
            let mut message = format!("{name}: {}", first.strip_prefix("error: ").unwrap_or(first));
            if let Some(values) = error.get(ContextKind::ValidValue) {
                message = format!("{message}: want one of {values}");
            }
            Error::Flag { message, hints: vec![see] }
        }
    }
}
