//! What a specification says of a process, as the process sees it. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::fs;

use base::Kind;
use oci::runtime::{
    Capabilities, IoPriority, MemoryPolicy, Mount, Personality, Process, Rlimit, Scheduler, User,
};
use runtime::{Bundle, capability};
use scratch::{Scratch, run};

/// A bundle whose process is root by number, as specifications from elsewhere have it.
fn bundle(scratch: &Scratch, args: &[&str]) -> Bundle {
    let mut bundle = scratch.bundle(args);
    process(&mut bundle).user = User::default();
    bundle
}

fn process(bundle: &mut Bundle) -> &mut Process {
    bundle.spec.process.as_mut().unwrap()
}

fn output(bundle: &Bundle) -> String {
    run(bundle).map_err(|e| base::failure::chain(&*e)).unwrap().1
}

fn failure(bundle: &Bundle) -> (Kind, String) {
    run(bundle).map_err(|e| (e.kind(), base::failure::chain(&*e))).unwrap_err()
}

fn shell(scratch: &Scratch, script: &str, change: impl FnOnce(&mut Process)) -> String {
    let mut bundle = bundle(scratch, &["sh", "-c", script]);
    change(process(&mut bundle));
    output(&bundle)
}

#[test]
fn the_umask_is_the_specifications_or_the_callers() {
    let scratch = Scratch::new("umask");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ours = status.lines().find_map(|l| l.strip_prefix("Umask:")).unwrap().trim();
    assert_eq!(shell(&scratch, "umask", |_| {}).trim(), ours);
    assert_eq!(shell(&scratch, "umask", |p| p.user.umask = Some(0o027)), "0027\n");
}

#[test]
fn it_is_scheduled_as_it_says() {
    let scratch = Scratch::new("sched");
    // proc_pid_stat(5): 19 is nice, 40 the realtime priority, 41 the policy.
    let fields = |scheduler: Scheduler| {
        let mut bundle = bundle(&scratch, &["busybox", "cat", "/proc/self/stat"]);
        process(&mut bundle).scheduler = Some(scheduler);
        let text = output(&bundle);
        let (_, rest) = text.split_once(") ").unwrap();
        let fields: Vec<i64> = rest.split_whitespace().map(|f| f.parse().unwrap_or(-1)).collect();
        (fields[19 - 3], fields[40 - 3], fields[41 - 3])
    };
    let of = |policy: &str| Scheduler { policy: policy.to_owned(), ..Scheduler::default() };
    assert_eq!(fields(Scheduler { nice: 7, ..of("SCHED_BATCH") }), (7, 0, 3));
    assert_eq!(fields(of("SCHED_IDLE")).2, 5);
    // It keeps the nice value that it came with.
    let ours = rustix::process::getpriority_process(None).unwrap().into();
    assert_eq!(fields(Scheduler { priority: 3, ..of("SCHED_FIFO") }), (ours, 3, 1));
    let mut wrong = bundle(&scratch, &["sh"]);
    process(&mut wrong).scheduler = Some(of("SCHED_ISO"));
    assert!(failure(&wrong).1.contains("scheduler"), "the kernel has no such policy");
}

#[test]
fn priorities_personality_and_memory_policy_are_set() {
    let scratch = Scratch::new("attributes");
    let mut bundle = bundle(
        &scratch,
        &["sh", "-c", "busybox ionice -p $$; busybox uname -m; busybox head -n 1 /proc/self/numa_maps"],
    );
    process(&mut bundle).io_priority = Some(IoPriority { class: "IOPRIO_CLASS_BE".into(), priority: 6 });
    let linux = bundle.spec.linux.as_mut().unwrap();
    linux.personality = Some(Personality { domain: "LINUX32".into(), flags: vec![] });
    linux.memory_policy = Some(MemoryPolicy { mode: "MPOL_BIND".into(), nodes: "0".into(), flags: vec![] });
    let text = output(&bundle);
    assert!(text.contains("best-effort: prio 6"), "{text}");
    assert!(text.contains("\ni686\n") || cfg!(not(target_arch = "x86_64")), "{text}");
    assert!(text.contains("bind:0"), "{text}");
    bundle.spec.linux.as_mut().unwrap().memory_policy =
        Some(MemoryPolicy { mode: "MPOL_BIND".into(), nodes: "1000".into(), flags: vec![] });
    assert!(failure(&bundle).1.contains("memory policy"), "there is no such node");
}

