//! What the tests of mounts and devices share: a bundle whose root is one static busybox, and running it.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod skip;

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use base::Failure;
use oci::runtime::{Capabilities, Linux, Mount, Namespace, NamespaceKind, Process, Root, Spec, User};
use runtime::{Bundle, RootSource, Stdio};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// A process that another thread makes while a program is copied holds it open for writing until it executes its own,
/// and as long nobody can execute that program.
pub(crate) static COPYING: RwLock<()> = RwLock::new(());

/// Whether the running kernel is of this version or later.
pub(crate) fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
}

/// A scratch directory with a root file system in it, removed in the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dhow-mounts-{}-{name}", std::process::id()));
        fs::remove_dir_all(&dir).ok();
        for below in ["root/bin", "root/etc", "root/tmp", "root/proc", "root/dev", "root/sys", "m"] {
            fs::create_dir_all(dir.join(below)).unwrap();
        }
        {
            let _alone = COPYING.write();
            fs::copy("/bin/busybox", dir.join("root/bin/busybox")).expect("busybox-static is installed");
        }
        for name in
            ["sh", "ls", "cat", "stat", "touch", "echo", "grep", "mount", "readlink", "id", "wc", "mkdir"]
        {
            symlink("busybox", dir.join("root/bin").join(name)).unwrap();
        }
        Self(dir)
    }

    /// A path of the root file system.
    pub(crate) fn root(&self, below: &str) -> PathBuf {
        self.0.join("root").join(below)
    }

    /// A path beside it.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }

    /// A directory beside it, made.
    pub(crate) fn dir(&self, below: &str) -> PathBuf {
        let dir = self.path(below);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Runs this script with the usual mounts, in new namespaces.
    pub(crate) fn bundle(&self, script: &str) -> Bundle {
        let kinds = [
            NamespaceKind::Mount,
            NamespaceKind::Pid,
            NamespaceKind::Ipc,
            NamespaceKind::Uts,
            NamespaceKind::Network,
        ];
        let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
        Bundle {
            spec: Spec {
                root: Some(Root { path: self.0.join("m"), readonly: false }),
                mounts: vec![
                    new("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                    new("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                    new("/dev/pts", "devpts", &pts),
                    new("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
                ],
                process: Some(Process {
                    args: ["sh", "-c", script].map(str::to_owned).to_vec(),
                    env: vec!["PATH=/bin".to_owned()],
                    cwd: "/".into(),
                    user: User::default(),
                    capabilities: Some(all_capabilities()),
                    ..Process::default()
                }),
                linux: Some(Linux {
                    namespaces: kinds.map(|kind| Namespace { kind, path: None }).to_vec(),
                    ..Linux::default()
                }),
                ..Spec::default()
            },
            root: RootSource::Directory(self.0.join("root")),
            cgroup: None,
            seccomp: None,
            init: false,
            manner: runtime::Manner::default(),
            inside: std::collections::BTreeMap::new(),
        }
    }
}

fn all_capabilities() -> Capabilities {
    let all: Vec<String> = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_CHOWN", "CAP_FOWNER"]
        .map(str::to_owned)
        .to_vec();
    Capabilities { bounding: all.clone(), effective: all.clone(), permitted: all, ..Capabilities::default() }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What a test has mounted, in its own namespace.
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        for point in table.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(point).starts_with(&self.0) {
                rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH).ok();
            }
        }
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A mount of a new file system.
pub(crate) fn new(destination: &str, kind: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.to_owned()),
        source: Some(kind.into()),
        options: options.iter().map(|s| (*s).to_owned()).collect(),
        ..Mount::default()
    }
}

/// A bind mount; the options say whether it is recursive.
pub(crate) fn bind(source: &Path, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        source: Some(source.to_owned()),
        options: options.iter().map(|s| (*s).to_owned()).collect(),
        ..Mount::default()
    }
}

pub(crate) fn linux(bundle: &mut Bundle) -> &mut Linux {
    bundle.spec.linux.as_mut().unwrap()
}

/// A command that runs, and what it says.
pub(crate) struct Started {
    pub(crate) running: runtime::Running,
    output: fs::File,
}

impl Started {
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid
    }

    /// Its exit code, and all that it wrote.
    pub(crate) fn finish(mut self) -> (i32, String) {
        let mut text = String::new();
        if let Some(master) = &self.running.terminal {
            let mut bytes = Vec::new();
            // A terminal says EIO at its end.
            fs::File::from(master.try_clone().unwrap()).read_to_end(&mut bytes).ok();
            text = String::from_utf8(bytes).unwrap();
        } else {
            self.output.read_to_string(&mut text).unwrap();
        }
        let id = WaitId::PidFd(self.running.pidfd.as_fd());
        let status = waitid(id, WaitIdOptions::EXITED).unwrap().unwrap();
        if let Some(group) = &self.running.group {
            group.remove().unwrap();
        }
        (status.exit_status().unwrap_or(-1), text)
    }
}

/// Starts it with `input` as its standard input.
pub(crate) fn start(bundle: &Bundle, input: OwnedFd) -> Result<Started, Box<dyn Failure>> {
    let _nobody_copies = COPYING.read();
    let plan = runtime::plan(bundle).map_err(|e| Box::new(e) as Box<dyn Failure>)?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio { input, output: write.try_clone().unwrap(), errors: write };
    let running =
        runtime::launch(plan, stdio, &mut |_| Ok(())).map_err(|e| Box::new(e) as Box<dyn Failure>)?;
    Ok(Started { running, output: read.into() })
}

/// Launches and waits.
pub(crate) fn run(bundle: &Bundle) -> Result<(i32, String), Box<dyn Failure>> {
    Ok(start(bundle, fs::File::open("/dev/null").unwrap().into())?.finish())
}

/// What it said; it has to end well.
pub(crate) fn output(bundle: &Bundle) -> String {
    let (code, text) = run(bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
    assert_eq!(code, 0, "{text}");
    text
}

/// Why it did not start.
pub(crate) fn failure(bundle: &Bundle) -> String {
    base::failure::chain(&*run(bundle).map(|(_, text)| text).unwrap_err())
}

/// A private mount namespace for this test alone, whose mounts are shared among themselves as systemd has them. The
/// test has the thread, and so the namespace, for itself: nothing of it is left.
pub(crate) fn own_mounts() {
    use rustix::mount::{MountPropagationFlags as P, mount_change};
    sys::process::unshare(rustix::thread::UnshareFlags::NEWNS.bits()).unwrap();
    mount_change("/", P::PRIVATE | P::REC).unwrap();
}

/// Mounts a tmpfs on a directory of the host (of [`own_mounts`]).
pub(crate) fn tmpfs(on: &Path) {
    rustix::mount::mount("tmpfs", on, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
}

pub(crate) fn set_shared(on: &Path) {
    rustix::mount::mount_change(on, rustix::mount::MountPropagationFlags::SHARED).unwrap();
}
