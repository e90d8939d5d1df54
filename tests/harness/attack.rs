//! What the tests of attacks have in common: something outside that must stay as it is, and a container that is as
//! strong as it can be without being the host.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::invocation::Invocation;
use crate::oci::Bundle;

/// A directory of the host that an attacker wants something to be made, changed or mounted in. It has entries of all
/// the names that a runtime touches in a root, so that whoever is led there finds what they look for.
#[derive(Debug)]
pub struct Outside {
    path: PathBuf,
    before: String,
}

impl Outside {
    /// Makes one in a directory of the test.
    pub fn new(scratch: &Path) -> Self {
        let path = scratch.join("outside");
        for name in ["pts", "shm", "mqueue", "fs/cgroup", "kernel/debug", "self/attr", "sys/net", "deep/er"] {
            std::fs::create_dir_all(path.join(name)).unwrap();
        }
        for name in [
            "null",
            "zero",
            "full",
            "random",
            "urandom",
            "tty",
            "console",
            "ptmx",
            "kcore",
            "passwd",
            "group",
            "shm/file",
            "self/attr/exec",
            "self/oom_score_adj",
            "deep/er/file",
        ] {
            std::fs::write(path.join(name), "the host's").unwrap();
        }
        let before = look(&path);
        Self { path, before }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same as a text.
    pub fn text(&self) -> &str {
        self.path.to_str().expect("the test's directory has a plain name")
    }

    /// Nothing in it has been made, changed, given to somebody else or mounted over.
    #[track_caller]
    pub fn assert_untouched(&self, what: &str) {
        assert_eq!(look(&self.path), self.before, "{what}: it came out");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.text()), "{what}: something is mounted outside: {mounts}");
    }
}

/// All that a change would change: the time of the last change of each file's node with it.
fn look(path: &Path) -> String {
    let mut text = String::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let (mode, owner, size) = (stat.mode(), (stat.uid(), stat.gid()), stat.size());
        let when = (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec());
        writeln!(text, "{} {mode:o} {owner:?} {size} {} {when:?}", path.display(), stat.rdev()).unwrap();
        if stat.is_dir() {
            let mut names: Vec<_> =
                std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            pending.extend(names);
        }
    }
    text
}

/// A bundle with the attacker's program in it, as `/bin/probe`.
pub fn armed(bundle: Bundle, probe: &str) -> Bundle {
    bundle.file("/bin/probe", std::fs::read(probe).unwrap())
}

/// All capabilities that there are: what a container has whose owner was careless.
pub fn almighty(spec: &mut Value) {
    const ALL: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
        NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT \
        SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE \
        AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ \
        PERFMON BPF CHECKPOINT_RESTORE";
    let all: Vec<String> = ALL.split_whitespace().map(|name| format!("CAP_{name}")).collect();
    for set in ["bounding", "effective", "permitted"] {
        spec["process"]["capabilities"][set] = json!(all);
    }
    spec["process"]["noNewPrivileges"] = json!(false);
}

/// Users of its own: root of the container is 100000 of the host, and the root file system is theirs.
pub fn with_users(bundle: &Bundle) {
    bundle.change(map_users);
    let root = bundle.rootfs();
    Invocation::new("chown").args(&["-hR", "100000:100000"]).arg(root).ok();
}

fn map_users(spec: &mut Value) {
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    spec["linux"]["uidMappings"] = map.clone();
    spec["linux"]["gidMappings"] = map;
}

/// Another mount.
pub fn mount(spec: &mut Value, destination: &str, kind: &str, source: &str, options: &[&str]) {
    spec["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": destination, "type": kind, "source": source, "options": options}));
}

/// Without one of the mounts that every container has.
pub fn unmount(spec: &mut Value, destination: &str) {
    spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != destination);
}
