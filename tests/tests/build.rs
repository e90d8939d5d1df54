//! `build`: what a Dockerfile says becomes an image; what was done before is not done again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::building::Context;
use harness::{Dhow, eventually};
use serde_json::json;

const TWO_STAGES: &str = "\
FROM busybox AS builder
ARG WHO=world
WORKDIR /src
COPY input .
RUN echo \"hello $WHO: $(cat input)\" >greeting
FROM busybox
COPY --from=builder /src/greeting /greeting
ENV A=1 B=\"two words\"
LABEL own=yes
CMD [\"cat\", \"/greeting\"]
";

fn cached(told: &str) -> usize {
    told.lines().filter(|line| line.ends_with(" CACHED")).count()
}

#[test]
fn two_stages_become_one_image_and_are_found_again() {
    let dhow = Dhow::new("build");
    let context = Context::new(&dhow, "context").with("Dockerfile", TWO_STAGES).with("input", "one\n");
    let id = dhow.scratch().join("iid");
    let metadata = dhow.scratch().join("metadata");
    let told = context.build(&[
        "-t",
        "made:1",
        "-t",
        "made:2",
        "--iidfile",
        id.to_str().unwrap(),
        "--metadata-file",
        metadata.to_str().unwrap(),
        "--label",
        "more=too",
        "--annotation",
        "note=x",
    ]);
    assert!(told.contains("[builder 4/4] RUN echo"), "{told}");
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "made:1"]), "hello world: one");
    let image = dhow.inspect("made:2");
    assert_eq!(image["Id"], std::fs::read_to_string(id).unwrap());
    assert_eq!(image["Config"]["Labels"], json!({"own": "yes", "more": "too"}));
    let env = image["Config"]["Env"].as_array().unwrap();
    assert!(env.contains(&json!("A=1")) && env.contains(&json!("B=two words")), "{env:?}");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    assert_eq!(written["containerimage.config.digest"], image["Id"]);
    let history = dhow.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made:1"]);
    assert!(history.contains("COPY /src/greeting /greeting # buildkit"), "{history}");

    // All of it is found again, and is the same image.
    let told = context.build(&["-t", "made:1", "--label", "more=too", "--annotation", "note=x"]);
    assert_eq!(cached(&told), 5, "{told}");
    assert_eq!(dhow.inspect("made:1")["Id"], image["Id"]);

    // A clone is as good: names and bytes count, not times.
    let clone = Context::new(&dhow, "clone").with("Dockerfile", TWO_STAGES).with("input", "one\n");
    assert_eq!(cached(&clone.build(&[])), 5);

    // What changes is done again, and what does not follow from it is not.
    context.write("input", "two\n");
    let told = context.build(&["-t", "made:1", "--explain"]);
    assert!(told.contains("not cached: the file input changed"), "{told}");
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "made:1"]), "hello world: two");
    let told = context.build(&["--build-arg", "WHO=you", "--explain", "-t", "made:1"]);
    assert!(told.contains("not cached: the variable WHO changed"), "{told}");
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "made:1"]), "hello you: two");
}

#[test]
fn what_is_not_of_the_cache_is_done_again() {
    let dhow = Dhow::new("build-no-cache");
    let dockerfile = "FROM busybox AS a\nRUN head -c 8 /dev/urandom >/a\nFROM a AS b\nRUN true\n";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    let id = |args: &[&str]| {
        context.build(&[args, &["-t", "x"]].concat());
        dhow.inspect("x")["RootFS"]["Layers"].clone()
    };
    let first = id(&[]);
    assert_eq!(id(&[]), first);
    assert_eq!(id(&["--no-cache-filter", "b"]), first);
    assert_ne!(id(&["--no-cache-filter", "a"]), first);
    let third = id(&[]);
    assert_ne!(id(&["--no-cache"]), third);
}

#[test]
fn independent_stages_run_at_once() {
    let dhow = Dhow::new("build-parallel");
    let stage = |n: usize| format!("FROM busybox AS s{n}\nRUN sleep 1; echo {n} >/out\n");
    let copy = |n: usize| format!("COPY --from=s{n} /out /{n}\n");
    let text: String =
        (0..4).map(stage).chain(["FROM busybox\n".to_owned()]).chain((0..4).map(copy)).collect();
    let context = Context::new(&dhow, "context").with("Dockerfile", text);
    let began = std::time::Instant::now();
    // On a network: its locks must not be in the way.
    context.build(&["-t", "x", "--network", "default"]);
    assert!(began.elapsed().as_secs_f64() < 3.5, "{:?}", began.elapsed());
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "x", "cat", "/0", "/3"]), "0\n3");
}

