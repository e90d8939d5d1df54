//! The last lines of what steps have said.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

/// Lines that are kept of each step.
const KEPT: usize = 40;
/// Bytes that are kept of a line.
const LONGEST: usize = 4096;

/// What is kept of the steps.
#[derive(Debug, Default)]
pub(super) struct Tails(BTreeMap<usize, VecDeque<(Duration, String)>>);

impl Tails {
    /// More was said.
    pub(super) fn add(&mut self, vertex: usize, after: Duration, bytes: &[u8]) {
        let tail = self.0.entry(vertex).or_default();
        for line in lines(bytes) {
            if tail.len() == KEPT {
                tail.pop_front();
            }
            tail.push_back((after, line));
        }
    }

    /// The last `count` lines of a step.
    pub(super) fn last(&self, vertex: usize, count: usize) -> impl Iterator<Item = &(Duration, String)> {
        let tail = self.0.get(&vertex);
        tail.into_iter().flat_map(move |tail| tail.iter().skip(tail.len().saturating_sub(count)))
    }

    /// Nobody wants to see it any more.
    pub(super) fn forget(&mut self, vertex: usize) {
        self.0.remove(&vertex);
    }
}

/// The lines in these bytes, without their ends; of one that was written over, what stayed.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.split(|&b| b == b'\n').map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let shown = line.rsplit(|&b| b == b'\r').next().unwrap_or(line);
        String::from_utf8_lossy(&shown[..shown.len().min(LONGEST)]).into_owned()
    })
}

/// A step that failed and what it has said, as BuildKit shows it at the end.
pub(super) fn failure(title: &str, tails: &Tails, vertex: usize) -> String {
    let mut text = format!("------\n > {title}:\n");
    for (after, line) in tails.last(vertex, KEPT) {
        writeln!(text, "{:.3} {line}", after.as_secs_f64()).ok();
    }
    text + "------"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let mut tails = Tails::default();
        for n in 0..100 {
            tails.add(1, Duration::ZERO, format!("{n}\n").as_bytes());
        }
        let last: Vec<&str> = tails.last(1, 2).map(|(_, line)| &**line).collect();
        assert_eq!(last, ["98", "99"]);
        assert_eq!(tails.last(1, usize::MAX).count(), KEPT);
        assert_eq!(lines(b"1%\r50%\r100%\r\nend").collect::<Vec<_>>(), ["100%", "end"]);
    }
}
