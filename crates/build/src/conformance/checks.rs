//! The rules of `docker build --check`.

use super::support::*;
use crate::Options;
use crate::ignore::Patterns;

#[test]
fn each_rule() {
    for (source, expected) in [
        ("FROM alpine AS Build", "1 StageNameCasing: Stage name 'Build' should be lowercase"),
        ("FROM alpine as build", "1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"),
        ("from alpine AS build", "1 FromAsCasing: 'AS' and 'from' keywords' casing do not match"),
        ("FROM alpine\nRUN a \\\n\n  b", "4 NoEmptyContinuation: Empty continuation line"),
        (
            "FROM alpine\nRUN a\nrun b",
            "3 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
        ),
        (
            "FROM alpine\nrun a\nrun b",
            "1 ConsistentInstructionCasing: Command 'FROM' should match the case of the command majority (lowercase)",
        ),
        (
            "FROM alpine\nRUN a\nRuN b",
            "3 ConsistentInstructionCasing: Command 'RuN' should match the case of the command majority (uppercase)",
        ),
        (
            "FROM alpine AS a\nFROM alpine AS a",
            "2 DuplicateStageName: Duplicate stage name \"a\", stage names should be unique",
        ),
        (
            "FROM alpine AS context",
            "1 ReservedStageName: Stage name should not use the same name as reserved stage \"context\"",
        ),
        (
            "FROM alpine AS scratch",
            "1 ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\"",
        ),
        (
            "FROM alpine\nCMD a",
            "2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ),
        (
            "FROM alpine\nENTRYPOINT a",
            "2 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
        ),
        (
            "FROM alpine\nMAINTAINER a",
            "2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
        ),
        (
            "ARG TAG=1\nFROM alpine:${TAGG:-1}$TAGG",
            "2 UndefinedArgInFrom: FROM argument 'TAGG' is not declared (did you mean TAG?)",
        ),
        (
            "FROM --platform=$BULDPLATFORM$BUILDPLATFORM alpine",
            "1 UndefinedArgInFrom: FROM argument 'BULDPLATFORM' is not declared (did you mean BUILDPLATFORM?)",
        ),
        (
            "FROM alpine\nWORKDIR a\nWORKDIR b",
            "2 WorkdirRelativePath: Relative workdir \"a\" can have unexpected results if the base image changes",
        ),
        ("FROM alpine\nCOPY $x /y", "2 UndefinedVar: Usage of undefined variable '$x'"),
        (
            "FROM alpine\nENV P=$PAHT:x",
            "2 UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        ),
        (
            "FROM alpine\nCMD [\"a\"]\nCMD [\"b\"]",
            "2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            "FROM alpine\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]",
            "2 MultipleInstructionsDisallowed: Multiple ENTRYPOINT instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            "FROM alpine\nHEALTHCHECK NONE\nHEALTHCHECK NONE",
            "2 MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            "FROM alpine\nENV a b",
            "2 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        ),
        (
            "FROM alpine\nLABEL a b",
            "2 LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
        ),
        (
            "FROM --platform=$TARGETPLATFORM alpine",
            "1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        (
            "FROM alpine\nENV API_KEY=1",
            "2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"API_KEY\")",
        ),
        (
            "FROM alpine\nARG token",
            "2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"token\")",
        ),
        (
            "FROM --platform=linux/amd64 alpine",
            "1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\"",
        ),
        (
            "FROM alpine\nEXPOSE 80/TCP",
            "2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        ),
        (
            "FROM alpine\nEXPOSE 127.0.0.1:80:80",
            "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        ),
        (
            "# check=experimental=all\n# the stage\nFROM alpine AS a",
            "3 InvalidDefinitionDescription: Comment for FROM should follow the format: `# a <description>`",
        ),
        (
            "# check=experimental=InvalidDefinitionDescription\nFROM alpine\n# x\nARG a b",
            "4 InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>`",
        ),
    ] {
        assert_eq!(warnings(source), [expected], "{source}");
    }
    let options = with_args(&[("TAG", "3")]);
    assert_eq!(
        warnings_with("ARG TAG\nFROM alpine:$TAG", &options),
        [
            "2 InvalidDefaultArgInFrom: Default value for ARG alpine:$TAG results in empty or invalid base image name"
        ]
    );
}

#[test]
fn what_is_good() {
    for source in [
        "FROM alpine AS build\nRUN a\nFROM build AS other\nCOPY --from=build a b",
        "from alpine as build\nrun a",
        "FROM alpine\nRUN a \\\n# comment\n  b",
        "FROM alpine\nSHELL [\"/bin/sh\", \"-c\"]\nCMD a",
        "FROM alpine\nWORKDIR /a\nWORKDIR b",
        "FROM alpine AS a\nWORKDIR /a\nFROM a\nWORKDIR b",
        "FROM alpine\nARG x\nCOPY a$x /y",
        "FROM alpine\nRUN echo $undefined",
        "FROM alpine\nENV PATH=$PATH:/x BASE=$BASE",
        "FROM alpine AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]",
        "FROM alpine\nARG PUBLIC_KEY TOKEN_FILE MONKEY",
        "FROM --platform=$BUILDPLATFORM alpine",
        "FROM --platform=linux/amd64 alpine AS build-amd64",
        "ARG TAG=1\nFROM alpine:$TAG",
        "ARG TAG\nFROM alpine:${TAG:-1}",
        "# check=experimental=all\n# a what it is\nFROM alpine AS a\n# x what it is\nARG x\n\n# apart\n\nARG y",
        "# syntax=docker/dockerfile:1\nFROM alpine AS a",
        "FROM alpine\n# not asked for\nARG y",
    ] {
        assert_eq!(warnings(source), [""; 0], "{source}");
    }
}

#[test]
fn ignored_files() {
    let of = |ignore: &str, source: &str| {
        let options = Options { ignore: Some(Patterns::parse(ignore).unwrap()), ..options() };
        warnings_with(&format!("# check=experimental=CopyIgnoredFile\nFROM alpine\n{source}"), &options)
    };
    let copied = "3 CopyIgnoredFile: Attempting to Copy file \"a/b\" that is excluded by .dockerignore";
    assert_eq!(of("a", "COPY a/b /c"), [copied]);
    assert_eq!(of("a/b", "COPY ./a/b /c"), [copied]);
    assert_eq!(
        of("a", "ADD a /c"),
        ["3 CopyIgnoredFile: Attempting to Add file \"a\" that is excluded by .dockerignore"]
    );
    assert_eq!(of("*", "COPY . /c").len(), 1);
    for (ignore, source) in [
        ("a", "COPY b /c"),
        ("a\n!a/b", "COPY a/b /c"),
        ("a", "COPY --from=nginx a /c"),
        ("a", "COPY . /c"),
        ("a", "ADD https://h/a /c"),
    ] {
        assert_eq!(of(ignore, source), [""; 0], "{ignore} {source}");
    }
}

#[test]
fn the_directive() {
    let bad = "FROM alpine as A\nMAINTAINER x";
    assert_eq!(warnings(bad).len(), 3);
    for (directive, left) in [
        ("skip=StageNameCasing", 2),
        ("skip=StageNameCasing,FromAsCasing", 1),
        ("skip=stagenamecasing, MaintainerDeprecated", 1),
        ("skip=all", 0),
        ("skip=Unknown", 3),
        ("skip=all;error=true", 0),
        ("skip=all;experimental=InvalidDefinitionDescription", 0),
        ("error=false", 3),
    ] {
        assert_eq!(warnings(&format!("# check={directive}\n{bad}")).len(), left, "{directive}");
    }
    let error = error(&format!("# check=error=true\n{bad}"));
    assert_eq!(
        error,
        "2:1: lint violation found for rules: FromAsCasing, MaintainerDeprecated, StageNameCasing"
    );
    plan(&format!("# check=error=true;skip=all\n{bad}"));
    let options = with_args(&[("BUILDKIT_DOCKERFILE_CHECK", "skip=all")]);
    assert!(
        warnings_with(&format!("# check=error=true\n{bad}"), &options).is_empty(),
        "the argument goes first"
    );
    assert_eq!(
        warnings("FROM alpine\n# check=skip=MaintainerDeprecated\nMAINTAINER x\n").len(),
        0,
        "of one instruction"
    );
    let (warnings, error) = crate::check("FROM alpine as A\nRUNN", &super::support::options(), &Images);
    assert_eq!((warnings.len(), error.unwrap().line()), (2, 2), "what is above an error is told");
}

#[test]
fn all_stages_are_checked_where_no_target_is_named() {
    let source = "FROM alpine AS a\nCMD x\nFROM alpine AS b\nCMD y";
    assert_eq!(warnings(source).len(), 2);
    assert_eq!(warnings_with(source, &target("a")).len(), 1);
    assert_eq!(plan(source).warnings.len(), 1, "a build tells of what it builds");
}
