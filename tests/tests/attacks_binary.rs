//! Attacks: our own program, overwritten from inside (CVE-2019-5736), and newcomers that are traced (CVE-2016-9962).
//!
//! The runtime that is attacked is a copy, so that a success would harm nobody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::attack::{almighty, armed, with_users};
use harness::oci::{Bundle, Runtime, write_executable};
use harness::{Invocation, Process, bin_dir};
use serde_json::json;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// A runtime that may be attacked: a copy of its program.
struct Victim {
    runtime: Runtime,
    program: PathBuf,
    bytes: Vec<u8>,
    _home: tempfile::TempDir,
}

impl Victim {
    fn new() -> Self {
        let home = harness::real_directory("victim");
        let program = home.path().join("dhow-runtime");
        let bytes = std::fs::read(bin_dir().join("dhow-runtime")).unwrap();
        write_executable(&program, &bytes);
        Self { runtime: Runtime::of(&program), program, bytes, _home: home }
    }

    /// What the thief calls it.
    fn number(&self) -> String {
        number(&self.program)
    }

    /// The thief saw the program, and could not write to it, then or later.
    fn assert_safe(&self, said: &str) {
        let seen: Vec<&str> = said.lines().filter(|line| line.contains(&self.number())).collect();
        assert!(!seen.is_empty(), "the thief never saw our program {}: {said}", self.number());
        for line in seen {
            assert!(!line.contains("STOLEN") && !line.contains("WRITABLE"), "{said}");
        }
        assert!(std::fs::read(&self.program).unwrap() == self.bytes, "our program was changed");
    }
}

fn number(program: &Path) -> String {
    let stat = std::fs::metadata(program).unwrap();
    format!("program {}:{}:", stat.dev(), stat.ino())
}

/// Ends the watch of whoever is process 1 of the bundle's container, and tells what it said.
fn enough(bundle: &Bundle, watcher: Process) -> String {
    std::fs::write(bundle.rootfs().join("enough"), "").unwrap();
    watcher.wait().stdout
}

/// A container, as strong as can be, whose process 1 watches out for programs of the host.
fn thief(victim: &Victim) -> (Bundle, String, Process) {
    let bundle = armed(Bundle::running(&["probe", "steal-programs"]), PROBE).edit(almighty);
    let id = victim.runtime.id("thief");
    let thief = victim.runtime.spawn(&["run", "--bundle", bundle.text(), &id]);
    thief.expect("up");
    (bundle, id, thief)
}

/// The attack works: a program of the host that takes no care, in the container's PID namespace, can be overwritten. All
/// that comes near the thief are copies.
#[test]
fn a_careless_program_is_stolen() {
    let victim = Victim::new();
    let (bundle, id, thief) = thief(&victim);
    let copy = |program: &str| {
        let copy = victim.runtime.scratch().join(program.rsplit_once('/').unwrap().1);
        write_executable(&copy, &std::fs::read(program).unwrap());
        copy
    };
    let (enter, careless) = (copy("/usr/bin/nsenter"), copy("/bin/sleep"));
    let pid = format!("--pid=/proc/{}/ns/pid", victim.runtime.pid(&id));
    Invocation::new(enter).args(&[&pid, careless.to_str().unwrap(), "0.5"]).ok();
    let before = number(&careless);
    let said = enough(&bundle, thief);
    let line = said.lines().find(|line| line.contains(&before)).unwrap_or_default();
    assert!(line.contains("STOLEN") || line.contains("WRITABLE"), "{said}");
}

#[test]
fn exec_does_not_hand_our_program_over() {
    let victim = Victim::new();
    let (bundle, id, thief) = thief(&victim);
    write_executable(&bundle.rootfs().join("bin/evil"), b"#!/proc/self/exe\n");
    symlink("/proc/self/exe", bundle.rootfs().join("bin/self")).unwrap();
    for _ in 0..5 {
        victim.runtime.run(&["exec", &id, "true"]);
        // Who is executed there is whoever executes: the runtime itself, as often as it is told to.
        victim.runtime.command(&["exec", &id, "/bin/evil"]).limit(20).output();
        victim.runtime.command(&["exec", &id, "/bin/self", "--help"]).limit(20).output();
        victim.runtime.command(&["exec", "-t", &id, "/bin/self", "features"]).limit(20).output();
    }
    let said = enough(&bundle, thief);
    assert!(said.contains("done"), "{said}");
    victim.assert_safe(&said);
}

