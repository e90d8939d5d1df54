//! Files that flags name. Whatever they turn out to be (`/dev/zero`, a pipe that never ends), they are not read for ever.

use std::fs::File;
use std::io::Read;

use crate::error::{Error, Result};

/// More than this no list of settings has.
const MOST: u64 = 16 << 20;

/// The whole content.
pub(crate) fn read(path: &str) -> Result<Vec<u8>> {
    read_as("read", path)
}

/// The same, with other words for what is done.
pub(crate) fn read_as(action: &'static str, path: &str) -> Result<Vec<u8>> {
    let failed = |source| Error::File { action, path: path.to_owned(), source };
    let mut content = Vec::new();
    File::open(path).map_err(failed)?.take(MOST + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MOST {
        return Err(Error::flag(format!("the file {path} is larger than {} MiB", MOST >> 20)));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_refused() {
        let error = read("/dev/zero").unwrap_err();
        assert!(error.to_string().contains("/dev/zero is larger than 16 MiB"), "{error}");
        assert!(read("/dev/null").unwrap().is_empty());
    }
}
