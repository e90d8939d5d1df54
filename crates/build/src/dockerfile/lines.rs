//! Lines → instructions on one line each: directives, comments, continuations, the lines of here-documents.

use super::Heredoc;
use crate::error::{Checked, Fault, Place, Text};

/// A `# key=value` at the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(crate) value: String,
    pub(crate) place: Place,
}

/// An instruction's text, with what belongs to it.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) text: Text,
    pub(super) lines: (usize, usize),
    pub(super) comments: Vec<String>,
    pub(super) gap: Option<usize>,
}

/// Reads line by line.
pub(super) struct Reader<'s> {
    /// Each with its end.
    lines: std::iter::Peekable<std::str::SplitInclusive<'s, char>>,
    /// How many were read.
    read: usize,
    /// Up to here lines are directives.
    directives: usize,
    pub(super) escape: char,
    pub(super) check: Option<Directive>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s str) -> Checked<Self> {
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let mut reader = Self {
            lines: source.split_inclusive('\n').peekable(),
            read: 0,
            directives: 0,
            escape: '\\',
            check: None,
        };
        reader.directives(source)?;
        Ok(reader)
    }

    /// Directives are the first lines, each at most once; the first line that is none ends them.
    fn directives(&mut self, source: &str) -> Checked<()> {
        let mut seen = Vec::new();
        for (index, line) in source.lines().enumerate() {
            if index == 0 && line.starts_with("#!") {
                continue;
            }
            let Some((key, value)) = directive(line) else { break };
            let key = key.to_ascii_lowercase();
            let column = line.chars().count() - line.trim_start().chars().count() + 1;
            let place = Place { line: index + 1, column, width: line.trim().chars().count() };
            if !["syntax", "escape", "check"].contains(&&*key) {
                break;
            }
            if seen.contains(&key) {
                return Err(Fault::new(place, format!("the directive `{key}` may be given only once")));
            }
            match &*key {
                "escape" => {
                    self.escape = match value {
                        "\\" => '\\',
                        "`" => '`',
                        _ => {
                            return Err(Fault::new(place, format!("invalid escape character `{value}`"))
                                .help("the escape character is \\ or `"));
                        }
                    }
                }
                "check" => self.check = Some(Directive { value: value.to_owned(), place }),
                // Whatever syntax is asked for, this is the one that we have.
                _ => {}
            }
            seen.push(key);
            self.directives = index + 1;
        }
        Ok(())
    }

    /// The line that was read last, from 1.
    pub(super) fn line(&self) -> usize {
        self.read
    }

    fn next_line(&mut self) -> Option<&'s str> {
        let line = self.lines.next()?;
        self.read += 1;
        Some(line)
    }

    /// The next instruction, if there is one.
    pub(super) fn next_instruction(&mut self) -> Option<Line> {
        let mut comments = Vec::new();
        loop {
            let line = self.next_line()?.trim_end_matches(['\r', '\n']);
            let content = line.trim_start();
            if let Some(comment) = content.strip_prefix('#') {
                match comment.trim() {
                    // An empty comment, like an empty line, parts what is above from what is below.
                    "" => comments.clear(),
                    _ if self.read <= self.directives => {}
                    comment => comments.push(comment.to_owned()),
                }
                continue;
            }
            if content.is_empty() {
                comments.clear();
                continue;
            }
            let mut found = Line { comments, lines: (self.read, self.read), ..Line::default() };
            let indent = line.len() - content.len();
            let column = line[..indent].chars().count() + 1;
            let (content, mut goes_on) = self.continued(content);
            found.text.push(content, self.read, column);
            while goes_on {
                let Some(line) = self.next_line() else { break };
                let line = line.trim_end_matches(['\r', '\n']);
                let content = line.trim_start();
                if content.starts_with('#') {
                    continue;
                }
                if content.is_empty() {
                    found.gap = Some(self.read);
                    continue;
                }
                let (content, more) = self.continued(line);
                found.text.push(content, self.read, 1);
                goes_on = more;
            }
            found.lines.1 = self.read;
            // BuildKit names the line at which it ends.
            found.gap = found.gap.map(|_| self.read);
            // A line that consists of its continuation.
            if found.text.text.trim().is_empty() {
                comments = Vec::new();
                continue;
            }
            return Some(found);
        }
    }

    /// A line without the character that continues it, if it ends with one that is not escaped itself.
    fn continued<'l>(&self, line: &'l str) -> (&'l str, bool) {
        match line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (rest, true),
            _ => (line, false),
        }
    }

    /// Reads the lines up to the one that ends a here-document; false, if none does.
    pub(super) fn read_heredoc(&mut self, heredoc: &mut Heredoc) -> bool {
        while let Some(line) = self.next_line() {
            let end = line.trim_end_matches(['\r', '\n']);
            let end = if heredoc.strip_tabs { end.trim_start_matches('\t') } else { end };
            if end == heredoc.name {
                return true;
            }
            heredoc.content.push_str(line);
        }
        false
    }
}

/// `# key = value`.
fn directive(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim_start().strip_prefix('#')?.trim_start().split_once('=')?;
    let (key, value) = (key.trim_end(), value.trim());
    let good =
        key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric());
    (good && !value.is_empty()).then_some((key, value))
}
