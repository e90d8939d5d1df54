//! `ONBUILD`: what bases want done.

use super::support::*;

#[test]
fn triggers_of_an_image_come_first() {
    let plan = plan("FROM trigger\nRUN two");
    assert_eq!(
        steps(&plan)[1..],
        [
            "run 0 [\"/bin/sh\", \"-c\", \"one\"]",
            "context -",
            "files 1 | copy 2 [\"/\"] /src",
            "run 3 [\"/bin/sh\", \"-c\", \"two\"]",
        ]
    );
    assert_eq!(titles(&plan)[1], "[2/4] ONBUILD RUN one");
    assert!(plan.config.config.unwrap().on_build.is_empty(), "they are for one level alone");
}

#[test]
fn triggers_of_a_stage() {
    let source = "FROM alpine AS one\nONBUILD RUN a\nRUN b\nFROM one AS two\nRUN c\nFROM two\nRUN d";
    let plan = plan(source);
    let ran: Vec<String> =
        steps(&plan)[1..].iter().map(|step| step.rsplit('"').nth(1).unwrap().to_owned()).collect();
    assert_eq!(ran, ["b", "a", "c", "d"]);
    assert!(plan.config.config.unwrap().on_build.is_empty());
}

#[test]
fn triggers_that_bring_more() {
    assert!(steps(&plan("FROM trigger-from"))[1].starts_with("image nginx"));
    let stage = plan("FROM alpine AS first\nRUN x\nFROM trigger-stage");
    assert!(steps(&stage).last().unwrap().ends_with("copy 1 [\"/a\"] /b"), "{:?}", steps(&stage));
    assert_eq!(steps(&plan("FROM trigger-heredoc"))[1], "run 0 [\"/bin/sh\", \"-c\", \"echo hi\\n\"]");
    assert_eq!(execution("FROM trigger-var").env.last().unwrap(), "W=1");
}

#[test]
fn what_is_written_down() {
    let on_build = |lines: &str| execution(&format!("FROM alpine\n{lines}")).on_build;
    assert_eq!(on_build("ONBUILD RUN a \\\n  b"), ["RUN a   b"]);
    assert_eq!(on_build("ONBUILD COPY --from=x a b"), ["COPY --from=x a b"]);
    assert_eq!(on_build("ONBUILD RUN <<EOF\na\nEOF"), ["RUN <<EOF\na\nEOF"]);
    assert_eq!(on_build("ONBUILD ENV A=$B\nONBUILD CMD [\"x\"]"), ["ENV A=$B", "CMD [\"x\"]"]);
}

#[test]
fn triggers_that_are_wrong() {
    for (source, message) in [
        ("FROM alpine\nONBUILD", "2:1: ONBUILD requires at least one argument"),
        ("FROM alpine\nONBUILD ONBUILD RUN x", "2:9: ONBUILD cannot trigger another ONBUILD"),
        ("FROM alpine\nONBUILD FROM x", "2:9: FROM isn't allowed as an ONBUILD trigger"),
        ("FROM alpine\nonbuild maintainer x", "2:9: MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("FROM alpine\nONBUILD RUNN x", "2:9: unknown instruction: RUNN; did you mean RUN?"),
        ("FROM alpine\nONBUILD COPY a", "2:9: COPY requires at least two arguments: sources, and where to"),
        (
            "FROM trigger-bad",
            "1:1: the base's trigger `RUNN x`: unknown instruction: RUNN; did you mean RUN?",
        ),
        (
            "FROM trigger-nested",
            "1:1: the base's trigger `ONBUILD RUN x`: ONBUILD cannot trigger another ONBUILD",
        ),
        (
            "FROM alpine AS a\nONBUILD COPY --from=9 a b\nFROM a",
            "3:1: the base's trigger `COPY --from=9 a b`: there is no stage 9: stages are counted from 0 to 1",
        ),
    ] {
        assert_eq!(error(source), message, "{source}");
    }
}
