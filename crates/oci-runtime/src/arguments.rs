//! The command line as Go's `flag` package reads it, which is what callers of runc write for.
//!
//! ```text
//!   --flag value   --flag=value   -flag value   -f=value      one dash or two, long names or short
//!   --flag         --flag=false                               of a flag that is true or false
//!   --                                                        what follows is no flag
//! ```
//!
//! Flags of a command may also come after its arguments (runc's parser moves them), except where the arguments are
//! a command line of their own ([`Command::in_order`]). A command is a table; nothing is built to parse one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::error::Error;
use crate::globals::Globals;

/// One flag.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Its names without dashes, the one it is asked for by first.
    pub(crate) names: &'static [&'static str],
    /// It has a value; else it is true or false.
    pub(crate) value: bool,
    /// One line.
    pub(crate) help: &'static str,
}

/// A flag with a value.
pub(crate) const fn value(names: &'static [&'static str], help: &'static str) -> Flag {
    Flag { names, value: true, help }
}

/// A flag that is true or false.
pub(crate) const fn switch(names: &'static [&'static str], help: &'static str) -> Flag {
    Flag { names, value: false, help }
}

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its name.
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) about: &'static str,
    /// What follows the name, and below it some words if there is more to say.
    pub(crate) usage: &'static str,
    /// Its flags.
    pub(crate) flags: &'static [Flag],
    /// How many arguments it takes, at least and at most.
    pub(crate) arguments: (usize, usize),
    /// What follows the first argument is not looked at for flags.
    pub(crate) in_order: bool,
    /// Does it. Returns the exit code.
    pub(crate) run: fn(&Globals, &Parsed) -> Result<u8, Error>,
}

/// What was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    flags: Vec<(&'static str, OsString)>,
    /// What is no flag, in order.
    pub(crate) arguments: Vec<OsString>,
    /// Somebody wants to be told what all this is.
    pub(crate) help: bool,
}

impl Parsed {
    /// The last value of a flag.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.flags.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.as_os_str())
    }

    /// The last value of a flag as a path; an empty one is none, as Go's programs have it.
    pub(crate) fn path(&self, name: &str) -> Option<&std::path::Path> {
        self.value(name).filter(|v| !v.is_empty()).map(std::path::Path::new)
    }

    /// The last value of a flag as text; an empty one is none.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, Error> {
        let Some(value) = self.value(name).filter(|v| !v.is_empty()) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| invalid(name, value))
    }

    /// All values of a flag.
    pub(crate) fn texts(&self, name: &'static str) -> Result<Vec<&str>, Error> {
        let values = self.flags.iter().filter(|(n, _)| *n == name);
        values.map(|(_, v)| v.to_str().ok_or_else(|| invalid(name, v))).collect()
    }

    /// The last value of a flag as a number.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &'static str) -> Result<Option<N>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid(name, OsStr::new(text)))
    }

    /// Whether a switch is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.value(name).is_some_and(|v| v == "true")
    }

    /// Whether a flag was given at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// An argument as text.
    pub(crate) fn argument(&self, n: usize) -> Result<&str, Error> {
        let argument = self.arguments.get(n).map_or(OsStr::new(""), OsString::as_os_str);
        argument.to_str().ok_or_else(|| Error::Usage(format!("{} is not UTF-8", argument.display())))
    }
}

fn invalid(name: &str, value: &OsStr) -> Error {
    Error::Usage(format!("invalid value {:?} for flag -{name}: parse error", value.to_string_lossy()))
}

