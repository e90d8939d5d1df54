//! What fuzz targets call: the parts that are not public, without what stands around them.

use crate::dockerfile::mount::Mount;
use crate::expand::{Style, expand};

/// How a word is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The escape character is `` ` ``.
    pub backtick: bool,
    /// Quotes stay.
    pub keep_quotes: bool,
    /// Escapes stay.
    pub keep_escapes: bool,
    /// Quotes are characters like others.
    pub no_quotes: bool,
    /// Variables that are not set stay as they are written.
    pub keep_unset: bool,
}

/// A word with its variables replaced, and the words that it is cut into; or where it is wrong, and how.
pub fn expanded(
    text: &str,
    reading: Reading,
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, Vec<String>), (usize, String)> {
    let Reading { backtick, keep_quotes, keep_escapes, no_quotes, keep_unset } = reading;
    let escape = if backtick { '`' } else { '\\' };
    let style = Style { escape, keep_quotes, keep_escapes, no_quotes, keep_unset };
    match expand(text, style, get) {
        Ok(expanded) => Ok((expanded.text, expanded.words)),
        Err(malformed) => Err((malformed.at, malformed.message)),
    }
}

/// A `--mount`, in words, or what is wrong with it.
pub fn mount(text: &str) -> Result<String, String> {
    match Mount::parse(text, &mut |value| Ok(value.to_owned())) {
        Ok(mount) => Ok(format!("{mount:?}")),
        Err(wrong) => Err(wrong.message),
    }
}
