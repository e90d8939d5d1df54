//! What an error must tell besides its text: what kind it is, and what to do next.
//!
//! Each crate has typed errors of its own, near the functions that raise them. Their texts are lower-case
//! fragments that name the object and do not repeat their source: the chain is printed once, at the edge,
//! as `what: why: why`. The [`Kind`] is what front doors turn into exit codes and statuses.

use std::error::Error;

/// What a failure means to whoever asked, whatever part it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The request makes no sense: a bad flag, name or file. Asking again will not help.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// It exists already, or is in a state that forbids this.
    Conflict,
    /// We lack a right on this machine.
    Permission,
    /// A registry wants (other) credentials.
    Unauthorized,
    /// A service does not answer, or not now.
    Unavailable,
    /// This kernel or machine lacks something.
    Unsupported,
    /// No space, memory, addresses or ports left.
    Exhausted,
    /// Bytes are not what they should be: a wrong digest, a broken archive or record.
    Corrupt,
    /// The container's command was not found (exit code 127).
    CommandNotFound,
    /// The container's command cannot be executed (exit code 126).
    CommandNotExecutable,
    /// Anything else: the system said no in a way nobody planned for.
    Internal,
}

/// An error that can be shown to a person and acted on by a program.
pub trait Failure: Error + Send + Sync + 'static {
    /// What kind of failure this is.
    fn kind(&self) -> Kind;

    /// What to do next, each a line that starts with a verb. Empty where there is nothing to say.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The whole chain of an error on one line: `outermost: its cause: the cause of that`. What others wrote into it (a registry,
/// an archive) does nothing to a terminal: control characters are shown as escapes.
pub fn chain(error: &dyn Error) -> String {
    printable(causes(error))
}

/// A text of others' as a terminal may have it: on one line, with control characters as escapes.
pub fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// The same as it was written, for where all text is escaped anyway.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // A transparent wrapper repeats its source; say it once.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// The kind that an I/O error suggests, for errors that know nothing better.
pub fn kind_of_io(error: &std::io::Error) -> Kind {
    use std::io::ErrorKind as E;
    match error.kind() {
        E::NotFound => Kind::NotFound,
        E::PermissionDenied | E::ReadOnlyFilesystem => Kind::Permission,
        E::AlreadyExists => Kind::Conflict,
        E::StorageFull | E::QuotaExceeded | E::OutOfMemory => Kind::Exhausted,
        E::InvalidData | E::UnexpectedEof => Kind::Corrupt,
        E::Unsupported => Kind::Unsupported,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the type is `{0}`")]
    struct Type(&'static str, #[source] std::io::Error);

    #[test]
    fn an_error_is_one_line_whatever_is_in_it() {
        let error = Type("a\nb\u{1b}[2Jc ü", std::io::Error::other("no\tway"));
        assert_eq!(chain(&error), "the type is `a\\nb\\u{1b}[2Jc ü`: no\\tway");
        assert_eq!(causes(&error), "the type is `a\nb\u{1b}[2Jc ü`: no\tway");
    }
}
