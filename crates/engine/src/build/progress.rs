//! What a build tells while it goes on.

use std::time::Duration;

/// A sink for what happens. Calls come from several threads at once.
pub trait BuildProgress: Send + Sync {
    /// Something happened to the vertex of this number (from 1, in the order in which they are first told of).
    fn event(&self, vertex: usize, event: BuildEvent<'_>);

    /// A line about the whole.
    fn note(&self, text: &str);
}

/// What happened to a vertex: a step, or something of our own, whose title begins with `[internal]`.
#[derive(Debug, Clone, Copy)]
pub enum BuildEvent<'e> {
    /// It begins.
    Began {
        /// As the Dockerfile has it: `[2/3] RUN make`.
        title: &'e str,
    },
    /// Its command has said this: lines, each with its end but maybe the last.
    Output {
        /// On standard error.
        errors: bool,
        /// The bytes.
        bytes: &'e [u8],
        /// Since it began.
        after: Duration,
    },
    /// Something about it that its command did not say.
    Note {
        /// The line.
        text: &'e str,
    },
    /// It was done before.
    Cached,
    /// It is done.
    Done {
        /// How long it took.
        took: Duration,
    },
    /// Somebody wants the build to end.
    Canceled,
    /// It went wrong.
    Failed {
        /// How, on one line.
        error: &'e str,
        /// How long that took.
        took: Duration,
    },
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentBuild;

impl BuildProgress for SilentBuild {
    fn event(&self, _: usize, _: BuildEvent<'_>) {}
    fn note(&self, _: &str) {}
}
