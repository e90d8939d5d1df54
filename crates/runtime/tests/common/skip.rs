//! Tests that this machine lacks something for: they say so, in the words of the end-to-end tests, and are counted.

use std::io::Write;

/// Whether what a test needs is there. Where it is not the test ends, and this has said what is missing.
///
/// The line is also added to the file that `DHOW_TEST_SKIPS` names, for runners that hide what a passing test says.
pub(crate) fn can(there: bool, what: &str) -> bool {
    if !there {
        let here = std::thread::current();
        let line = format!("skip: {}: this machine lacks {what}\n", here.name().unwrap_or("a test"));
        print!("{line}");
        if let Some(path) = std::env::var_os("DHOW_TEST_SKIPS") {
            let list = std::fs::OpenOptions::new().append(true).create(true).open(path);
            list.and_then(|mut list| list.write_all(line.as_bytes()))
                .expect("the list of skips can be written");
        }
    }
    there
}
