//! The system call filter: profiles in, a program for the kernel out.
//!
//! A profile is ours ([`default_profile`]) or the user's in Docker's form ([`parse_docker`]); both become the
//! specification's [`Seccomp`], which [`compile()`] turns into a [`Program`]. Compiling
//! takes a millisecond, so programs are kept on disk under a name made of all that went in ([`cached`]);
//! whoever starts the container only reads and installs one.

mod action;
mod arch;
mod compile;
mod default;
mod docker;
mod flags;
pub mod listener;
mod program;
#[cfg(any(test, feature = "fuzzing"))]
pub mod reference;
mod rules;

use std::path::{Path, PathBuf};

use base::fs::{self, Durability};
use base::{Failure, Kind};
use oci::runtime::Seccomp;

pub use self::compile::compile;
pub use self::default::default_profile;
pub use self::docker::parse_docker;
pub(crate) use self::flags::check as check_flags;
pub use self::flags::{known as flags_known, supported as flags_supported};
#[cfg(any(test, feature = "fuzzing"))]
pub use self::program::interpret;
pub use self::program::{MAX_INSTRUCTIONS, Program, SockFilter};

use crate::capability;

/// To be raised when the compiler's output changes for the same input: it is part of every cached name.
const COMPILER: u32 = 2;

/// Which filter.
#[derive(Debug, Clone, Copy)]
pub enum Profile<'a> {
    /// Ours.
    Default,
    /// The text of a profile in Docker's JSON form.
    Docker(&'a str),
}

/// The path of the compiled program in the directory `cache`, made if it is missing or wrong.
///
/// `capabilities` is the container's bounding set. A hit costs one small read: the file is verified here, so
/// that a broken one is mended now rather than refused when the container starts.
pub fn cached(cache: &Path, profile: Profile<'_>, capabilities: capability::Set) -> Result<PathBuf, Error> {
    let name = match profile {
        Profile::Default => {
            format!("seccomp-{COMPILER}-{:016x}-{:x}", default::FINGERPRINT, capabilities.bits())
        }
        Profile::Docker(text) => {
            let (major, minor) = docker::running_kernel();
            let hash = base::Digest::of(text.as_bytes());
            format!("seccomp-{COMPILER}-{}-{:x}-{major}.{minor}", hash.hex(), capabilities.bits())
        }
    };
    let path = cache.join(name);
    if Program::load(&path).is_ok() {
        return Ok(path);
    }
    let filter = match profile {
        Profile::Default => default_profile(capabilities),
        Profile::Docker(text) => parse_docker(text, capabilities)?,
    };
    let program = compile(&filter)?;
    if program.notifies() {
        return Err(Error::Listener);
    }
    keep(cache, &path, &program)?;
    Ok(path)
}

/// How many programs of specifications a cache keeps. Each is a few kilobytes; an engine has a handful of profiles.
const MOST_KEPT: usize = 64;
/// How those are called.
const SPEC_PREFIX: &str = "seccomp-spec-";

/// The path of the compiled program of a specification's filter in the directory `cache`, made if it is missing or wrong.
/// At most 64 of them are kept there, the oldest going first: whoever loads one should be ready for its absence.
pub fn cached_spec(cache: &Path, filter: &Seccomp) -> Result<PathBuf, Error> {
    // What only the listener is told does not change the program.
    let told = Seccomp { listener_path: None, listener_metadata: None, ..filter.clone() };
    let text = serde_json::to_vec(&told).map_err(|source| Error::Json { source })?;
    let arch = arch::Arch::native().ok_or(Error::Machine)?.docker_name();
    let name = format!("{SPEC_PREFIX}{COMPILER}-{arch}-{}", base::Digest::of(&text).hex());
    let path = cache.join(name);
    if Program::load(&path).is_ok() {
        return Ok(path);
    }
    keep(cache, &path, &compile(filter)?)?;
    forget_oldest(cache, &path)?;
    Ok(path)
}

fn keep(cache: &Path, path: &Path, program: &Program) -> Result<(), Error> {
    let bytes = program.to_bytes();
    match fs::write_atomic(path, &bytes, Durability::Volatile) {
        Err(error) if error.is_not_found() => {
            fs::create_dir_all(cache, 0o700)?;
            fs::write_atomic(path, &bytes, Durability::Volatile)?;
        }
        written => written?,
    }
    Ok(())
}

