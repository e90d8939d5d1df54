//! Columns, as Go's `text/tabwriter` lays them out for Docker: three spaces between, ten wide at least, no
//! padding behind the last.

use unicode_width::UnicodeWidthStr;

const PADDING: usize = 3;
const MINIMUM: usize = 10;

/// Aligns lines whose cells are separated by tabs. Lines may have different numbers of cells.
pub(crate) fn align(lines: &[String]) -> String {
    align_wide(lines, MINIMUM)
}

/// The same with columns that are at least so wide.
pub(crate) fn align_wide(lines: &[String], minimum: usize) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let mut widths = Vec::<usize>::new();
    for row in &rows {
        // The last cell of a line ends no column.
        for (at, cell) in row.iter().take(row.len() - 1).enumerate() {
            let width = (cell.width() + PADDING).max(minimum);
            match widths.get_mut(at) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if at + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', widths[at] - cell.width()));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_three_apart_and_ten_wide() {
        let lines = ["ID\tCOMMAND\tPORTS\tNAMES", "0123456789ab\t\"sleep…\"\t\tweb"].map(str::to_owned);
        assert_eq!(
            align(&lines),
            "ID             COMMAND    PORTS     NAMES\n0123456789ab   \"sleep…\"             web\n"
        );
    }
}
