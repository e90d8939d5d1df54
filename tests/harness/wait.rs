//! Waiting: always for something, never just for a while.

use std::time::{Duration, Instant};

/// `seconds`, or what they are on a machine that is emulated (`vm-run` says so in its environment).
pub fn patience(seconds: u64) -> Duration {
    let slowness = if std::env::var_os("VM_RUN").is_some() { 12 } else { 1 };
    Duration::from_secs(seconds * slowness)
}

/// How often to do what is quick every day and long in a soak (`DHOW_SOAK=1`).
pub fn soak(every_day: usize, soaking: usize) -> usize {
    if std::env::var_os("DHOW_SOAK").is_some_and(|v| !v.is_empty() && v != "0") { soaking } else { every_day }
}

/// A number below `limit`, another one each time: for the moment at which something is killed.
pub fn random(limit: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(limit) % limit.max(1)
}

/// Looks again and again until `look` finds something; fails the test after half a minute.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
