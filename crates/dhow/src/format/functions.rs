//! The functions that Docker's templates have besides Go's.

use gotmpl::{Template, Value};

use super::json_of;

fn text(args: &[Value], at: usize) -> String {
    args.get(at).map(ToString::to_string).unwrap_or_default()
}

fn number(args: &[Value], at: usize) -> usize {
    let most = i64::from(u16::MAX);
    // Wider than that, no column is.
    usize::try_from(args.get(at).and_then(Value::as_int).unwrap_or(0).clamp(0, most)).unwrap_or(0)
}

fn string(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().into())
}

/// `  text  `; nothing stays nothing.
fn pad(args: &[Value]) -> Value {
    let text = text(args, 0);
    if text.is_empty() {
        return string(text);
    }
    let (before, after) = (number(args, 1), number(args, 2));
    string(format!("{:before$}{text}{:after$}", "", ""))
}

/// The first letter of each word is made a capital.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if before.is_alphanumeric() || matches!(before, '_' | '\'') {
            titled.push(c);
        } else {
            titled.extend(c.to_uppercase());
        }
        before = c;
    }
    titled
}

/// Adds them.
pub(super) fn add(template: Template) -> Template {
    template
        .func("json", |args| {
            json_of(args.first().unwrap_or(&Value::Nil)).map(|json| string(json.to_string()))
        })
        .func("upper", |args| Ok(string(text(args, 0).to_uppercase())))
        .func("lower", |args| Ok(string(text(args, 0).to_lowercase())))
        .func("title", |args| Ok(string(title(&text(args, 0)))))
        .func("split", |args| {
            let (text, by) = (text(args, 0), text(args, 1));
            Ok(Value::List(text.split(&by).map(string).collect::<Vec<_>>().into()))
        })
        .func("join", |args| {
            let by = text(args, 1);
            let Some(Value::List(parts)) = args.first() else { return Ok(string("")) };
            let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            Ok(string(parts.join(&by)))
        })
        .func("truncate", |args| Ok(string(text(args, 0).chars().take(number(args, 1)).collect::<String>())))
        .func("pad", |args| Ok(pad(args)))
}

/// Those for headings: all but `pad`, which keeps the columns in line, leave the text as it is.
pub(super) fn add_for_headings(template: Template) -> Template {
    ["json", "upper", "lower", "title", "split", "join", "truncate"]
        .into_iter()
        .fold(template, |template, name| template.func(name, |args| Ok(string(text(args, 0)))))
        .func("pad", |args| Ok(pad(args)))
}