#[test]
fn the_badness_is_set_or_left_as_it_is() {
    let scratch = Scratch::new("oom");
    let ours = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let script = "busybox cat /proc/self/oom_score_adj";
    assert_eq!(shell(&scratch, script, |_| {}), ours);
    assert_eq!(shell(&scratch, script, |p| p.oom_score_adj = Some(789)), "789\n");
    // Without a /proc of its own, too.
    let mut bare = bundle(&scratch, &["busybox", "sleep", "100"]);
    bare.spec.mounts.retain(|m| m.kind.as_deref() != Some("proc"));
    let linux = bare.spec.linux.as_mut().unwrap();
    (linux.masked_paths, linux.readonly_paths) = (vec![], vec![]);
    process(&mut bare).oom_score_adj = Some(789);
    let plan = runtime::plan(&bare).unwrap();
    let running = runtime::launch(plan, scratch::stdio(scratch::pipe().1), &mut |_| Ok(())).unwrap();
    let text = fs::read_to_string(format!("/proc/{}/oom_score_adj", running.pid)).unwrap();
    rustix::process::pidfd_send_signal(&running.pidfd, rustix::process::Signal::KILL).unwrap();
    scratch::wait(&running);
    assert_eq!(text, "789\n");
}

#[test]
fn capabilities_are_exactly_what_is_asked_for() {
    let scratch = Scratch::new("sets");
    let sets = |uid: u32, change: &dyn Fn(&mut Capabilities)| {
        let text = shell(&scratch, "busybox grep Cap /proc/self/status", |process| {
            process.user.uid = uid;
            let mut sets = Capabilities {
                bounding: vec!["CAP_CHOWN".into(), "CAP_KILL".into()],
                ..Capabilities::default()
            };
            change(&mut sets);
            process.capabilities = Some(sets);
        });
        let value = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        text.lines().map(value).collect::<Vec<_>>()
    };
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    const BOTH: u64 = 1 | 1 << 5;
    // CapInh, CapPrm, CapEff, CapBnd, CapAmb.
    let chown = |sets: &mut Capabilities| {
        sets.permitted = list(&["CAP_CHOWN"]);
        sets.effective = list(&["CAP_CHOWN"]);
    };
    assert_eq!(sets(1000, &chown), [0, 0, 0, BOTH, 0], "exec takes them from who is not root");
    let ambient = |sets: &mut Capabilities| {
        chown(sets);
        sets.inheritable = list(&["CAP_CHOWN"]);
        sets.ambient = list(&["CAP_CHOWN"]);
    };
    assert_eq!(sets(1000, &ambient), [1, 1, 1, BOTH, 1]);
    assert_eq!(sets(0, &chown), [0, BOTH, BOTH, BOTH, 0], "exec gives root what is bounded");
    let inheritable = |sets: &mut Capabilities| sets.inheritable = list(&["CAP_KILL"]);
    assert_eq!(sets(1000, &inheritable), [1 << 5, 0, 0, BOTH, 0]);
}

#[test]
fn capabilities_that_cannot_be_granted_are_warnings() {
    let scratch = Scratch::new("grant");
    let mut bundle = bundle(&scratch, &["sh", "-c", "exit 4"]);
    let names: Vec<String> = [capability::names(), vec!["CAP_FLY".to_owned()]].concat();
    process(&mut bundle).capabilities = Some(Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names.clone(),
        inheritable: names.clone(),
        ambient: names,
    });
    let plan = runtime::plan(&bundle).unwrap();
    assert!(plan.warnings()[0].contains("CAP_FLY"), "{:?}", plan.warnings());
    let lacking = capability::Set::KNOWN.without(capability::Set::all()) != capability::Set::EMPTY;
    assert_eq!(plan.warnings().len(), 1 + usize::from(lacking), "{:?}", plan.warnings());
    assert_eq!(run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap().0, 4);
}

#[test]
fn a_numeric_user_executes_with_the_rights_that_are_configured() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("rights");
    let binary = scratch.path("lower/bin/private");
    fs::copy("/bin/busybox", &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o700)).unwrap();
    let mut bundle = bundle(&scratch, &["/bin/private", "echo", "hi"]);
    process(&mut bundle).user.uid = 1000;
    assert_eq!(failure(&bundle).0, Kind::CommandNotExecutable);
    let names = vec!["CAP_DAC_OVERRIDE".to_owned()];
    process(&mut bundle).capabilities = Some(Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..Capabilities::default()
    });
    // What applet it is its name tells; that it was executed is the point.
    assert!(output(&bundle).contains("applet not found"));
}

#[test]
fn limits_are_set_and_not_raised_without_the_right_to() {
    let scratch = Scratch::new("limits");
    let limit = |soft, hard| vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft, hard }];
    let script = "ulimit -Sn; ulimit -Hn";
    assert_eq!(shell(&scratch, script, |p| p.rlimits = limit(5, 64)), "5\n64\n");
    // Process 1 needs one more than that.
    let mut initial = bundle(&scratch, &["sh", "-c", script]);
    process(&mut initial).rlimits = limit(3, 3);
    initial.init = true;
    assert_eq!(output(&initial), "3\n3\n");
    let ours = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap();
    let mut bundle = bundle(&scratch, &["sh", "-c", script]);
    process(&mut bundle).rlimits = limit(64, ours + 1);
    if capability::Set::all().contains(capability::Set::from_names(&["SYS_RESOURCE"]).unwrap()) {
        assert_eq!(output(&bundle), format!("64\n{}\n", ours + 1));
    } else {
        let (_, text) = failure(&bundle);
        assert!(
            text.contains(&format!("cannot raise the hard limit of RLIMIT_NOFILE to {}", ours + 1)),
            "{text}"
        );
    }
}

