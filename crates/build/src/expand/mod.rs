//! Variables, quotes and escapes in the words of a Dockerfile (Dockerfile reference, "Environment replacement").

mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use pattern::Pattern;

/// How deep `${a:-${b:-…}}` may go.
const DEEPEST: usize = 50;

/// How long a word may become, in bytes: `ENV A=$A$A` doubles it. No program could be given one an eighth as long (`execve(2)`).
const LONGEST: usize = 1 << 20;

/// How a word is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// `\`, or what the directive `escape` says.
    pub(crate) escape: char,
    /// Quotes stay in the text.
    pub(crate) keep_quotes: bool,
    /// Escapes stay in the text.
    pub(crate) keep_escapes: bool,
    /// A quote is a character like any other.
    pub(crate) no_quotes: bool,
    /// A variable that is not set stays as it is written.
    pub(crate) keep_unset: bool,
}

impl Style {
    /// As the words of most instructions are read.
    pub(crate) fn new(escape: char) -> Self {
        Self { escape, keep_quotes: false, keep_escapes: false, no_quotes: false, keep_unset: false }
    }
}

/// A word whose variables are replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// The same, cut at blanks that stood in no quotes.
    pub(crate) words: Vec<String>,
    /// Variables that were found.
    pub(crate) used: BTreeSet<String>,
    /// Variables that were not.
    pub(crate) undefined: BTreeSet<String>,
}

