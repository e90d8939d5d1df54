//! `dhow-runtime`: `NOTIFY_SOCKET`, through which a service tells systemd that it is ready.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::net::UnixDatagram;

use harness::eventually;
use harness::oci::{Bundle, Runtime, write_executable};
use serde_json::json;

/// A container that sends these lines to the socket that it is given, by a program of the harness.
fn telling() -> Bundle {
    let bundle = Bundle::running(&["/probe", "notify", "READY=1"]);
    write_executable(
        &bundle.rootfs().join("probe"),
        &std::fs::read(harness::bin_dir().join("probe")).unwrap(),
    );
    bundle
}

#[test]
fn the_host_is_told_that_the_container_is_ready() {
    let runtime = Runtime::new();
    let bundle = telling();
    let path = runtime.scratch().join("host.sock");
    let host = UnixDatagram::bind(&path).unwrap();
    host.set_read_timeout(Some(harness::patience(10))).unwrap();
    let heard = || {
        let mut buffer = [0; 512];
        let length = host.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let id = runtime.id("box");

    let with_socket = |args: &[&str]| {
        let mut command = runtime.command(args).env("NOTIFY_SOCKET", &path).into_command();
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        let errors = std::fs::File::create(runtime.scratch().join("errors")).unwrap();
        assert!(command.stderr(errors).status().unwrap().success(), "{args:?}");
    };
    let bundle_path = bundle.path().to_str().unwrap();
    with_socket(&["create", "--bundle", bundle_path, &id]);
    with_socket(&["start", &id]);
    assert_eq!(heard(), format!("READY=1\nMAINPID={}", runtime.pid(&id)), "start returns when it is told");
    runtime.ok(&["delete", "--force", &id]);

    with_socket(&["run", "--detach", "--bundle", bundle_path, &id]);
    assert_eq!(heard(), format!("READY=1\nMAINPID={}", runtime.pid(&id)));
    runtime.ok(&["delete", "--force", &id]);

    let invocation = runtime.command(&["run", "--bundle", bundle_path, &id]).env("NOTIFY_SOCKET", &path);
    let process = invocation.spawn();
    let message = heard();
    assert_eq!(message, format!("READY=1\nMAINPID={}", runtime.pid(&id)));
    runtime.ok(&["kill", &id, "KILL"]);
    assert_eq!(process.wait().code, 137);
}

#[test]
fn without_a_socket_there_is_none_inside() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sh", "-c", "echo x$NOTIFY_SOCKET; ls /run"])
        .edit(|spec| spec["process"]["env"] = json!(["PATH=/bin"]));
    let output = runtime.ok(&["run", "--bundle", bundle.path().to_str().unwrap(), &runtime.id("box")]);
    assert_eq!(output, "x");
}

#[test]
fn a_host_that_does_not_listen_does_no_harm() {
    let runtime = Runtime::new();
    let bundle = telling();
    let path = runtime.scratch().join("nobody.sock");
    let id = runtime.id("box");
    let bundle_path = bundle.path().to_str().unwrap();
    let process = runtime.command(&["run", "--bundle", bundle_path, &id]).env("NOTIFY_SOCKET", &path).spawn();
    eventually("the warning", || process.stderr().contains("nobody.sock").then_some(()));
    assert_eq!(runtime.status(&id), "running");
    runtime.ok(&["kill", &id, "KILL"]);
    assert_eq!(process.wait().code, 137);

    let mut command = runtime.command(&["run", "--detach", "--bundle", bundle_path, &id]);
    command = command.env("NOTIFY_SOCKET", &path);
    let mut command = command.into_command();
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command.stderr(std::fs::File::create(runtime.scratch().join("errors")).unwrap());
    assert!(command.status().unwrap().success());
    assert_eq!(runtime.status(&id), "running");
}
