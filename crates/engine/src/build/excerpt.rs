//! The lines of a Dockerfile around the one that something is wrong with, as BuildKit shows them.

use std::fmt::Write;

/// Lines that are shown before and after.
const AROUND: usize = 2;

/// Lines `first` to `last` (from 1) of `source`, marked, with those around them.
pub(super) fn excerpt(name: &str, source: &str, (first, last): (usize, usize)) -> String {
    let lines: Vec<&str> = source.lines().collect();
    let from = first.saturating_sub(AROUND).max(1);
    let to = (last + AROUND).min(lines.len());
    let mut text = format!("{name}:{first}\n--------------------\n");
    for number in from..=to {
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let line = lines.get(number - 1).copied().unwrap_or_default();
        let line = base::failure::printable(::build::without_logins(line));
        // Writing to a string does not fail.
        writeln!(text, "{}", format!("{number:4} | {mark} {line}").trim_end()).ok();
    }
    text.push_str("--------------------");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_marked() {
        let text = excerpt("Dockerfile", "FROM x\n\nRUN false\n", (3, 3));
        assert_eq!(
            text,
            "Dockerfile:3\n--------------------\n   1 |     FROM x\n   2 |\n   3 | >>> RUN false\n--------------------"
        );
        assert!(excerpt("x", "", (7, 9)).starts_with("x:7\n"));
    }
}
