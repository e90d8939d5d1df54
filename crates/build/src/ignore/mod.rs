//! `.dockerignore`: which files of a context are not there for the build.
//!
//! The rules are those of Docker's matcher (moby/patternmatcher): patterns are taken in order and the last that matches a path,
//! or a directory that it lies in, decides; `!` makes an exception. `*` and `?` match within a name, `**` any number of
//! directories, `[…]` one character of a class, `\` takes the next character as it is.

mod pattern;
#[cfg(test)]
mod tests;

use pattern::Pattern;

/// Why a `.dockerignore` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}: `{pattern}`")]
pub struct Error {
    /// Which line, from 1; of patterns that come without lines, which pattern.
    pub line: usize,
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Patterns, in their order. None excludes nothing.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    exceptions: bool,
}

/// What the patterns say of one path: what lies in it is judged with it.
#[derive(Debug, Clone)]
pub struct Verdict {
    excluded: bool,
    /// Which patterns matched this path or a directory above it. A pattern that could have changed nothing was not asked.
    matched: Vec<bool>,
}

impl Verdict {
    /// Whether the path is left out.
    pub fn is_excluded(&self) -> bool {
        self.excluded
    }
}

impl Patterns {
    /// Reads the text of a `.dockerignore`: a pattern a line; blank lines and those that begin with `#` are none.
    ///
    /// # Errors
    /// A pattern that is malformed (`[`, a lone `!`, a `\` at the end).
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Self::default();
        for (index, line) in text.split('\n').enumerate() {
            // A `#` behind blanks begins a name.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (exception, body) = match line.strip_prefix('!') {
                Some(body) => (true, body.trim()),
                None => (false, line),
            };
            if line.is_empty() {
                continue;
            }
            let body = if body.is_empty() { String::new() } else { clean(body) };
            // `/` is the context itself, however often it is written.
            let body = if body.len() > 1 { body.strip_prefix('/').unwrap_or(&body) } else { &body };
            patterns.push(index + 1, exception, body)?;
        }
        Ok(patterns)
    }

    /// Takes patterns one by one, as `COPY --exclude` has them: no comments, and a leading `/` stands for itself.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn new<'a>(list: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut patterns = Self::default();
        for (index, text) in list.into_iter().enumerate() {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let text = clean(text);
            match text.strip_prefix('!') {
                Some(body) => patterns.push(index + 1, true, body)?,
                None => patterns.push(index + 1, false, &text)?,
            }
        }
        Ok(patterns)
    }

    fn push(&mut self, line: usize, exception: bool, body: &str) -> Result<(), Error> {
        let error = |why| Error { line, pattern: format!("{}{body}", if exception { "!" } else { "" }), why };
        if body.is_empty() {
            return Err(error("an exception needs a pattern after the `!`"));
        }
        self.patterns.push(Pattern::compile(body, exception).map_err(error)?);
        self.exceptions |= exception;
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether there is a pattern with a `!`.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.exceptions
    }

    /// Whether a pattern leaves out whatever is there.
    pub(crate) fn excludes_all(&self) -> bool {
        self.patterns.iter().any(|pattern| !pattern.exception && pattern.is_for_all())
    }

    /// Whether a path is left out: relative to the context, its parts separated by `/`. The context itself never is.
    pub fn excludes(&self, path: &str) -> bool {
        let path = path.trim_matches('/');
        if self.is_empty() || path.is_empty() || path == "." {
            return false;
        }
        let mut verdict: Option<Verdict> = None;
        for (end, _) in path.match_indices('/') {
            verdict = Some(self.judge(&path[..end], verdict.as_ref()));
        }
        self.judge(path, verdict.as_ref()).excluded
    }

    /// As [`excludes`](Self::excludes), for who walks a tree: with the verdict on the directory that `path` lies in, which is
    /// `None` at the top.
    pub fn judge(&self, path: &str, above: Option<&Verdict>) -> Verdict {
        let mut verdict = Verdict { excluded: false, matched: vec![false; self.patterns.len()] };
        for (index, pattern) in self.patterns.iter().enumerate() {
            let above = above.is_some_and(|above| above.matched.get(index).copied().unwrap_or(false));
            // Only a pattern that would change the verdict is asked: what it says of this path is, for those below, unknown.
            if above || (pattern.exception == verdict.excluded && pattern.matches(path)) {
                verdict.matched[index] = true;
                verdict.excluded = !pattern.exception;
            }
        }
        verdict
    }

    /// Whether an exception may bring back something below a directory that is excluded: if not, nobody need look into it.
    pub fn may_include_below(&self, directory: &str) -> bool {
        let directory = directory.trim_matches('/');
        self.exceptions && self.patterns.iter().any(|p| p.exception && p.may_match_below(directory))
    }
}

/// A path in its shortest form, as Go's `filepath.Clean` has it: no empty parts, no `.`, no `..` that can be resolved.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                None if rooted => {}
                _ => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}
