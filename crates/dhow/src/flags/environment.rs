//! `-e` and `--env-file`: `NAME=value`, or `NAME` alone for the value that it has here.

use crate::error::{Error, Result};
use crate::flags::file;

/// Puts files and single settings together, the files first: a later setting of a name wins.
pub(crate) fn resolve(files: &[String], settings: &[String]) -> Result<Vec<String>> {
    let here = |name: &str| std::env::var(name).ok();
    let mut all = Vec::new();
    for path in files {
        let content = file::read(path)?;
        parse_file(path, &content, &here, &mut all)?;
    }
    for setting in settings {
        check(setting, "--env").map_err(Error::flag)?;
        all.extend(with_value(setting, &here));
    }
    Ok(all)
}

fn check(setting: &str, place: &str) -> std::result::Result<(), String> {
    let name = setting.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return Err(format!(
            "invalid value `{setting}` for {place}: want NAME=value, or the NAME of a variable of yours"
        ));
    }
    Ok(())
}

/// A name without a value takes the one it has here; if it has none, it is left out.
fn with_value(setting: &str, here: &impl Fn(&str) -> Option<String>) -> Option<String> {
    if setting.contains('=') {
        return Some(setting.to_owned());
    }
    here(setting).map(|value| format!("{setting}={value}"))
}

/// Docker's env files: a setting a line, taken literally (no quotes, no expansion); `#` begins a comment line.
fn parse_file(
    path: &str,
    content: &[u8],
    here: &impl Fn(&str) -> Option<String>,
    all: &mut Vec<String>,
) -> Result<()> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let text =
        std::str::from_utf8(content).map_err(|_| Error::flag(format!("the env file {path} is not UTF-8")))?;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("line {} of {path}", number + 1);
        check(line, &place).map_err(Error::flag)?;
        let name = line.split('=').next().unwrap_or_default();
        if name.contains(char::is_whitespace) {
            return Err(Error::flag(format!(
                "invalid value `{line}` for {place}: the name `{name}` contains white space"
            )));
        }
        all.extend(with_value(line, here));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &[u8]) -> Result<Vec<String>> {
        let mut all = Vec::new();
        let here = |name: &str| (name == "HERE").then(|| "value".to_owned());
        parse_file("f", text, &here, &mut all)?;
        Ok(all)
    }

    #[test]
    fn env_files_are_dockers() {
        let text = b"\xef\xbb\xbf# comment\n\n  A=1\r\nB=\"quoted\" # kept\nHERE\nNOT_HERE\nEMPTY=\nX=a=b\n";
        let expected = ["A=1", "B=\"quoted\" # kept", "HERE=value", "EMPTY=", "X=a=b"];
        assert_eq!(file(text).unwrap(), expected);
    }

    #[test]
    fn errors_name_the_line() {
        assert!(file(b"A=1\n=x\n").unwrap_err().to_string().contains("line 2 of f"));
        assert!(file(b"A B=1").unwrap_err().to_string().contains("white space"));
        assert!(file(b"\xff=1").is_err());
        assert!(resolve(&[], &["=x".to_owned()]).is_err());
        assert!(
            resolve(&["/nope/env".to_owned()], &[])
                .unwrap_err()
                .to_string()
                .starts_with("cannot read /nope/env: ")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = file(&bytes);
        }
    }
}
