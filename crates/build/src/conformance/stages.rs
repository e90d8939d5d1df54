//! `FROM`: which stages there are, which are built, what each is upon.

use super::support::*;
use crate::{NamedContext, NoCache, Options};

#[test]
fn what_is_built() {
    let source = "FROM alpine AS a\nRUN one\nFROM nginx AS b\nRUN two\nFROM a AS c\nRUN three\nFROM scratch\nCOPY --from=c /x /y\n";
    let of = |name: &str| steps(&plan_with(source, &target(name)).unwrap());
    let run = |base: usize, word: &str| format!("run {base} [\"/bin/sh\", \"-c\", \"{word}\"]");
    assert_eq!(of("a"), ["image alpine linux/amd64".to_owned(), run(0, "one")]);
    assert_eq!(of("0"), of("a"));
    assert_eq!(of("B"), ["image nginx linux/amd64".to_owned(), run(0, "two")]);
    assert_eq!(of("c"), ["image alpine linux/amd64".to_owned(), run(0, "one"), run(1, "three")]);
    assert_eq!(
        of("3"),
        [
            "image alpine linux/amd64".to_owned(),
            run(0, "one"),
            run(1, "three"),
            "scratch".to_owned(),
            "files 3 | copy 2 [\"/x\"] /y".to_owned()
        ]
    );
    assert_eq!(of("3"), steps(&plan(source)));
}

#[test]
fn titles_are_buildkits() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let source = "FROM alpine AS builder\nRUN make\nFROM nginx:1\nWORKDIR /\nWORKDIR /a\ncopy --from=builder /a .\nFROM 1\n";
    let plan_of = |name: &str| titles(&plan_with(&source.replace("FROM 1\n", ""), &target(name)).unwrap());
    assert_eq!(
        plan_of("1"),
        [
            format!("[builder 1/2] FROM docker.io/library/alpine:latest@{digest}"),
            "[builder 2/2] RUN make".to_owned(),
            format!("[stage-1 1/4] FROM docker.io/library/nginx:1@{digest}"),
            "[stage-1 2/4] WORKDIR /a".to_owned(),
            "[stage-1 3/4] COPY --from=builder /a .".to_owned(),
        ]
    );
    let one = plan("FROM alpine\nRUN a\nENV B=1\nRUN b");
    assert_eq!(titles(&one)[1..], ["[2/3] RUN a", "[3/3] RUN b"]);
    let many = plan(&format!("FROM alpine\n{}", "RUN x\n".repeat(11)));
    assert_eq!((&*titles(&many)[1], &*titles(&many)[11]), ("[ 2/12] RUN x", "[12/12] RUN x"));
    let options = Options { several_platforms: true, platform: linux("arm64"), ..options() };
    assert_eq!(
        titles(&plan_with("FROM alpine AS x\nRUN a", &options).unwrap())[1],
        "[linux/arm64 2/2] RUN a"
    );
    let lines: Vec<_> = one.graph.steps.iter().map(|step| step.lines).collect();
    assert_eq!(lines, [Some((1, 1)), Some((2, 2)), Some((4, 4))]);
}

#[test]
fn a_stage_upon_a_stage() {
    let source =
        "FROM alpine AS one\nARG A=1\nENV E=2\nWORKDIR /w\nUSER u\nRUN x\nFROM one\nRUN y\nRUN echo $A";
    let plan = plan(source);
    let execution = plan.config.config.clone().unwrap();
    assert_eq!((&*execution.user, &*execution.working_dir), ("u", "/w"));
    assert_eq!(execution.env, ["PATH=/bin", "BASE=1", "E=2"]);
    assert_eq!(
        history(&plan)[4..],
        [
            "RUN |1 A=1 /bin/sh -c x # buildkit",
            "RUN |1 A=1 /bin/sh -c y # buildkit",
            "RUN |1 A=1 /bin/sh -c echo $A # buildkit",
        ]
    );
    assert_eq!((plan.layers.len(), plan.output), (4, *plan.layers.last().unwrap()));
    assert_eq!(plan.base.unwrap().reference, "alpine");
}

