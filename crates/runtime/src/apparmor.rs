//! AppArmor: our default profile, and loading it.
//!
//! A profile is compiled by `apparmor_parser`, a program that comes with AppArmor's userland: loading one is the
//! only time that a launch may start a child process for confinement, once per boot and version of the profile.
//! That it has been done is remembered by a file in the instance's run directory, which a reboot empties.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base::fs::{self, Durability};
use base::{Failure, Kind};

/// The name of our default profile.
pub const DEFAULT_PROFILE: &str = "dhow-default";

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
const INCLUDES: &str = "/etc/apparmor.d";
/// In the order of Debian, Fedora-like and merged systems. Not `PATH`: what we run as root is not looked for
/// where the caller says.
const PARSERS: [&str; 4] = [
    "/usr/sbin/apparmor_parser",
    "/sbin/apparmor_parser",
    "/usr/bin/apparmor_parser",
    "/bin/apparmor_parser",
];

/// True where the running kernel confines with AppArmor.
pub fn is_enabled() -> bool {
    std::fs::read(ENABLED).is_ok_and(|text| text.starts_with(b"Y"))
}

/// What came of [`ensure_loaded`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Confine with [`DEFAULT_PROFILE`].
    Loaded,
    /// There is no AppArmor, or it cannot be used and the user has been told: run without, nothing to say.
    Disabled,
    /// The kernel has it, but the profile cannot be loaded: run without, and show this warning.
    Degraded(String),
}

/// Makes sure that our default profile is loaded. `run` is the instance's run directory. After the first time in
/// this boot it costs two small look-ups.
pub fn ensure_loaded(run: &Path) -> Result<Outcome, Error> {
    if !is_enabled() {
        return Ok(Outcome::Disabled);
    }
    // The text is part of the name: a newer version with other rules loads its own.
    let marker = run.join(format!("apparmor-{:016x}", fingerprint()));
    if marker.exists() {
        return Ok(Outcome::Loaded);
    }
    let parser = parser();
    // Tried and said once in a boot, not with every container; and again when the parser comes or goes. `info`
    // goes on saying it.
    let said = run.join(if parser.is_some() { "apparmor-failed" } else { "apparmor-missing" });
    if said.exists() {
        return Ok(Outcome::Disabled);
    }
    let reason = match &parser {
        Some(parser) => load(parser, &profile(Path::new(INCLUDES), own_profile().as_deref())).err(),
        None if is_listed() => None,
        None => Some("apparmor_parser is not installed".to_owned()),
    };
    let Some(reason) = reason else {
        fs::write_atomic(&marker, b"", Durability::Volatile)?;
        return Ok(Outcome::Loaded);
    };
    fs::write_atomic(&said, b"", Durability::Volatile)?;
    Ok(Outcome::Degraded(format!(
        "containers run without AppArmor's confinement: cannot load the profile {DEFAULT_PROFILE}: {reason}"
    )))
}

/// True where containers are, or can be, confined by our default profile.
pub fn is_available() -> bool {
    is_enabled() && (is_listed() || parser().is_some())
}

/// What to write to `/proc/thread-self/attr/apparmor/exec` (or `attr/exec`) before the exec.
pub fn exec_attribute(profile: &str) -> String {
    format!("exec {profile}")
}

/// True where the kernel has a profile of our name, whoever loaded it.
fn is_listed() -> bool {
    std::fs::read_to_string(LOADED).is_ok_and(|list| {
        list.lines().any(|line| line.strip_prefix(DEFAULT_PROFILE).is_some_and(|rest| rest.starts_with(" (")))
    })
}

/// The profile that we are confined by ourselves, if any.
fn own_profile() -> Option<String> {
    let text = ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())?;
    let name = text.trim_end_matches(['\0', '\n']).split(" (").next()?.to_owned();
    // Names with blanks or quotes would have to be quoted; nobody's own profile for an engine has them.
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.".contains(&b));
    (plain && !name.is_empty() && name != "unconfined").then_some(name)
}

