//! What becomes of a container whose command has ended: it stays so, or is started again after a while.

use std::time::Duration;

use state::options::RestartPolicy;

/// Docker's: a tenth of a second, doubled each time, a minute at most.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_mins(1);
/// A command that lived as long as this had started well: the next failure is a first one again.
const STEADY: Duration = Duration::from_secs(10);

/// Who wanted it to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The user: it is not even started when the machine comes up (`unless-stopped`).
    ByUser,
    /// Whoever takes the machine down.
    ByShutdown,
    /// We: it is unhealthy, and was told to stop then.
    ByHealth,
    /// We: it is unhealthy, and is to be started again, whatever the policy.
    ForRestart,
}

/// The delays between runs that fail.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST_DELAY }
    }
}

impl Backoff {
    /// How long to wait after a run of this length.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.next = FIRST_DELAY;
        }
        let delay = self.next;
        self.next = (delay * 2).min(LONGEST_DELAY);
        delay
    }
}

/// Whether a container is started again whose command ended with `code`, after it was `restarts` times already.
pub(crate) fn again(policy: RestartPolicy, wanted: Option<Wanted>, code: i32, restarts: u32) -> bool {
    match wanted {
        Some(Wanted::ForRestart) => true,
        Some(_) => false,
        None => policy.restarts(code, restarts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RestartPolicy as P;

    #[test]
    fn delays_double_up_to_a_minute_and_a_steady_run_begins_anew() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let delays: Vec<u128> = (0..12).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[10..], [60_000, 60_000]);
        assert_eq!(backoff.after(STEADY).as_millis(), 100);
        assert_eq!(backoff.after(short).as_millis(), 200);
    }

    #[test]
    fn the_policy_decides_unless_somebody_wanted_the_end() {
        let none = None;
        for (policy, code, restarts, expected) in [
            (P::No, 1, 0, false),
            (P::OnFailure(0), 0, 0, false),
            (P::OnFailure(0), 1, 1000, true),
            (P::OnFailure(2), 1, 1, true),
            (P::OnFailure(2), 1, 2, false),
            (P::Always, 0, 9, true),
            (P::UnlessStopped, 137, 9, true),
        ] {
            assert_eq!(again(policy, none, code, restarts), expected, "{policy} {code} {restarts}");
        }
        for wanted in [Wanted::ByUser, Wanted::ByShutdown, Wanted::ByHealth] {
            assert!(!again(P::Always, Some(wanted), 1, 0));
        }
        assert!(again(P::No, Some(Wanted::ForRestart), 0, 0));
    }
}
