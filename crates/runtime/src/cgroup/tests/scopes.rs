//! Scopes of a real systemd: the machine's own, or the user's where only that is there. Neither is on most machines that
//! run these tests; `systemd --user` with a `dbus-daemon` at `$XDG_RUNTIME_DIR/bus` is enough.

use super::*;

/// Whose systemd answers.
fn somebodys() -> Option<bool> {
    [false, true].into_iter().find(|user| {
        let location = Location::systemd(":dhow-test:probe", *user).unwrap();
        let private = std::env::var("XDG_RUNTIME_DIR").map(|dir| format!("{dir}/systemd/private"));
        let runs = if *user {
            private.is_ok_and(|path| Path::new(&path).exists())
        } else {
            Path::new("/run/systemd/private").exists()
        };
        runs && systemd::below_root(&location).is_ok()
    })
}

#[test]
fn a_scope_is_made_changed_and_ended() {
    let user = somebodys();
    can(user.is_some(), "a systemd that answers");
    let Some(user) = user else { return };
    let hierarchy = Hierarchy::detect().unwrap();
    let name = format!("{}", std::process::id());
    let location = Location::systemd(&format!("dhow-test.slice:dhow-test:{name}"), user).unwrap();
    let mut resources = limits();
    resources.cpu = Some(Cpu { shares: Some(512), ..resources.cpu.unwrap() });
    let annotations = [
        ("org.systemd.property.CollectMode".to_owned(), "'inactive-or-failed'".to_owned()),
        ("org.systemd.property.TimeoutStopUSec".to_owned(), "uint64 5000000".to_owned()),
    ];
    // Twice: the name must be free again.
    for _ in 0..2 {
        let plan = GroupPlan::new(&hierarchy, &location, Some(&resources)).unwrap();
        let plan = plan.with_annotations(&annotations.clone().into()).unwrap();
        assert_eq!(plan.warnings(), [""; 0]);
        let mut child = Command::new("/bin/sleep").arg("100").spawn().unwrap();
        let group = plan.make_for(child.id()).unwrap();
        if !hierarchy.is_v2() {
            group.join(child.id()).unwrap();
        }
        plan.restrict().unwrap();
        let ending = format!("/dhow.slice/dhow-test.slice/dhow-test-{name}.scope");
        assert!(
            groups_of(child.id()).lines().any(|line| line.ends_with(&ending)),
            "{}",
            groups_of(child.id())
        );
        let now = group.limits();
        assert_eq!((now.memory, now.pids, now.cpu_quota), (Some(64 << 20), Some(20), Some(50_000)));

        // systemd knows too, and so does not put its own back.
        let shown = |property: &str| {
            let mut systemctl = Command::new("systemctl");
            if user {
                systemctl.arg("--user");
            }
            let unit = format!("dhow-test-{name}.scope");
            let output = systemctl.args(["show", "--value", "-p", property, &unit]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(shown("TasksMax"), "20");
        assert_eq!(shown("TimeoutStopUSec"), "5s");
        assert_eq!(shown("CollectMode"), "inactive-or-failed");
        if hierarchy.is_v2() {
            assert_eq!((shown("MemoryMax"), shown("CPUWeight")), ((64 << 20).to_string(), "59".to_owned()));
        }

        let later = Group::from_record(&group.record());
        let more = Resources {
            memory: Some(Memory { limit: Some(128 << 20), swap: Some(128 << 20), ..Memory::default() }),
            pids: Some(Pids { limit: 30 }),
            ..Resources::default()
        };
        later.update(&more).unwrap();
        assert_eq!((later.limits().memory, later.limits().pids), (Some(128 << 20), Some(30)));
        assert_eq!(shown("TasksMax"), "30");
        assert_eq!(Group::existing(&hierarchy, &location).processes(), [child.id()]);

        later.freeze().unwrap();
        let waiter = std::thread::spawn(move || child.wait().unwrap());
        later.kill().unwrap();
        waiter.join().unwrap();
        later.remove().unwrap();
        later.remove().unwrap();
        assert!(!later.exists());
    }
}