/// Removes the oldest programs of specifications but `MOST_KEPT`, and never `but`.
fn forget_oldest(cache: &Path, but: &Path) -> Result<(), Error> {
    let mut kept = Vec::new();
    for name in fs::names(cache)? {
        let path = cache.join(&name);
        if name.starts_with(SPEC_PREFIX) && path != but {
            // Gone already: somebody else tidies up, too.
            if let Ok(made) = std::fs::metadata(&path).and_then(|meta| meta.modified()) {
                kept.push((made, path));
            }
        }
    }
    kept.sort();
    for (_, path) in kept.iter().take((kept.len() + 1).saturating_sub(MOST_KEPT)) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// The actions of the specification, all of which a filter may have.
pub fn actions() -> Vec<&'static str> {
    action::ACTIONS.iter().map(|(name, _)| *name).collect()
}

/// The operators of the specification, all of which a filter may have.
pub fn operators() -> Vec<&'static str> {
    rules::OPERATORS.iter().map(|(name, _)| *name).collect()
}

/// The architectures of the specification, all of which a filter may name. What belongs to other machines means nothing.
pub fn architectures() -> Vec<&'static str> {
    arch::names()
}

/// FNV-1a, which unlike better hashes is two operations and can be computed at compile time.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

const fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3)
}

/// A filter that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// The profile is not JSON of the expected form.
    #[error("the seccomp profile cannot be read")]
    Json {
        /// Where and why.
        source: serde_json::Error,
    },
    /// The profile contradicts itself.
    #[error("the seccomp profile contradicts itself: {reason}")]
    Profile {
        /// How.
        reason: &'static str,
    },
    /// The profile is absurdly large.
    #[error("the seccomp profile is larger than 1 MiB")]
    ProfileTooLarge,
    /// A kernel version that is none.
    #[error("the seccomp profile's minKernel {version:?} is not a version")]
    MinKernel {
        /// As written.
        version: String,
    },
    /// An action that does not exist.
    #[error("the seccomp profile has the unknown action {name:?}")]
    Action {
        /// As written.
        name: String,
    },
    /// An operator that does not exist.
    #[error("the seccomp profile has the unknown operator {name:?}")]
    Operator {
        /// As written.
        name: String,
    },
    /// An architecture that does not exist.
    #[error("the seccomp profile has the unknown architecture {name:?}")]
    Architecture {
        /// As written.
        name: String,
    },
    /// A flag that does not exist.
    #[error("the seccomp profile has the unknown flag {name:?}")]
    Flag {
        /// As written.
        name: String,
    },
    /// A flag that the running kernel does not know.
    #[error("the seccomp profile has the flag {name}, which this kernel does not know")]
    UnsupportedFlag {
        /// As written.
        name: &'static str,
    },
    /// A rule for no call.
    #[error("the seccomp profile has a rule without a name of a call")]
    Nameless,
    /// An error number for an action that has no use for one.
    #[error("the seccomp profile has an errnoRet for {action}, which carries no error number")]
    NoErrno {
        /// As written.
        action: String,
    },
    /// Every call would wait for a listener.
    #[error(
        "the seccomp profile has SCMP_ACT_NOTIFY as its default action, under which no process can start"
    )]
    NotifyDefault,
    /// A call that must not wait for a listener.
    #[error("the seccomp profile has SCMP_ACT_NOTIFY for `{call}`, which a process needs to start")]
    NotifyCall {
        /// Which.
        call: &'static str,
    },
    /// An error number that the kernel cannot return.
    #[error("the seccomp profile's errnoRet {value} is no error number")]
    Errno {
        /// As written.
        value: u32,
    },
    /// A call has six arguments.
    #[error("the seccomp profile compares argument {index}, but calls have arguments 0 to 5")]
    Argument {
        /// As written.
        index: u32,
    },
    /// The kernel would not take it.
    #[error("the seccomp profile compiles to more than {MAX_INSTRUCTIONS} instructions")]
    TooLong,
    /// The profile hands calls to a listener.
    #[error("the seccomp profile uses SCMP_ACT_NOTIFY, but there is no listenerPath to notify")]
    Listener,
    /// No tables for this processor.
    #[error("seccomp filters are not known for this processor")]
    Machine,
    /// A cached program that cannot be believed.
    #[error("the cached seccomp program cannot be used: {reason}")]
    Cache {
        /// Why.
        reason: &'static str,
    },
}

