//! What errors look like.

use super::support::*;

#[test]
fn unknown_instructions() {
    for (line, meant) in [
        ("RUNN x", "; did you mean RUN?"),
        ("rnu x", "; did you mean RUN?"),
        ("COPPY a b", "; did you mean COPY?"),
        ("ENTRYPONT x", "; did you mean ENTRYPOINT?"),
        ("WORKDIRR /", "; did you mean WORKDIR?"),
        ("EXPSOE 80", "; did you mean EXPOSE?"),
        ("HELTHCHECK NONE", "; did you mean HEALTHCHECK?"),
        ("FRMO x", "; did you mean FROM?"),
        ("&& make", ""),
        ("something else", ""),
        ("é", ""),
    ] {
        let word = line.split(' ').next().unwrap();
        assert_eq!(
            error(&format!("FROM alpine\n{line}")),
            format!("2:1: unknown instruction: {word}{meant}")
        );
    }
}

#[test]
fn a_report_shows_the_line() {
    let report = |source: &str| crate::plan(source, &options(), &Images).unwrap_err().report();
    assert_eq!(
        report("FROM alpine\nRUNN x"),
        "Dockerfile:2:1: unknown instruction: RUNN; did you mean RUN?\n 2 | RUNN x\n   | ^^^^\nthe instructions: \
         ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER \
         VOLUME WORKDIR"
    );
    assert_eq!(
        report("FROM alpine\nRUN a \\\n  && b\nENV \\\n  A=1 \\\n  é=\"$B${C\"\n"),
        "Dockerfile:6:8: `}` is missing after `${C`\n 6 |   é=\"$B${C\"\n   |        ^^^^"
    );
    assert_eq!(
        report("\u{feff}FROM alpine x"),
        "Dockerfile:1:13: FROM requires either one or three arguments\n 1 | FROM alpine x\n   |             ^\n\
         write FROM IMAGE or FROM IMAGE AS NAME"
    );
    assert_eq!(
        report("FROM alpine\n\tRUNN\u{1b}[1m x"),
        "Dockerfile:2:2: unknown instruction: RUNN\u{1b}[1m; did you mean RUN?"
            .replace("; did you mean RUN?", "")
            + "\n 2 |  RUNN [1m x\n   |  ^^^^^^^^\nthe instructions: ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK \
               LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR"
    );
    assert_eq!(
        report(""),
        "Dockerfile: the Dockerfile is empty: there is no instruction in it\nbegin with FROM and an image, or FROM scratch"
    );
    let named = crate::Options { file: "docker/Dev.Dockerfile".to_owned(), ..options() };
    let error = crate::plan("FROM alpine\nRUNN x", &named, &Images).unwrap_err();
    assert_eq!((error.line(), error.column(), error.suggestion()), (2, 1, Some("RUN")));
    assert!(error.to_string().starts_with("docker/Dev.Dockerfile:2:1: "));
}

#[test]
fn instructions_that_are_wrong() {
    for (line, message) in [
        ("ENTRYPOINT", "2:1: ENTRYPOINT requires at least one argument"),
        ("RUN", "2:1: RUN requires at least one argument"),
        ("USER", "2:1: USER requires exactly one argument"),
        ("WORKDIR", "2:1: WORKDIR requires exactly one argument"),
        ("WORKDIR $NONE", "2:9: the WORKDIR is empty"),
        ("STOPSIGNAL", "2:1: STOPSIGNAL requires exactly one argument"),
        ("STOPSIGNAL SIGNOPE", "2:12: invalid signal: SIGNOPE"),
        ("STOPSIGNAL 0", "2:12: invalid signal: 0"),
        ("STOPSIGNAL 65", "2:12: invalid signal: 65"),
        ("MAINTAINER", "2:1: MAINTAINER requires exactly one argument"),
        ("VOLUME", "2:1: VOLUME requires at least one argument"),
        ("VOLUME [\"\"]", "2:8: a VOLUME cannot be an empty text"),
        ("VOLUME [\" \"]", "2:8: a VOLUME cannot be an empty text"),
        ("VOLUME []", "2:1: VOLUME requires at least one argument"),
        ("HEALTHCHECK", "2:1: HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "2:1: HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "2:1: the command is missing after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "2:1: HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK CDM x", "2:13: unknown kind of HEALTHCHECK: CDM; did you mean CMD?"),
        ("HEALTHCHECK --interval=x CMD y", "2:13: invalid duration for --interval: `x`"),
        ("HEALTHCHECK --timeout=10us CMD y", "2:13: --timeout cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD y", "2:13: --retries is a number from 0 on, not `-1`"),
        (
            "HEALTHCHECK --intervall=1s CMD y",
            "2:13: unknown flag --intervall for HEALTHCHECK; did you mean --interval?",
        ),
        ("HEALTHCHECK --interval=1s --interval=2s CMD y", "2:27: the flag --interval may be given only once"),
        ("CMD --x a", "2:5: unknown flag --x for CMD"),
        ("EXPOSE 80/tpc", "2:8: invalid port: `80/tpc`: unknown protocol `tpc`: there are tcp, udp and sctp"),
        ("USER ${", "2:6: `}` is missing after `${`"),
    ] {
        assert_eq!(error(&format!("FROM alpine\n{line}")), message, "{line}");
    }
}

#[test]
fn only_what_is_built_is_an_error_in_its_words() {
    plan("FROM alpine AS a\nWORKDIR $NONE\nFROM alpine");
    error_with("FROM alpine AS a\nWORKDIR $NONE\nFROM alpine", &target("a"));
    error("FROM alpine AS a\nRUNN\nFROM alpine");
}
