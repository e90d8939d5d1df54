//! Here-documents: `<<EOF`, `<<-EOF`, `<<"EOF"`.

use std::ops::Range;

use crate::error::Text;
use crate::expand::{Style, expand};

/// A here-document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The word that ends it.
    pub(crate) name: String,
    /// `<<-`: the tabs at the beginning of its lines are no part of it.
    pub(crate) strip_tabs: bool,
    /// Its name is not quoted, so variables in it are replaced (`COPY`, `ADD`; in `RUN` that is the shell's business).
    pub(crate) expand: bool,
    pub(crate) content: String,
    pub(crate) at: Range<usize>,
}

impl Heredoc {
    /// What is in it, without the tabs that are no part of it.
    pub(crate) fn stripped(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }

    /// A word that begins one, as `3<<-"EOF"`.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (strip_tabs, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if rest.is_empty() || rest.contains('<') {
            return None;
        }
        let style = Style { keep_unset: true, ..Style::new('\\') };
        let mut words = expand(rest, style, &|_| None).ok()?.words.into_iter();
        let name = words.next()?;
        if words.next().is_some() {
            return None;
        }
        // An escape quotes a character of the name, but not the text.
        let quoted = expand(rest, Style { keep_quotes: true, ..style }, &|_| None).ok()?.text;
        Some(Self { strip_tabs, expand: name == quoted, name, ..Self::default() })
    }
}

/// Those that an instruction's line begins, in their order.
pub(super) fn find(text: &Text) -> Vec<Heredoc> {
    let line = &*text.text;
    if !line.contains("<<") {
        return Vec::new();
    }
    // Quotes and escapes stay, so that `"<<EOF"` is no here-document.
    let style = Style { keep_quotes: true, keep_escapes: true, keep_unset: true, ..Style::new('\\') };
    // What is no word for us may be one for the shell: then there are none.
    let Ok(expanded) = expand(line, style, &|_| None) else { return Vec::new() };
    let mut from = 0;
    let mut found = Vec::new();
    for word in expanded.words {
        let Some(mut heredoc) = Heredoc::parse(&word) else { continue };
        let start = line[from..].find(&*word).map_or(from, |at| from + at);
        heredoc.at = start..(start + word.len()).min(line.len());
        from = heredoc.at.end;
        found.push(heredoc);
    }
    found
}
