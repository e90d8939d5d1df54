//! Flags that hardly any command line uses. To build the tree of all of Docker's takes longer than to resolve an image, so
//! they are left out of it where a look at the words tells that none is among them.
//!
//! The look needs to know which words are flags, which are their values, and where the image stands: so it knows the flags
//! that are used every day, and with any other it gives up, and the tree is built whole. So is that of `--help`.

use std::cell::Cell;
use std::ffi::OsString;

use clap::{ArgMatches, Args, Command, FromArgMatches};

/// Of every day: switches, and flags with a value.
const SWITCHES: [&str; 8] =
    ["--detach", "--init", "--interactive", "--publish-all", "--quiet", "--read-only", "--rm", "--tty"];
const VALUED: [&str; 22] = [
    "--cap-add",
    "--cap-drop",
    "--cidfile",
    "--entrypoint",
    "--env",
    "--env-file",
    "--hostname",
    "--label",
    "--mount",
    "--name",
    "--net",
    "--network",
    "--publish",
    "--pull",
    "--restart",
    "--security-opt",
    "--stop-signal",
    "--stop-timeout",
    "--tmpfs",
    "--user",
    "--volume",
    "--workdir",
];
const SHORT_SWITCHES: &[u8] = b"diPqt";
const SHORT_VALUED: &[u8] = b"ehlpuvw";

thread_local! {
    static LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

/// Flags that are in the tree only where they may be needed.
#[derive(Debug)]
pub(super) struct Rare<T>(pub(super) Option<T>);

/// As long as it lives, the rare flags are left out of trees that this thread builds.
#[derive(Debug)]
pub(crate) struct LeftOut(());

impl LeftOut {
    /// Where none of the words is one.
    pub(crate) fn of(words: &[OsString]) -> Option<Self> {
        only_common(words).then(|| {
            LEFT_OUT.set(true);
            Self(())
        })
    }
}

impl Drop for LeftOut {
    fn drop(&mut self) {
        LEFT_OUT.set(false);
    }
}

impl<T: Args> Args for Rare<T> {
    fn augment_args(command: Command) -> Command {
        if LEFT_OUT.get() { command } else { T::augment_args(command) }
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

impl<T: FromArgMatches> FromArgMatches for Rare<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        if LEFT_OUT.get() {
            Ok(Self(None))
        } else {
            T::from_arg_matches_mut(matches).map(|flags| Self(Some(flags)))
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Whether all flags before the image are of every day.
fn only_common(words: &[OsString]) -> bool {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let bytes = word.as_encoded_bytes();
        if bytes == b"--" || !bytes.starts_with(b"-") || bytes == b"-" {
            return true;
        }
        let separate = match long(bytes) {
            Some(separate) => separate,
            None => match short(bytes) {
                Some(separate) => separate,
                None => return false,
            },
        };
        if separate {
            words.next();
        }
    }
    true
}

/// Whether the value of a flag is the next word; none where the flag is not one of them.
fn long(word: &[u8]) -> Option<bool> {
    word.starts_with(b"--").then_some(())?;
    let name = word.split(|&b| b == b'=').next()?;
    let attached = name.len() < word.len();
    let is = |list: &[&str]| list.iter().any(|flag| flag.as_bytes() == name);
    if is(&SWITCHES) {
        Some(false)
    } else if is(&VALUED) {
        Some(!attached)
    } else {
        None
    }
}

/// The same of `-it` and `-p80:80`.
fn short(word: &[u8]) -> Option<bool> {
    let letters = word.strip_prefix(b"-").filter(|letters| !letters.starts_with(b"-"))?;
    for (n, letter) in letters.iter().enumerate() {
        if SHORT_VALUED.contains(letter) {
            return Some(n + 1 == letters.len());
        }
        if !SHORT_SWITCHES.contains(letter) {
            return None;
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use clap::{ArgAction, CommandFactory as _};

    use super::*;

    fn common(line: &str) -> bool {
        only_common(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_look_ends_at_the_image() {
        for line in [
            "",
            "debian sh -c --ulimit",
            "--rm -it --name web -p 80:80 -v/a:/b debian --memory 5",
            "--rm=false --network=none -dit -e --memory image",
            "-- image --gpus all",
            "-itp 80 image -m 1",
        ] {
            assert!(common(line), "{line}");
        }
        for line in [
            "--memory 5m image",
            "-m5m image",
            "--rm --ulimit x image",
            "-itm 5 image",
            "--help",
            "-x",
            "--nam x",
        ] {
            assert!(!common(line), "{line}");
        }
    }

    #[test]
    fn what_is_said_of_flags_is_true() {
        let tree = crate::commands::find("run").map(|verb| (verb.tree)()).unwrap();
        let action_of = |flag: &str| {
            let known = |arg: &&clap::Arg| match flag.strip_prefix("--") {
                Some(name) => arg.get_long_and_visible_aliases().is_some_and(|all| all.contains(&name)),
                None => arg.get_short() == flag.chars().next(),
            };
            tree.get_arguments().find(known).unwrap_or_else(|| panic!("{flag}")).get_action().clone()
        };
        let letters = |list: &[u8]| list.iter().map(|b| char::from(*b).to_string()).collect::<Vec<_>>();
        for flag in SWITCHES.map(str::to_owned).into_iter().chain(letters(SHORT_SWITCHES)) {
            assert!(matches!(action_of(&flag), ArgAction::SetTrue), "{flag}");
        }
        for flag in VALUED.map(str::to_owned).into_iter().chain(letters(SHORT_VALUED)) {
            assert!(matches!(action_of(&flag), ArgAction::Set | ArgAction::Append), "{flag}");
        }
        // They are there even if all others are not.
        let _left_out = LeftOut::of(&[]);
        let small = super::super::tests::Arguments::command();
        for flag in SWITCHES.iter().chain(&VALUED).filter(|flag| **flag != "--detach") {
            let name = &flag[2..];
            let known =
                |arg: &clap::Arg| arg.get_long_and_visible_aliases().is_some_and(|all| all.contains(&name));
            assert!(small.get_arguments().any(known), "{flag}");
        }
    }

    #[test]
    fn the_tree_is_whole_again_afterwards() {
        let count = || super::super::tests::Arguments::command().get_arguments().count();
        let all = count();
        let left_out = LeftOut::of(&[OsString::from("image")]);
        assert!(left_out.is_some() && count() < all / 2 + 10);
        drop(left_out);
        assert_eq!(count(), all);
        assert!(LeftOut::of(&[OsString::from("--gpus")]).is_none());
    }
}
