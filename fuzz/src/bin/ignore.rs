//! `.dockerignore`: any text is refused with a line of it, or says the same of a path whether it is asked or walked to; and what
//! it says may not be looked into has nothing in it that is there. Never a panic, and no pattern takes long.
//!
//! The first line is a path, the rest the patterns.
#![no_main]

use build::ignore::{Patterns, Verdict};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, text) = text.split_once('\n').unwrap_or((text, ""));
    let patterns = match Patterns::parse(text) {
        Ok(patterns) => patterns,
        Err(error) => {
            assert!(error.line >= 1 && error.line <= text.split('\n').count(), "{error}");
            return;
        }
    };
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    let (mut above, mut closed): (Option<Verdict>, bool) = (None, false);
    for end in 1..=parts.len() {
        let path = parts[..end].join("/");
        let verdict = patterns.judge(&path, above.as_ref());
        assert_eq!(verdict.is_excluded(), patterns.excludes(&path), "{path}");
        assert!(!closed || verdict.is_excluded(), "{path} lies where nothing may be brought back");
        closed |= verdict.is_excluded() && !patterns.may_include_below(&path);
        above = Some(verdict);
    }
});
