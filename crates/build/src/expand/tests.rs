use proptest::prelude::*;

use super::*;

fn read(text: &str, style: Style) -> Result<Expanded, Malformed> {
    expand(text, style, &|name| match name {
        "A" => Some("abc".to_owned()),
        "E" => Some(String::new()),
        "S" => Some("x  y".to_owned()),
        _ => None,
    })
}

fn styles() -> impl Strategy<Value = Style> {
    (any::<[bool; 5]>()).prop_map(|[tick, keep_quotes, keep_escapes, no_quotes, keep_unset]| Style {
        escape: if tick { '`' } else { '\\' },
        keep_quotes,
        keep_escapes,
        no_quotes,
        keep_unset,
    })
}

#[test]
fn words_are_cut_where_nothing_is_quoted() {
    for (text, words) in [
        ("a b", &["a", "b"][..]),
        ("  a\tb  ", &["a", "b"]),
        ("\"a b\" c", &["a b", "c"]),
        ("a\\ b c", &["a b", "c"]),
        ("$S", &["x", "y"]),
        ("\"$S\"", &["x  y"]),
        ("pre$S", &["prex", "y"]),
        ("$E", &[]),
        ("\"\"", &[]),
    ] {
        assert_eq!(read(text, Style::new('\\')).unwrap().words, words, "{text}");
    }
}

#[test]
fn what_was_found_and_what_was_not() {
    let expanded = read("$A $B ${C:-x} ${D+x} ${F#x} $A", Style::new('\\')).unwrap();
    assert_eq!(expanded.used.into_iter().collect::<Vec<_>>(), ["A"]);
    assert_eq!(expanded.undefined.into_iter().collect::<Vec<_>>(), ["B", "C", "D", "F"]);
}

#[test]
fn what_grows_has_an_end() {
    let long = |_: &str| Some("x".repeat(600_000));
    for text in ["$A$B", "\"$A$B\"", "${A//x/yy}", "${U:+$A$A}", "${A///yy}"] {
        let malformed = expand(text, Style::new('\\'), &long).unwrap_err();
        assert!(malformed.message.contains("longer than 1 MiB"), "{text}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in "[$A-C{}:/#%?*+\\-\"'`\\\\ é]{0,30}", style in styles()) {
        match read(&text, style) {
            Ok(expanded) => prop_assert!(expanded.words.iter().all(|word| !word.is_empty())),
            Err(malformed) => {
                prop_assert!(malformed.at <= text.len() && text.is_char_boundary(malformed.at));
                prop_assert!(!malformed.message.is_empty());
            }
        }
    }

    #[test]
    fn plain_text_is_itself(text in "[a-z/:=.,{}#%? é-]{0,30}", style in styles()) {
        let expanded = read(&text, style).unwrap();
        prop_assert_eq!(&expanded.text, &text);
        let words: Vec<&str> = text.split_whitespace().collect();
        prop_assert_eq!(expanded.words, words);
    }

    #[test]
    fn what_is_in_single_quotes_is_itself(text in "[^']{0,30}") {
        prop_assert_eq!(read(&format!("'{text}'"), Style::new('\\')).unwrap().text, text);
    }

    #[test]
    fn what_is_escaped_is_itself(text in "[ -~]{0,20}") {
        let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
        prop_assert_eq!(read(&escaped, Style::new('\\')).unwrap().text, text);
    }

    #[test]
    fn a_default_is_what_there_is_else(value in "[a-z]{0,8}", other in "[a-z]{1,8}") {
        let get = |name: &str| (name == "V").then(|| value.clone());
        let text = expand(&format!("${{V:-{other}}}${{N:-{other}}}"), Style::new('\\'), &get).unwrap().text;
        let first = if value.is_empty() { &other } else { &value };
        prop_assert_eq!(text, format!("{first}{other}"));
    }

    /// The longest and the shortest match, found by trying all.
    #[test]
    fn patterns_match_what_they_should(value in "[ab*]{0,6}", pattern in "[ab*?]{0,4}") {
        fn matches(pattern: &[char], value: &[char]) -> bool {
            match pattern {
                [] => value.is_empty(),
                ['*', rest @ ..] => (0..=value.len()).any(|n| matches(rest, &value[n..])),
                ['?', rest @ ..] => !value.is_empty() && matches(rest, &value[1..]),
                [c, rest @ ..] => value.first() == Some(c) && matches(rest, &value[1..]),
            }
        }
        let (letters, parts): (Vec<char>, Vec<char>) = (value.chars().collect(), pattern.chars().collect());
        let get = |_: &str| Some(value.clone());
        let fits: Vec<usize> = (0..=letters.len()).filter(|&n| matches(&parts, &letters[..n])).collect();
        for (operator, cut) in [("#", fits.first()), ("##", fits.last())] {
            let text = expand(&format!("${{V{operator}{pattern}}}"), Style::new('\\'), &get).unwrap().text;
            prop_assert_eq!(text, letters[*cut.unwrap_or(&0)..].iter().collect::<String>());
        }
        let fits: Vec<usize> = (0..=letters.len()).filter(|&n| matches(&parts, &letters[n..])).collect();
        for (operator, cut) in [("%", fits.last()), ("%%", fits.first())] {
            let text = expand(&format!("${{V{operator}{pattern}}}"), Style::new('\\'), &get).unwrap().text;
            prop_assert_eq!(text, letters[..*cut.unwrap_or(&letters.len())].iter().collect::<String>());
        }
    }
}
