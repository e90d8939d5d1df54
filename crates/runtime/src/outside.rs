//! What the parent does for a child that runs in another user namespace: whatever takes rights in ours.
//!
//! Between the clone and Go. A failure is told like one of the child's, whose step it is.

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Pid, Rlimit, getrlimit, prlimit};

use crate::child::{During, Outcome};
use crate::handshake::{Failed, Step};
use crate::plan::ProcessPlan;

/// Raises the hard limits that are above ours, and sets the badness for the out-of-memory killer. The limits are only
/// raised: the child sets them, and the soft ones, when it has opened all that it needs.
pub(crate) fn help(plan: &ProcessPlan, pid: u32) -> Outcome<()> {
    if !plan.foreign_users {
        return Ok(());
    }
    for (n, (resource, limit, _)) in plan.rlimits.iter().enumerate() {
        // The child has ours, as yet.
        let ours = getrlimit(*resource);
        if is_above(limit.maximum, ours.maximum) {
            let raised = Rlimit { current: ours.current, maximum: limit.maximum };
            prlimit(Pid::from_raw(pid as i32), *resource, raised).during_nth(Step::Rlimit, n)?;
        }
    }
    if let Some(value) = &plan.oom_score_adj {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let path = format!("/proc/{pid}/oom_score_adj");
        let file = openat(CWD, path, flags, Mode::empty()).during(Step::OomScore)?;
        let written = rustix::io::write(&file, value).during(Step::OomScore)?;
        if written != value.len() {
            return Err(Failed::new(Step::OomScore, 0, rustix::io::Errno::IO));
        }
    }
    Ok(())
}

/// Whether one limit is above another, where none is infinity.
fn is_above(limit: Option<u64>, other: Option<u64>) -> bool {
    match (limit, other) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(limit), Some(other)) => limit > other,
    }
}

#[cfg(test)]
mod tests {
    use super::is_above;

    #[test]
    fn nothing_is_above_infinity() {
        assert!(is_above(None, Some(7)) && is_above(Some(8), Some(7)));
        assert!(!is_above(None, None) && !is_above(Some(7), None) && !is_above(Some(7), Some(7)));
    }
}
