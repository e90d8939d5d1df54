//! A build may be killed at any point: what it had done is found again, what it was at leaves nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use harness::building::Context;
use harness::{Dhow, eventually, random, soak};
use rustix::process::Signal;

const DOCKERFILE: &str = "\
FROM busybox AS a
RUN echo a >/a && dd if=/dev/zero of=/zeros bs=64k count=16 2>/dev/null
RUN --mount=type=cache,target=/c echo x >>/c/x && sleep 0.05
FROM busybox AS b
COPY input /b
RUN sleep 0.1; cat /b >/c
FROM busybox
COPY --from=a /a /a
COPY --from=b /c /b
RUN cat /a /b >/all
";

fn leftovers(dhow: &Dhow) -> Vec<String> {
    let in_layers = std::fs::read_dir(dhow.root().join("layers")).unwrap().flatten();
    let unfinished =
        in_layers.map(|e| e.file_name().into_string().unwrap()).filter(|name| name.starts_with('.'));
    // Of a container that has ended somebody may still clean up.
    let live = std::fs::read_dir(dhow.run_root().join("containers")).unwrap().flatten();
    let live = live.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let running = std::fs::read_dir(dhow.root().join("build/running")).into_iter().flatten().flatten();
    let files = unfinished.chain(live.chain(running).map(|e| e.file_name().into_string().unwrap()));
    // What a RUN had: its mounts, its group, its processes.
    files.chain(dhow.nothing_runs().err()).collect()
}

/// Whether a step was found in the cache, by what a build told.
fn was_cached(told: &str, step: &str) -> bool {
    let number = told.lines().find(|line| line.ends_with(step)).and_then(|line| line.split(' ').next());
    let number = number.unwrap_or_else(|| panic!("no {step}: {told}"));
    told.lines().any(|line| line == format!("{number} CACHED"))
}

#[test]
fn soak_a_build_may_be_killed_at_any_point() {
    let dhow = Dhow::new("build-kill");
    let context = Context::new(&dhow, "context").with("Dockerfile", DOCKERFILE);
    let mut longest = Duration::from_millis(900);
    for round in 0..soak(12, 300) {
        context.write("input", format!("{round}\n"));
        let began = Instant::now();
        let mut build = context.command(&["-t", "x"]).spawn();
        let wait = longest.as_micros() as u64;
        std::thread::sleep(Duration::from_micros(random(wait)));
        build.kill();
        drop(build);
        // The next one is right, whatever was left.
        let again = Instant::now();
        context.build(&["-t", "x"]);
        longest = longest.min(again.elapsed().max(Duration::from_millis(200)));
        let said = dhow.ok(&["run", "--rm", "--network", "none", "x", "cat", "/all"]);
        assert_eq!(said, format!("a\n{round}"), "after {:?}", began.elapsed());
        assert_eq!(leftovers(&dhow), [""; 0], "round {round}");
    }
    let check = dhow.run(&["system", "check"]);
    assert_eq!(check.code, 0, "{}", check.stdout.lines().take(8).collect::<String>());
}

#[test]
fn an_interrupt_ends_a_build_and_what_it_runs() {
    let dhow = Dhow::new("build-interrupt");
    let context = Context::new(&dhow, "context")
        .with("Dockerfile", "FROM busybox\nRUN echo a >/a\nRUN echo began; sleep 1000\n");
    let build = context.command(&[]).spawn();
    eventually("the command runs", || build.stderr().contains("began").then_some(()));
    let began = Instant::now();
    build.signal(Signal::INT);
    let output = build.wait();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("the build was interrupted"), "{}", output.stderr);
    assert_eq!(leftovers(&dhow), [""; 0]);
    // What was done is found again.
    context.write("Dockerfile", "FROM busybox\nRUN echo a >/a\n");
    let told = context.build(&[]);
    assert!(was_cached(&told, "[2/2] RUN echo a >/a"), "{told}");
}

#[test]
fn what_a_killed_build_had_done_is_found_again() {
    let dhow = Dhow::new("build-killed");
    let dockerfile =
        "FROM busybox\nRUN echo a >/a\nRUN --mount=type=cache,target=/c echo began; sleep 1000\n";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    let mut build = context.command(&[]).spawn();
    eventually("the command runs", || build.stderr().contains("began").then_some(()));
    build.kill();
    drop(build);
    context.write("Dockerfile", dockerfile.replace("; sleep 1000", ""));
    let told = context.build(&[]);
    assert!(was_cached(&told, "[2/3] RUN echo a >/a"), "{told}");
    assert!(!was_cached(&told, "target=/c echo began"), "{told}");
    assert_eq!(leftovers(&dhow), [""; 0]);
}

#[test]
fn two_builds_of_the_same_share_the_work() {
    let dhow = Dhow::new("build-two");
    let dockerfile =
        "FROM busybox\nRUN --mount=type=cache,target=/c echo x >>/c/x; wc -l </c/x >/n; sleep 1\n";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    let builds = [context.command(&["-t", "x"]).spawn(), context.command(&["-t", "y"]).spawn()];
    for build in builds {
        let output = build.wait();
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
    assert_eq!(dhow.inspect("x")["Id"], dhow.inspect("y")["Id"]);
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "x", "cat", "/n"]), "1");
}
