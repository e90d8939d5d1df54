//! "Environment replacement": what a word becomes.

use super::support::*;

const BEFORE: &str = "FROM alpine\nARG U\nENV A=abc E= P=a/b/c.tar.gz S=\"x y\" Q='$A' STAR=a*c\n";

fn word(word: &str) -> String {
    let env = execution(&format!("{BEFORE}ENV R={word}")).env;
    env.iter().find_map(|entry| entry.strip_prefix("R=")).unwrap().to_owned()
}

#[test]
fn words_become() {
    for (text, value) in [
        ("plain", "plain"),
        ("$A", "abc"),
        ("${A}", "abc"),
        ("$A-$A", "abc-abc"),
        ("${A}x", "abcx"),
        ("$Ax", ""),
        ("$NONE", ""),
        ("a$", "a$"),
        ("$.", "$."),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ("\"$A\"", "abc"),
        ("\"\\$A\"", "$A"),
        ("\"a\\b\"", "a\\b"),
        ("a\\b", "ab"),
        ("\"a\\\"b\"", "a\"b"),
        ("'a\"b'", "a\"b"),
        ("\"it's\"", "it's"),
        ("\"a b\"c' d'", "a bc d"),
        ("a\\ b", "a b"),
        ("$S", "x y"),
        ("$Q", "$A"),
        ("${E:-d}", "d"),
        ("${E-d}", ""),
        ("${U:-d}", "d"),
        ("${U-d}", "d"),
        ("${A:-d}", "abc"),
        ("${A:+d}", "d"),
        ("${E:+d}", ""),
        ("${E+d}", "d"),
        ("${U+d}", ""),
        ("${A:?no}", "abc"),
        ("${E?no}", ""),
        ("${U:-${A}}", "abc"),
        ("${U:-${V:-${A}}}", "abc"),
        ("${U:-'}'}", "}"),
        ("${U:-\\}}", "}"),
        ("${P#*/}", "b/c.tar.gz"),
        ("${P##*/}", "c.tar.gz"),
        ("${P%.*}", "a/b/c.tar"),
        ("${P%%.*}", "a/b/c"),
        ("${P%/*}", "a/b"),
        ("${P#x}", "a/b/c.tar.gz"),
        ("${A#?}", "bc"),
        ("${A%?}", "ab"),
        ("${A#*}", "abc"),
        ("${A##*}", ""),
        ("${STAR#a\\*}", "c"),
        ("${P/\\//-}", "a-b/c.tar.gz"),
        ("${P//\\//-}", "a-b-c.tar.gz"),
        ("${A/b/x}", "axc"),
        ("${A/b/}", "ac"),
        ("${A/?/x}", "xbc"),
        ("${A//?/x}", "xxx"),
        ("${A/b*/x}", "ax"),
        ("${A/$A/x}", "x"),
        ("${P//\\//\\/}", "a\\/b\\/c.tar.gz"),
        ("${A/$E/x}", "xabc"),
        ("${A//$E/-}", "-a-b-c-"),
        ("${A///}", "abc"),
        ("${A#$E}", "abc"),
        ("${A%}", "abc"),
        ("${A##*b}", "c"),
        ("${A%%b*}", "a"),
        ("${U#x}", ""),
    ] {
        assert_eq!(word(text), value, "{text}");
    }
}

#[test]
fn words_that_are_wrong() {
    for (text, message) in [
        ("${A", "4:7: `}` is missing after `${`"),
        ("${", "4:7: `}` is missing after `${`"),
        ("${}", "4:7: `${` needs the name of a variable after it"),
        ("${:x}", "4:7: `${` needs the name of a variable after it"),
        ("x${U:?who}", "4:8: U: who"),
        ("${U?}", "4:7: U: is not allowed to be unset"),
        ("${E:?}", "4:7: E: is not allowed to be empty"),
        ("${A:-x", "4:7: `}` is missing at the end of `${…}`"),
        ("${A/x}", "4:7: `/` is missing at the end of `${…}`"),
        ("${A#\\x}", "4:10: invalid escape `\\x` in the pattern `\\x`"),
        ("'a", "4:7: a single quote is not closed"),
        ("\"a", "4:7: a double quote is not closed"),
    ] {
        assert_eq!(error(&format!("{BEFORE}ENV R={text}")), message, "{text}");
    }
    let unsupported = error(&format!("{BEFORE}ENV R=${{A=x}}"));
    assert!(unsupported.starts_with("4:10: unsupported modifier `=` in `${A…}`"), "{unsupported}");
    assert!(error(&format!("{BEFORE}ENV R=${{A:#x}}")).contains("unsupported modifier `:#`"));
    let deep = format!("{}x{}", "${U:-".repeat(60), "}".repeat(60));
    assert!(error(&format!("{BEFORE}ENV R={deep}")).contains("more than 50 times"));
}

/// Which instructions replace variables: here `$A` is `abc`.
#[test]
fn instructions_that_replace() {
    let before = "FROM alpine\nENV A=abc N=81\n";
    for (line, expected) in [
        ("ADD $A /$A", "ADD abc /abc # buildkit"),
        ("COPY --chown=$A $A /$A", "COPY --chown=abc abc /abc # buildkit"),
        ("COPY --chmod=$N a b", "ERROR"),
        ("ENV B=$A", "- ENV B=abc"),
        ("LABEL $A=$A", "- LABEL abc=abc"),
        ("EXPOSE $N", "- EXPOSE [81/tcp]"),
        ("USER $A", "- USER abc"),
        ("VOLUME $A", "- VOLUME [abc]"),
        ("VOLUME [\"$A\"]", "- VOLUME [abc]"),
        ("WORKDIR /$A", "WORKDIR /abc"),
        ("ARG X=$A", "- ARG X=abc"),
        ("STOPSIGNAL $N", "ERROR"),
        ("RUN echo $A", "RUN /bin/sh -c echo $A # buildkit"),
        ("CMD [\"$A\"]", "- CMD [\"$A\"]"),
        ("ENTRYPOINT [\"$A\"]", "- ENTRYPOINT [\"$A\"]"),
        ("SHELL [\"$A\"]", "- SHELL [$A]"),
        ("MAINTAINER $A", "- MAINTAINER $A"),
        (
            "HEALTHCHECK CMD $A",
            "- HEALTHCHECK {Test:[CMD-SHELL $A] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        ),
    ] {
        let source = format!("{before}{line}");
        if expected == "ERROR" {
            error(&source);
        } else {
            assert_eq!(history(&plan(&source)).last().unwrap(), expected);
        }
    }
}

/// All of an instruction sees what was known before it.
#[test]
fn an_instruction_sees_what_was_before_it() {
    let env = execution("FROM bare\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc").env;
    assert_eq!(env[1..], ["abc=bye", "def=hello", "ghi=bye"]);
}

#[test]
fn another_escape_character() {
    let env = execution("# escape=`\nFROM bare\nENV A=1\nENV B=`$A C=\\$A D=a` b E=\"`\"\"").env;
    assert_eq!(env[1..], ["A=1", "B=$A", "C=\\1", "D=a b", "E=\""]);
}
