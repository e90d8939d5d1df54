//! Command lines as Docker's documentation has them, with their results: `dhow` in the place of `docker`.
//!
//! Each file of `tests/docker` is a conversation with an instance of its own:
//!
//! ```text
//! $ docker run --rm busybox echo hello     executed by sh, where `docker` is dhow; variables live through the file
//! hello                                    the standard output, line by line; `*` stands for anything
//! ! 1                                      the exit code, where it is not 0
//! 2> *no such container*                   a line of standard error
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write;

use harness::{Dhow, Invocation};

/// One command and what is expected of it.
#[derive(Default)]
struct Step<'t> {
    line: usize,
    command: String,
    output: Vec<&'t str>,
    errors: Vec<&'t str>,
    code: i32,
}

fn parse(text: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { line: number + 1, command: command.to_owned(), ..Step::default() });
        } else if let Some(step) = steps.last_mut() {
            if let Some(more) = line.strip_prefix("> ") {
                write!(step.command, "\n{more}").unwrap();
            } else if let Some(code) = line.strip_prefix("! ") {
                step.code = code.parse().unwrap();
            } else if let Some(error) = line.strip_prefix("2> ") {
                step.errors.push(error);
            } else if !line.is_empty() && !line.starts_with('#') {
                step.output.push(line);
            }
        }
    }
    steps
}

/// Whether `text` is as `pattern` says, in which `*` stands for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

const MARK: &str = "\u{1}--";

/// Runs a whole file in one shell and compares.
#[track_caller]
fn converse(name: &str, text: &str) -> usize {
    let dhow = Dhow::new(&format!("script-{name}"));
    let steps = parse(text);
    let program = harness::bin_dir().join("dhow");
    let mut script = format!("docker() {{ '{}' \"$@\"; }}\ncd \"$HOME\"\n", program.display());
    for step in &steps {
        // In this shell, so that variables stay; both streams end with a mark.
        let Step { command, .. } = step;
        writeln!(
            script,
            "{{ {command}\n}} </dev/null; code=$?\necho; echo '{MARK}'$code; echo >&2; echo '{MARK}' >&2"
        )
        .unwrap();
    }
    let output = dhow.wrap(Invocation::new("sh")).arg("-c").arg(&script).limit(240).output();
    let split = |text: &str| -> Vec<Vec<String>> {
        let mut all = vec![Vec::new()];
        for line in text.lines() {
            if let Some(code) = line.strip_prefix(MARK) {
                all.last_mut().unwrap().push(code.to_owned());
                all.push(Vec::new());
            } else {
                all.last_mut().unwrap().push(line.to_owned());
            }
        }
        all
    };
    let (said, complained) = (split(&output.stdout), split(&output.stderr));
    let mut wrong = String::new();
    for (n, step) in steps.iter().enumerate() {
        let mut said = said.get(n).cloned().unwrap_or_default();
        let code = said.pop().and_then(|code| code.parse::<i32>().ok());
        said.retain(|line| !line.is_empty());
        let mut complained = complained.get(n).cloned().unwrap_or_default();
        complained.pop();
        let good = code == Some(step.code)
            && said.len() == step.output.len()
            && said.iter().zip(&step.output).all(|(line, pattern)| is_like(line, pattern))
            && step.errors.iter().all(|pattern| complained.iter().any(|line| is_like(line, pattern)));
        if !good {
            writeln!(
                wrong,
                "{name}.txt:{}: {}\n  exit code {code:?}, wanted {}\n  said    {said:?}\n  wanted  {:?}\n  errors  {complained:?}\n  wanted  {:?}",
                step.line, step.command, step.code, step.output, step.errors
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    steps.len()
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            converse(stringify!($name), include_str!(concat!("../docker/", stringify!($name), ".txt")));
        })*

        #[test]
        fn there_are_enough_of_them() {
            let all = [$(include_str!(concat!("../docker/", stringify!($name), ".txt"))),*];
            let lines: usize = all.iter().map(|text| parse(text).len()).sum();
            assert!(lines >= 150, "{lines}");
        }
    };
}

scripts!(run, life, listing, images, output, files, copies);

#[test]
fn patterns_are_what_they_say() {
    for (text, pattern, expected) in [
        ("abc", "abc", true),
        ("abc", "a*c", true),
        ("abc", "*", true),
        ("", "*", true),
        ("abc", "ab", false),
        ("abc", "*b", false),
        ("aXbYc", "a*b*c", true),
        ("ab", "ab*b", false),
    ] {
        assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
    }
}
