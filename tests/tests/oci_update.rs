//! `dhow-runtime`: limits, `update`, `events`, `features`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::eventually;
use harness::oci::{Bundle, Runtime};
use serde_json::{Value, json};

fn running(runtime: &Runtime, bundle: Bundle) -> (Bundle, String) {
    let id = runtime.id("box");
    runtime.start_detached(&bundle, &id);
    (bundle, id)
}

fn stats(runtime: &Runtime, id: &str) -> Value {
    let event: Value = serde_json::from_str(&runtime.ok(&["events", "--stats", id])).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(id)));
    event["data"].clone()
}

#[test]
fn limits_are_set_and_changed() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]).edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 100 << 20});
        spec["linux"]["resources"]["pids"] = json!({"limit": 50});
    });
    let (_bundle, id) = running(&runtime, bundle);
    let before = stats(&runtime, &id);
    assert_eq!(before["memory"]["usage"]["limit"], json!(100 << 20));
    assert_eq!(before["pids"], json!({"current": 1, "limit": 50}));
    runtime.ok(&[
        "update",
        "--memory",
        "64M",
        "--pids-limit",
        "20",
        "--cpu-quota",
        "50000",
        "--cpu-period",
        "100000",
        &id,
    ]);
    let after = stats(&runtime, &id);
    assert_eq!(after["memory"]["usage"]["limit"], json!(64 << 20));
    assert_eq!(after["pids"]["limit"], json!(20));
    let resources = json!({"pids": {"limit": 30}}).to_string();
    runtime.command(&["update", "--resources", "-", &id]).input(&resources).ok();
    assert_eq!(stats(&runtime, &id)["pids"]["limit"], json!(30));
    let file = runtime.scratch().join("resources.json");
    std::fs::write(&file, json!({"memory": {"limit": 80 << 20}}).to_string()).unwrap();
    runtime.ok(&["update", "-r", file.to_str().unwrap(), &id]);
    let last = stats(&runtime, &id);
    assert_eq!((&last["memory"]["usage"]["limit"], &last["pids"]["limit"]), (&json!(80 << 20), &json!(30)));
    runtime.fails(1, &["update", "--memory", "much", &id]);
}

#[test]
fn events_tell_of_use_and_of_want() {
    let runtime = Runtime::new();
    // The shell goes on when what it starts is killed.
    let script = "read go; tail -c 200m /dev/zero | cat > /dev/null; sleep 1000";
    let bundle = Bundle::running(&["sh", "-c", script]).edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 32 << 20, "swap": 32 << 20});
    });
    let id = runtime.id("box");
    let mut container = runtime.spawn(&["run", "--bundle", bundle.path().to_str().unwrap(), &id]);
    eventually("it to run", || (runtime.run(&["state", &id]).stdout.contains("running")).then_some(()));
    let events = runtime.spawn(&["events", "--interval", "50ms", &id]);
    events.expect("\"type\":\"stats\"");
    container.write("\n");
    events.expect("\"type\":\"oom\"");
    runtime.ok(&["kill", &id, "KILL"]);
    let output = events.wait();
    assert_eq!(output.code, 0, "{output:#?}");
    for line in output.stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["id"], json!(id), "{line}");
    }
    assert_eq!(container.wait().code, 137);
}

#[test]
fn features_tell_what_the_runtime_knows() {
    let runtime = Runtime::new();
    let features: Value = serde_json::from_str(&runtime.ok(&["features"])).unwrap();
    assert_eq!((&features["ociVersionMin"], &features["ociVersionMax"]), (&json!("1.0.0"), &json!("1.3.0")));
    let options = features["mountOptions"].as_array().unwrap();
    for option in ["ro", "rbind", "rro", "tmpcopyup", "idmap", "rslave"] {
        assert!(options.contains(&json!(option)), "{option}: {options:?}");
    }
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], json!(true));
    assert_eq!(features["hooks"].as_array().unwrap().len(), 6);
}

#[test]
fn limits_that_are_none_are_refused() {
    let runtime = Runtime::new();
    let (_bundle, id) = running(&runtime, Bundle::running(&["sleep", "1000"]));
    let message = runtime.fails(1, &["update", "--cpu-share", "1", &id]);
    assert!(message.contains("the minimum allowed cpu-shares is 2"), "{message}");
    let file = runtime.scratch().join("resources.json");
    // By who makes a container just as by who changes one.
    for (wrong, why) in [
        (json!({"cpu": {"shares": 1}}), "the minimum allowed cpu-shares is 2"),
        (json!({"cpu": {"shares": 300_000}}), "the maximum allowed cpu-shares is 262144"),
        (json!({"memory": {"limit": -5}}), "memory.limit is less than -1"),
        (json!({"memory": {"limit": 64 << 20, "swap": -2}}), "memory.swap is less than -1"),
        (json!({"memory": {"reservation": -7}}), "memory.reservation is less than -1"),
    ] {
        std::fs::write(&file, wrong.to_string()).unwrap();
        let message = runtime.fails(1, &["update", "-r", file.to_str().unwrap(), &id]);
        assert!(message.contains(why), "{wrong}: {message}");
        let bundle = Bundle::running(&["true"]).edit(|spec| spec["linux"]["resources"] = wrong.clone());
        for verb in ["create", "run"] {
            let message = runtime.fails(1, &[verb, "--bundle", bundle.text(), &runtime.id("wrong")]);
            assert!(message.contains(why), "{verb} {wrong}: {message}");
        }
    }
}

#[test]
fn statistics_tell_of_what_is_not_limited() {
    let runtime = Runtime::new();
    let (_bundle, id) = running(&runtime, Bundle::running(&["sleep", "1000"]));
    let data = stats(&runtime, &id);
    let online = std::thread::available_parallelism().unwrap().get();
    assert_eq!(data["cpuset"]["cpus"].as_array().unwrap().len(), online, "{data}");
    assert!(!data["cpuset"]["mems"].as_array().unwrap().is_empty(), "{data}");
    assert!(data["cpuset"]["sched_relax_domain_level"].is_i64(), "{data}");
    let limit = &data["memory"]["usage"]["limit"];
    // On v1 what memory.limit_in_bytes says then.
    let expected = std::fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes")
        .map_or(u64::MAX, |text| text.trim().parse().unwrap());
    assert_eq!(limit, &json!(expected));
}
