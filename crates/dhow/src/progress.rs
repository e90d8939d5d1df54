//! How a pull or load is going: bars on a terminal, plain lines elsewhere, nothing where nothing is wanted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base::progress::{Progress, Silent, Step};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{output, terminal};

/// What suits standard error.
pub(crate) fn choose(quiet: bool) -> Box<dyn Progress> {
    if quiet {
        Box::new(Silent)
    } else if terminal::stderr_is_terminal() {
        Box::new(Bars::default())
    } else {
        Box::new(Lines)
    }
}

/// Bars on a terminal, and nothing elsewhere: for what has nothing to say that its result does not.
pub(crate) fn on_terminal(quiet: bool) -> Box<dyn Progress> {
    if quiet || !terminal::stderr_is_terminal() { Box::new(Silent) } else { Box::new(Bars::default()) }
}

fn said(step: Step) -> (&'static str, &'static str) {
    match step {
        Step::Wait => ("Waiting", "Waiting"),
        Step::Download => ("Downloading", "Download complete"),
        Step::Unpack => ("Extracting", "Pull complete"),
        Step::Exists => ("Already exists", "Already exists"),
        Step::Save => ("Saving", "Saved"),
        Step::Upload => ("Pushing", "Pushed"),
        Step::Mount => ("Mounted from another repository", "Mounted from another repository"),
        Step::Uploaded => ("Layer already exists", "Layer already exists"),
        Step::Verify => ("Checking", "Checked"),
        Step::Copy => ("Copying", "Copied"),
    }
}

/// A line for each step's end: what a log file can bear.
struct Lines;

impl Progress for Lines {
    fn begin(&self, _: &str, _: Step, _: Option<u64>) {}

    fn advance(&self, _: &str, _: u64) {}

    fn end(&self, id: &str, what: Step) {
        output::talk(&format!("{id}: {}", said(what).1));
    }

    fn note(&self, text: &str) {
        output::talk(text);
    }
}

/// A bar for each layer.
#[derive(Default)]
struct Bars {
    /// Made with the first bar: most commands never show one.
    all: Mutex<Option<MultiProgress>>,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn bar(&self, id: &str) -> ProgressBar {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = bars.get(id) {
            return bar.clone();
        }
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all
            .get_or_insert_with(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        // Its own style from the first: whatever is drawn before a step begins.
        let bar = all.add(ProgressBar::no_length().with_style(style("{prefix}: {msg}")));
        bar.set_prefix(id.to_owned());
        bars.insert(id.to_owned(), bar.clone());
        bar
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Progress for Bars {
    fn begin(&self, id: &str, what: Step, total: Option<u64>) {
        let bar = self.bar(id);
        match total {
            Some(total) => {
                bar.set_style(style("{prefix}: {msg} [{bar:40}] {decimal_bytes}/{decimal_total_bytes}"));
                bar.set_length(total);
            }
            None => bar.set_style(style("{prefix}: {msg} {decimal_bytes}")),
        }
        bar.set_message(said(what).0);
        bar.set_position(0);
    }

    fn advance(&self, id: &str, bytes: u64) {
        self.bar(id).inc(bytes);
    }

    fn end(&self, id: &str, what: Step) {
        let bar = self.bar(id);
        bar.set_style(style("{prefix}: {msg}"));
        bar.set_message(said(what).1);
        bar.tick();
    }

    fn note(&self, text: &str) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match &*all {
            Some(all) => {
                all.println(text).ok();
            }
            None => output::talk(text),
        }
    }
}

impl Drop for Bars {
    /// What is shown last stays.
    fn drop(&mut self) {
        for bar in self.bars.lock().unwrap_or_else(PoisonError::into_inner).values() {
            bar.abandon();
        }
    }
}
