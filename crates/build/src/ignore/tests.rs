use proptest::prelude::*;

use super::*;

fn excludes(patterns: &[&str], path: &str) -> bool {
    Patterns::new(patterns.iter().copied()).unwrap().excludes(path)
}

/// Pattern, path, whether that is excluded.
const SINGLE: &[(&str, &str, bool)] = &[
    ("**", "file", true),
    ("**/", "file", true),
    ("**", "dir/file", true),
    ("**/**", "dir/file", true),
    ("***", "dir/file", true),
    ("dir/**", "dir/file", true),
    ("dir/**", "dir/dir2/file", true),
    ("dir/**", "dir", false),
    ("dir/**/", "dir/file", true),
    ("dir**", "directory", true),
    ("**/dir", "dir", true),
    ("**/dir", "dir/file", true),
    ("**/dir2/*", "dir/dir2/file", true),
    ("**/dir2/**", "dir/dir2/dir3/file", true),
    ("**/dir2/**", "dir/dir2", false),
    ("**file", "file", true),
    ("**file", "dir/file", true),
    ("**file", "dir/profile", true),
    ("**/file", "dir/profile", false),
    ("**file*", "profile", false),
    ("**/file*", "dir/dir/file.txt", true),
    ("**/file*txt", "dir/dir/file.txt", true),
    ("**/file*.txt*", "dir/dir/file.txt", true),
    ("**/**/*.txt", "dir/dir/file.txt", true),
    ("**/**/*.txt2", "dir/dir/file.txt", false),
    ("**/*.txt", "file.txt", true),
    ("a**/*.txt", "a/file.txt", true),
    ("a**/*.txt", "a/dir/dir/file.txt", true),
    ("a/*.txt", "a/dir/file.txt", false),
    ("a/*.txt", "a/file.txt", true),
    ("a/*.txt**", "a/file.txt", true),
    ("a**b", "ab", true),
    ("a**b", "ax/b", true),
    ("a**b", "axb", false),
    ("a[b-d]e", "ae", false),
    ("a[b-d]e", "ace", true),
    ("a[^b-d]e", "aze", true),
    ("a[!b]e", "a!e", true),
    ("a[.+]e", "a+e", true),
    ("a]e", "a]e", true),
    ("*]", "a]", true),
    (".*", ".foo", true),
    (".*", "foo", false),
    ("abc.def", "abcZdef", false),
    ("abc?def", "abcZdef", true),
    ("abc?def", "abc/def", false),
    ("**/foo/bar", "dir/dir2/foo/bar", true),
    ("**/.foo", "bar.foo", false),
    ("a(b)c/def", "a(b)c/def", true),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
    ("dist/*.whl", "dist/p-2.4.0rc3.dev36+g08-py3.whl", true),
    ("a\\\\", "a\\", true),
    ("a\\*b", "a*b", true),
    ("a\\*b", "axb", false),
    ("a*b?c*x", "abxbbxdbxebxczzx", true),
    ("a*b?c*x", "abxbbxdbxebxczzy", false),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
    ("a?b", "a☺b", true),
    ("a???b", "a☺b", false),
    ("[a-ζ]*", "α", true),
    ("*[a-ζ]", "A", false),
    ("[\\]a]", "]", true),
    ("[x\\-]", "-", true),
    ("[\\-x]", "a", false),
    ("docs/", "docs/README.md", true),
    ("./docs", "docs", true),
    ("x/../docs", "docs", true),
    ("../docs", "docs", false),
    ("docs//a", "docs/a", true),
    ("/docs", "docs", false),
    (".", "docs", false),
    ("*", "docs/x", true),
    ("*/temp*", "a/temporary", true),
    ("*/temp*", "a/b/temporary", false),
    ("*/*/temp*", "a/b/temporary.txt", true),
    ("temp?", "tempa", true),
    ("temp?", "temp", false),
];

#[test]
fn one_pattern() {
    for &(pattern, path, expected) in SINGLE {
        assert_eq!(excludes(&[pattern], path), expected, "{pattern} on {path}");
    }
}

