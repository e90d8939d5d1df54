//! Health checks, and what is done about what they find.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, eventually};
use serde_json::{Value, json};

#[track_caller]
fn await_health(dhow: &Dhow, name: &str, status: &str) -> Value {
    eventually("the health", || {
        let health = dhow.inspect(name)["State"]["Health"].clone();
        (health["Status"] == status).then_some(health)
    })
}

const QUICK: [&str; 8] =
    ["--network", "none", "--health-interval", "50ms", "--health-timeout", "5s", "--health-retries", "2"];

#[track_caller]
fn run(dhow: &Dhow, name: &str, check: &str, more: &[&str], script: &str) {
    let args = [&["run", "-d", "--name", name, "--health-cmd", check][..], &QUICK, more].concat();
    dhow.ok(&[&args[..], &["busybox", "sh", "-c", script]].concat());
}

#[test]
fn health_follows_from_the_probes() {
    let dhow = Dhow::new("health");
    run(&dhow, "box", "echo probed; test -e /good", &[], "sleep 1000");
    let health = await_health(&dhow, "box", "unhealthy");
    assert!(health["FailingStreak"].as_u64().unwrap() >= 2, "{health}");
    let last = &health["Log"].as_array().unwrap()[0];
    assert_eq!((&last["ExitCode"], &last["Output"]), (&json!(1), &json!("probed\n")));
    assert!(dhow.ok(&["ps", "--format", "{{.Status}}"]).ends_with("(unhealthy)"));
    dhow.ok(&["exec", "box", "touch", "/good"]);
    let health = await_health(&dhow, "box", "healthy");
    assert_eq!(health["FailingStreak"], 0);
    assert_eq!(dhow.ok(&["ps", "-q", "--filter", "health=healthy"]).lines().count(), 1);
    assert_eq!(dhow.ok(&["ps", "-q", "--filter", "health=unhealthy"]), "");
    let check = &dhow.inspect("box")["Config"]["Healthcheck"];
    assert_eq!(check["Test"], json!(["CMD-SHELL", "echo probed; test -e /good"]));
    assert_eq!((&check["Interval"], &check["Retries"]), (&json!(50_000_000), &json!(2)));
}

#[test]
fn a_probe_that_hangs_is_ended_and_counts() {
    let dhow = Dhow::new("health-hang");
    run(&dhow, "box", "exec sleep 1000", &["--health-timeout", "100ms"], "sleep 1000");
    let health = await_health(&dhow, "box", "unhealthy");
    let last = &health["Log"].as_array().unwrap()[0];
    assert_eq!(last["ExitCode"], -1);
    assert!(last["Output"].as_str().unwrap().contains("exceeded timeout"), "{last}");
    // Nothing of the probes stays in the container but the one that runs.
    let sleeping = dhow.ok(&["exec", "box", "sh", "-c", "ls -d /proc/[0-9]* | wc -l"]);
    assert!(sleeping.parse::<u32>().unwrap() < 8, "{sleeping}");
}

#[test]
fn in_the_start_period_failures_do_not_count() {
    let dhow = Dhow::new("health-start");
    let more = ["--health-start-period", "1h", "--health-start-interval", "20ms"];
    run(&dhow, "box", "exit 1", &more, "sleep 1000");
    let health = eventually("five probes", || {
        let health = dhow.inspect("box")["State"]["Health"].clone();
        (health["Log"].as_array()?.len() == 5).then_some(health)
    });
    assert_eq!((&health["Status"], &health["FailingStreak"]), (&json!("starting"), &json!(0)));
}

#[test]
fn an_unhealthy_container_is_killed_stopped_or_started_again() {
    let dhow = Dhow::new("health-acts");
    let script = "echo run; trap 'exit 5' TERM; while :; do sleep 0.02; done";
    for (name, action) in [("kill", "kill"), ("stop", "stop"), ("restart", "restart")] {
        run(&dhow, name, "exit 1", &["--health-on-failure", action], script);
    }
    for (name, code) in [("kill", 137), ("stop", 5)] {
        let state = eventually("the end", || {
            let state = dhow.inspect(name)["State"].clone();
            (state["Status"] == "exited").then_some(state)
        });
        assert_eq!(state["ExitCode"], code, "{name}");
        // What it was ended for is still told.
        assert_eq!(state["Health"]["Status"], "unhealthy", "{name}");
        // On a busy machine a probe may have had no time to fail.
        let log = state["Health"]["Log"].as_array().unwrap();
        assert!(log.iter().any(|probe| probe["ExitCode"] == 1), "{name}: {log:?}");
    }
    eventually("a second run", || (dhow.ok(&["logs", "restart"]).lines().count() > 1).then_some(()));
    // A kill is an end as any other: a policy may start it again.
    run(&dhow, "again", "exit 1", &["--health-on-failure", "kill", "--restart", "always"], script);
    eventually("a second run", || (dhow.inspect("again")["RestartCount"].as_u64()? > 0).then_some(()));
}

#[test]
fn what_is_paused_is_not_ill() {
    let dhow = Dhow::new("health-pause");
    run(&dhow, "box", "true", &[], "sleep 1000");
    await_health(&dhow, "box", "healthy");
    dhow.ok(&["pause", "box"]);
    let log = || dhow.inspect("box")["State"]["Health"]["Log"].clone();
    // One may have been on its way.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let probes = log();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(log(), probes);
    assert_eq!(dhow.inspect("box")["State"]["Health"]["Status"], "healthy");
    dhow.ok(&["unpause", "box"]);
    eventually("more probes", || (log() != probes).then_some(()));
}

#[test]
fn a_commit_and_the_probes_do_not_hinder_each_other() {
    let dhow = Dhow::new("health-commit");
    run(&dhow, "box", "true", &["--health-interval", "1ms"], "head -c 3000000 /dev/urandom > /x; sleep 1000");
    await_health(&dhow, "box", "healthy");
    for n in 0..5 {
        dhow.ok(&["commit", "box", &format!("image:{n}")]);
        assert_eq!(dhow.ok(&["exec", "box", "echo", "lives"]), "lives");
    }
    // Paused while it is committed, it stays so.
    dhow.ok(&["pause", "box"]);
    dhow.ok(&["commit", "box", "image:paused"]);
    assert_eq!(dhow.inspect("box")["State"]["Status"], "paused");
    dhow.ok(&["unpause", "box"]);
    assert_eq!(dhow.inspect("box")["State"]["Health"]["Status"], "healthy");
}

#[test]
fn the_images_check_holds_and_can_be_switched_off() {
    let dhow = Dhow::new("health-image");
    let check = r#"HEALTHCHECK --interval=50ms --retries=1 CMD ["true"]"#;
    dhow.ok(&["create", "--name", "base", "--network", "none", "busybox", "sleep", "1000"]);
    dhow.ok(&["commit", "-c", check, "base", "checked"]);
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "checked", "sleep", "1000"]);
    await_health(&dhow, "box", "healthy");
    dhow.ok(&[
        "run",
        "-d",
        "--name",
        "off",
        "--network",
        "none",
        "--no-healthcheck",
        "checked",
        "sleep",
        "1000",
    ]);
    assert_eq!(dhow.inspect("off")["State"]["Health"], Value::Null);
    let line = dhow.fails(125, &["run", "--health-retries", "2", "--network", "none", "busybox", "true"]);
    assert!(line.contains("--health-cmd"), "{line}");
}