#[test]
fn layers_are_those_of_the_history() {
    let plan = plan("FROM alpine\nRUN a\nENV B=1\nCOPY c d\nWORKDIR /e\nCMD f");
    let layered =
        plan.config.history.iter().filter(|line| line.comment.is_some() && !line.empty_layer).count();
    assert_eq!((layered, plan.layers.len()), (3, 3));
    let nothing = super::support::plan("FROM scratch");
    assert_eq!((steps(&nothing), nothing.layers.len(), nothing.base), (vec!["scratch".to_owned()], 0, None));
}

#[test]
fn names_without_regard_to_case() {
    let source = "FROM alpine AS Build\nRUN x\nFROM scratch\nCOPY --from=BUILD /a /b\n";
    assert_eq!(steps(&plan(source))[3], "files 2 | copy 1 [\"/a\"] /b");
    assert!(steps(&plan("FROM alpine AS Build\nRUN x\nfrom build as second\nRUN y"))[2].starts_with("run 1"));
    let again = "FROM alpine AS a\nRUN one\nFROM a AS a\nRUN two\nFROM a\nRUN three";
    assert_eq!(steps(&plan(again)).len(), 4, "the last of a name is meant");
}

#[test]
fn images_are_found_once() {
    let plan = plan("FROM alpine AS a\nRUN x\nFROM alpine\nCOPY --from=a /1 /2\nCOPY --from=alpine /1 /2");
    assert_eq!(steps(&plan).iter().filter(|step| step.starts_with("image")).count(), 1);
}

#[test]
fn platforms() {
    let arm = Options { platform: linux("arm64"), ..options() };
    for (source, expected) in [
        ("FROM alpine", "image alpine linux/arm64"),
        ("FROM --platform=$BUILDPLATFORM alpine", "image alpine linux/amd64"),
        ("FROM --platform=${TARGETPLATFORM} alpine", "image alpine linux/arm64"),
        ("FROM --platform=linux/386 alpine", "image alpine linux/386"),
        ("ARG P=linux/s390x\nFROM --platform=$P alpine", "image alpine linux/s390x"),
        ("FROM --platform=linux/$BUILDARCH alpine", "image alpine linux/amd64"),
    ] {
        let plan = plan_with(source, &arm).unwrap();
        assert_eq!(steps(&plan)[0], expected, "{source}");
        assert_eq!(plan.config.platform.architecture, "arm64", "the image is for what was asked for");
    }
    for (source, message) in [
        ("FROM --platform=$NONE alpine", "1:6: the platform is empty: `$NONE`"),
        (
            "FROM --platform=$TARGETPLATFROM alpine",
            "1:6: the platform is empty: `$TARGETPLATFROM`; did you mean $TARGETPLATFORM?",
        ),
        ("FROM --platform=a/b/c/d alpine", "1:6: `a/b/c/d` is no platform"),
        ("FROM --platfrom=x alpine", "1:6: unknown flag --platfrom for FROM; did you mean --platform?"),
    ] {
        assert_eq!(error(source), message);
    }
}

#[test]
fn named_contexts() {
    let contexts = [
        ("alpine".to_owned(), NamedContext::Image("nginx:2".to_owned())),
        ("dir".to_owned(), NamedContext::Directory),
        ("tree".to_owned(), NamedContext::parse("https://h/r.git#v1").unwrap()),
        ("web".to_owned(), NamedContext::parse("https://h/f.tar").unwrap()),
        ("replaced".to_owned(), NamedContext::Directory),
    ];
    let options = Options { contexts: contexts.into(), ..options() };
    let of = |source: &str| steps(&plan_with(source, &options).unwrap());
    assert_eq!(of("FROM alpine"), ["image nginx:2 linux/amd64"]);
    assert_eq!(of("FROM docker.io/library/alpine:latest"), ["image nginx:2 linux/amd64"]);
    assert_eq!(of("FROM alpine:3"), ["image alpine:3 linux/amd64"]);
    assert_eq!(of("FROM dir\nRUN x"), ["context dir", "run 0 [\"/bin/sh\", \"-c\", \"x\"]"]);
    assert_eq!(of("FROM scratch\nCOPY --from=dir a b")[1..], ["context dir", "files 0 | copy 1 [\"/a\"] /b"]);
    assert_eq!(of("FROM scratch\nCOPY --from=tree a b")[1], "git https://h/r.git v1:");
    assert_eq!(
        of("FROM web"),
        ["http https://h/f.tar context", "scratch", "files 1 | copy 0 [\"/context\"] / unpack"]
    );
    assert_eq!(
        of("FROM nginx AS replaced\nRUN not this\nFROM scratch\nCOPY --from=replaced a b"),
        ["context replaced", "scratch", "files 1 | copy 0 [\"/a\"] /b"]
    );
    assert!(
        NamedContext::parse("docker-image://UPPER").is_err()
            && NamedContext::parse("oci-layout://x").is_err()
    );
    assert_eq!(NamedContext::parse("../dir").unwrap(), NamedContext::Directory);
}

