//! config.md, "Process": what the command finds itself with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::oci::{Bundle, Runtime};
use harness::spec::{can, inside, never_runs};
use serde_json::{Value, json};

/// A line of /proc/self/status in a container.
fn status(name: &str, edit: impl FnOnce(&mut Value)) -> String {
    inside(&format!("sed -n 's/^{name}:[[:space:]]*//p' /proc/self/status"), edit)
}

// "Process", `consoleSize`: without a terminal it is ignored.
#[test]
fn the_size_of_no_console_is_ignored() {
    let said = inside("test -t 0 && echo terminal; echo on", |spec| {
        spec["process"]["terminal"] = json!(false);
        spec["process"]["consoleSize"] = json!({"height": 25, "width": 80});
    });
    assert_eq!(said, "on");
    let said = inside("echo on", |spec| {
        spec["process"].as_object_mut().unwrap().remove("terminal");
        spec["process"]["consoleSize"] = json!({"height": 0, "width": 0});
    });
    assert_eq!(said, "on");
}

// "Process", `cwd`: an absolute path, where the command is.
#[test]
fn the_working_directory_is_absolute() {
    assert_eq!(inside("pwd", |spec| spec["process"]["cwd"] = json!("/usr/bin")), "/usr/bin");
    for bad in ["", "tmp", "./tmp", "../"] {
        never_runs(&format!("cwd {bad:?}"), |spec| spec["process"]["cwd"] = json!(bad));
    }
}

// "Process", `args`, `env`: the command as execvp would find it, with this environment.
#[test]
fn the_command_is_found_and_gets_its_arguments() {
    let runtime = Runtime::new();
    let script = "#!/bin/sh\necho \"$0\" $# \"$2\"; env | sort";
    let bundle = Bundle::new().file("/opt/found", script).edit(|spec| {
        spec["process"]["args"] = json!(["found", "one", "two words"]);
        spec["process"]["env"] = json!(["PATH=/nowhere:/opt:/bin", "A=1", "B=two words", "EMPTY="]);
    });
    let said = runtime.said_by(&bundle);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "/opt/found 2 two words");
    for variable in ["A=1", "B=two words", "EMPTY=", "PATH=/nowhere:/opt:/bin"] {
        assert!(lines.contains(&variable), "{variable}: {said}");
    }
    assert!(!said.contains("LC_ALL"), "nothing of ours: {said}");
}

// "POSIX process", `rlimits`: getrlimit succeeds, and says what is configured.
#[test]
fn limits_are_as_configured() {
    let kinds = [
        "AS",
        "CORE",
        "CPU",
        "DATA",
        "FSIZE",
        "LOCKS",
        "MEMLOCK",
        "MSGQUEUE",
        "NICE",
        "NOFILE",
        "NPROC",
        "RSS",
        "RTPRIO",
        "RTTIME",
        "SIGPENDING",
        "STACK",
    ];
    let ours = |kind: &str| -> (u64, u64) {
        let probe = harness::Invocation::new(harness::bin_dir().join("probe"));
        let text = probe.args(&["limit", kind]).ok();
        let (soft, hard) = text.split_once(' ').unwrap();
        (soft.parse().unwrap(), hard.parse().unwrap())
    };
    for kind in kinds {
        // lower than ours, so that nobody needs a right to it; but it still has to do its work
        let (_, hard) = ours(kind);
        let enough = if ["NICE", "RTPRIO", "LOCKS"].contains(&kind) { 10 } else { 1 << 31 };
        let hard = hard.min(enough);
        let soft = hard.min(enough - 1);
        let limits = json!([{"type": format!("RLIMIT_{kind}"), "soft": soft, "hard": hard}]);
        let said =
            inside(&format!("exec /bin/probe limit {kind}"), |spec| spec["process"]["rlimits"] = limits);
        assert_eq!(said, format!("{soft} {hard}"), "{kind}");
    }
}

// "POSIX process", `rlimits`: a higher hard limit needs a right to it.
#[test]
fn a_hard_limit_is_raised_where_one_may() {
    if !can(&["CAP_SYS_RESOURCE"]) {
        return;
    }
    let limits = json!([{"type": "RLIMIT_CORE", "soft": u64::MAX, "hard": u64::MAX}]);
    let said = inside("exec /bin/probe limit CORE", |spec| spec["process"]["rlimits"] = limits);
    assert_eq!(said, format!("{0} {0}", u64::MAX));
}

