//! `ARG`: where an argument is known, and what it is.

use super::support::*;
use crate::Options;

/// The value of `R` in the last stage.
fn value(source: &str, arguments: &[(&str, &str)]) -> String {
    let plan = plan_with(source, &with_args(arguments)).unwrap_or_else(|error| panic!("{}", error.report()));
    let env = plan.config.config.unwrap().env;
    env.iter().find_map(|entry| entry.strip_prefix("R=")).unwrap_or_default().to_owned()
}

#[test]
fn scopes() {
    for (source, arguments, expected) in [
        ("FROM alpine\nARG A\nENV R=$A", &[][..], ""),
        ("FROM alpine\nARG A=1\nENV R=$A", &[], "1"),
        ("FROM alpine\nARG A=1\nENV R=$A", &[("A", "2")], "2"),
        ("FROM alpine\nARG A\nENV R=$A", &[("A", "2")], "2"),
        ("FROM alpine\nENV R=$A\nARG A=1", &[("A", "2")], ""),
        ("FROM alpine\nENV R=$A", &[("A", "2")], ""),
        ("ARG A=1\nFROM alpine\nENV R=$A", &[("A", "2")], ""),
        ("ARG A=1\nFROM alpine\nARG A\nENV R=$A", &[], "1"),
        ("ARG A=1\nFROM alpine\nARG A=3\nENV R=$A", &[], "3"),
        ("ARG A=1\nFROM alpine\nARG A\nENV R=$A", &[("A", "2")], "2"),
        ("ARG A=1\nARG B=${A}x\nFROM alpine\nARG B\nENV R=$B", &[], "1x"),
        ("ARG A=1\nARG B=${A}x\nFROM alpine\nARG B\nENV R=$B", &[("A", "2")], "2x"),
        ("FROM alpine\nARG A=1 B=${A}x\nENV R=$B", &[], "1x"),
        ("FROM alpine\nARG A=1\nARG B=${A}x\nENV R=$B", &[], "1x"),
        ("FROM alpine\nARG A=1\nFROM alpine\nENV R=$A", &[], ""),
        ("FROM alpine AS x\nARG A=1\nFROM x\nENV R=$A", &[], "1"),
        ("FROM alpine AS x\nARG A=1\nENV A=2\nFROM x\nENV R=$A", &[], "2"),
        ("FROM alpine\nENV A=1\nARG A=2\nENV R=$A", &[], "2"),
        ("FROM alpine\nENV A=1\nARG A\nENV R=$A", &[], "1"),
        ("FROM alpine\nARG A=1\nENV A=2\nENV R=$A", &[("A", "3")], "2"),
        ("FROM alpine\nARG A=\nENV R=${A:-d}${A-e}", &[], "d"),
        ("FROM alpine\nARG A=\"x y\" B='$A'\nENV R=\"$A$B\"", &[], "x y$A"),
        ("FROM alpine\nARG BASE\nENV R=$BASE", &[], "1"),
    ] {
        assert_eq!(value(source, arguments), expected, "{source} {arguments:?}");
    }
}

#[test]
fn arguments_before_from() {
    for (source, arguments, expected) in [
        ("ARG V=3\nFROM alpine:$V", &[][..], "image alpine:3 linux/amd64"),
        ("ARG V=3\nFROM alpine:$V", &[("V", "4")], "image alpine:4 linux/amd64"),
        ("ARG V\nFROM alpine:${V:-5}", &[], "image alpine:5 linux/amd64"),
        ("ARG I=alpine V=3\nFROM $I:$V", &[], "image alpine:3 linux/amd64"),
        ("ARG V=3.1-x\nFROM alpine:${V%-x}", &[], "image alpine:3.1 linux/amd64"),
        ("ARG S=one\nFROM alpine AS one\nFROM $S", &[], "image alpine linux/amd64"),
        ("ARG V=1\nFROM alpine:$V AS a\nARG V=2\nFROM a\nRUN x", &[], "image alpine:1 linux/amd64"),
    ] {
        let plan = plan_with(source, &with_args(arguments)).unwrap();
        assert_eq!(steps(&plan)[0], expected, "{source}");
    }
}

#[test]
fn platform_arguments() {
    let source = |name: &str| format!("FROM alpine AS last\nARG {name}\nENV R=$") + name;
    let arm = oci::image::Platform { variant: Some("v7".to_owned()), ..linux("arm") };
    for (name, expected) in [
        ("TARGETPLATFORM", "linux/arm/v7"),
        ("TARGETOS", "linux"),
        ("TARGETARCH", "arm"),
        ("TARGETVARIANT", "v7"),
        ("BUILDPLATFORM", "linux/amd64"),
        ("BUILDOS", "linux"),
        ("BUILDARCH", "amd64"),
        ("BUILDVARIANT", ""),
        ("TARGETSTAGE", "last"),
    ] {
        let options = Options { platform: arm.clone(), ..options() };
        let env = plan_with(&source(name), &options).unwrap().config.config.unwrap().env;
        assert!(env.contains(&format!("R={expected}")), "{name}: {env:?}");
        let env =
            plan_with(&format!("FROM alpine\nENV R=${name}"), &options).unwrap().config.config.unwrap().env;
        assert!(env.contains(&"R=".to_owned()), "{name} has to be declared");
    }
    assert_eq!(value(&source("TARGETARCH"), &[("TARGETARCH", "mine")]), "mine");
    assert_eq!(value("FROM alpine\nARG TARGETSTAGE\nENV R=$TARGETSTAGE", &[]), "default");
    let v8 = oci::image::Platform { variant: Some("v8".to_owned()), ..linux("arm64") };
    let env = plan_with(&source("TARGETPLATFORM"), &Options { platform: v8, ..options() }).unwrap();
    assert!(env.config.config.unwrap().env.contains(&"R=linux/arm64".to_owned()));
}

#[test]
fn arguments_that_nobody_asked_for() {
    let warned = |source: &str, arguments: &[(&str, &str)]| {
        let plan = plan_with(source, &with_args(arguments)).unwrap();
        plan.warnings
            .iter()
            .map(|warning| format!("{}: {}", warning.rule, warning.message))
            .collect::<Vec<_>>()
    };
    let unused = "UnusedBuildArg: One or more build-args [X] were not consumed";
    assert_eq!(warned("FROM alpine", &[("X", "1")]), [unused]);
    assert_eq!(warned("ARG X\nFROM alpine", &[("X", "1")]), [""; 0]);
    assert_eq!(warned("FROM alpine\nARG X", &[("X", "1")]), [""; 0]);
    for name in ["HTTP_PROXY", "no_proxy", "TARGETARCH", "SOURCE_DATE_EPOCH", "BUILDKIT_INLINE_CACHE"] {
        assert_eq!(warned("FROM alpine", &[(name, "1")]), [""; 0], "{name}");
    }
    assert_eq!(
        warned("# check=skip=all\nFROM alpine", &[("X", "1")]),
        [unused],
        "it is no rule of the checks"
    );
}
