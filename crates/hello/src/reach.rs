//! What of the host can be reached. Each try does nothing where it is not refused: files are opened and not
//! written, system calls ask for what does not exist.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use sys::probe;

use crate::report::{Body, Fact, Reach, Section, Value};

pub(crate) fn host() -> Section {
    let tries: Vec<(&str, Reach)> = vec![
        ("host's memory", read("/proc/kcore")),
        ("kernel's log", call(probe::kernel_log())),
        ("kernel's keys", call(probe::keyring())),
        ("kernel's settings", write("/proc/sys/kernel/core_pattern")),
        ("sysrq", write("/proc/sysrq-trigger")),
        ("/sys", writable("/sys")),
        ("control groups", groups()),
        ("host's disks", disk()),
        ("files by handle", call(probe::open_by_handle())),
        ("mounts", call(probe::mount())),
        ("kernel modules", call(probe::load_module())),
        ("another kernel", call(probe::load_kernel())),
        ("BPF", call(probe::bpf())),
        ("crypto sockets", call(probe::crypto_socket())),
        ("clock", call(probe::set_clock())),
        ("power switch", call(probe::reboot())),
        ("engine's socket", engine()),
        // Last, as where it works it changes us.
        ("user namespaces", call(probe::new_user_namespace())),
    ];
    let fact = |(label, reach): (&str, Reach)| Fact { label: label.to_owned(), value: Value::Reach(reach) };
    Section {
        title: "What of the host is in reach",
        body: Body::Facts(tries.into_iter().map(fact).collect()),
    }
}

fn call(result: io::Result<()>) -> Reach {
    match result {
        Ok(()) => Reach::Reachable,
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::PERM) => Reach::Refused("EPERM".to_owned()),
            Some(Errno::ACCESS) => Reach::Refused("EACCES".to_owned()),
            Some(Errno::NOSYS) => Reach::Absent("ENOSYS".to_owned()),
            Some(Errno::AFNOSUPPORT) => Reach::Absent("EAFNOSUPPORT".to_owned()),
            // The kernel got past the question whether we may.
            _ => Reach::Reachable,
        },
    }
}

fn opened(result: io::Result<fs::File>) -> Reach {
    match result {
        // Engines hide a file by a null device, or an empty one, in its place.
        Ok(file) => match file.metadata() {
            Ok(stat) if stat.file_type().is_char_device() && stat.rdev() == rustix::fs::makedev(1, 3) => {
                Reach::Refused("hidden".to_owned())
            }
            _ => Reach::Reachable,
        },
        Err(e) => denied(&e),
    }
}

fn denied(error: &io::Error) -> Reach {
    match Errno::from_io_error(error) {
        Some(Errno::PERM) => Reach::Refused("EPERM".to_owned()),
        Some(Errno::ACCESS) => Reach::Refused("EACCES".to_owned()),
        Some(Errno::ROFS) => Reach::Refused("read-only".to_owned()),
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => Reach::Absent("no such file".to_owned()),
        _ => Reach::Refused(error.kind().to_string()),
    }
}

fn read(path: &str) -> Reach {
    opened(fs::File::open(path))
}

fn write(path: &str) -> Reach {
    opened(OpenOptions::new().write(true).open(path))
}

fn writable(path: &str) -> Reach {
    match rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Reach::Reachable,
        Err(e) => denied(&e.into()),
    }
}

/// Whether any mount of the control groups can be written to. In version 1 each controller has its own.
fn groups() -> Reach {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut last = Reach::Absent("not mounted".to_owned());
    for line in text.lines() {
        let kind = line.split_once(" - ").and_then(|(_, theirs)| theirs.split(' ').next());
        if let (Some("cgroup" | "cgroup2"), Some(target)) = (kind, line.split(' ').nth(4)) {
            match writable(target) {
                Reach::Reachable => return Reach::Reachable,
                other => last = other,
            }
        }
    }
    last
}

/// Makes a device file of the first disk, where a file can be made, and opens it for reading.
fn disk() -> Reach {
    let Some((major, minor)) = first_disk() else { return Reach::Absent("none to be seen".to_owned()) };
    let mut last = Reach::Absent("nowhere to make a device".to_owned());
    for dir in ["/dev/shm", "/tmp", "/run", "/dev", "/"] {
        let path = format!("{}/.dhow-hello-disk", dir.trim_end_matches('/'));
        let mode = Mode::from_raw_mode(0o600);
        match rustix::fs::mknodat(CWD, &path, FileType::BlockDevice, mode, rustix::fs::makedev(major, minor))
        {
            Ok(()) => {
                let opened =
                    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&path);
                let removed = fs::remove_file(&path);
                match (opened, removed) {
                    (Ok(_), _) => return Reach::Reachable,
                    // A mount without devices refuses with EACCES; elsewhere it could still work.
                    (Err(e), _) => last = denied(&e),
                }
            }
            Err(Errno::NOENT | Errno::ROFS) => {}
            Err(e) => last = denied(&e.into()),
        }
    }
    last
}

/// The numbers of the first disk in `/proc/partitions`.
fn first_disk() -> Option<(u32, u32)> {
    let text = fs::read_to_string("/proc/partitions").ok()?;
    let line = text.lines().skip(1).find(|line| !line.trim().is_empty())?;
    let mut numbers = line.split_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whoever reaches an engine's socket owns the host.
fn engine() -> Reach {
    let known = ["/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/dhow"];
    match known.iter().find(|path| fs::symlink_metadata(path).is_ok()) {
        Some(_) => Reach::Reachable,
        None => Reach::Absent("no such file".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_whether_confinement_or_the_request_was_the_reason() {
        let error = |errno: Errno| call(Err(errno.into()));
        assert_eq!(error(Errno::PERM), Reach::Refused("EPERM".into()));
        assert_eq!(error(Errno::NOSYS), Reach::Absent("ENOSYS".into()));
        assert_eq!(error(Errno::INVAL), Reach::Reachable);
        assert_eq!(opened(fs::File::open("/dev/null")), Reach::Refused("hidden".into()));
        assert_eq!(read("/nowhere"), Reach::Absent("no such file".into()));
    }
}
