//! `config.json`: bytes become a specification and a plan, or an error in words. Never a panic, a hang, or memory
//! without bound; and what was read is written and read again as the same.
//!
//! A plan opens what the specification names, so with `FUZZ_ROOT` set this runs with the current
//! directory as its root, in which `cargo xtask fuzz` has laid out what a plan looks for.
#![no_main]

use std::sync::LazyLock;

use base::Failure as _;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use oci::runtime::Spec;
use runtime::cgroup::{Location, Placement};
use runtime::{Bundle, RootSource};

static BUNDLE: LazyLock<Bundle> = LazyLock::new(|| {
    let text = r#"{"spec":{"ociVersion":"1.3.0"},"root":{"directory":"/rootfs"},"cgroup":null,"seccomp":null,
        "init":false}"#;
    serde_json::from_str(text).expect("a bundle")
});

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    fuzz::mutate::json(data, size, most, seed).unwrap_or_else(|| fuzzer_mutate(data, size, most))
});

/// Makes the current directory the root: `cargo xtask fuzz` has filled it. A seed that is no specification would
/// be worth nothing, and nobody would notice.
fn enter() {
    LazyLock::force(&BUNDLE);
    if std::env::var_os("FUZZ_ROOT").is_none() {
        return;
    }
    rustix::process::chroot(".").expect("chroot");
    for seed in std::fs::read_dir("/seeds").expect("seeds") {
        let path = seed.expect("a seed").path();
        let text = std::fs::read(&path).expect("a seed");
        let parsed = serde_json::from_slice::<Spec>(&text);
        assert!(parsed.is_ok(), "{}: {parsed:?}", path.display());
    }
}

fuzz_target!(init: enter(), |data: &[u8]| {
    let Ok(spec) = serde_json::from_slice::<Spec>(data) else { return };
    let written = serde_json::to_string(&spec).expect("what was read can be written");
    let again: Spec = serde_json::from_str(&written).expect("what was written can be read");
    assert_eq!(spec, again, "it comes back as something else");
    let mut bundle = BUNDLE.clone();
    bundle.spec = spec;
    if data.len().is_multiple_of(2) {
        bundle.root = RootSource::Overlay {
            lowers: vec!["/rootfs".into()],
            upper: "/upper".into(),
            work: "/work".into(),
            volatile: data.len().is_multiple_of(4),
        };
    }
    let path = bundle.spec.linux.as_ref().and_then(|linux| linux.cgroups_path.clone());
    bundle.cgroup = match (data.len() % 3, path) {
        (0, _) => None,
        (1, Some(path)) => Some(Location::Path(path)),
        _ => {
            let (parent, name) = ("fuzz".to_owned(), "c".to_owned());
            Some(Placement { parent, name, memory_reserve: None }.into())
        }
    };
    match runtime::plan(&bundle) {
        Ok(plan) => assert!(plan.warnings().len() < 1000),
        Err(error) => {
            let (mut next, mut words) = (Some(&error as &dyn std::error::Error), error.hints().join(" "));
            while let Some(cause) = next {
                words.push_str(&cause.to_string());
                next = cause.source();
            }
            assert!(!words.is_empty());
            let _ = error.kind();
        }
    }
});
