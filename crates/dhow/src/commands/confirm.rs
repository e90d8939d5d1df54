//! The question before something is thrown away, as Docker asks it.

use std::io::BufRead;

use crate::error::{Error, Result};
use crate::output;

/// Warns and asks. An end of input is a no.
pub(super) fn ask(warning: &str) -> Result<bool> {
    output::text(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|source| Error::File {
        action: "read",
        path: "standard input".to_owned(),
        source,
    })?;
    let yes = answer.trim().eq_ignore_ascii_case("y");
    if !answer.ends_with('\n') || !yes {
        output::line("")?;
    }
    Ok(yes)
}