/// Why a word cannot be read: at which byte of it, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// Replaces the variables of a text by what `get` says of them.
pub(crate) fn expand(
    text: &str,
    style: Style,
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<Expanded, Malformed> {
    let keep_escapes = style.keep_escapes;
    let mut reader = Reader { text, at: 0, style, get, deep: 0, found: Expanded::default() };
    let Words { text, word, before: mut words } = reader.until(None, 0, keep_escapes)?;
    if !word.is_empty() {
        words.push(word);
    }
    Ok(Expanded { text, words, ..reader.found })
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    style: Style,
    get: &'t dyn Fn(&str) -> Option<String>,
    deep: usize,
    found: Expanded,
}

/// A text, and what it is cut into.
#[derive(Default)]
struct Words {
    text: String,
    word: String,
    before: Vec<String>,
}

impl Words {
    fn push(&mut self, c: char) {
        self.text.push(c);
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.before.push(std::mem::take(&mut self.word));
        }
    }

    /// A variable's value is cut at its blanks.
    fn push_value(&mut self, value: &str) {
        if value.contains(char::is_whitespace) {
            value.chars().for_each(|c| self.push(c));
        } else {
            self.push_quoted(value);
        }
    }

    /// What was quoted or escaped cuts nothing.
    fn push_quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, Malformed> {
        Err(Malformed { at: at.min(self.text.len()), message: message.into() })
    }

    fn check_length(&self, length: usize) -> Result<(), Malformed> {
        if length > LONGEST {
            return self.error(self.at, format!("the word becomes longer than {} MiB", LONGEST >> 20));
        }
        Ok(())
    }

    /// Reads up to a character, which ends what began at `open`, or to the end.
    fn until(&mut self, stop: Option<char>, open: usize, keep_escapes: bool) -> Result<Words, Malformed> {
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.next();
                return Ok(words);
            }
            self.check_length(words.text.len())?;
            match c {
                '$' => words.push_value(&self.dollar()?),
                '\'' if !self.style.no_quotes => words.push_quoted(&self.single()?),
                '"' if !self.style.no_quotes => words.push_quoted(&self.double(keep_escapes)?),
                c if c == self.style.escape => {
                    self.next();
                    if keep_escapes {
                        words.push_quoted(c.encode_utf8(&mut [0; 4]));
                    }
                    if let Some(next) = self.next() {
                        words.push_quoted(next.encode_utf8(&mut [0; 4]));
                    }
                }
                c => {
                    self.next();
                    words.push(c);
                }
            }
        }
        self.check_length(words.text.len())?;
        match stop {
            Some(stop) => self.error(open, format!("`{stop}` is missing at the end of `${{…}}`")),
            None => Ok(words),
        }
    }

    fn single(&mut self) -> Result<String, Malformed> {
        let start = self.at;
        self.next();
        let Some(length) = self.text.get(self.at..).and_then(|rest| rest.find('\'')) else {
            return self.error(start, "a single quote is not closed");
        };
        let inner = &self.text[self.at..self.at + length];
        self.at += length + 1;
        Ok(if self.style.keep_quotes { format!("'{inner}'") } else { inner.to_owned() })
    }

    fn double(&mut self, keep_escapes: bool) -> Result<String, Malformed> {
        let start = self.at;
        self.next();
        let mut inner = String::new();
        let escape = self.style.escape;
        loop {
            self.check_length(inner.len())?;
            match self.peek() {
                None => return self.error(start, "a double quote is not closed"),
                Some('"') => break self.at += 1,
                Some('$') => inner.push_str(&self.dollar()?),
                Some(c) => {
                    self.next();
                    if c != escape {
                        inner.push(c);
                        continue;
                    }
                    if keep_escapes {
                        inner.push(c);
                    }
                    // Only these are escaped between double quotes; before any other the escape is itself.
                    match self.peek() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == escape => {
                            inner.push(next);
                            self.next();
                        }
                        Some(_) if keep_escapes => {}
                        Some(_) => inner.push(c),
                    }
                }
            }
        }
        Ok(if self.style.keep_quotes { format!("\"{inner}\"") } else { inner })
    }

    fn look_up(&mut self, name: &str) -> Option<String> {
        let value = (self.get)(name);
        if value.is_some() {
            self.found.used.insert(name.to_owned());
        } else {
            self.found.undefined.insert(name.to_owned());
        }
        value
    }

    /// `$` and what follows.
    fn dollar(&mut self) -> Result<String, Malformed> {
        let start = self.at;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.look_up(&name) {
                None if self.style.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.next();
        if self.deep == DEEPEST {
            return self.error(start, format!("`${{…}}` in `${{…}}` more than {DEEPEST} times"));
        }
        self.deep += 1;
        let value = self.braces(start);
        self.deep -= 1;
        value
    }

    /// What follows `${`.
    fn braces(&mut self, start: usize) -> Result<String, Malformed> {
        let name = self.name();
        let after = self.at;
        let Some(mut operator) = self.next() else { return self.error(start, "`}` is missing after `${`") };
        if name.is_empty() {
            return self.error(start, "`${` needs the name of a variable after it");
        }
        if operator == '}' {
            return Ok(match self.look_up(&name) {
                None if self.style.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            });
        }
        let null_is_unset = operator == ':';
        if null_is_unset {
            let Some(next) = self.next() else { return self.error(start, "`}` is missing after `${`") };
            operator = next;
        }
        match operator {
            '-' | '+' | '?' => {
                let word = self.until(Some('}'), start, false)?.text;
                let value = self.look_up(&name);
                if value.is_none() && self.style.keep_unset {
                    let colon = if null_is_unset { ":" } else { "" };
                    return Ok(format!("${{{name}{colon}{operator}{word}}}"));
                }
                let unset = value.is_none();
                let value = value.filter(|value| !(null_is_unset && value.is_empty()));
                match (operator, value) {
                    ('-', value) => Ok(value.unwrap_or(word)),
                    ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
                    (_, Some(value)) => Ok(value),
                    (_, None) if !word.is_empty() => self.error(start, format!("{name}: {word}")),
                    (_, None) if unset => self.error(start, format!("{name}: is not allowed to be unset")),
                    (_, None) => self.error(start, format!("{name}: is not allowed to be empty")),
                }
            }
            '#' | '%' if !null_is_unset => {
                let word = self.until(Some('}'), start, true)?.text;
                let Some(value) = self.look_up(&name) else {
                    return Ok(self.unset(format!("${{{name}{operator}{word}}}")));
                };
                let (longest, word) = match word.strip_prefix(operator) {
                    Some(word) => (true, word),
                    None => (false, &*word),
                };
                let pattern = self.pattern(word, after)?;
                let stripped = match operator {
                    '#' => pattern.strip_front(&value, longest),
                    _ => pattern.strip_back(&value, longest),
                };
                stripped.or_else(|why| self.error(after, why))
            }
            '/' if !null_is_unset => {
                let all = self.peek() == Some('/');
                if all {
                    self.next();
                }
                let word = self.until(Some('/'), start, true)?.text;
                let with = self.until(Some('}'), start, true)?.text;
                let Some(value) = self.look_up(&name) else {
                    return Ok(self.unset(format!("${{{name}/{word}/{with}}}")));
                };
                let pattern = self.pattern(&word, after)?;
                pattern.replace(&value, &with, all, LONGEST).or_else(|why| self.error(after, why))
            }
            other if other.is_whitespace() || matches!(other, '"' | '\'') => {
                self.error(start, format!("`}}` is missing after `${{{name}`"))
            }
            other => {
                let operator = if null_is_unset { format!(":{other}") } else { other.to_string() };
                self.error(
                    after,
                    format!(
                        "unsupported modifier `{operator}` in `${{{name}…}}`; there are :- :+ :? - + ? # ## % %% / //"
                    ),
                )
            }
        }
    }

    fn unset(&self, written: String) -> String {
        if self.style.keep_unset { written } else { String::new() }
    }

    fn pattern(&self, word: &str, at: usize) -> Result<Pattern, Malformed> {
        Pattern::parse(word, self.style.escape).or_else(|message| self.error(at, message))
    }

    /// A name: letters, digits and `_`; only digits, if it begins with one; or one of the shell's own.
    fn name(&mut self) -> String {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = match rest.chars().next() {
            Some(c) if c.is_numeric() => rest.find(|c: char| !c.is_numeric()).unwrap_or(rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()),
        };
        self.at += length;
        rest[..length].to_owned()
    }
}
