use proptest::prelude::*;

use super::*;
use crate::conformance::support::{Images, options, sound};

fn line() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a", "$A", "${B:-c}", "/x/", ".", "*.c", "\"q r\"", "80", "x=1", "$", "${", "<<E",
    ]);
    let words = prop::collection::vec(word, 0..4).prop_map(|words| words.join(" "));
    let keyword = prop::sample::select(vec![
        "FROM alpine",
        "FROM scratch AS a",
        "FROM a AS b",
        "FROM trigger",
        "FROM full",
        "ARG A=1",
        "ARG",
        "ENV",
        "LABEL",
        "RUN",
        "RUN --mount=type=cache,target=/c",
        "RUN --mount=from=a,target=/t",
        "COPY",
        "COPY --from=a",
        "COPY --from=0",
        "ADD",
        "CMD",
        "ENTRYPOINT",
        "EXPOSE",
        "VOLUME",
        "USER",
        "WORKDIR",
        "ONBUILD RUN",
        "ONBUILD COPY",
        "HEALTHCHECK CMD",
        "SHELL [\"s\"]",
        "STOPSIGNAL",
        "MAINTAINER",
        "COPY --link --parents --chmod=u+x",
        "ADD https://h/r.git",
        "E",
    ]);
    (keyword, words).prop_map(|(keyword, words)| format!("{keyword} {words}\n"))
}

#[test]
fn what_doubles_itself_has_an_end() {
    let doubled = "ENV A=$A$A\n".repeat(20);
    let message = |source: &str| plan(source, &options(), &Images).unwrap_err().to_string();
    assert!(message(&format!("FROM alpine\nENV A=x\n{doubled}ENV A=$A$A")).contains("longer than 1 MiB"));
    let much = format!("FROM alpine\nENV A=x\n{doubled}{}", "ENV B=$A\n".repeat(70));
    assert!(message(&much).contains("larger than 64 MiB"));
    let much = format!("FROM alpine\nENV A=x\n{doubled}{}", "RUN x\n".repeat(70));
    assert!(message(&much).contains("larger than 64 MiB"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_sound_or_there_is_an_error_in_a_place(lines in prop::collection::vec(line(), 0..12)) {
        let source = format!("FROM alpine\n{}", lines.concat());
        match plan(&source, &options(), &Images) {
            Ok(plan) => {
                sound(&plan);
                prop_assert_eq!(Ok(plan), super::plan(&source, &options(), &Images), "it is the same each time");
            }
            Err(error) => prop_assert!((1..=source.lines().count()).contains(&error.line()), "{}", error),
        }
        check(&source, &options(), &Images);
    }

    /// What names no variable and no quote is in the image as it is written.
    #[test]
    fn plain_values_are_kept(name in "[A-Z]{3,8}", value in "[a-z0-9][a-z0-9/:.,=-]{0,20}") {
        let source = format!("FROM bare\nENV X{name}={value}\nLABEL {name}={value}\nUSER {value}");
        let execution = plan(&source, &options(), &Images).unwrap().config.config.unwrap();
        prop_assert_eq!(&execution.env[1], &format!("X{name}={value}"));
        prop_assert_eq!(&execution.labels[&name], &value);
        prop_assert_eq!(execution.user, value);
    }
}

/// Nothing grows with the square of a text's length: at a hundred times this, which is what a Dockerfile may have, it would show.
#[test]
fn long_texts_are_planned() {
    let lines = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    for source in [
        lines(10_000, &|i| format!("ENV A{i}=x\n")),
        lines(10_000, &|i| format!("ARG A{i}=x$U{i}\n")),
        lines(5_000, &|i| format!("COPY $U{i} /x\nRUN y\n")),
        format!("COPY {} /x\n", "a ".repeat(30_000)),
        format!(
            "COPY {}/x\n{}",
            lines(10_000, &|i| format!("<<a{i} ")),
            lines(10_000, &|i| format!("a{i}\n"))
        ),
        format!("RUN {}\n", "x \\\n".repeat(100_000)),
        format!("CMD {}\n", "[".repeat(100_000)),
    ] {
        plan(&format!("FROM alpine\n{source}"), &options(), &Images).unwrap();
    }
}
