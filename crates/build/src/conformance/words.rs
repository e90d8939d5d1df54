//! How `ENV`, `LABEL` and `ARG` are cut into names and values.

use super::support::*;

#[test]
fn both_forms_of_env() {
    for (line, expected) in [
        ("ENV A=1", &["A=1"][..]),
        ("ENV A=1 B=2", &["A=1", "B=2"]),
        ("ENV A=\"a b\" B='c d' C=e\\ f", &["A=a b", "B=c d", "C=e f"]),
        ("ENV A=", &["A="]),
        ("ENV A=b=c", &["A=b=c"]),
        ("ENV A b c  d", &["A=b c  d"]),
        ("ENV A  b", &["A=b"]),
        ("ENV A b=c", &["A=b=c"]),
        ("ENV A \"b\"", &["A=b"]),
        ("ENV A=1 \\\n  B=2 \\\n  C=3", &["A=1", "B=2", "C=3"]),
        ("ENV A=1\\\nB=2", &["A=1B=2"]),
        ("ENV\tA=1\t B=2", &["A=1", "B=2"]),
        ("ENV A=\"x\ty\"", &["A=x\ty"]),
        ("env A=1", &["A=1"]),
        ("  ENV A=1  ", &["A=1"]),
        ("ENV A=1\nENV A=2", &["A=2"]),
        ("ENV A=1 B=2\nENV A=3", &["A=3", "B=2"]),
        ("ENV A='unclosed' B=\"it's\"", &["A=unclosed", "B=it's"]),
    ] {
        assert_eq!(execution(&format!("FROM bare\n{line}")).env[1..], *expected, "{line}");
    }
}

#[test]
fn labels() {
    for (line, expected) in [
        ("LABEL a=1", &[("a", "1")][..]),
        (
            "LABEL \"com.example.vendor\"=\"ACME Incorporated\"",
            &[("com.example.vendor", "ACME Incorporated")],
        ),
        ("LABEL version 1.0 beta", &[("version", "1.0 beta")]),
        ("LABEL d=\"over \\\nlines\"", &[("d", "over lines")]),
        ("LABEL a=1 b=2\nLABEL a=3", &[("a", "3"), ("b", "2")]),
        ("LABEL a=\"{\\\"k\\\":1}\"", &[("a", "{\"k\":1}")]),
    ] {
        let labels = execution(&format!("FROM bare\n{line}")).labels;
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(labels, *expected, "{line}");
    }
    let options = crate::Options { labels: [("a".to_owned(), "given".to_owned())].into(), ..options() };
    let plan = plan_with("FROM full\nLABEL b=2", &options).unwrap();
    let labels = plan.config.config.clone().unwrap().labels;
    assert_eq!((&*labels["a"], &*labels["b"]), ("given", "2"));
    assert_eq!(history(&plan), ["- LABEL b=2"]);
}

#[test]
fn names_and_values_that_are_wrong() {
    for (line, message) in [
        ("ENV", "2:1: ENV requires at least one argument"),
        ("ENV A", "2:5: ENV must have two arguments"),
        ("ENV A=1 B", "2:9: there is no `=` in `B`: it must be key=value"),
        ("ENV =1", "2:5: ENV names can not be blank"),
        ("LABEL", "2:1: LABEL requires at least one argument"),
        ("LABEL a", "2:7: LABEL must have two arguments"),
        ("ARG", "2:1: ARG requires at least one argument"),
        ("ARG =1", "2:5: the name of an ARG is missing before `=`"),
        ("ENV $X=1", "2:5: a name is empty"),
        ("ENV --x A=1", "2:5: unknown flag --x for ENV"),
    ] {
        assert_eq!(error(&format!("FROM alpine\n{line}")), message, "{line}");
    }
}