// "POSIX process", `rlimits`: what the kernel does not know is an error.
#[test]
fn a_limit_that_there_is_not_is_an_error() {
    for kind in ["RLIMIT_NONESUCH", "NOFILE", "rlimit_nofile", ""] {
        never_runs(&format!("limit {kind:?}"), |spec| {
            spec["process"]["rlimits"] = json!([{"type": kind, "soft": 100, "hard": 100}]);
        });
    }
    never_runs("the soft limit is above the hard one", |spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]);
    });
}

// "POSIX process", `rlimits`: the same one twice is an error.
#[test]
fn a_limit_named_twice_is_an_error() {
    if !can(&["specification 1.1"]) {
        // the reference takes the last one
        return;
    }
    never_runs("twice", |spec| {
        let limit = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100});
        spec["process"]["rlimits"] = json!([limit, limit]);
    });
}

/// In the order of /proc/self/status.
const SETS: [(&str, &str); 5] = [
    ("CapInh", "inheritable"),
    ("CapPrm", "permitted"),
    ("CapEff", "effective"),
    ("CapBnd", "bounding"),
    ("CapAmb", "ambient"),
];

// "Linux Process", `capabilities`: each of the five sets.
#[test]
fn the_sets_of_capabilities_are_as_configured() {
    let script = "for set in CapInh CapPrm CapEff CapBnd CapAmb; do sed -n \"s/^$set:[[:space:]]*/$set /p\" /proc/self/status; done";
    let capabilities = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "ambient": ["CAP_KILL"],
    });
    let bit = |name: &str| {
        1_u64
            << ["CHOWN", "", "", "", "", "KILL", "", "SETUID", "", "", "", "", "", "NET_RAW"]
                .iter()
                .position(|known| format!("CAP_{known}") == name)
                .unwrap()
    };
    // not root, so that exec leaves the sets as they are: then ambient ones are all that it has
    let said = inside(script, |spec| {
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        spec["process"]["capabilities"] = capabilities.clone();
    });
    let set = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    for (line, name) in SETS {
        let wanted = match name {
            // what an exec by nobody in particular keeps of these two
            "permitted" | "effective" => bit("CAP_KILL"),
            _ => capabilities[name].as_array().unwrap().iter().map(|c| bit(c.as_str().unwrap())).sum(),
        };
        assert_eq!(set(line), wanted, "{name}: {said}");
    }
    // and root has after its exec what is permitted by the bounding set
    let root = status("CapPrm", |spec| {
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["process"]["capabilities"] = capabilities.clone();
    });
    let bounding: u64 =
        capabilities["bounding"].as_array().unwrap().iter().map(|c| bit(c.as_str().unwrap())).sum();
    assert_eq!(u64::from_str_radix(&root, 16).unwrap(), bounding);
}

// "Linux Process", `capabilities`: one that there is not, or that cannot be granted, is warned of and no error.
#[test]
fn a_capability_that_cannot_be_had_is_a_warning() {
    let warned = |capabilities: Value, name: &str| {
        let runtime = Runtime::new();
        let bundle =
            Bundle::running(&["echo", "on"]).edit(|spec| spec["process"]["capabilities"] = capabilities);
        let log = runtime.scratch().join("log");
        let output = runtime.run(&[
            "--log",
            log.to_str().unwrap(),
            "run",
            "--bundle",
            bundle.argument(),
            &runtime.id("box"),
        ]);
        assert_eq!((output.code, &*output.stdout), (0, "on\n"), "{output:#?}");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        assert!(
            format!("{log}{}", output.stderr).contains(name),
            "{name} is not spoken of: {log} {output:#?}"
        );
    };
    let set = json!(["CAP_KILL", "CAP_NONESUCH"]);
    warned(json!({"bounding": set, "effective": set, "permitted": set}), "CAP_NONESUCH");
    if can(&["specification 1.1"]) {
        // nobody can have one in its permitted set that is not in its bounding set
        if !harness::spec::has("CAP_SYS_RESOURCE") {
            let set = json!(["CAP_KILL", "CAP_SYS_RESOURCE"]);
            warned(json!({"bounding": set, "effective": set, "permitted": set}), "CAP_SYS_RESOURCE");
        }
    }
}

// "Linux Process", `noNewPrivileges`.
#[test]
fn no_new_privileges_is_as_configured() {
    assert_eq!(status("NoNewPrivs", |spec| spec["process"]["noNewPrivileges"] = json!(true)), "1");
    assert_eq!(status("NoNewPrivs", |spec| spec["process"]["noNewPrivileges"] = json!(false)), "0");
}