/// Reads flags and arguments. With `in_order` it ends at the first that is no flag.
pub(crate) fn parse(
    flags: &'static [Flag],
    in_order: bool,
    given: impl IntoIterator<Item = OsString>,
) -> Result<Parsed, Error> {
    let mut parsed = Parsed::default();
    let mut given = given.into_iter();
    while let Some(argument) = given.next() {
        let bytes = argument.as_bytes();
        if bytes == b"--" {
            parsed.arguments.extend(given);
            break;
        }
        // A dash alone is a name: standard input's.
        let Some(body) = bytes.strip_prefix(b"-").filter(|body| !body.is_empty()) else {
            parsed.arguments.push(argument);
            if in_order {
                parsed.arguments.extend(given);
                break;
            }
            continue;
        };
        let body = body.strip_prefix(b"-").unwrap_or(body);
        let (name, attached) = match body.iter().position(|b| *b == b'=') {
            Some(at) => (&body[..at], Some(OsStr::from_bytes(&body[at + 1..]))),
            None => (body, None),
        };
        let shown = String::from_utf8_lossy(name);
        if name.is_empty() || name[0] == b'-' {
            return Err(Error::Usage(format!("bad flag syntax: {}", argument.display())));
        }
        let Some(flag) = flags.iter().find(|flag| flag.names.iter().any(|n| n.as_bytes() == name)) else {
            if name == b"help" || name == b"h" {
                parsed.help = true;
                continue;
            }
            return Err(Error::Usage(format!("flag provided but not defined: -{shown}")));
        };
        let value = match (flag.value, attached) {
            (true, Some(value)) => value.to_owned(),
            (true, None) => {
                given.next().ok_or_else(|| Error::Usage(format!("flag needs an argument: -{shown}")))?
            }
            (false, None) => "true".into(),
            (false, Some(value)) => boolean(value).map(OsString::from).ok_or_else(|| {
                Error::Usage(format!(
                    "invalid boolean value \"{}\" for -{shown}: parse error",
                    value.display()
                ))
            })?,
        };
        parsed.flags.push((flag.names[0], value));
    }
    Ok(parsed)
}

/// `strconv.ParseBool`.
fn boolean(text: &OsStr) -> Option<&'static str> {
    match text.as_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some("true"),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some("false"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] =
        &[value(&["bundle", "b"], ""), value(&["env", "e"], ""), switch(&["detach", "d"], "")];

    fn read(in_order: bool, given: &[&str]) -> Result<Parsed, String> {
        parse(FLAGS, in_order, given.iter().map(OsString::from)).map_err(|e| e.to_string())
    }

    #[test]
    fn one_dash_or_two_attached_or_not() {
        for given in [
            &["--bundle", "/x", "id"][..],
            &["--bundle=/x", "id"],
            &["-bundle", "/x", "id"],
            &["-bundle=/x", "id"],
            &["-b", "/x", "id"],
            &["-b=/x", "id"],
            &["--b", "/x", "id"],
            &["id", "--bundle", "/x"],
            &["--bundle", "/x", "--", "id"],
        ] {
            let parsed = read(false, given).unwrap();
            assert_eq!(parsed.path("bundle"), Some(std::path::Path::new("/x")), "{given:?}");
            assert_eq!(parsed.arguments, ["id"], "{given:?}");
        }
    }

    #[test]
    fn switches_are_true_or_false_and_the_last_counts() {
        assert!(read(false, &["-d"]).unwrap().is_on("detach"));
        assert!(!read(false, &["-d", "--detach=false"]).unwrap().is_on("detach"));
        assert!(!read(false, &[]).unwrap().has("detach"));
        assert_eq!(
            read(false, &["--detach=perhaps"]).unwrap_err(),
            "invalid boolean value \"perhaps\" for -detach: parse error"
        );
        assert_eq!(read(false, &["-e", "A=1", "-e=B=2"]).unwrap().texts("env").unwrap(), ["A=1", "B=2"]);
    }

    #[test]
    fn a_command_line_of_its_own_is_left_alone() {
        let parsed = read(true, &["-d", "id", "ls", "-d", "--unknown", "--", "x"]).unwrap();
        assert_eq!(parsed.arguments, ["id", "ls", "-d", "--unknown", "--", "x"]);
        assert_eq!(read(true, &["--", "-d"]).unwrap().arguments, ["-d"]);
        assert_eq!(read(false, &["-"]).unwrap().arguments, ["-"], "a dash alone");
    }

    #[test]
    fn mistakes_are_told_in_the_words_of_go() {
        assert_eq!(read(false, &["--nope"]).unwrap_err(), "flag provided but not defined: -nope");
        assert_eq!(read(false, &["-b"]).unwrap_err(), "flag needs an argument: -b");
        assert_eq!(read(false, &["---b"]).unwrap_err(), "bad flag syntax: ---b");
        assert!(read(false, &["id", "--help"]).unwrap().help);
    }

    proptest::proptest! {
        #[test]
        fn no_command_line_panics(given in proptest::collection::vec("[-=a-z]{0,8}", 0..6), order: bool) {
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            read(order, &given).ok();
        }
    }
}
