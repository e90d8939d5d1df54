//! `--format`: Go templates, `json`, and `table …`, over rows of named texts.

mod functions;
mod missing;

use std::sync::Arc;

use base::failure::printable;
use gotmpl::{MissingKey, Template, TemplateError, Value};
use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::{output, table};

/// One row: a JSON object whose keys are what templates name.
pub(crate) type Row = serde_json::Map<String, Json>;

/// Prints rows.
///
/// `format` is what the user gave; without it the rows become the table `default` (a template that begins with
/// `table`). `headers` names the columns: pairs of a key and its heading.
pub(crate) fn rows(
    format: Option<&str>,
    default: &str,
    headers: &[(&str, &str)],
    rows: &[Row],
) -> Result<()> {
    output::text(&to_text(format, default, headers, rows)?)
}

/// The text that [`rows`] prints.
pub(crate) fn to_text(
    format: Option<&str>,
    default: &str,
    headers: &[(&str, &str)],
    rows: &[Row],
) -> Result<String> {
    let format = match format {
        None | Some("" | "table") => default,
        Some(format) => format,
    };
    if format == "json" {
        return Ok(rows.iter().map(json_line).collect());
    }
    let (template, is_table) = match format.strip_prefix("table") {
        Some(template) => (template.trim_start(), true),
        None => (format, false),
    };
    let text = template;
    let template = parse(text)?;
    let mut lines = Vec::with_capacity(rows.len() + 1);
    if is_table {
        let header: Row = headers.iter().map(|(key, text)| ((*key).to_owned(), Json::from(*text))).collect();
        // A column that no row has has no heading either.
        lines.push(execute(&parse_heading(text)?, header)?);
    }
    for row in rows {
        let row = if is_table { row.iter().map(for_a_terminal).collect() } else { row.clone() };
        lines.push(execute(&template, row)?);
    }
    if is_table {
        return Ok(table::align(&lines));
    }
    Ok(lines.iter().flat_map(|line| [line, "\n"]).collect())
}

/// What others wrote (images, labels, command lines) does nothing to a terminal, and makes no lines or columns of its own.
/// Templates and JSON are for programs, and say things as they are.
fn for_a_terminal((key, value): (&String, &Json)) -> (String, Json) {
    let value = match value {
        Json::String(text) => Json::from(printable(text.clone())),
        other => other.clone(),
    };
    (key.clone(), value)
}

/// Prints one value through a template, or as one line of JSON.
pub(crate) fn one(format: &str, value: &Json) -> Result<()> {
    if format == "json" {
        return output::line(&value.to_string());
    }
    output::line(&one_to_text(format, value)?)
}

fn one_to_text(format: &str, json: &Json) -> Result<String> {
    let value = missing::add_pointers(value_of(json), json);
    match parse(format)?.execute_to_string(&value) {
        Err(TemplateError::MissingKey { key }) if missing::is_fine(format, &key) => {
            let lenient = parse(format)?.missing_key(MissingKey::Invalid);
            lenient.execute_to_string(&value).map_err(|e| refusal(format, &e))
        }
        other => other.map_err(|e| refusal(format, &e)),
    }
}

/// What a template asks for and is not to be had, in Go's words.
fn refusal(format: &str, error: &TemplateError) -> Error {
    Error::Template(match error {
        TemplateError::MissingKey { key } => {
            let at = missing::chain_with(format, key).unwrap_or(key);
            format!("at <{at}>: map has no entry for key \"{key}\"")
        }
        other => match missing::nowhere(format, &other.to_string()) {
            Some((at, key)) => format!("at <{at}>: map has no entry for key \"{key}\""),
            None => other.to_string(),
        },
    })
}

fn json_line(row: &Row) -> String {
    let visible: Row = row
        .iter()
        .filter(|(key, _)| key.as_str() != LABEL_MAP)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    format!("{}\n", Json::Object(visible))
}

/// The key under which a row keeps its labels as a map, for `{{.Label "name"}}`.
pub(crate) const LABEL_MAP: &str = "\u{0}labels";

fn execute(template: &Template, mut row: Row) -> Result<String> {
    let labels = row.remove(LABEL_MAP);
    let value = value_of(&Json::Object(row));
    let Value::Map(map) = value else { return Ok(String::new()) };
    let mut map = (*map).clone();
    let label = move |args: &[Value]| -> gotmpl::Result<Value> {
        let key = args.first().and_then(Value::as_str).unwrap_or_default();
        // The header row has no labels: there the column's name is the label's.
        let text = labels.as_ref().map_or(key, |l| l.get(key).and_then(Json::as_str).unwrap_or_default());
        Ok(Value::String(text.into()))
    };
    map.insert("Label".into(), Value::Function(Arc::new(label)));
    template.execute_to_string(&Value::Map(Arc::new(map))).map_err(|e| refusal("", &e))
}

/// A template that refuses what is not there.
fn parse(format: &str) -> Result<Template> {
    build(format, functions::add).map(|template| template.missing_key(MissingKey::Error))
}

/// The same for the headings of columns, which no function changes.
fn parse_heading(format: &str) -> Result<Template> {
    build(format, functions::add_for_headings)
}

