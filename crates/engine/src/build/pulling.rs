//! A pull, as a build tells of it.

use std::sync::atomic::{AtomicBool, Ordering};

use base::progress::{Progress, Step};

use super::progress::{BuildEvent, BuildProgress};

/// Tells of a pull's steps as of a vertex.
pub(super) struct Pulling<'p> {
    progress: &'p dyn BuildProgress,
    vertex: usize,
    pulled: AtomicBool,
}

impl<'p> Pulling<'p> {
    pub(super) fn new(progress: &'p dyn BuildProgress, vertex: usize) -> Self {
        Self { progress, vertex, pulled: AtomicBool::new(false) }
    }

    /// Whether something came that was not here.
    pub(super) fn pulled(&self) -> bool {
        self.pulled.load(Ordering::Relaxed)
    }
}

impl Progress for Pulling<'_> {
    fn begin(&self, _: &str, _: Step, _: Option<u64>) {}

    fn advance(&self, _: &str, _: u64) {}

    fn end(&self, id: &str, what: Step) {
        if matches!(what, Step::Download | Step::Unpack) {
            self.pulled.store(true, Ordering::Relaxed);
        }
        let what = match what {
            Step::Download => "downloaded",
            Step::Unpack => "extracted",
            Step::Upload => "pushed",
            Step::Uploaded | Step::Mount => "there already",
            Step::Save => "saved",
            _ => return,
        };
        self.progress.event(self.vertex, BuildEvent::Note { text: &format!("{id} {what}") });
    }

    fn note(&self, text: &str) {
        self.progress.event(self.vertex, BuildEvent::Note { text });
    }
}
