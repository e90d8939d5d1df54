//! `RUN`: its mounts, networks, rights, variables.

use super::support::*;
use crate::graph::{Action, Run};

fn mounted(flags: &str) -> String {
    let steps = steps(&plan(&format!("FROM alpine\nWORKDIR /w\nRUN {flags} x")));
    steps.last().unwrap().split_once(" | ").unwrap().1.to_owned()
}

fn run(source: &str, options: &crate::Options) -> Run {
    let plan = plan_with(source, options).unwrap();
    match &plan.graph.steps.last().unwrap().action {
        Action::Run(run) => (**run).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn mounts() {
    for (flags, expected) in [
        ("--mount=type=bind,target=/t", "/t bind 2 /"),
        ("--mount=target=/t", "/t bind 2 /"),
        ("--mount=dst=t,src=a/../b,rw", "/w/t bind 2 /b rw"),
        ("--mount=destination=/t,readwrite=true", "/t bind 2 / rw"),
        ("--mount=target=/t,ro=false", "/t bind 2 / rw"),
        ("--mount=target=.", "/w bind 2 /"),
        ("--mount=from=nginx,source=/etc,target=/t", "/t bind 2 /etc"),
        ("--mount=type=cache,target=/c", "/c cache /c / Shared 755 0:0"),
        ("--mount=type=cache,target=c/", "/w/c cache c / Shared 755 0:0"),
        (
            "--mount=type=cache,id=i,target=/c,sharing=locked,mode=0700,uid=1,gid=2,ro",
            "/c cache i / Locked 700 1:2 ro",
        ),
        (
            "--mount=type=cache,target=/c,sharing=PRIVATE,from=nginx,source=/s",
            "/c cache /c from 2 /s Private 755 0:0",
        ),
        ("--mount=type=cache,target=/c,from=scratch", "/c cache /c / Shared 755 0:0"),
        ("--mount=type=tmpfs,target=/t", "/t tmpfs None"),
        ("--mount=type=tmpfs,target=/t,size=64m", "/t tmpfs Some(67108864)"),
        ("--mount=type=secret,id=s", "/run/secrets/s secret s 400 0:0"),
        ("--mount=type=secret,id=d/s", "/run/secrets/s secret d/s 400 0:0"),
        ("--mount=type=secret,source=s", "/run/secrets/s secret s 400 0:0"),
        ("--mount=type=secret,target=/x/s", "/x/s secret s 400 0:0"),
        (
            "--mount=type=secret,id=s,required,mode=0440,uid=5,gid=6",
            "/run/secrets/s secret s required 440 5:6",
        ),
        ("--mount=type=secret,id=s,required=true", "/run/secrets/s secret s required 400 0:0"),
        ("--mount=type=secret,id=s,env=E", " secret s as E"),
        ("--mount=type=secret,id=s,env=E,target=/x", " secret s as E | /x secret s 400 0:0"),
        ("--mount=type=ssh", "/run/buildkit/ssh_agent.0 ssh default 600 0:0"),
        ("--mount=type=ssh,id=k,target=/a,required,mode=0666", "/a ssh k required 666 0:0"),
        (
            "--mount=type=tmpfs,target=/a --mount=type=ssh",
            "/a tmpfs None | /run/buildkit/ssh_agent.1 ssh default 600 0:0",
        ),
        ("--mount='type=tmpfs,target=/a b'", "/a b tmpfs None"),
        ("--mount=TYPE=TMPFS,target=/t", "/t tmpfs None"),
    ] {
        assert_eq!(mounted(flags), expected, "{flags}");
    }
    let variables = plan("FROM alpine\nARG D=/d\nENV I=7\nRUN --mount=type=cache,target=$D,id=x$I y");
    assert!(steps(&variables)[1].ends_with("| /d cache x7 / Shared 755 0:0"));
    let stage = plan("FROM alpine AS a\nRUN x\nFROM alpine\nRUN --mount=from=A,target=/t y");
    assert!(steps(&stage).last().unwrap().ends_with("| /t bind 1 /"));
}

#[test]
fn mounts_that_are_wrong() {
    for (flags, message) in [
        ("--mount=typ=bind", "unknown key `typ` of a mount; did you mean type?"),
        ("--mount=type=bin", "unknown type `bin` of a mount; did you mean bind?"),
        (
            "--mount=type=cache,target=/c,sharing=shard",
            "unknown sharing `shard` of a mount; did you mean shared?",
        ),
        ("--mount=type=bind,target=/t,sharing=shared", "`sharing` is for mounts of type cache"),
        (
            "--mount=type=bind,target=/t,mode=1",
            "`mode`, `uid` and `gid` are for mounts of type cache, secret and ssh",
        ),
        (
            "--mount=type=tmpfs,target=/t,uid=1",
            "`mode`, `uid` and `gid` are for mounts of type cache, secret and ssh",
        ),
        ("--mount=type=bind,target=/t,size=1", "unexpected key `size` for a mount of type `bind`"),
        (
            "--mount=type=cache,target=/t,required=true",
            "unexpected key `required` for a mount of type `cache`",
        ),
        ("--mount=type=cache,target=/t,env=X", "unexpected key `env` for a mount of type `cache`"),
        ("--mount=type=cache,target=/", "the target of a mount cannot be the root"),
        ("--mount=type=cache,target=/t,mode=9", "`mode` is a number in octal, not `9`"),
        ("--mount=type=cache,target=/t,uid=-1", "`uid` is a number, not `-1`"),
        ("--mount=type=secret", "a secret needs an `id`, or a `target` that is named as it"),
        (
            "--mount=type=secret,id=a,source=b",
            "a secret has either an `id` or a `source`, which mean the same",
        ),
        ("--mount=type=secret,id=a,from=nginx", "a secret has no `from`"),
        ("--mount=type=ssh,source=/a", "a mount of type ssh has no `source`"),
        ("--mount=type=tmpfs,target=/t,size=lots", "`size` is a size as 64m, not `lots`"),
        ("--mount=target", "`target` has to be written `target=value`"),
        ("--mount=target=/t,ro=x", "`ro` is true or false, not `x`"),
        (
            "--mount=from=$X,target=/t",
            "variables are not replaced in `from`: define a stage with FROM and a global ARG instead",
        ),
        ("--mount=target=${X", "`}` is missing after `${`"),
        ("--mount", "the flag --mount of RUN needs a value"),
        ("--network=hst", "unknown network `hst`; did you mean host?"),
        ("--security=root", "unknown security mode `root`"),
        ("--device=x", "RUN --device is not supported"),
        ("--moutn=x", "unknown flag --moutn for RUN; did you mean --mount?"),
    ] {
        assert_eq!(error(&format!("FROM alpine\nRUN {flags} x")), format!("2:5: {message}"), "{flags}");
    }
}

#[test]
fn networks_and_rights() {
    for (flags, expected) in [
        ("", "run 0 [\"/bin/sh\", \"-c\", \"x\"]"),
        ("--network=default", "run 0 [\"/bin/sh\", \"-c\", \"x\"]"),
        ("--network=none", "run 0 [\"/bin/sh\", \"-c\", \"x\"] net=None"),
        ("--network=host", "run 0 [\"/bin/sh\", \"-c\", \"x\"] net=Host"),
        ("--security=sandbox", "run 0 [\"/bin/sh\", \"-c\", \"x\"]"),
        ("--security=insecure", "run 0 [\"/bin/sh\", \"-c\", \"x\"] insecure"),
    ] {
        assert_eq!(steps(&plan(&format!("FROM alpine\nRUN {flags} x")))[1], expected);
    }
}

#[test]
fn variables_user_and_directory() {
    let run_of = |lines: &str| run(&format!("FROM alpine\n{lines}\nRUN x"), &options());
    assert_eq!(run_of("").env, ["PATH=/bin", "BASE=1"]);
    assert_eq!(run_of("ENV A=1\nARG B=2\nARG C").env, ["PATH=/bin", "BASE=1", "A=1", "B=2"]);
    assert_eq!(run_of("ARG A=1\nENV A=2").env[2..], ["A=2"], "the later one holds");
    assert_eq!(run_of("ENV BASE=9").env, ["PATH=/bin", "BASE=9"]);
    assert_eq!((run_of("").directory, run_of("WORKDIR a").directory), ("/".to_owned(), "/a".to_owned()));
    assert_eq!((run_of("").user, run_of("USER u:g").user), (String::new(), "u:g".to_owned()));
    let agent = run("FROM alpine\nRUN --mount=type=ssh x", &options());
    assert!(agent.env.contains(&"SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0".to_owned()));
}

#[test]
fn proxies_are_passed_and_not_told() {
    let options = with_args(&[("http_proxy", "http://p"), ("NO_PROXY", "x")]);
    let built = run("FROM alpine\nRUN x", &options);
    for entry in ["HTTP_PROXY=http://p", "http_proxy=http://p", "NO_PROXY=x", "no_proxy=x"] {
        assert!(built.env.contains(&entry.to_owned()), "{entry}");
    }
    assert_eq!(built.unkeyed, ["NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy"]);
    let plan = plan_with("FROM alpine\nRUN x", &options).unwrap();
    assert_eq!(history(&plan), ["RUN /bin/sh -c x # buildkit"]);
    assert!(plan.warnings.is_empty());
    let declared = run("FROM alpine\nARG NO_PROXY\nRUN x", &options);
    assert!(!declared.unkeyed.contains(&"NO_PROXY".to_owned()), "one that is declared is like any other");
}

#[test]
fn titles_show_values_but_no_secrets() {
    let source = "FROM alpine\nARG A=1\nWORKDIR $A\nRUN --mount=type=secret,id=s,env=T echo $A \"$B\" $T\nRUN <<EOF\n\nfirst\nsecond\nEOF\nrun <<EOF\none\nEOF\n";
    assert_eq!(
        titles(&plan(source))[1..],
        [
            "[2/5] WORKDIR 1",
            "[3/5] RUN --mount=type=secret,id=s,env=T echo 1 \"$B\" ****",
            "[4/5] RUN <<EOF (first...)",
            "[5/5] RUN <<EOF (one)",
        ]
    );
}