/// The same for a container that is made in a PID namespace that the attacker is in already.
#[test]
fn create_and_run_do_not_hand_our_program_over() {
    let victim = Victim::new();
    let (theirs, thief_id, thief) = thief(&victim);
    let pids = format!("/proc/{}/ns/pid", victim.runtime.pid(&thief_id));
    let id = &victim.runtime.id("box");
    let bundle = Bundle::new().edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        let found = namespaces.iter_mut().find(|namespace| namespace["type"] == "pid").unwrap();
        found["path"] = json!(pids);
    });
    symlink("/proc/self/exe", bundle.rootfs().join("bin/self")).unwrap();
    write_executable(&bundle.rootfs().join("bin/evil"), b"#!/proc/self/exe\n");
    for command in [&["true"][..], &["/bin/evil"], &["/bin/self", "features"], &["/bin/self", "--help"]] {
        bundle.change(|spec| spec["process"]["args"] = json!(command));
        victim.runtime.command(&["run", "--bundle", bundle.text(), id]).limit(20).output();
        victim.runtime.create(&bundle, id);
        victim.runtime.run(&["start", id]);
        victim.runtime.ok(&["delete", "--force", id]);
    }
    let said = enough(&theirs, thief);
    assert!(said.contains("done"), "{said}");
    victim.assert_safe(&said);
}

/// Where nothing may be mounted (as an ordinary user, or in a sandbox) a sealed copy in memory takes its place.
#[test]
fn our_program_runs_from_where_nobody_can_write() {
    let victim = Victim::new();
    let runtime = &victim.runtime;
    let bundle = Bundle::running(&["sleep", "1000"]);
    for (without, id) in [("", runtime.id("mount")), ("-sys_admin", runtime.id("memory"))] {
        // The link shows what is executed while it waits for the log's reader.
        let log = runtime.scratch().join(&id);
        rustix::fs::mknodat(rustix::fs::CWD, &log, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        // One that is full already: it can be opened, and not be written to.
        let full = std::fs::File::options().read(true).write(true).open(&log).unwrap();
        rustix::fs::fcntl_setfl(&full, rustix::fs::OFlags::NONBLOCK).unwrap();
        while rustix::io::write(&full, &[b'\n'; 4096]).is_ok() {}
        let mut command = Command::new("setpriv");
        if !without.is_empty() {
            command.arg(format!("--bounding-set={without}")).arg(format!("--inh-caps={without}"));
        }
        command.arg(&victim.program).arg("--log").arg(&log).arg("--root").arg(runtime.root());
        // Refused after it has protected itself.
        let wrong = ["run", "--preserve-fds", "9", "--bundle", bundle.text(), &id];
        let mut child = command.args(wrong).spawn().unwrap();
        let exe = format!("/proc/{}/exe", child.id());
        let opened = harness::eventually("its second execution", || {
            let cmdline = std::fs::read(format!("/proc/{}/cmdline", child.id())).ok()?;
            let second = cmdline.starts_with(b"dhow-runtime:unwritable");
            second.then(|| std::fs::OpenOptions::new().write(true).open(&exe))
        });
        let error = opened.expect_err("it can be opened for writing");
        let expected = [libc::EROFS, libc::ETXTBSY, libc::EPERM];
        assert!(expected.contains(&error.raw_os_error().unwrap()), "{error}");
        let target = std::fs::read_link(&exe).unwrap();
        let in_memory = target.to_string_lossy().starts_with("/memfd:dhow-runtime");
        assert_eq!(in_memory, !without.is_empty(), "{}", target.display());
        let readonly =
            rustix::fs::statvfs(&exe).unwrap().f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        assert!(readonly || in_memory);
        let mut reader = std::fs::File::open(&log).unwrap();
        drop(full);
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        child.wait().unwrap();
    }
}

/// CVE-2016-9962: process 1 traces whoever joins, or looks at what they still have open. With all capabilities in a user
/// namespace of its own, of which the newcomer becomes a member.
#[test]
fn whoever_joins_cannot_be_traced() {
    for users in [true, false] {
        let runtime = Runtime::new();
        let own = "probe,true,busybox,sleep,dhow-init";
        let bundle = armed(Bundle::running(&["probe", "trace-newcomers", own]), PROBE);
        if users {
            bundle.change(almighty);
            with_users(&bundle);
        }
        let id = &runtime.id("box");
        let tracer = runtime.spawn(&["run", "--bundle", bundle.text(), id]);
        tracer.expect("up");
        for _ in 0..20 {
            runtime.command(&["exec", id, "true"]).limit(20).output();
        }
        let said = enough(&bundle, tracer);
        let seen = said.lines().find_map(|line| line.strip_prefix("seen ")).unwrap_or_default();
        assert!(seen.ends_with(" got {}") && !seen.starts_with("0 "), "users {users}: {said}");
    }
}

/// The same attack on a program that takes no care: it is traced.
#[test]
fn a_careless_newcomer_is_traced() {
    let runtime = Runtime::new();
    let bundle = armed(Bundle::running(&["probe", "trace-newcomers", "probe"]), PROBE).edit(almighty);
    let id = &runtime.id("box");
    let tracer = runtime.spawn(&["run", "--bundle", bundle.text(), id]);
    tracer.expect("up");
    let pid = format!("--pid=/proc/{}/ns/pid", runtime.pid(id));
    Invocation::new("nsenter").args(&[&pid, "/bin/sleep", "0.5"]).output();
    let said = enough(&bundle, tracer);
    assert!(said.contains("\"trace\"") && said.contains("\"fd\"") && said.contains("\"root/etc"), "{said}");
}