#[test]
fn what_is_not_taken_from_the_cache() {
    let source = "FROM alpine AS a\nRUN x\nFROM a AS b\nWORKDIR /w\nCOPY c d";
    let of = |no_cache: NoCache| {
        let plan = plan_with(source, &Options { no_cache, ..options() }).unwrap();
        plan.graph.steps.iter().map(|step| u8::from(step.no_cache)).collect::<Vec<_>>()
    };
    assert_eq!(of(NoCache::None), [0, 0, 0, 0, 0]);
    assert_eq!(of(NoCache::All), [0, 1, 1, 0, 1]);
    assert_eq!(of(NoCache::Stages(vec!["B".to_owned()])), [0, 0, 1, 0, 1]);
}

#[test]
fn stages_that_are_wrong() {
    for (source, message) in [
        ("", "the Dockerfile is empty: there is no instruction in it"),
        ("# only\n\n", "the Dockerfile is empty: there is no instruction in it"),
        ("ARG A=1", "no FROM: there is no stage to build"),
        ("RUN x\nFROM alpine", "1:1: no build stage yet: RUN comes before the first FROM"),
        ("FROM", "1:1: FROM requires an image"),
        ("FROM alpine x", "1:13: FROM requires either one or three arguments"),
        ("FROM alpine AS", "1:13: FROM requires either one or three arguments"),
        ("FROM alpine AS a b", "1:13: FROM requires either one or three arguments"),
        ("FROM alpine AS 1a", "1:16: invalid name for a build stage: `1a`"),
        ("FROM alpine AS a/b", "1:16: invalid name for a build stage: `a/b`"),
        ("FROM $NONE", "1:6: the name of the base is empty: `$NONE`"),
        ("FROM Alpine", "1:6: `Alpine` is no name of an image, nor of an earlier stage"),
        ("FROM nowhere", "1:6: nowhere: there is no such image"),
        (
            "FROM alpine AS build\nFROM Biuld",
            "2:6: `Biuld` is no name of an image, nor of an earlier stage; did you mean build?",
        ),
        (
            "FROM alpine AS build\nFROM scratch\nCOPY --from=buidl a b",
            "3:6: buidl: there is no such image; did you mean build?",
        ),
        ("FROM alpine\nCOPY --from=later a b\nFROM alpine AS later", "a"),
        (
            "FROM alpine AS x\nCOPY --from=y a b\nFROM alpine AS y\nCOPY --from=x a b\n",
            "2:6: a stage has to stand before the one that copies from it",
        ),
        ("FROM alpine AS x\nRUN --mount=from=x,target=/a y", "2:5: a stage cannot copy from itself"),
    ] {
        if message == "a" {
            // What is not built may be wrong.
            plan(source);
            assert_eq!(
                error_with(source, &target("0")),
                "2:6: a stage has to stand before the one that copies from it"
            );
            continue;
        }
        assert_eq!(error(source), message, "{source}");
    }
    let source = "FROM alpine AS build\nFROM alpine AS test";
    assert_eq!(
        error_with(source, &target("biuld")),
        "target stage `biuld` could not be found; did you mean build?"
    );
    assert_eq!(error_with(source, &target("2")), "there is no stage 2");
}