#[test]
fn many_groups_are_all_there() {
    let scratch = Scratch::new("groups");
    let text = shell(&scratch, "busybox id -G", |process| {
        process.user =
            User { uid: 1000, gid: 7, additional_gids: (10_000..13_000).collect(), ..User::default() };
    });
    let groups: Vec<u32> = text.split_whitespace().map(|g| g.parse().unwrap()).collect();
    assert_eq!((groups.len(), groups[0], groups[3000]), (3001, 7, 12_999));
    assert_eq!(shell(&scratch, "busybox id -G", |p| p.user.gid = 9), "9\n", "none of ours");
}

#[test]
fn a_home_is_found_by_number_and_a_trap_is_no_reason_not_to_start() {
    let scratch = Scratch::new("home");
    let home = |uid: u32| shell(&scratch, "busybox echo $HOME", |process| process.user.uid = uid);
    assert_eq!((&*home(1000), &*home(0), &*home(77)), ("/srv/app\n", "/root\n", "/\n"));
    let given = shell(&scratch, "busybox echo $HOME", |p| p.env.push("HOME=/given".to_owned()));
    assert_eq!(given, "/given\n");
    let passwd = scratch.path("lower/etc/passwd");
    fs::remove_file(&passwd).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(home(1000), "/\n");
}

#[test]
fn commands_are_found_as_execvp_finds_them() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("path");
    for (dir, text, mode) in [("no", "", 0o644), ("bad", "no format", 0o755)] {
        let dir = scratch.path("lower").join(dir);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("busybox"), text).unwrap();
        fs::set_permissions(dir.join("busybox"), fs::Permissions::from_mode(mode)).unwrap();
    }
    let with = |path: &str| {
        let mut bundle = bundle(&scratch, &["busybox", "echo", "found"]);
        process(&mut bundle).env = vec![format!("PATH={path}")];
        run(&bundle).map_err(|e| (e.kind(), base::failure::chain(&*e)))
    };
    assert_eq!(
        with("/nowhere:/etc/passwd:/no:/bin").unwrap().1,
        "found\n",
        "what may not be executed is passed over"
    );
    assert_eq!(with("/no").unwrap_err().0, Kind::CommandNotExecutable);
    assert_eq!(with("/bad:/bin").unwrap_err().0, Kind::CommandNotExecutable, "a wrong format is an error");
    assert_eq!(with("/nowhere").unwrap_err().0, Kind::CommandNotFound);
}

#[test]
fn a_terminal_can_be_of_a_devpts_that_was_bound() {
    let scratch = Scratch::new("ptsbind");
    let mut bundle = bundle(&scratch, &["sh", "-c", "busybox tty"]);
    process(&mut bundle).terminal = true;
    let pts = bundle.spec.mounts.iter_mut().find(|m| m.kind.as_deref() == Some("devpts")).unwrap();
    *pts = Mount {
        destination: "/dev/pts".into(),
        source: Some("/dev/pts".into()),
        options: vec!["rbind".into()],
        ..Mount::default()
    };
    assert!(output(&bundle).starts_with("/dev/pts/"));
    // And nothing else that lies there.
    bundle.spec.mounts.retain(|m| !m.destination.ends_with("pts"));
    assert!(failure(&bundle).1.contains("terminal"));
}

#[test]
fn labels_are_for_hosts_that_have_them() {
    let scratch = Scratch::new("labels");
    let label = "system_u:system_r:container_t:s0";
    if !runtime::selinux::is_enabled() {
        let mut bundle = bundle(&scratch, &["sh"]);
        process(&mut bundle).selinux_label = Some(label.to_owned());
        assert!(matches!(runtime::plan(&bundle), Err(runtime::PlanError::NoSelinux)));
        assert_eq!(shell(&scratch, "busybox echo ran", |p| p.selinux_label = Some(String::new())), "ran\n");
    }
    if !runtime::apparmor::is_enabled() {
        let mut bundle = bundle(&scratch, &["sh"]);
        process(&mut bundle).apparmor_profile = Some("strict".to_owned());
        assert!(failure(&bundle).1.contains("no AppArmor"), "{}", failure(&bundle).1);
        assert_eq!(
            shell(&scratch, "busybox echo ran", |p| p.apparmor_profile = Some(String::new())),
            "ran\n"
        );
    }
}