/// Compiles and loads, replacing what there is of the same name. The error is a reason in words.
fn load(parser: &Path, text: &str) -> Result<(), String> {
    let mut child = Command::new(parser)
        // No cache: it would be one more thing to keep.
        .args(["--skip-cache", "--replace", "--quiet"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", parser.display()))?;
    // The text is far smaller than a pipe, so that writing never waits for a parser that waits for us.
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(|e| format!("apparmor_parser: {e}"))?;
    if output.status.success() && written.is_ok() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it failed");
    Err(format!("apparmor_parser: {}", said.chars().take(300).collect::<String>()))
}

/// The rules of our default profile: what Docker's default has, in our words.
///
/// It is the second wall behind capabilities, masks and read-only mounts. Everything is allowed but: mounting;
/// the kernel's crypto sockets, also where a system call filter cannot see them; writing to the kernel's own
/// files. AppArmor's patterns have no "except", so an exception is spelt letter by letter.
const RULES: &str = "
  network,
  deny network alg,
  deny network vsock,
  capability,
  file,
  umount,
  deny mount,

  # Who may send us signals: the host, and one another.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=@NAME@,
  # Debuggers and process lists work among ourselves.
  ptrace (trace, tracedby, read, readby) peer=@NAME@,

  # In /proc only processes' own directories may be written to ...
  deny @{PROC}/* w,
  deny @{PROC}/[^1-9s/]*/** w,
  deny @{PROC}/s[^y/]*/** w,
  deny @{PROC}/sy[^s/]*/** w,
  deny @{PROC}/sys[^/]*/** w,
  # ... and /proc/sys/kernel/shm*, which the IPC namespace divides.
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/k[^e]** w,
  deny @{PROC}/sys/kernel/[^s]** w,
  deny @{PROC}/sys/kernel/s[^h]** w,
  deny @{PROC}/sys/kernel/sh[^m]** w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  # In /sys nothing may be written to but /sys/fs/cgroup.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  # These tell about the machine, too.
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
";

/// The profile's text, with what this machine's AppArmor has to include, and for an engine that is confined as
/// `engine`.
fn profile(includes: &Path, engine: Option<&str>) -> String {
    let has = |name: &str| includes.join(name).exists();
    let mut text = String::from("# The default profile of Dhow's containers.\n");
    // Rules mean what they meant in this version: in newer ones `network` alone no longer covers unix sockets.
    if has("abi/3.0") {
        text.push_str("abi <abi/3.0>,\n");
    }
    if has("tunables/global") {
        text.push_str("#include <tunables/global>\n");
    } else {
        text.push_str("@{PROC}=/proc/\n");
    }
    // Files that a container has deleted or that come from outside its mounts are judged all the same.
    writeln!(text, "\nprofile {DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {{").ok();
    if has("abstractions/base") {
        text.push_str("  #include <abstractions/base>\n");
    }
    text.push_str(&RULES.replace("@NAME@", DEFAULT_PROFILE));
    if let Some(engine) = engine {
        writeln!(text, "  signal (receive) peer={engine},").ok();
    }
    text.push_str("}\n");
    text
}

fn fingerprint() -> u64 {
    RULES.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A failure to remember what was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error(transparent)]
    File(#[from] fs::Error),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::File(e) => e.hints(),
        }
    }
}

fn parser() -> Option<PathBuf> {
    PARSERS.iter().map(PathBuf::from).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_includes_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let bare = profile(dir.path(), None);
        assert!(bare.contains("@{PROC}=/proc/\n") && !bare.contains("include") && !bare.contains("abi <"));
        assert!(bare.contains("profile dhow-default flags") && bare.contains("peer=dhow-default,"));
        assert!(!bare.contains("@NAME@"));
        for (sub, file) in [("abi", "3.0"), ("tunables", "global"), ("abstractions", "base")] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
            std::fs::write(dir.path().join(sub).join(file), "").unwrap();
        }
        let full = profile(dir.path(), Some("/usr/bin/dhow"));
        assert!(full.contains("abi <abi/3.0>,") && full.contains("#include <tunables/global>"));
        assert!(full.contains("  #include <abstractions/base>") && full.contains("peer=/usr/bin/dhow,"));
    }

    #[test]
    fn it_is_loaded_where_it_can_be_and_said_where_not() {
        let dir = tempfile::tempdir().unwrap();
        match ensure_loaded(dir.path()).unwrap() {
            Outcome::Disabled => assert!(!is_enabled()),
            Outcome::Degraded(warning) => {
                assert!(warning.contains(DEFAULT_PROFILE), "{warning}");
                assert_eq!(ensure_loaded(dir.path()).unwrap(), Outcome::Disabled, "once is enough");
            }
            Outcome::Loaded => {
                assert!(is_listed());
                assert!(is_available());
                assert_eq!(ensure_loaded(dir.path()).unwrap(), Outcome::Loaded);
                check_confinement();
            }
        }
    }

    /// A shell that confines what it executes next.
    fn confined(script: &str) -> (bool, String) {
        let outer = format!(
            "echo {} > /proc/self/attr/exec && exec /bin/sh -c \"$0\"",
            exec_attribute(DEFAULT_PROFILE)
        );
        let output = Command::new("/bin/sh").args(["-c", &outer, script]).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }

    fn check_confinement() {
        let (ok, text) =
            confined("cat /proc/self/attr/current; echo 1 > /proc/self/oom_score_adj; cat /proc/uptime");
        assert!(ok && text.contains("dhow-default (enforce)"), "{text}");
        for script in [
            "mount -t tmpfs none /mnt",
            "echo 0 > /proc/sys/kernel/randomize_va_space",
            "echo 0 > /proc/sys/vm/swappiness",
            "echo h > /proc/sysrq-trigger",
            "head -c 1 /proc/kcore",
            "echo 1 > /proc/irq/default_smp_affinity",
            "echo mem > /sys/power/state",
            "ls /sys/kernel/security/apparmor",
            "echo 0 > /sys/module/apparmor/parameters/mode",
        ] {
            let (ok, text) = confined(script);
            // mount(8) has words of its own for EACCES.
            assert!(!ok && (text.contains("enied") || text.contains("cannot mount")), "{script}: {text}");
        }
        let (ok, text) = confined("v=$(cat /proc/sys/kernel/shmmni) && echo $v > /proc/sys/kernel/shmmni");
        assert!(ok, "{text}");
    }
}