#[test]
fn what_fails_says_where_and_why() {
    let dhow = Dhow::new("build-errors");
    let context = Context::new(&dhow, "context").with("Dockerfile", "FROM busybox\nRUN echo said; exit 7\n");
    let told = context.fails(&[]);
    let wanted = "process \"/bin/sh -c echo said; exit 7\" did not complete successfully: exit code: 7";
    assert!(told.contains(wanted) && told.contains(">>> RUN echo said; exit 7"), "{told}");
    assert!(told.contains("------\n > [2/2] RUN echo said; exit 7:"), "{told}");
    for (dockerfile, why) in [
        ("FROM busybox\nCOPY missing /x\n", "missing"),
        ("FROM busybox\nRUNN x\n", "did you mean RUN?"),
        ("FROM busybox\nRUN --mount=type=secret,id=s,required=true true\n", "secret s: not found"),
        ("FROM busybox\nRUN --security=insecure true\n", "--security=insecure is not allowed"),
        ("FROM busybox\nRUN --network=host true\n", "--network=host is not allowed"),
        ("FROM busybox\nUSER nobody-at-all\nRUN true\n", "nobody-at-all"),
        ("FROM busybox\nRUN [\"/no/such/program\"]\n", "/no/such/program"),
    ] {
        context.write("Dockerfile", dockerfile);
        let told = context.fails(&[]);
        assert!(told.contains(why), "{dockerfile}: {told}");
    }
    // Nothing of them is left.
    assert!(std::fs::read_dir(dhow.run_root().join("containers")).unwrap().next().is_none());
    let told = context.fails(&["--target", "nope"]);
    assert!(told.contains("nope"), "{told}");
    for args in [&["build", "/no/such/directory"][..], &["build", "--platform", "linux/s390x", "."]] {
        assert_eq!(dhow.run(args).code, 1, "{args:?}");
    }
}

#[test]
fn a_dockerfile_comes_from_standard_input_too() {
    let dhow = Dhow::new("build-stdin");
    let told =
        dhow.command(&["build", "--progress", "plain", "-q", "-"]).input("FROM busybox\nENV A=b\n").output();
    assert_eq!(told.code, 0, "{told:?}");
    let image = dhow.inspect(told.stdout.trim());
    assert!(image["Config"]["Env"].as_array().unwrap().contains(&json!("A=b")));
    let check = dhow.command(&["build", "--check", "-"]).input("FROM busybox as X\n").output();
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.stdout.contains("StageNameCasing"), "{check:?}");
}

#[test]
fn the_same_source_and_time_are_the_same_image_bit_for_bit() {
    let dockerfile = "FROM scratch\nCOPY tree /tree\nCOPY --from=tools / /tools\n";
    let tools =
        "FROM busybox\nRUN mkdir /made && echo x >/made/x && ln /made/x /made/y && rm /etc/not-executable\n";
    let build = |name: &str| {
        let dhow = Dhow::new(name);
        let context = Context::new(&dhow, "context")
            .with(
                "Dockerfile",
                dockerfile.replace(
                    "FROM scratch",
                    &format!("{}FROM scratch", tools.replace("FROM busybox", "FROM busybox AS tools")),
                ),
            )
            .with("tree/a/b", "c")
            .with("tree/d", "e");
        context.build(&["-t", "x", "--build-arg", "SOURCE_DATE_EPOCH=1700000000"]);
        let image = dhow.inspect("x");
        assert_eq!(image["Created"], "2023-11-14T22:13:20Z");
        let archive = dhow.scratch().join("image.tar");
        dhow.ok(&["save", "-o", archive.to_str().unwrap(), "x"]);
        (image["Id"].clone(), std::fs::read(archive).unwrap())
    };
    let one = build("build-same-1");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(one == build("build-same-2"), "the images differ");
}

#[test]
fn the_cache_is_listed_and_pruned() {
    let dhow = Dhow::new("build-cache");
    let dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/c,id=mine echo x >/c/x\nRUN echo y >/y\n";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    context.build(&["-t", "x"]);
    let listed = dhow.ok(&["builder", "du"]);
    assert!(listed.contains("RUN echo y") && listed.contains("cache mount mine"), "{listed}");
    // What the image has as well stays.
    dhow.ok(&["builder", "prune", "-f", "--filter", "type=regular"]);
    assert_eq!(cached(&context.build(&[])), 3);
    dhow.ok(&["rmi", "x"]);
    dhow.ok(&["image", "prune", "-f"]);
    assert_eq!(cached(&context.build(&["--output", "type=cacheonly"])), 3);
    dhow.ok(&["builder", "prune", "-af"]);
    assert!(!dhow.ok(&["builder", "du"]).contains("RUN"));
    assert_eq!(cached(&context.build(&["--output", "type=cacheonly"])), 1);
}

