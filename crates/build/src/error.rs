//! What is wrong with a Dockerfile, and where.

use std::fmt;
use std::ops::Range;

use base::failure::{Failure, Kind};

/// A place in a Dockerfile: a line and a column, from 1, and how many characters from there on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) width: usize,
}

/// What is wrong, before anybody knows the file's name and text. It is boxed: faults are large, and rare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault(Box<What>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct What {
    place: Place,
    message: String,
    suggestion: Option<String>,
    help: Vec<String>,
    kind: Kind,
}

/// The result of what may find a fault.
pub(crate) type Checked<T> = Result<T, Fault>;

impl Fault {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        let (suggestion, help, kind) = (None, Vec::new(), Kind::Invalid);
        Self(Box::new(What { place, message: message.into(), suggestion, help, kind }))
    }

    /// With what was probably meant.
    pub(crate) fn meant(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.0.suggestion = suggestion.map(Into::into);
        self
    }

    /// With what is allowed, or what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.push(help.into());
        self
    }

    pub(crate) fn kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The same somewhere else, with a word on that before it.
    pub(crate) fn moved(mut self, place: Place, before: &str) -> Self {
        self.0.place = place;
        self.0.message.insert_str(0, before);
        self
    }

    pub(crate) fn locate(self, file: &str, source: &str) -> Error {
        let excerpt = match self.0.place.line {
            0 => String::new(),
            line => {
                source.lines().nth(line - 1).unwrap_or_default().trim_start_matches('\u{feff}').to_owned()
            }
        };
        Error { file: file.to_owned(), excerpt, what: self.0 }
    }
}

/// Why a Dockerfile cannot be built: where, what, and what to write instead.
///
/// As text it is one line, `Dockerfile:3:1: unknown instruction: RUNN; did you mean RUN?`; [`Error::report`] shows the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    file: String,
    excerpt: String,
    what: Box<What>,
}

impl Error {
    /// The line in the file, from 1; 0 where the fault is in none (an option, the whole file).
    pub fn line(&self) -> usize {
        self.what.place.line
    }

    /// The character in the line, from 1.
    pub fn column(&self) -> usize {
        self.what.place.column
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.what.message
    }

    /// What was probably meant.
    pub fn suggestion(&self) -> Option<&str> {
        self.what.suggestion.as_deref()
    }

    /// The line of the file, and one with carets below what is wrong in it; empty where there is no such line.
    pub fn excerpt(&self) -> String {
        if self.what.place.line == 0 || self.excerpt.is_empty() {
            return String::new();
        }
        let number = self.what.place.line.to_string();
        let shown: Vec<char> = self.excerpt.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let before = self.what.place.column.saturating_sub(1).min(shown.len());
        let carets = self.what.place.width.clamp(1, (shown.len() - before).max(1));
        format!(
            " {number} | {}\n {} | {}{}",
            shown.iter().collect::<String>().trim_end(),
            " ".repeat(number.len()),
            " ".repeat(before),
            "^".repeat(carets),
        )
    }

    /// All of it, over several lines: the place, what is wrong, the line with carets, what is allowed.
    pub fn report(&self) -> String {
        let mut report = self.to_string();
        for part in
            std::iter::once(self.excerpt()).chain(self.what.help.iter().cloned()).filter(|p| !p.is_empty())
        {
            report.push('\n');
            report.push_str(&part);
        }
        report
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.what.place.line > 0 {
            write!(f, ":{}:{}", self.what.place.line, self.what.place.column)?;
        }
        write!(f, ": {}", self.what.message)?;
        match &self.what.suggestion {
            Some(suggestion) => write!(f, "; did you mean {suggestion}?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl Failure for Error {
    fn kind(&self) -> Kind {
        self.what.kind
    }

    fn hints(&self) -> Vec<String> {
        self.what.help.clone()
    }
}

/// An instruction's text, joined from its lines, which knows where each part of it stood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// Where in `text` a piece begins, and the line and column of its first character.
    pieces: Vec<(usize, usize, usize)>,
}

impl Text {
    /// Appends a piece that stands in a line of the file, from its so manieth character on.
    pub(crate) fn push(&mut self, piece: &str, line: usize, column: usize) {
        self.pieces.push((self.text.len(), line, column));
        self.text.push_str(piece);
    }

    /// A part of it that is in `at`.
    pub(crate) fn get(&self, at: Range<usize>) -> &str {
        self.text.get(at).unwrap_or_default()
    }

    /// Where a part of it stood. A part that goes over several lines is cut at the first one's end.
    pub(crate) fn place(&self, at: Range<usize>) -> Place {
        let index = self.pieces.partition_point(|&(from, ..)| from <= at.start).saturating_sub(1);
        let Some(&(from, line, column)) = self.pieces.get(index) else { return Place::default() };
        let end = self.pieces.get(index + 1).map_or(self.text.len(), |&(from, ..)| from).min(at.end);
        let chars = |range: Range<usize>| self.get(range).chars().count();
        Place { line, column: column + chars(from..at.start), width: chars(at.start..end.max(at.start)) }
    }
}
