//! What is mounted, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::fs;

use crate::report::{Body, Section};

pub(crate) fn mounts() -> Section {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut rows: Vec<_> = String::from_utf8_lossy(&text).lines().filter_map(row).collect();
    // The order of mounting says nothing to a reader; among those at one place the last is on top, and stays so.
    rows.sort_by(|a, b| a[1].cmp(&b[1]));
    Section { title: "Mounts", body: Body::Table { columns: &["type", "at", "mode", "options"], rows } }
}

fn row(line: &str) -> Option<Vec<String>> {
    let (ours, theirs) = line.split_once(" - ")?;
    let mut ours = ours.split(' ').skip(4);
    let (target, options) = (ours.next()?, ours.next()?);
    let mut theirs = theirs.split(' ');
    let (kind, _source, super_options) = (theirs.next()?, theirs.next()?, theirs.next().unwrap_or_default());
    let has = |list: &str, what: &str| list.split(',').any(|option| option == what);
    let mode = if has(options, "ro") || has(super_options, "ro") { "ro" } else { "rw" };
    let mut shown: Vec<&str> =
        ["nosuid", "nodev", "noexec"].into_iter().filter(|o| has(options, o)).collect();
    // The size of a tmpfs is the one option of a file system that a user of a container has set.
    shown.extend(super_options.split(',').filter(|option| kind == "tmpfs" && option.starts_with("size=")));
    Some(vec![kind.to_owned(), unescape(target), mode.to_owned(), shown.join(",")])
}

/// Spaces, tabs, newlines and backslashes are written as octal numbers; what would disturb a terminal stays so.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\134", "\\").escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 ro,nosuid,noexec shared:1 master:2 - tmpfs none rw,size=64k";
        assert_eq!(row(line).unwrap(), ["tmpfs", "/mnt 2", "ro", "nosuid,noexec,size=64k"]);
        assert!(row("").is_none() && row("1 2 3 - x").is_none());
    }
}
