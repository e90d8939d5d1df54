//! Debian's programs in containers: the machine's own, and some that are unpacked beside it.

use std::path::PathBuf;

/// Flags that bring the machine's programs and libraries into a container of busybox, and those of Debian packages that are
/// unpacked elsewhere for tests, like this one.
#[track_caller]
pub fn with_programs_like(program: &str) -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap();
    let place: PathBuf = std::env::split_paths(&path)
        .find(|dir| dir.join(program).is_file())
        .and_then(|dir| Some(dir.parent()?.parent()?.to_owned()))
        .unwrap_or_else(|| panic!("no {program} on the PATH: `cargo xtask test --only packages` unpacks it"));
    let mut flags: Vec<String> = Vec::new();
    for dir in ["/usr", "/lib", "/lib64"] {
        flags.extend(["-v".into(), format!("{dir}:{dir}:ro")]);
    }
    let libraries: Vec<String> = ["lib", "usr/lib"]
        .iter()
        .map(|dir| format!("/programs/{dir}/{}-linux-gnu", std::env::consts::ARCH))
        .collect();
    flags.extend(["-v".into(), format!("{}:/programs:ro", place.display())]);
    flags.extend(["-e".into(), format!("LD_LIBRARY_PATH={}", libraries.join(":"))]);
    let dirs = ["/programs/usr/sbin", "/programs/usr/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    flags.extend(["-e".into(), format!("PATH={}", dirs.join(":"))]);
    flags
}