fn build(format: &str, functions: fn(Template) -> Template) -> Result<Template> {
    // Shells hand `\t` over as two characters; Docker means a tab by them.
    let text = format.replace("\\t", "\t").replace("\\n", "\n");
    // Go calls a method with arguments; here it is a function in a map, which wants `call`.
    let text = text.replace(".Label \"", "call .Label \"");
    functions(Template::new("format")).parse(&text).map_err(|e| Error::Format(e.to_string()))
}

fn value_of(json: &Json) -> Value {
    gotmpl::to_value(json).unwrap_or(Value::Nil)
}

fn json_of(value: &Value) -> gotmpl::Result<Json> {
    Ok(match value {
        Value::Bool(b) => Json::from(*b),
        Value::Int(n) => Json::from(*n),
        Value::Uint(n) => Json::from(*n),
        Value::Float(n) => Json::from(*n),
        Value::String(s) => Json::from(&**s),
        Value::List(_) if missing::is_nowhere(value) => Json::Null,
        Value::List(items) => {
            Json::Array(items.iter().map(json_of).collect::<std::result::Result<_, TemplateError>>()?)
        }
        Value::Map(map) => Json::Object(
            map.iter()
                .filter(|(_, v)| !v.is_function() && !missing::is_nowhere(v))
                .map(|(k, v)| Ok((k.to_string(), json_of(v)?)))
                .collect::<std::result::Result<_, TemplateError>>()?,
        ),
        _ => Json::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let Json::Object(mut row) =
            serde_json::json!({"ID": "abc", "Names": "web", "Ports": ["80/tcp", "53/udp"]})
        else {
            unreachable!()
        };
        row.insert(LABEL_MAP.to_owned(), serde_json::json!({"com.x/y": "z"}));
        row
    }

    fn text(format: &str) -> String {
        execute(&parse(format).unwrap(), row()).unwrap()
    }

    #[test]
    fn templates_are_gos() {
        assert_eq!(text(r"{{.ID}}\t{{.Names | upper}}"), "abc\tWEB");
        assert_eq!(text("{{range .Ports}}{{.}};{{end}}"), "80/tcp;53/udp;");
        assert_eq!(text("{{join .Ports \",\"}} {{json .Ports}}"), "80/tcp,53/udp [\"80/tcp\",\"53/udp\"]");
        assert_eq!(text("{{.Label \"com.x/y\"}}"), "z");
        assert_eq!(text("{{truncate .Names 2}}"), "we");
        assert!(text("{{json .}}").contains("\"ID\":\"abc\""));
        assert!(parse("{{.ID").is_err());
        assert_eq!(text("{{pad .ID 2 1}}|{{pad \"\" 2 2}}|"), "  abc ||");
        assert_eq!(text("{{title .Names}} {{slice .ID 1}} {{(split .ID \"b\")}}"), "Web bc [a c]");
        assert!(execute(&parse("{{.Foo}}").unwrap(), row()).is_err());
    }

    #[test]
    fn headings_stay_as_they_are() {
        let heading = |format: &str| execute(&parse_heading(format).unwrap(), row()).unwrap();
        assert_eq!(heading("{{lower .ID}} {{json .Names}} {{truncate .Names 1}}"), "abc web web");
        assert_eq!(heading("{{join .Names \",\"}} {{pad .ID 1 0}} {{.Foo}}"), "web  abc <no value>");
    }

    #[test]
    fn what_docker_does_not_know_is_refused() {
        let value = serde_json::json!({
            "State": {"Running": true},
            "Config": {"Labels": {"a": "b"}, "Healthcheck": null},
        });
        let text = |format: &str| one_to_text(format, &value);
        for (format, expected) in [
            ("{{.State.Running}}", "true"),
            ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
            ("{{with .State.Health}}{{.Status}}{{end}}", ""),
            ("{{json .State.Health}} {{json .State}}", "null {\"Running\":true}"),
            ("{{with .Config.Shell}}x{{end}}{{if .Config.OnBuild}}y{{end}}", ""),
            ("{{json .Config.StopTimeout}}", "null"),
            ("{{.Config.Labels.x}}{{index .Config.Labels \"a\"}}", "<no value>b"),
        ] {
            assert_eq!(text(format).unwrap(), expected, "{format}");
        }
        for format in
            ["{{.Foo}}", "{{.State.Foo}}", "{{.State.Health.Status}}", "{{.Config.Healthcheck.Test}}"]
        {
            assert_eq!(text(format).unwrap_err().exit_code(), 1, "{format}");
        }
        let error = text("{{.State.Health.Status}}").unwrap_err().to_string();
        assert!(error.ends_with("at <.State.Health.Status>: map has no entry for key \"Health\""), "{error}");
        let error = text("{{.State.Foo}}").unwrap_err().to_string();
        assert!(error.ends_with("at <.State.Foo>: map has no entry for key \"Foo\""), "{error}");
    }

    #[test]
    fn json_leaves_the_helper_out() {
        assert_eq!(
            json_line(&row()),
            "{\"ID\":\"abc\",\"Names\":\"web\",\"Ports\":[\"80/tcp\",\"53/udp\"]}\n"
        );
    }
}
