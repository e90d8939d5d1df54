//! A root file system made of one static busybox, and a bundle that runs a command in it.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use base::Failure;
use oci::runtime::{Capabilities, Linux, Mount, Namespace, NamespaceKind, Process, Root, Spec, User};
use runtime::{Bundle, RootSource, Running, Stdio};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// A scratch root file system, and the directories of an overlay over it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dhow-launch-{}-{name}", std::process::id()));
        fs::remove_dir_all(&dir).ok();
        for below in [
            "lower/bin",
            "lower/etc",
            "lower/tmp",
            "lower/proc",
            "lower/dev",
            "lower/sys",
            "upper",
            "work",
            "m",
        ] {
            fs::create_dir_all(dir.join(below)).unwrap();
        }
        fs::copy("/bin/busybox", dir.join("lower/bin/busybox")).expect("busybox-static is installed");
        symlink("busybox", dir.join("lower/bin/sh")).unwrap();
        fs::write(
            dir.join("lower/etc/passwd"),
            "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv/app:/bin/sh\n",
        )
        .unwrap();
        fs::write(dir.join("lower/etc/group"), "root:x:0:\nstaff:x:50:root,app\napp:x:1000:\nlog:x:4:app\n")
            .unwrap();
        Self(dir)
    }

    /// A path in it.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }

    pub(crate) fn bundle(&self, args: &[&str]) -> Bundle {
        let mount = |destination: &str, kind: &str, options: &[&str]| Mount {
            destination: destination.into(),
            kind: Some(kind.to_owned()),
            source: Some(kind.into()),
            options: options.iter().map(|s| (*s).to_owned()).collect(),
            ..Mount::default()
        };
        let kinds = [
            NamespaceKind::Mount,
            NamespaceKind::Pid,
            NamespaceKind::Ipc,
            NamespaceKind::Uts,
            NamespaceKind::Network,
        ];
        Bundle {
            spec: Spec {
                root: Some(Root { path: self.0.join("m"), readonly: false }),
                hostname: Some("inside".to_owned()),
                mounts: vec![
                    mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                    mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                    mount(
                        "/dev/pts",
                        "devpts",
                        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
                    ),
                    mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
                ],
                process: Some(Process {
                    args: args.iter().map(|s| (*s).to_owned()).collect(),
                    env: vec!["PATH=/bin".to_owned()],
                    cwd: "/".into(),
                    user: User { username: Some(String::new()), ..User::default() },
                    capabilities: Some(Capabilities {
                        bounding: vec!["CAP_CHOWN".into()],
                        ..Capabilities::default()
                    }),
                    ..Process::default()
                }),
                linux: Some(Linux {
                    namespaces: kinds.map(|kind| Namespace { kind, path: None }).to_vec(),
                    masked_paths: [
                        "/proc/keys",
                        "/proc/acpi",
                        "/proc/scsi",
                        "/sys/firmware",
                        "/proc/no-such",
                    ]
                    .map(PathBuf::from)
                    .to_vec(),
                    readonly_paths: ["/proc/sys", "/proc/bus"].map(PathBuf::from).to_vec(),
                    ..Linux::default()
                }),
                ..Spec::default()
            },
            root: RootSource::Overlay {
                lowers: vec![self.0.join("lower")],
                upper: self.0.join("upper"),
                work: self.0.join("work"),
                volatile: false,
            },
            cgroup: None,
            seccomp: None,
            init: false,
            manner: runtime::Manner::default(),
            inside: std::collections::BTreeMap::new(),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

pub(crate) fn pipe() -> (fs::File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (read.into(), write)
}

/// Launches and waits: the exit code, and all that was written.
pub(crate) fn run(bundle: &Bundle) -> Result<(i32, String), Box<dyn Failure>> {
    let plan = runtime::plan(bundle).map_err(|e| Box::new(e) as Box<dyn Failure>)?;
    let (mut read, write) = pipe();
    let stdio = Stdio {
        input: fs::File::open("/dev/null").unwrap().into(),
        output: write.try_clone().unwrap(),
        errors: write,
    };
    let running =
        runtime::launch(plan, stdio, &mut |_| Ok(())).map_err(|e| Box::new(e) as Box<dyn Failure>)?;
    let mut text = String::new();
    match &running.terminal {
        // A terminal says EIO at its end.
        Some(master) => {
            let mut bytes = Vec::new();
            fs::File::from(master.try_clone().unwrap()).read_to_end(&mut bytes).ok();
            text = String::from_utf8(bytes).unwrap();
        }
        None => {
            read.read_to_string(&mut text).unwrap();
        }
    }
    Ok((wait(&running), text))
}

/// Nothing to read, and both outputs into one.
pub(crate) fn stdio(output: OwnedFd) -> Stdio {
    Stdio {
        input: fs::File::open("/dev/null").unwrap().into(),
        output: output.try_clone().unwrap(),
        errors: output,
    }
}

pub(crate) fn read_all(from: &mut fs::File) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

/// The exit code; that of a killed one is -1.
pub(crate) fn wait(running: &Running) -> i32 {
    let status = waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status().unwrap_or(-1)
}
