//! What stands before the verb: `--root`, `--run-root`, `--config`, `--offline`, `--debug`. Parsed by hand: this is on
//! the way of every command.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Instant;

use engine::{Engine, Settings};

use crate::error::{Error, Result};
use crate::output;

/// What every verb is given.
#[derive(Debug)]
pub(crate) struct Context {
    settings: Settings,
    debug: bool,
    began: Instant,
}

/// What was asked, so far.
#[derive(Debug)]
pub(crate) enum Start {
    /// `--help`, or nothing at all.
    Help,
    /// `--version`.
    Version,
    /// A verb and what follows it.
    Verb(Context, Vec<OsString>),
}

impl Default for Context {
    fn default() -> Self {
        Self { settings: Settings::default(), debug: false, began: Instant::now() }
    }
}

impl Context {
    /// The engine of the chosen instance.
    pub(crate) fn engine(&self) -> Result<Engine> {
        let engine = Engine::open(&self.settings)?;
        self.trace("the engine is open");
        Ok(engine)
    }

    /// The chosen instance as flags, for another program of ours.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let Settings { root, run_root, config, offline } = &self.settings;
        let flags = [("--root", root), ("--run-root", run_root), ("--config", config)];
        let given = flags.into_iter().filter_map(|(flag, value)| Some((flag, value.as_ref()?)));
        let mut words: Vec<OsString> =
            given.flat_map(|(flag, value)| [flag.into(), value.as_os_str().to_owned()]).collect();
        words.extend(offline.then(|| "--offline".into()));
        words
    }

    /// With `--debug`: says what has been reached, and after how long.
    pub(crate) fn trace(&self, what: &str) {
        if self.debug {
            output::talk(&format!("debug: {:9.3} ms: {what}", self.began.elapsed().as_secs_f64() * 1e3));
        }
    }
}

/// Splits the words into global flags and the verb with its arguments. A flag wins over the environment.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Start> {
    let environment = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    parse_with(words, environment)
}

fn parse_with(words: Vec<OsString>, environment: impl Fn(&str) -> Option<PathBuf>) -> Result<Start> {
    let mut context = Context::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (name, attached) = split(&word);
        let slot = match name {
            Some("--root") => &mut context.settings.root,
            Some("--run-root") => &mut context.settings.run_root,
            Some("--config") => &mut context.settings.config,
            Some("--debug" | "-D") => {
                context.debug = true;
                continue;
            }
            Some("--offline") => {
                context.settings.offline = true;
                continue;
            }
            Some("--help" | "-h") => return Ok(Start::Help),
            Some("--version" | "-v") => return Ok(Start::Version),
            _ if word.as_encoded_bytes().starts_with(b"-") => {
                return Err(Error::Flag {
                    message: format!("unknown flag: {}", word.display()),
                    hints: vec!["flags of a command stand behind it; see `dhow --help`".to_owned()],
                });
            }
            _ => {
                let settings = &mut context.settings;
                settings.root = settings.root.take().or_else(|| environment("DHOW_ROOT"));
                settings.run_root = settings.run_root.take().or_else(|| environment("DHOW_RUN_ROOT"));
                settings.config = settings.config.take().or_else(|| environment("DHOW_CONFIG"));
                let said = environment("DHOW_OFFLINE");
                settings.offline |= said.is_some_and(|said| !matches!(said.to_str(), Some("0" | "false")));
                return Ok(Start::Verb(context, std::iter::once(word).chain(words).collect()));
            }
        };
        let value = match attached {
            Some(value) => value.to_owned(),
            None => words.next().unwrap_or_default(),
        };
        if value.is_empty() {
            return Err(Error::flag(format!("{} needs a path", name.unwrap_or_default())));
        }
        *slot = Some(PathBuf::from(value));
    }
    Ok(Start::Help)
}

/// `--name=value` in two; the whole word's name where there is no `=`.
fn split(word: &OsStr) -> (Option<&str>, Option<&OsStr>) {
    let Some(text) = word.to_str() else {
        // A path that is no UTF-8 can only be the value: `--root` and it as two words do the same.
        return (None, None);
    };
    match text.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (Some(name), Some(OsStr::new(value))),
        _ => (Some(text), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn verb(text: &str, environment: Option<&str>) -> (Context, Vec<OsString>) {
        match parse_with(words(text), |_| environment.map(PathBuf::from)).unwrap() {
            Start::Verb(context, words) => (context, words),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_before_the_verb_are_ours_and_those_behind_are_not() {
        let (context, rest) = verb("--root /a --run-root=/b -D run --root x", None);
        assert_eq!(context.settings.root, Some("/a".into()));
        assert_eq!(context.settings.run_root, Some("/b".into()));
        assert!(context.debug);
        assert_eq!(rest, words("run --root x"));
    }

    #[test]
    fn flags_win_over_the_environment() {
        let (context, _) = verb("--root /a ps", Some("/env"));
        assert_eq!(context.settings.root, Some("/a".into()));
        assert_eq!(context.settings.config, Some("/env".into()));
    }

    #[test]
    fn offline_is_said_by_a_flag_or_by_anything_but_no() {
        for (words, said, offline) in [
            ("ps", None, false),
            ("--offline ps", None, true),
            ("ps", Some("1"), true),
            ("ps", Some("0"), false),
            ("ps", Some("false"), false),
        ] {
            assert_eq!(verb(words, said).0.settings.offline, offline, "{words} {said:?}");
        }
    }

    #[test]
    fn help_version_and_nonsense() {
        let none = |_: &str| None;
        assert!(matches!(parse_with(words(""), none), Ok(Start::Help)));
        assert!(matches!(parse_with(words("--version"), none), Ok(Start::Version)));
        assert_eq!(parse_with(words("--bad ps"), none).unwrap_err().exit_code(), 125);
        assert_eq!(parse_with(words("--root"), none).unwrap_err().exit_code(), 125);
    }
}
