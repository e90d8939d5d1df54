//! `--format`: Go templates, `json`, and `table …`, over rows of named texts.

use std::sync::Arc;

use base::failure::printable;
use gotmpl::{Template, TemplateError, Value};
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
        None | Some("table") => default,
        Some(format) => format,
    };
    if format == "json" {
        return Ok(rows.iter().map(json_line).collect());
    }
    let (template, is_table) = match format.strip_prefix("table") {
        Some(template) => (template.trim_start(), true),
        None => (format, false),
    };
    let template = parse(template)?;
    let mut lines = Vec::with_capacity(rows.len() + 1);
    if is_table {
        let header: Row = headers.iter().map(|(key, text)| ((*key).to_owned(), Json::from(*text))).collect();
        lines.push(execute(&template, header)?);
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
    let template = parse(format)?;
    let text = template.execute_to_string(&value_of(value)).map_err(|e| Error::Format(e.to_string()))?;
    output::line(&text)
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
    template.execute_to_string(&Value::Map(Arc::new(map))).map_err(|e| Error::Format(e.to_string()))
}

fn parse(format: &str) -> Result<Template> {
    // Shells hand `\t` over as two characters; Docker means a tab by them.
    let text = format.replace("\\t", "\t").replace("\\n", "\n");
    // Go calls a method with arguments; here it is a function in a map, which wants `call`.
    let text = text.replace(".Label \"", "call .Label \"");
    let string = |args: &[Value], at: usize| args.get(at).map(ToString::to_string).unwrap_or_default();
    Template::new("format")
        .func("json", |args| {
            json_of(args.first().unwrap_or(&Value::Nil)).map(|j| Value::String(j.to_string().into()))
        })
        .func("upper", move |args| Ok(Value::String(string(args, 0).to_uppercase().into())))
        .func("lower", move |args| Ok(Value::String(string(args, 0).to_lowercase().into())))
        .func("title", move |args| {
            let text = string(args, 0);
            let mut letters = text.chars();
            let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
            Ok(Value::String((first + letters.as_str()).into()))
        })
        .func("split", move |args| {
            let (text, by) = (string(args, 0), string(args, 1));
            Ok(Value::List(text.split(&by).map(|part| Value::String(part.into())).collect::<Vec<_>>().into()))
        })
        .func("join", move |args| {
            let by = string(args, 1);
            let Some(Value::List(parts)) = args.first() else { return Ok(Value::String("".into())) };
            let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            Ok(Value::String(parts.join(&by).into()))
        })
        .func("truncate", move |args| {
            let most = args.get(1).and_then(Value::as_int).unwrap_or(0).max(0) as usize;
            Ok(Value::String(string(args, 0).chars().take(most).collect::<String>().into()))
        })
        .parse(&text)
        .map_err(|e| Error::Format(e.to_string()))
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
        Value::List(items) => {
            Json::Array(items.iter().map(json_of).collect::<std::result::Result<_, TemplateError>>()?)
        }
        Value::Map(map) => Json::Object(
            map.iter()
                .filter(|(_, v)| !v.is_function())
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
    }

    #[test]
    fn json_leaves_the_helper_out() {
        assert_eq!(
            json_line(&row()),
            "{\"ID\":\"abc\",\"Names\":\"web\",\"Ports\":[\"80/tcp\",\"53/udp\"]}\n"
        );
    }
}