impl Error {
    fn minimum(version: &str) -> Self {
        Self::MinKernel { version: version.chars().take(40).collect() }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
            Self::Machine | Self::Listener | Self::UnsupportedFlag { .. } => Kind::Unsupported,
            Self::Cache { .. } => Kind::Corrupt,
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::File(e) => e.hints(),
            Self::TooLong => {
                vec!["list fewer calls or conditions, or name ranges by one comparison".to_owned()]
            }
            Self::Machine => vec!["run with --security-opt seccomp=unconfined".to_owned()],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::capability::Set;

    const USER: &str = r#"{"defaultAction":"SCMP_ACT_ALLOW",
        "syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":99}]}"#;

    #[test]
    fn a_program_is_made_once_and_mended_when_broken() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let path = cached(&cache, Profile::Default, Set::DEFAULT).unwrap();
        let made = std::fs::metadata(&path).unwrap().ino();
        assert_eq!(cached(&cache, Profile::Default, Set::DEFAULT).unwrap(), path);
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), made);
        let good = Program::load(&path).unwrap();

        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Program::load(&path), Err(Error::Cache { .. })));
        assert_eq!(cached(&cache, Profile::Default, Set::DEFAULT).unwrap(), path);
        assert_eq!(Program::load(&path).unwrap(), good);
    }

    #[test]
    fn names_depend_on_all_that_goes_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = |profile, set| cached(dir.path(), profile, set).unwrap();
        let ours = path(Profile::Default, Set::DEFAULT);
        assert_ne!(ours, path(Profile::Default, Set::KNOWN));
        let user = path(Profile::Docker(USER), Set::DEFAULT);
        assert_ne!(user, ours);
        assert_ne!(user, path(Profile::Docker(&format!("{USER} ")), Set::DEFAULT));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn the_kernel_takes_our_filter_and_does_what_it_says() {
        use rustix::net::{AddressFamily, SocketType, socket};
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        use sys::confine::{Instruction, set_seccomp_filter};
        use sys::process::{Cloned, clone, exit_now, unshare};

        let program = compile(&default_profile(Set::DEFAULT)).unwrap();
        let convert = |i: &SockFilter| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
        let instructions: Vec<_> = program.instructions().iter().map(convert).collect();
        let Cloned::Parent { pidfd, .. } = clone(0, None).unwrap() else {
            let refused = |family| {
                socket(AddressFamily::from_raw(family), SocketType::DGRAM, None).err()
                    == Some(rustix::io::Errno::PERM)
            };
            let ready = rustix::thread::set_no_new_privs(true).is_ok()
                && set_seccomp_filter(&instructions, program.flags()).is_ok();
            let right = ready
                && refused(38)
                && refused(40)
                && socket(AddressFamily::UNIX, SocketType::DGRAM, None).is_ok()
                && unshare(libc::CLONE_NEWUSER as u32).is_err_and(|e| e.raw_os_error() == Some(libc::EPERM));
            exit_now(if right { 7 } else { i32::from(ready) });
        };
        use std::os::fd::AsFd as _;
        let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(7));
    }

    #[test]
    fn a_profile_that_needs_a_listener_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = USER.replace("SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY");
        let error = cached(dir.path(), Profile::Docker(&text), Set::DEFAULT).unwrap_err();
        assert!(matches!(error, Error::Listener));
    }

    #[test]
    fn programs_of_specifications_are_kept_by_content_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let filter = |errno| Seccomp {
            default_action: "SCMP_ACT_ERRNO".to_owned(),
            default_errno_ret: Some(errno),
            ..Seccomp::default()
        };
        let first = cached_spec(&cache, &filter(1)).unwrap();
        let made = std::fs::metadata(&first).unwrap().ino();
        assert_eq!(cached_spec(&cache, &filter(1)).unwrap(), first);
        assert_eq!(std::fs::metadata(&first).unwrap().ino(), made);
        let other = Seccomp { listener_path: Some("/x".into()), ..filter(1) };
        assert_eq!(cached_spec(&cache, &other).unwrap(), first);
        assert_eq!(Program::load(&first).unwrap(), compile(&filter(1)).unwrap());
        std::fs::write(cache.join("seccomp-2-other"), "").unwrap();
        for errno in 2..80 {
            let path = cached_spec(&cache, &filter(errno)).unwrap();
            assert!(path.exists(), "{errno}");
        }
        assert!(!first.exists());
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), MOST_KEPT + 1, "what is not ours stays");
    }
}
