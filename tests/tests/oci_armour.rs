//! `dhow-runtime`: a container does not get at the program that starts it (CVE-2019-5736).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use harness::oci::{Bundle, Runtime};
use harness::{bin_dir, eventually, real_directory};
use rustix::fs::StatVfsMountFlags;
use serde_json::json;

/// The program of a process, opened for reading as an attacker would hold it.
fn held(pid: u32) -> File {
    File::open(format!("/proc/{pid}/exe")).unwrap()
}

/// A runtime whose program is a copy of its own: while anybody executes a program, it is busy anyway.
fn runtime(directory: &Path) -> Runtime {
    let program = directory.join("dhow-runtime");
    std::fs::copy(bin_dir().join("dhow-runtime"), &program).unwrap();
    Runtime::of(program)
}

/// Nobody executes it any more, so that nothing but the mount is in the way of writing.
#[track_caller]
fn must_not_be_writable(program: &File) {
    let flags = rustix::fs::fstatvfs(program).unwrap().f_flag;
    assert!(flags.contains(StatVfsMountFlags::RDONLY), "{flags:?}");
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let error = OpenOptions::new().write(true).open(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()), "{error}");
    // Nor can its mount be changed by who may mount: it is attached to nothing.

    let remounted = Command::new("mount").args(["-o", "remount,bind,rw", &path]).output().unwrap();
    assert!(!remounted.status.success(), "{remounted:?}");
}

#[test]
fn who_runs_a_container_cannot_be_overwritten() {
    let directory = real_directory("armour");
    let runtime = runtime(directory.path());
    let bundle = Bundle::running(&["sh", "-c", "echo up; sleep 1000"]);
    let id = runtime.id("box");
    let run = runtime.spawn(&["run", "--bundle", bundle.path().to_str().unwrap(), &id]);
    run.expect("up");
    let exec = runtime.spawn(&["exec", &id, "sh", "-c", "echo up; sleep 1000"]);
    exec.expect("up");
    let programs = [held(run.pid()), held(exec.pid())];
    runtime.ok(&["kill", &id, "KILL"]);
    assert_eq!((run.wait().code, exec.wait().code), (137, 137));
    programs.iter().for_each(must_not_be_writable);
}

#[test]
fn a_command_that_is_the_runtime_itself_cannot_be_overwritten() {
    let directory = real_directory("armour");
    let runtime = runtime(directory.path());
    // Executed, it is us again, inside of the container: this one waits for its standard input.
    let bundle = Bundle::running(&["/self", "update", "--resources", "-", "x"]);
    symlink("/proc/self/exe", bundle.rootfs().join("self")).unwrap();
    let id = runtime.id("box");
    let mut run = runtime.spawn(&["run", "--bundle", bundle.path().to_str().unwrap(), &id]);
    let pid = eventually("the container, or its refusal", || {
        let state: serde_json::Value =
            serde_json::from_str(&runtime.run(&["state", &id]).stdout).unwrap_or(json!({}));
        let running = state["status"] == "running";
        (running || !run.is_running()).then(|| state["pid"].as_u64().filter(|_| running))
    });
    // A runtime that refuses to execute itself is as good.
    if let Some(pid) = pid {
        let program = eventually("it to be executed", || {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
            line.starts_with(b"/self").then(|| held(pid as u32))
        });
        runtime.ok(&["kill", &id, "KILL"]);
        run.wait();
        must_not_be_writable(&program);
    }
}

#[test]
fn the_program_is_called_by_its_name() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sh", "-c", "echo up; sleep 1000"]);
    let id = runtime.id("box");
    let run = runtime.spawn(&["run", "--bundle", bundle.path().to_str().unwrap(), &id]);
    run.expect("up");
    let name = std::fs::read_to_string(format!("/proc/{}/comm", run.pid())).unwrap();
    assert_eq!(name, "dhow-runtime\n");
    runtime.ok(&["kill", &id, "KILL"]);
}
