//! The flags of an instruction: `--name` and `--name=value`, between its keyword and its first word.

use std::ops::Range;

use super::Word;
use crate::error::{Checked, Fault, Text};
use crate::suggest::nearest;

/// A flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) at: Range<usize>,
}

/// The flags from a place in an instruction's text on, and where what follows them begins. Quotes and backslashes are gone from
/// them afterwards.
pub(super) fn extract(text: &Text, mut from: usize) -> (Vec<Flag>, usize) {
    let mut flags = Vec::new();
    loop {
        let rest = text.get(from..text.text.len());
        let start = from + rest.len() - rest.trim_start().len();
        let rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, start);
        }
        let (mut word, mut quote) = (String::new(), None);
        let mut length = rest.len();
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if quote.is_none() && c.is_whitespace() => {
                    length = at;
                    break;
                }
                '\\' => word.extend(chars.next().map(|(_, next)| next)),
                c if quote == Some(c) => quote = None,
                '\'' | '"' if quote.is_none() => quote = Some(c),
                c => word.push(c),
            }
        }
        let at = start..start + length;
        from = at.end;
        let Some(word) = word.strip_prefix("--").filter(|word| !word.is_empty()) else {
            // `--` alone ends the flags.
            let rest = text.get(from..text.text.len());
            return (flags, from + rest.len() - rest.trim_start().len());
        };
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        flags.push(Flag { name: name.to_owned(), value, at });
    }
}

/// The flags of one instruction, taken one by one by who knows them.
pub(super) struct Taken<'n> {
    text: &'n Text,
    flags: &'n [Flag],
    instruction: &'static str,
    known: &'static [&'static str],
}

impl<'n> Taken<'n> {
    /// Checks that all of them are known.
    pub(super) fn new(
        text: &'n Text,
        flags: &'n [Flag],
        instruction: &'static str,
        known: &'static [&'static str],
    ) -> Checked<Self> {
        for flag in flags {
            if !known.contains(&&*flag.name) {
                let message = format!("unknown flag --{} for {instruction}", flag.name);
                let fault = Fault::new(text.place(flag.at.clone()), message)
                    .meant(nearest(&flag.name, known.iter().copied()).map(|name| format!("--{name}")));
                let list: Vec<String> = known.iter().map(|name| format!("--{name}")).collect();
                return Err(match list[..] {
                    [] => fault.help(format!("{instruction} has no flags")),
                    _ => fault.help(format!("the flags of {instruction}: {}", list.join(" "))),
                });
            }
        }
        Ok(Self { text, flags, instruction, known })
    }

    fn fault(&self, flag: &Flag, message: String) -> Fault {
        Fault::new(self.text.place(flag.at.clone()), message)
    }

    fn only(&self, name: &str) -> Checked<Option<&'n Flag>> {
        debug_assert!(self.known.contains(&name));
        let mut named = self.flags.iter().filter(|flag| flag.name == name);
        let first = named.next();
        match named.next() {
            Some(second) => Err(self.fault(second, format!("the flag --{name} may be given only once"))),
            None => Ok(first),
        }
    }

    fn word(&self, flag: &Flag) -> Checked<Word> {
        match &flag.value {
            Some(value) => Ok(Word { text: value.clone(), at: flag.at.clone() }),
            None => Err(self
                .fault(flag, format!("the flag --{} of {} needs a value", flag.name, self.instruction))
                .help(format!("write --{}=VALUE", flag.name))),
        }
    }

    /// A flag with a value, given once at most.
    pub(super) fn text(&self, name: &str) -> Checked<Option<Word>> {
        self.only(name)?.map(|flag| self.word(flag)).transpose()
    }

    /// A flag with a value, as often as it is given.
    pub(super) fn texts(&self, name: &str) -> Checked<Vec<Word>> {
        self.flags.iter().filter(|flag| flag.name == name).map(|flag| self.word(flag)).collect()
    }

    /// `--name`, `--name=true`, `--name=false`.
    pub(super) fn switch(&self, name: &str) -> Checked<Option<bool>> {
        let Some(flag) = self.only(name)? else { return Ok(None) };
        match flag.value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.fault(flag, format!("--{name} is true or false, not `{other}`"))),
        }
    }
}
