//! How a report looks on a terminal: aligned, within 80 columns, in colour only where that is wanted.

use crate::report::{Body, Reach, Report, Value};

/// How wide a line may be.
const WIDTH: usize = 80;
/// Where values begin.
const INDENT: usize = 20;

/// Colours, or none.
#[derive(Clone, Copy)]
pub(crate) struct Style(pub(crate) bool);

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn title(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    fn label(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }
}

impl Report {
    /// The report as text.
    pub(crate) fn text(&self, style: Style) -> String {
        let mut out = String::new();
        for section in &self.0 {
            out.push('\n');
            out.push_str(&style.title(section.title));
            out.push('\n');
            match &section.body {
                Body::Facts(facts) => {
                    for fact in facts {
                        let label = format!("  {:<width$}", fit(&fact.label, INDENT - 3), width = INDENT - 2);
                        out.push_str(&style.label(&label));
                        value(&fact.value, style, &mut out);
                    }
                }
                Body::Table { columns, rows } => table(columns, rows, style, &mut out),
            }
        }
        out
    }
}

fn value(value: &Value, style: Style, out: &mut String) {
    match value {
        Value::Text(text) => wrap(&text.split(' ').collect::<Vec<_>>(), " ", out),
        Value::Words(words) if words.is_empty() => out.push_str("none\n"),
        Value::Words(words) => wrap(&words.iter().map(String::as_str).collect::<Vec<_>>(), "  ", out),
        Value::Reach(reach) => {
            let text = match reach {
                Reach::Refused(how) => style.good(&format!("refused ({how})")),
                Reach::Absent(how) => style.good(&format!("not here ({how})")),
                Reach::Reachable => style.bad("REACHABLE"),
            };
            out.push_str(&text);
            out.push('\n');
        }
    }
}

/// Writes words with `between`, in lines that begin at `INDENT`. The first line has begun already.
fn wrap(words: &[&str], between: &str, out: &mut String) {
    let mut column = INDENT;
    for (i, word) in words.iter().enumerate() {
        let length = word.chars().count();
        if i > 0 && column + between.len() + length > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(INDENT));
            column = INDENT;
        } else if i > 0 {
            out.push_str(between);
            column += between.len();
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}

fn table(columns: &[&str], rows: &[Vec<String>], style: Style, out: &mut String) {
    if rows.is_empty() {
        out.push_str("  none\n");
        return;
    }
    let length = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = columns.iter().map(|column| length(column)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(length(cell));
        }
    }
    // What does not fit is taken from the widest column.
    while widths.iter().sum::<usize>() + 2 * widths.len() > WIDTH {
        let Some(widest) = widths.iter_mut().max() else { break };
        *widest -= 1;
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> =
            cells.zip(&widths).map(|(cell, &width)| format!("{:<width$}", fit(cell, width))).collect();
        format!("  {}", cells.join("  ")).trim_end().to_owned() + "\n"
    };
    out.push_str(&style.label(line(&mut columns.iter().copied()).trim_end()));
    out.push('\n');
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
}

/// The text in at most `width` columns: its middle is left out, as the end of a path says more.
fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let head = width.saturating_sub(1) / 3;
    let tail = width.saturating_sub(1) - head;
    text.chars().take(head).chain("…".chars()).chain(text.chars().skip(length - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Section;

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let words: Vec<String> = (0..60).map(|i| format!("capability_{i}")).collect();
        let report = Report(vec![
            Section::facts("Capabilities", vec![("a very long label that goes on", Value::Words(words))]),
            Section {
                title: "Mounts",
                body: Body::Table {
                    columns: &["type", "at", "mode"],
                    rows: vec![
                        vec!["overlay".into(), "/deep".repeat(40), "rw".into()],
                        vec!["proc".into(), "/proc".into(), "rw".into()],
                    ],
                },
            },
        ]);
        let text = report.text(Style(false));
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(text.contains("…") && !text.contains('\x1b'));
        assert!(report.text(Style(true)).contains("\x1b[1;36m"));
    }
}
