//! What is reported, before anybody decides how it looks: sections of facts and tables.

use std::fmt::Write as _;

/// A report: sections, in order.
pub(crate) struct Report(pub(crate) Vec<Section>);

/// A part of the report.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) body: Body,
}

/// What a section has.
pub(crate) enum Body {
    Facts(Vec<Fact>),
    Table { columns: &'static [&'static str], rows: Vec<Vec<String>> },
}

/// One fact, with a label.
pub(crate) struct Fact {
    pub(crate) label: String,
    pub(crate) value: Value,
}

/// What a fact says.
pub(crate) enum Value {
    Text(String),
    /// Words that can be wrapped between.
    Words(Vec<String>),
    /// Something of the host's.
    Reach(Reach),
}

/// What came of trying to reach something of the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It was refused, or is hidden; the word says how.
    Refused(String),
    /// It is not there at all.
    Absent(String),
    /// Nothing stands in the way.
    Reachable,
}

impl Section {
    pub(crate) fn facts(title: &'static str, facts: Vec<(&str, Value)>) -> Self {
        let facts = facts.into_iter().map(|(label, value)| Fact { label: label.to_owned(), value });
        Self { title, body: Body::Facts(facts.collect()) }
    }
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

impl Report {
    /// The report as one JSON object: a member per section.
    pub(crate) fn json(&self) -> String {
        let sections = self.0.iter().map(|section| {
            let body = match &section.body {
                Body::Facts(facts) => {
                    object(facts.iter().map(|fact| (key(&fact.label), fact.value.json())), "\n    ")
                }
                Body::Table { columns, rows } => {
                    let row = |cells: &Vec<String>| {
                        object(
                            columns.iter().zip(cells).map(|(column, cell)| (key(column), string(cell))),
                            " ",
                        )
                    };
                    let rows: Vec<String> =
                        rows.iter().map(|cells| format!("\n    {}", row(cells))).collect();
                    format!("[{}{}]", rows.join(","), if rows.is_empty() { "" } else { "\n  " })
                }
            };
            (key(section.title), body)
        });
        object(sections, "\n  ") + "\n"
    }
}

impl Value {
    fn json(&self) -> String {
        match self {
            Self::Text(text) => string(text),
            Self::Words(words) => {
                format!("[{}]", words.iter().map(|word| string(word)).collect::<Vec<_>>().join(", "))
            }
            Self::Reach(Reach::Refused(how)) => string(&format!("refused ({how})")),
            Self::Reach(Reach::Absent(how)) => string(&format!("absent ({how})")),
            Self::Reach(Reach::Reachable) => string("reachable"),
        }
    }
}

fn object(members: impl Iterator<Item = (String, String)>, between: &str) -> String {
    let members: Vec<String> =
        members.map(|(key, value)| format!("{between}{}: {value}", string(&key))).collect();
    // The closing brace stands where the line began that opened it.
    let end = between.strip_suffix("  ").unwrap_or(between);
    if members.is_empty() { "{}".to_owned() } else { format!("{{{}{end}}}", members.join(",")) }
}

/// A label as a JSON key: `user map` → `user_map`.
fn key(label: &str) -> String {
    label.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_").trim_matches('_').to_owned()
}

/// A JSON string.
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_and_nested() {
        let report = Report(vec![
            Section::facts(
                "Your process",
                vec![
                    ("user map", Value::text("a \"b\" \\ \n")),
                    ("words", Value::Words(vec!["x".into(), "y".into()])),
                    ("disk", Value::Reach(Reach::Refused("EPERM".into()))),
                ],
            ),
            Section { title: "Mounts", body: Body::Table { columns: &["at"], rows: vec![vec!["/".into()]] } },
        ]);
        let want = "{\n  \"your_process\": {\n    \"user_map\": \"a \\\"b\\\" \\\\ \\u000a\",\n    \
                    \"words\": [\"x\", \"y\"],\n    \"disk\": \"refused (EPERM)\"\n  },\n  \
                    \"mounts\": [\n    { \"at\": \"/\" }\n  ]\n}\n";
        assert_eq!(report.json(), want);
    }
}
