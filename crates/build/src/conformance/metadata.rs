//! What each instruction writes into the configuration and the history.

use oci::image::Healthcheck;

use super::support::*;

#[test]
fn the_history() {
    for (line, expected) in [
        ("ENV A=b C=\"d e\"", "- ENV A=b C=d e"),
        ("ENV A b c", "- ENV A=b c"),
        ("LABEL a=b \"c d\"=e", "- LABEL a=b c d=e"),
        ("ARG A B=1", "- ARG A B=1"),
        ("CMD [\"x\"]", "- CMD [\"x\"]"),
        ("ENTRYPOINT [\"a\", \"b\"]", "- ENTRYPOINT [\"a\" \"b\"]"),
        ("EXPOSE 80", "- EXPOSE [80/tcp]"),
        ("EXPOSE 443 80/udp 9000-9002/sctp", "- EXPOSE [443/tcp 80/udp 9000/sctp 9001/sctp 9002/sctp]"),
        ("EXPOSE 9 80", "- EXPOSE [80/tcp 9/tcp]"),
        ("VOLUME /a /b", "- VOLUME [/a /b]"),
        ("USER a:b", "- USER a:b"),
        ("WORKDIR /a", "WORKDIR /a"),
        ("WORKDIR /", "- WORKDIR /"),
        ("WORKDIR a/../b/", "WORKDIR /b"),
        ("WORKDIR /a\nWORKDIR b", "WORKDIR /a/b"),
        ("WORKDIR /a\nWORKDIR ../..", "- WORKDIR /"),
        ("WORKDIR with blanks", "WORKDIR /with blanks"),
        ("STOPSIGNAL SIGKILL", "- STOPSIGNAL SIGKILL"),
        ("STOPSIGNAL 9", "- STOPSIGNAL 9"),
        ("STOPSIGNAL rtmin+3", "- STOPSIGNAL rtmin+3"),
        ("SHELL [\"a\", \"b\"]", "- SHELL [a b]"),
        ("MAINTAINER me <me@x>", "- MAINTAINER me <me@x>"),
        ("RUN make", "RUN /bin/sh -c make # buildkit"),
        ("RUN [\"make\", \"all\"]", "RUN make all # buildkit"),
        ("COPY a b", "COPY a b # buildkit"),
        ("ADD a b /c/", "ADD a b /c/ # buildkit"),
        ("COPY --link --chmod=1 --chown=2 a b", "COPY --chown=2 --chmod=1 a b # buildkit"),
        ("COPY --parents a b", "COPY --parents a b # buildkit"),
        (
            "HEALTHCHECK NONE",
            "- HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        ),
        (
            "HEALTHCHECK --interval=5m --timeout=1.5s --start-period=1h --start-interval=500ms --retries=3 CMD curl x",
            "- HEALTHCHECK {Test:[CMD-SHELL curl x] Interval:5m0s Timeout:1.5s StartPeriod:1h0m0s StartInterval:500ms Retries:3}",
        ),
        ("ARG A=1\nRUN x", "RUN |1 A=1 /bin/sh -c x # buildkit"),
        ("ARG A=1 B\nRUN x", "RUN |2 A=1 B= /bin/sh -c x # buildkit"),
        ("ARG A=1\nARG A=2\nRUN x", "RUN |1 A=2 /bin/sh -c x # buildkit"),
        ("ARG A=1\nENV A=3\nRUN x", "RUN |1 A=3 /bin/sh -c x # buildkit"),
    ] {
        let plan = plan(&format!("FROM alpine\n{line}"));
        assert_eq!(history(&plan).last().unwrap(), expected, "{line}");
        let line = plan.config.history.last().unwrap();
        assert_eq!((line.comment.as_deref(), &line.created), (Some("buildkit.dockerfile.v0"), &None));
    }
    assert!(history(&plan("FROM alpine\nONBUILD RUN x")).is_empty(), "a trigger leaves no line");
}

#[test]
fn the_base_is_kept() {
    let built = plan("FROM full");
    let config = &built.config;
    assert_eq!((&config.created, config.history.len()), (&None, 1));
    assert_eq!(config.history[0].created.as_deref(), Some("then"));
    let execution = config.config.clone().unwrap();
    assert_eq!(execution.entrypoint.unwrap(), ["/entry"]);
    assert_eq!(execution.cmd.unwrap(), ["sh"]);
    assert_eq!((&*execution.user, &*execution.working_dir), ("app", "/srv"));
    assert_eq!(execution.env, ["PATH=/bin", "BASE=1"]);
    assert_eq!(built.base.unwrap().reference, "full");
    let more =
        plan("FROM full\nWORKDIR x\nEXPOSE 81\nVOLUME /more\nENV BASE=2 Z=3\nRUN y").config.config.unwrap();
    assert_eq!(more.working_dir, "/srv/x");
    assert_eq!(more.exposed_ports.into_iter().collect::<Vec<_>>(), ["80/tcp", "81/tcp"]);
    assert_eq!(more.volumes.into_iter().collect::<Vec<_>>(), ["/data", "/more"]);
    assert_eq!(more.env, ["PATH=/bin", "BASE=2", "Z=3"]);
}

#[test]
fn commands_and_entrypoints() {
    let both = |lines: &str| {
        let execution = execution(&format!("FROM full\n{lines}"));
        (execution.entrypoint, execution.cmd)
    };
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    assert_eq!(both("CMD [\"a\"]"), (words(&["/entry"]), words(&["a"])));
    assert_eq!(both("ENTRYPOINT [\"b\"]"), (words(&["b"]), None), "the base's command goes");
    assert_eq!(
        both("CMD [\"a\"]\nENTRYPOINT [\"b\"]"),
        (words(&["b"]), words(&["a"])),
        "the stage's own stays"
    );
    assert_eq!(both("ENTRYPOINT [\"b\"]\nCMD [\"a\"]"), (words(&["b"]), words(&["a"])));
    assert_eq!(both("ENTRYPOINT []"), (None, None));
    assert_eq!(both("CMD []"), (words(&["/entry"]), None));
    assert_eq!(both("CMD a b").1, words(&["/bin/bash", "-c", "a b"]), "by the base's shell");
    assert_eq!(both("CMD [\"a\"]\nCMD [\"c\"]").1, words(&["c"]));
    let later = execution("FROM full AS one\nCMD [\"a\"]\nFROM one\nENTRYPOINT [\"b\"]");
    assert_eq!((later.entrypoint, later.cmd), (words(&["b"]), None), "another stage's goes");
    assert!(execution("FROM alpine\nCMD [\"a\"]").args_escaped && !execution("FROM alpine").args_escaped);
}

#[test]
fn what_else_is_in_the_configuration() {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(execution("FROM scratch").env, [path]);
    assert_eq!(execution("FROM scratch").working_dir, "/");
    assert_eq!(execution("FROM bare").env, [path]);
    assert_eq!(execution("FROM bare\nENV PATH=/x").env, ["PATH=/x"]);
    let execution = execution(
        "FROM alpine\nUSER u\nSTOPSIGNAL SIGINT\nSHELL [\"s\"]\nVOLUME /v\nONBUILD RUN a\nONBUILD copy . /b\n\
         HEALTHCHECK --interval=1s CMD [\"p\", \"q\"]",
    );
    assert_eq!((&*execution.user, execution.stop_signal.as_deref()), ("u", Some("SIGINT")));
    assert_eq!(
        (&*execution.shell, &*execution.on_build),
        (&["s".to_owned()][..], &["RUN a".to_owned(), "copy . /b".to_owned()][..])
    );
    assert!(execution.volumes.contains("/v"));
    let test = ["CMD", "p", "q"].map(str::to_owned).to_vec();
    assert_eq!(
        execution.healthcheck,
        Some(Healthcheck { test, interval: 1_000_000_000, ..Healthcheck::default() })
    );
    assert_eq!(plan("FROM alpine\nMAINTAINER me").config.author.as_deref(), Some("me"));
    let arm = crate::Options { platform: linux("arm64"), ..options() };
    let plan = plan_with("FROM alpine", &arm).unwrap();
    assert_eq!((&*plan.config.platform.architecture, &plan.config.platform.variant), ("arm64", &None));
}

#[test]
fn ports() {
    for (line, expected) in [
        ("EXPOSE 80/TCP", "- EXPOSE [80/tcp]"),
        ("EXPOSE 127.0.0.1:80:90", "- EXPOSE [90/tcp]"),
        ("EXPOSE [::1]:80:90/udp", "- EXPOSE [90/udp]"),
        ("EXPOSE 80:90", "- EXPOSE [90/tcp]"),
        ("ENV P=\"1 2\"\nEXPOSE $P", "- EXPOSE [1/tcp 2/tcp]"),
        ("EXPOSE 0 65535", "- EXPOSE [0/tcp 65535/tcp]"),
        ("EXPOSE 8000-8000", "- EXPOSE [8000/tcp]"),
    ] {
        assert_eq!(history(&plan(&format!("FROM alpine\n{line}"))).last().unwrap(), expected, "{line}");
    }
    for line in [
        "EXPOSE",
        "EXPOSE a",
        "EXPOSE 65536",
        "EXPOSE 9-8",
        "EXPOSE 80/icmp",
        "EXPOSE /tcp",
        "EXPOSE x:1:2",
        "EXPOSE 1-2:3-5",
        "EXPOSE -1",
        "EXPOSE +1",
    ] {
        error(&format!("FROM alpine\n{line}"));
    }
}