#[test]
fn the_last_match_decides() {
    for (patterns, path, expected) in [
        (&["!a.go", "*.go"][..], "a.go", true),
        (&["*.go", "!a.go"], "a.go", false),
        (&["docs", "!docs/README.md"], "docs/README.md", false),
        (&["docs", "!docs/README.md"], "docs/other", true),
        (&["docs/*", "!docs/README.md"], "docs/README.md", false),
        (&["**", "!util/docker/web"], "util/docker/web/foo", false),
        (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
        (&["**", "!dist/*.whl"], "dist/a+b.whl", false),
        (&["*", "!src", "src/*.o"], "src/a.o", true),
        (&["*", "!src", "src/*.o"], "src/a.c", false),
        // An exception that could not change what was said of `a` says nothing of what is in it: so Docker's walk has it.
        (&["a/b", "!a"], "a/b", true),
    ] {
        assert_eq!(excludes(patterns, path), expected, "{patterns:?} on {path}");
    }
}

#[test]
fn a_file_of_patterns() {
    let text =
        "\u{feff}# comment\r\n\r\n  test1  \n/test2\n//a//file/../here/\nlast\n #name\n! /kept\n\\#x\n/\n";
    let patterns = Patterns::parse(text).unwrap();
    let written: Vec<String> = patterns
        .patterns
        .iter()
        .map(|pattern| format!("{}{:?}", if pattern.exception { "!" } else { "" }, pattern))
        .collect();
    assert_eq!(written.len(), 8, "{written:#?}");
    for path in ["test1", "test2", "a/here", "last/x", "#name", "#x"] {
        assert!(patterns.excludes(path), "{path}");
    }
    for path in ["kept", "a/file", "a", ".", "", "comment"] {
        assert!(!patterns.excludes(path), "{path}");
    }
}

#[test]
fn malformed_patterns_are_refused_with_their_line() {
    for (text, line) in [
        ("a\n!\n", 2),
        ("! ", 1),
        ("[", 1),
        ("\n\nx[^", 3),
        ("[]a]", 1),
        ("[-]", 1),
        ("[x-]", 1),
        ("[a-b-c]", 1),
        ("\\", 1),
        ("a[b", 1),
    ] {
        let error = Patterns::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text:?}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn where_an_exception_may_bring_something_back() {
    let below =
        |patterns: &str, directory: &str| Patterns::parse(patterns).unwrap().may_include_below(directory);
    assert!(!below("node_modules", "node_modules"));
    assert!(!below("*\n!src", "node_modules"));
    assert!(!below("*\n!src", "src"), "it is itself brought back: what is in it goes by its verdict");
    assert!(below("*\n!src/a/b", "src"));
    assert!(below("*\n!src/a/b", "src/a"));
    assert!(!below("*\n!src/a/b", "src/b"));
    assert!(below("*\n!*/a", "anything"));
    assert!(!below("*\n!*.md", "anything"));
    assert!(below("*\n!**/a", "x/y/z"));
    assert!(below("*\n!x[/]a", "x"));
    assert!(!below("*\n!l?b/a", "bin"));
}

#[test]
fn a_walk_says_what_a_question_does() {
    let patterns = Patterns::parse("*\n!src\n**/*.o\n!src/keep/*.o\n").unwrap();
    let mut above: Option<Verdict> = None;
    for path in ["src", "src/keep", "src/keep/x.o"] {
        let verdict = patterns.judge(path, above.as_ref());
        assert_eq!(verdict.is_excluded(), patterns.excludes(path), "{path}");
        above = Some(verdict);
    }
}

#[test]
fn many_stars_take_no_longer() {
    let pattern = "*a".repeat(300);
    assert!(!excludes(&[&pattern], &"a".repeat(4000).replace("aaaa", "aaab")));
    assert!(excludes(&[&pattern], &"a".repeat(4000)));
}

proptest! {
    #[test]
    fn nothing_panics(text in "[a/*?!\\[\\]^\\\\\\-#. \n]{0,40}", path in "[a/.*]{0,20}") {
        if let Ok(patterns) = Patterns::parse(&text) {
            patterns.may_include_below(&path);
            patterns.excludes(&path);
        }
    }

    #[test]
    fn a_plain_name_excludes_itself_and_what_is_in_it(name in "[a-z][a-z0-9.]{0,8}", inner in "[a-z]{1,5}") {
        let patterns = Patterns::parse(&name).unwrap();
        let (inside, beside) = (format!("{name}/{inner}"), format!("{name}{inner}"));
        prop_assert!(patterns.excludes(&name) && patterns.excludes(&inside));
        prop_assert!(!patterns.excludes(&beside));
    }

    /// Where nothing below may be brought back, nothing is.
    #[test]
    fn nothing_is_missed_below(text in "([!]?[ab*?]{1,2}(/[ab*?]{1,2}){0,2}\n){1,4}", dir in "[ab]{1,2}(/[ab]{1,2})?", inner in "[ab]{1,2}(/[ab]{1,2})?") {
        let patterns = Patterns::parse(&text).unwrap();
        if patterns.excludes(&dir) && !patterns.may_include_below(&dir) {
            let inside = format!("{dir}/{inner}");
            prop_assert!(patterns.excludes(&inside));
        }
    }
}
