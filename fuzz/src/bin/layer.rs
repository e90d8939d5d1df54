//! Layers: bytes become entries, the same however they are buffered, and a tree below a directory, or an error in words.
//! Nothing is written beside that directory.
//!
//! With `FUZZ_ROOT` set this runs with the current directory as its root, in which `cargo xtask fuzz` has mounted a
//! file system in memory at `scratch`.
#![no_main]

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use rootfs::{Limits, fuzzing};

/// No machine shall be filled by what fits into an input.
const LIMITS: Limits = Limits {
    max_size: 1 << 20,
    max_entries: 200,
    max_ratio: 500,
    ratio_free: 1 << 20,
    max_path: 4095,
    max_metadata: 1 << 16,
    max_window: 1 << 20,
};

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    fuzz::tar::mutate(data, size, most, seed).unwrap_or_else(|| {
        let size = fuzzer_mutate(data, size, most);
        fuzz::tar::mend(&mut data[..size]);
        size
    })
});

/// A seed that is no archive would be worth nothing, and nobody would notice.
fn enter() {
    if std::env::var_os("FUZZ_ROOT").is_none() {
        return;
    }
    rustix::process::chroot(".").expect("chroot");
    std::fs::create_dir_all("/scratch/outside").expect("a directory");
    std::fs::write("/scratch/outside/file", "untouched").expect("a file");
    for seed in std::fs::read_dir("/seeds").expect("seeds") {
        let path = seed.expect("a seed").path();
        let said = unpack(&std::fs::read(&path).expect("a seed"));
        assert!(said.is_ok(), "{}: {said:?}", path.display());
    }
}

/// All that a change would change.
fn outside() -> Vec<(u32, u64, i64, i64, u64)> {
    ["/scratch/outside", "/scratch/outside/file"]
        .map(|path| std::fs::symlink_metadata(path).expect("it is there"))
        .map(|stat| (stat.mode(), stat.size(), stat.ctime(), stat.ctime_nsec(), stat.nlink()))
        .into()
}

fn unpack(data: &[u8]) -> Result<(), rootfs::ApplyError> {
    let place = Path::new("/scratch/layer");
    std::fs::create_dir(place).expect("a directory");
    let before = outside();
    let said = fuzzing::unpack(data, std::fs::File::open(place).expect("it is there").into(), &LIMITS);
    assert_eq!(outside(), before, "it came out");
    let names = std::fs::read_dir("/scratch").expect("it is there").count();
    assert_eq!(names, 2, "something lies beside it");
    base::fs::remove_dir_all(place).expect("it can be removed");
    said
}

fuzz_target!(init: enter(), |data: &[u8]| {
    let said = fuzzing::read(data, 1 << 16, 100);
    assert_eq!(said, fuzzing::read(data, 1 + data.len() % 700, 100), "it depends on the buffer");
    if std::env::var_os("FUZZ_ROOT").is_some()
        && let Err(error) = unpack(data)
    {
        let mut next = Some(&error as &dyn std::error::Error);
        while let Some(cause) = next {
            assert!(!cause.to_string().is_empty());
            next = cause.source();
        }
    }
});