#[test]
fn a_cache_mount_in_use_stays() {
    let dhow = Dhow::new("build-cache-used");
    let dockerfile =
        "FROM busybox\nRUN --mount=type=cache,target=/c,id=mine touch /c/x; echo began; sleep 1000\n";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    let build = context.command(&[]).spawn();
    eventually("the command runs", || build.stderr().contains("began").then_some(()));
    let mounts = || dhow.ok(&["builder", "du", "--format", "{{.Type}} {{.Reclaimable}}"]);
    assert!(mounts().contains("exec.cachemount false"), "{}", mounts());
    let pruned = dhow.ok(&["builder", "prune", "-af", "--filter", "type=exec.cachemount"]);
    assert!(!pruned.contains("cache mount"), "{pruned}");
    assert!(mounts().contains("exec.cachemount false"), "{}", mounts());
    build.signal(rustix::process::Signal::INT);
    build.wait();
    assert!(mounts().contains("exec.cachemount true"), "{}", mounts());
    dhow.ok(&["builder", "prune", "-af"]);
    assert_eq!(mounts(), "");
}

#[test]
fn the_budget_is_of_all_that_is_kept_and_of_builds_that_fail() {
    let dhow = Dhow::new("build-budget");
    std::fs::write(dhow.root().parent().unwrap().join("config.toml"), "[build]\nkeep = \"2m\"\n").unwrap();
    let large = "dd if=/dev/urandom bs=64k count=64 2>/dev/null";
    let context = Context::new(&dhow, "context").with(
        "Dockerfile",
        format!("FROM busybox\nRUN --mount=type=cache,target=/c,id=mine {large} of=/c/x\n"),
    );
    let listed = || dhow.ok(&["builder", "du"]);
    context.build(&["--output", "type=cacheonly"]);
    assert!(!listed().contains("cache mount mine"), "{}", listed());
    context.write("Dockerfile", format!("FROM busybox\nRUN {large} of=/x\nRUN exit 1\n"));
    context.fails(&[]);
    assert!(!listed().contains("of=/x"), "{}", listed());
}

#[test]
fn the_context_decides_what_is_there() {
    let dhow = Dhow::new("build-ignore");
    let dockerfile =
        "FROM busybox\nCOPY . /all\nRUN --mount=type=bind,target=/ctx ls /ctx >/seen\nRUN ls /all\n";
    let context = Context::new(&dhow, "context")
        .with("Dockerfile", dockerfile)
        .with(".dockerignore", "hidden\n*.log\n")
        .with("hidden/x", "")
        .with("a.log", "")
        .with("shown", "");
    context.build(&["-t", "x"]);
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "x", "ls", "/all"]), "Dockerfile\nshown");
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "x", "cat", "/seen"]), "Dockerfile\nshown");
    // What is hidden changes nothing.
    context.write("a.log", "more");
    assert_eq!(cached(&context.build(&[])), 4);
}

#[test]
fn what_needs_consent_is_asked_for_first_and_always() {
    let dhow = Dhow::new("build-consent");
    for (flag, right) in [("--security=insecure", "security.insecure"), ("--network=host", "network.host")] {
        let dockerfile = format!("FROM busybox\nRUN echo {right} >/first\nRUN {flag} echo x >/x\n");
        let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
        let refused = |told: &str| {
            assert!(told.contains(&format!("{flag} is not allowed")), "{told}");
            assert!(!told.contains("RUN echo"), "a step was done: {told}");
        };
        refused(&context.fails(&[]));
        context.build(&["--allow", right]);
        // It is in the cache now, and as little allowed as before.
        refused(&context.fails(&[]));
    }
}

#[test]
fn an_error_of_a_dockerfile_is_told_once() {
    let dhow = Dhow::new("build-told-once");
    let context = Context::new(&dhow, "context").with("Dockerfile", "FROM busybox\nRUNN x\n");
    let told = context.fails(&[]);
    assert_eq!(told.matches("did you mean RUN?").count(), 1, "{told}");
    assert_eq!(told.matches("^^^^").count(), 1, "{told}");
}

#[test]
fn a_base_that_was_pulled_is_done_and_the_next_time_cached() {
    let dhow = Dhow::empty("build-pulled");
    let registry = harness::registry::Registry::new(harness::registry::Login::None);
    registry.add(&harness::image::Image::busybox("base"), "1");
    let from = format!("FROM {}/base:1\nENV A=b\n", registry.host());
    let context = Context::new(&dhow, "context").with("Dockerfile", from);
    assert_eq!(cached(&context.build(&[])), 0);
    assert_eq!(cached(&context.build(&[])), 1);
}

#[test]
fn flags_without_a_meaning_here_are_refused() {
    let dhow = Dhow::new("build-refused");
    let context = Context::new(&dhow, "context").with("Dockerfile", "FROM scratch\nENV A=b\n");
    for flag in [
        "--cache-from=type=registry,ref=a/b",
        "--cache-to=type=inline",
        "--sbom=true",
        "--provenance=mode=max",
    ] {
        let output = context.command(&["-q", flag]).output();
        assert_eq!(output.code, 125, "{flag}: {}", output.stderr);
        assert!(output.stderr.contains("leave it out"), "{flag}: {}", output.stderr);
    }
    for flag in ["--sbom=false", "--provenance=false"] {
        context.build(&[flag]);
    }
}
