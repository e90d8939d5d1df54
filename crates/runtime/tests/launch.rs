//! Launches real processes in real namespaces, on a root made of one static busybox. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use base::{Failure, Kind};
use oci::runtime::Mount;
use runtime::{LaunchError, Stdio};
use scratch::{Scratch, run};

fn shell(scratch: &Scratch, script: &str) -> (i32, String) {
    run(&scratch.bundle(&["sh", "-c", script])).map_err(|e| base::failure::chain(&*e)).unwrap()
}

#[test]
fn a_command_runs_in_its_own_namespaces() {
    let scratch = Scratch::new("runs");
    let (code, text) = shell(&scratch, "busybox echo $$ $HOME; busybox hostname; busybox ls /; exit 7");
    assert_eq!(code, 7);
    assert_eq!(text, "1 /root\ninside\nbin\ndev\netc\nproc\nsys\ntmp\n");
}

#[test]
fn writes_land_in_the_upper_layer_and_nothing_of_the_host_is_mounted() {
    let scratch = Scratch::new("upper");
    let (_, text) = shell(&scratch, "busybox echo x >/tmp/file; busybox cat /proc/mounts");
    assert_eq!(fs::read_to_string(scratch.path("upper/tmp/file")).unwrap(), "x\n");
    assert!(!text.contains("ext4") && !text.contains("lower/"), "{text}");
    assert!(text.contains("devpts") && text.contains("sysfs /sys sysfs ro"), "{text}");
}

#[test]
fn masked_paths_are_empty_and_readonly_ones_refuse_writing() {
    let scratch = Scratch::new("masks");
    let (_, text) = shell(
        &scratch,
        "busybox wc -c </proc/keys; busybox ls /sys/firmware | busybox wc -l; \
         busybox echo 1 >/proc/sys/kernel/panic || busybox echo refused",
    );
    assert!(text.starts_with("0\n0\n") && text.ends_with("refused\n"), "{text}");
}

#[test]
fn users_are_looked_up_inside() {
    let scratch = Scratch::new("users");
    let id = |user: &str| {
        let mut bundle = scratch.bundle(&["sh", "-c", "busybox id; busybox echo $HOME"]);
        bundle.spec.process.as_mut().unwrap().user.username = Some(user.to_owned());
        run(&bundle).map(|(_, text)| text).map_err(|e| (e.kind(), base::failure::chain(&*e)))
    };
    assert_eq!(
        id("app").unwrap(),
        "uid=1000(app) gid=1000(app) groups=4(log),50(staff),1000(app)\n/srv/app\n"
    );
    assert_eq!(id("1000:log").unwrap(), "uid=1000(app) gid=4(log) groups=4(log)\n/srv/app\n");
    assert_eq!(id("4242").unwrap(), "uid=4242 gid=0(root) groups=0(root)\n/\n");
    assert_eq!(id("").unwrap(), "uid=0(root) gid=0(root) groups=0(root),50(staff)\n/root\n");
    assert_eq!(id("nobody").unwrap_err().0, Kind::Invalid);
    assert_eq!(id("4294967296").unwrap_err().0, Kind::Invalid);
}

