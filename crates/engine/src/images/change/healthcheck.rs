//! `HEALTHCHECK [OPTIONS] CMD …`, or `NONE`.

use serde_json::{Map, Value, json};

/// The object that an image's configuration has for it; times in nanoseconds.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let bad = || "HEALTHCHECK is followed by NONE, or options and CMD".to_owned();
    let mut check = Map::new();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (word, after) = option.split_once(char::is_whitespace).ok_or_else(bad)?;
        let (name, value) = word.split_once('=').ok_or_else(|| format!("--{word} has no value"))?;
        let key = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => "Retries",
            _ => return Err(format!("--{name} is no option of HEALTHCHECK")),
        };
        let number = if key == "Retries" { value.parse().ok() } else { nanoseconds(value) };
        let number: u64 = number.ok_or_else(|| format!("`{value}` is no value for --{name}"))?;
        check.insert(key.to_owned(), Value::from(number));
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    let test = match (&*kind.to_ascii_uppercase(), command) {
        ("NONE", "") if check.is_empty() => json!(["NONE"]),
        ("CMD", "") => return Err("HEALTHCHECK CMD needs a command".to_owned()),
        ("CMD", command) => match super::json_words(command) {
            Some(words) => json!([&["CMD".to_owned()], &words[..]].concat()),
            None => json!(["CMD-SHELL", command]),
        },
        _ => return Err(bad()),
    };
    check.insert("Test".to_owned(), test);
    Ok(Value::Object(check))
}

/// Go's notation: `1m30s`, `500ms`, `1.5h`.
fn nanoseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit =
            rest[end..].find(|c: char| c.is_ascii_digit()).map_or(&rest[end..], |n| &rest[end..end + n]);
        let scale = match unit {
            "ns" => 1.0,
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * scale;
        rest = &rest[end + unit.len()..];
    }
    (!text.is_empty() && total < 9e18).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_dockers() {
        assert_eq!(parse("NONE").unwrap(), json!({"Test": ["NONE"]}));
        assert_eq!(
            parse("--timeout=500ms --start-period=1.5h CMD [\"a\", \"b\"]").unwrap(),
            json!({"Test": ["CMD", "a", "b"], "Timeout": 500_000_000_u64, "StartPeriod": 5_400_000_000_000_u64})
        );
        for bad in
            ["", "CMD", "NONE x", "--retries=x CMD a", "--timeout=5 CMD a", "--what=1s CMD a", "--retries=1"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