// "Linux Process", `oomScoreAdj`: set to what is said, and left alone where nothing is.
#[test]
fn the_score_of_the_oom_killer_is_as_configured() {
    let ours: i32 = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    let score = |edit: &dyn Fn(&mut Value)| -> i32 {
        inside("cat /proc/self/oom_score_adj", |s| edit(s)).parse().unwrap()
    };
    assert_eq!(score(&|_| {}), ours);
    let higher = (ours + 100).min(1000);
    assert_eq!(score(&|spec| spec["process"]["oomScoreAdj"] = json!(higher)), higher);
    // one that differs from the default: what is not said comes from the caller, not from the runtime
    let runtime = Runtime::new();
    let bundle = Bundle::script("cat /proc/self/oom_score_adj");
    let shell = harness::Invocation::new("sh").args(&[
        "-c",
        "echo 777 > /proc/self/oom_score_adj; exec \"$@\"",
        "sh",
    ]);
    let output = runtime.on(shell, &["run", "--bundle", bundle.argument(), &runtime.id("box")]).ok();
    assert_eq!(output, "777");
}

// "Linux Process", `oomScoreAdj`: a lower one needs a right to it.
#[test]
fn the_score_of_the_oom_killer_is_lowered_where_one_may() {
    if can(&["CAP_SYS_RESOURCE"]) {
        let said =
            inside("cat /proc/self/oom_score_adj", |spec| spec["process"]["oomScoreAdj"] = json!(-500));
        assert_eq!(said, "-500");
    }
}

// "Linux Process", `scheduler`: the policy; nice and priority are 0 where they are not said.
#[test]
fn the_scheduler_is_as_configured() {
    if !can(&["specification 1.1", "CAP_SYS_NICE"]) {
        return;
    }
    // as the probe prints it: policy, flags, nice, priority, runtime, deadline, period
    for (scheduler, expected) in [
        (json!({"policy": "SCHED_OTHER", "nice": 5}), "0 0 5 0"),
        (json!({"policy": "SCHED_OTHER"}), "0 0 0 0"),
        (json!({"policy": "SCHED_BATCH", "nice": 3}), "3 0 3 0"),
        (json!({"policy": "SCHED_IDLE"}), "5 0 0 0"),
    ] {
        let said =
            inside("exec /bin/probe scheduling", |spec| spec["process"]["scheduler"] = scheduler.clone());
        assert!(said.starts_with(expected), "{scheduler}: {said}");
    }
    // the caller's own is not inherited where one is said
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["/bin/probe", "scheduling"]).with_probe().edit(|spec| {
        spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH"});
    });
    let nice = harness::Invocation::new("nice").args(&["-n", "7"]);
    let said = runtime.on(nice, &["run", "--bundle", bundle.argument(), &runtime.id("box")]).ok();
    assert!(said.starts_with("3 0 0 0"), "{said}");
}

// "Linux Process", `ioPriority`.
#[test]
fn the_priority_of_io_is_as_configured() {
    if !can(&["specification 1.1"]) {
        return;
    }
    for (class, number) in [("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)] {
        let said = inside("exec /bin/probe io-priority", |spec| {
            spec["process"]["ioPriority"] = json!({"class": class, "priority": 4});
        });
        assert_eq!(said, format!("{number} 4"), "{class}");
    }
}

// "Linux Process", `execCPUAffinity`: of a further command, and not of the first one.
#[test]
fn a_further_command_has_its_own_processors() {
    let count = std::thread::available_parallelism().unwrap().get();
    if !can(&["specification 1.2"]) || count < 2 {
        return;
    }
    let runtime = Runtime::new();
    let list = "sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status";
    let bundle = Bundle::script(&format!("{list}; sleep 1000")).edit(|spec| {
        spec["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "1"});
    });
    let id = runtime.id("box");
    runtime.start_detached(&bundle, &id);
    assert_eq!(runtime.ok(&["exec", &id, "sh", "-c", list]), "1");
    let first = harness::eventually("its words", || runtime.said().lines().next().map(str::to_owned));
    assert_ne!(first, "1");
}

// "POSIX-platform User".
#[test]
fn the_user_is_as_configured() {
    let said = inside("id -u; id -g; id -G; umask", |spec| {
        spec["process"]["user"] = json!({"uid": 5, "gid": 6, "umask": 0o27, "additionalGids": [8, 9]});
    });
    assert_eq!(said, "5\n6\n6 8 9\n0027");
}