#[test]
fn capabilities_are_bounded() {
    let scratch = Scratch::new("caps");
    let (_, text) = shell(&scratch, "busybox grep Cap /proc/self/status");
    // Root regains on exec what the bounding set holds, and no more: CapInh, CapPrm, CapEff, CapBnd, CapAmb.
    let lines: Vec<_> = text.lines().map(|l| l.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(
        lines,
        ["0000000000000000", "0000000000000001", "0000000000000001", "0000000000000001", "0000000000000000"]
    );
}

#[test]
fn what_cannot_be_executed_has_dockers_codes() {
    let scratch = Scratch::new("exec");
    fs::write(scratch.path("lower/bin/plain"), "text").unwrap();
    let kind = |args: &[&str]| {
        run(&scratch.bundle(args)).map_err(|e| (e.kind(), base::failure::chain(&*e))).unwrap_err()
    };
    assert_eq!(kind(&["nope"]).0, Kind::CommandNotFound);
    assert_eq!(kind(&["/bin/nope"]).0, Kind::CommandNotFound);
    assert_eq!(kind(&["plain"]).0, Kind::CommandNotExecutable);
    assert_eq!(kind(&["/etc"]).0, Kind::CommandNotExecutable);
    assert!(kind(&["nope"]).1.contains("cannot execute `nope`"));
}

#[test]
fn a_terminal_is_the_controlling_one_and_the_console() {
    let scratch = Scratch::new("tty");
    let mut bundle = scratch.bundle(&[
        "sh",
        "-c",
        "busybox tty; busybox stty size; busybox ls -l /dev/console; echo ok >/dev/console",
    ]);
    let process = bundle.spec.process.as_mut().unwrap();
    process.terminal = true;
    process.console_size = Some(oci::runtime::ConsoleSize { height: 33, width: 99 });
    let (code, text) = run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
    assert_eq!(code, 0);
    assert!(text.contains("33 99") && text.contains("ok"), "{text}");
}

#[test]
fn an_init_stays_as_process_one_and_passes_the_code_on() {
    let scratch = Scratch::new("init");
    let mut bundle = scratch.bundle(&["sh", "-c", "busybox echo $$; busybox cat /proc/1/comm; exit 3"]);
    bundle.init = true;
    let (code, text) = run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
    assert_eq!((code, &*text), (3, "2\ndhow-init\n"));
}

#[test]
fn a_working_directory_is_made_and_cannot_lead_out() {
    let scratch = Scratch::new("cwd");
    let mut bundle = scratch.bundle(&["sh", "-c", "busybox pwd"]);
    bundle.spec.process.as_mut().unwrap().cwd = "/srv/new/dir".into();
    assert_eq!(run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap().1, "/srv/new/dir\n");
    for trick in ["/proc/self/fd/7", "/proc/self/fd/8/../../..", "/proc/self/cwd"] {
        let mut bundle = scratch.bundle(&["sh", "-c", "busybox ls; busybox pwd"]);
        bundle.spec.process.as_mut().unwrap().cwd = trick.into();
        let error = run(&bundle).map_err(|e| e.kind());
        assert!(error.is_err(), "{trick}: {error:?}");
    }
}

#[test]
fn symlinks_of_the_image_do_not_lead_mounts_out() {
    let scratch = Scratch::new("links");
    let outside = scratch.path("outside");
    fs::create_dir_all(&outside).unwrap();
    for name in ["dev", "proc", "sys"] {
        fs::remove_dir(scratch.path("lower").join(name)).unwrap();
        symlink(format!("../../../../../../../..{}", outside.display()), scratch.path("lower").join(name))
            .unwrap();
    }
    // Dangling inside the root: refused; nothing appears outside either way.
    let _ = run(&scratch.bundle(&["sh", "-c", ":"]));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn account_files_that_are_traps_are_refused() {
    for (name, trap) in [("fifo", true), ("huge", false)] {
        let scratch = Scratch::new(name);
        let passwd = scratch.path("lower/etc/passwd");
        fs::remove_file(&passwd).unwrap();
        if trap {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &passwd,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o644),
                0,
            )
            .unwrap();
        } else {
            fs::write(&passwd, vec![b'x'; 2 << 20]).unwrap();
        }
        let error = run(&scratch.bundle(&["sh", "-c", ":"])).map_err(|e| e.kind());
        assert_eq!(error.unwrap_err(), Kind::Invalid, "{name}");
    }
}

#[test]
fn a_bind_mount_is_read_only_where_asked_and_not_allowed_in_proc() {
    let scratch = Scratch::new("bind");
    let source = scratch.path("source");
    fs::write(&source, "hello").unwrap();
    let mut bundle = scratch.bundle(&[
        "sh",
        "-c",
        "busybox cat /new/file; busybox echo x >/new/file || busybox echo refused",
    ]);
    let bind = |to: &str| Mount {
        destination: to.into(),
        source: Some(source.clone()),
        options: vec!["rbind".into(), "ro".into()],
        ..Mount::default()
    };
    bundle.spec.mounts.push(bind("/new/file"));
    let (_, text) = run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
    assert!(text.starts_with("hello") && text.ends_with("refused\n"), "{text}");
    let mut bundle = scratch.bundle(&["sh", "-c", ":"]);
    bundle.spec.mounts.push(bind("/proc/version"));
    assert!(
        base::failure::chain(&*run(&bundle).map(|_| ()).unwrap_err())
            .contains("nothing may be mounted inside /proc")
    );
}

#[test]
fn a_failure_of_the_parent_undoes_the_child() {
    let scratch = Scratch::new("undo");
    let plan = runtime::plan(&scratch.bundle(&["sh"])).unwrap();
    let null = || OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let mut seen = 0;
    let mut fails = |pid| {
        seen = pid;
        Err(Box::new(base::fs::read(Path::new("/no/such")).unwrap_err()) as Box<dyn Failure>)
    };
    let stdio = Stdio { input: null(), output: null(), errors: null() };
    let error = runtime::launch(plan, stdio, &mut fails);
    assert!(matches!(error, Err(LaunchError::Meanwhile(_))));
    assert!(!Path::new(&format!("/proc/{seen}")).exists());
}
