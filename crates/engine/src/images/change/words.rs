//! Words as a Dockerfile has them: separated by spaces, with quotes, backslashes and variables.

/// What a variable stands for.
type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// Splits a text into words, without their quotes, with variables replaced.
pub(super) fn words(text: &str, lookup: Lookup<'_>) -> Result<Vec<String>, String> {
    lex(text, lookup, true)
}

/// The text as one word.
pub(super) fn expanded(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    Ok(lex(text, lookup, false)?.pop().unwrap_or_default())
}

fn lex(text: &str, lookup: Lookup<'_>, split: bool) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    let mut quote: Option<char> = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() && split => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (open, '\\') => {
                let next = chars.next().ok_or("it ends in a backslash")?;
                let word = word.get_or_insert_default();
                // Between double quotes it hides only what would mean something there.
                if open.is_some() && !matches!(next, '"' | '$' | '\\') {
                    word.push('\\');
                }
                word.push(next);
            }
            (_, '$') => {
                let value = variable(&mut chars, lookup)?;
                word.get_or_insert_default().push_str(&value);
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// What follows a `$`: `NAME`, `{NAME}`, `{NAME:-default}`, `{NAME:+instead}`.
fn variable(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    lookup: Lookup<'_>,
) -> Result<String, String> {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let mut name = String::new();
    if chars.peek() != Some(&'{') {
        while let Some(c) = chars.next_if(is_name) {
            name.push(c);
        }
        return Ok(if name.is_empty() { "$".to_owned() } else { lookup(&name).unwrap_or_default() });
    }
    chars.next();
    while let Some(c) = chars.next_if(is_name) {
        name.push(c);
    }
    let rest: String = chars.by_ref().take_while(|c| *c != '}').collect();
    let value = lookup(&name).filter(|value| !value.is_empty());
    match rest.split_at_checked(2) {
        _ if name.is_empty() => Err("a variable has no name".to_owned()),
        None if rest.is_empty() => Ok(value.unwrap_or_default()),
        Some((":-", default)) => Ok(value.unwrap_or_else(|| default.to_owned())),
        Some((":+", instead)) => Ok(value.map(|_| instead.to_owned()).unwrap_or_default()),
        _ => Err(format!("`${{{name}{rest}}}` is not a variable")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexed(text: &str) -> Result<Vec<String>, String> {
        words(text, &|name| (name == "A").then(|| "x y".to_owned()))
    }

    #[test]
    fn quotes_backslashes_and_variables() {
        for (text, expected) in [
            ("a  b", &["a", "b"][..]),
            ("a=\"b c\" d='e \"f'", &["a=b c", "d=e \"f"]),
            (r#"a\ b "c\"d\e""#, &["a b", "c\"d\\e"]),
            ("$A-${A} '$A' \\$A", &["x y-x y", "$A", "$A"]),
            ("${B:-c}${A:+d}${B:+e} $", &["cd", "$"]),
            ("''", &[""]),
            ("", &[]),
        ] {
            assert_eq!(lexed(text).unwrap(), expected, "{text}");
        }
        for bad in ["'a", "a\\", "${}", "${A?x}", "\"a\\\""] {
            assert!(lexed(bad).is_err(), "{bad}");
        }
    }
}
