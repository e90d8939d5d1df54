//! The lines that stand before the things of a tree, and how its rows are cut to a width.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Deeper ones are drawn as if they were so deep: a chain of forks must not push everything else off the screen.
const DEEPEST: usize = 8;

/// Draws what stands before each thing, which come in the order of [`engine::Branch`].
#[derive(Debug)]
pub(crate) struct Branches {
    utf8: bool,
    /// Whether the last thing seen on each level has others after it.
    open: Vec<bool>,
}

impl Branches {
    /// In line drawing characters, or in those that every terminal has.
    pub(crate) fn new(utf8: bool) -> Self {
        Self { utf8, open: Vec::new() }
    }

    /// What stands before the next thing.
    pub(crate) fn next(&mut self, depth: usize, last: bool) -> String {
        let depth = depth.min(DEEPEST);
        if depth == 0 {
            self.open.clear();
            return String::new();
        }
        self.open.resize(depth, false);
        let [bar, end, tee] = if self.utf8 { ["│  ", "└─ ", "├─ "] } else { ["|  ", "`- ", "|- "] };
        self.open[depth - 1] = !last;
        let mut text: String =
            self.open[..depth - 1].iter().map(|open| if *open { bar } else { "   " }).collect();
        text.push_str(if last { end } else { tee });
        text
    }
}

/// At most so many columns of it; what is cut off is hinted at.
pub(crate) fn cut(text: &str, columns: usize, utf8: bool) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mark = if utf8 { '…' } else { '~' };
    let mut room = columns.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= room;
        room = room.saturating_sub(width);
        fits
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    if columns > 0 {
        cut.push(mark);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_go_on_where_more_follows() {
        let tree = [(0, true), (1, false), (2, true), (1, true), (2, false), (2, true), (0, true), (1, true)];
        let drawn = |utf8| {
            let mut branches = Branches::new(utf8);
            tree.map(|(depth, last)| branches.next(depth, last))
        };
        assert_eq!(drawn(true), ["", "├─ ", "│  └─ ", "└─ ", "   ├─ ", "   └─ ", "", "└─ "]);
        assert_eq!(drawn(false), ["", "|- ", "|  `- ", "`- ", "   |- ", "   `- ", "", "`- "]);
    }

    #[test]
    fn a_deep_tree_stays_in_its_place() {
        let mut branches = Branches::new(true);
        let widest = (0..10_000).map(|depth| branches.next(depth, true).width()).max();
        assert_eq!(widest, Some(3 * DEEPEST));
    }

    #[test]
    fn what_is_cut_is_so_wide_at_most() {
        assert_eq!(cut("sleep 1", 7, true), "sleep 1");
        assert_eq!(cut("sleep 10", 7, true), "sleep …");
        assert_eq!(cut("sleep 10", 7, false), "sleep ~");
        assert_eq!(cut("漢字漢字", 4, true), "漢…");
        assert_eq!((cut("abc", 1, true).as_str(), cut("abc", 0, true).as_str()), ("…", ""));
    }
}
