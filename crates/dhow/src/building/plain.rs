//! Plain lines, as BuildKit writes them: each with the number of the step that it is of.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use engine::{BuildEvent, BuildProgress};

use super::seconds;
use super::tail::{Tails, failure, lines};
use crate::output;

/// Lines on standard error.
#[derive(Debug, Default)]
pub(super) struct Plain(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    titles: BTreeMap<usize, String>,
    /// The step that was told of last, while it is not done.
    last: Option<usize>,
    tails: Tails,
    /// Something has been written.
    begun: bool,
}

impl State {
    /// Says of which step the next lines are, where that is another one.
    fn turn(&mut self, vertex: usize, text: &mut String) {
        if self.last == Some(vertex) {
            return;
        }
        if let Some(last) = self.last {
            writeln!(text, "#{last} ...").ok();
        }
        if self.begun {
            text.push('\n');
        }
        self.begun = true;
        let title = self.titles.get(&vertex).map_or("", String::as_str);
        writeln!(text, "#{vertex} {title}").ok();
        self.last = Some(vertex);
    }

    fn end(&mut self, vertex: usize, how: &str, text: &mut String) {
        self.turn(vertex, text);
        writeln!(text, "#{vertex} {how}").ok();
        self.last = None;
    }
}

impl BuildProgress for Plain {
    fn event(&self, vertex: usize, event: BuildEvent<'_>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        match event {
            BuildEvent::Began { title } => {
                state.titles.insert(vertex, base::failure::printable(title.to_owned()));
                // One that is done at once is told of when it is.
                if state.last.is_none() {
                    state.turn(vertex, &mut text);
                }
            }
            BuildEvent::Output { bytes, after, .. } => {
                state.turn(vertex, &mut text);
                state.tails.add(vertex, after, bytes);
                for line in lines(bytes) {
                    writeln!(text, "#{vertex} {:.3} {line}", after.as_secs_f64()).ok();
                }
            }
            BuildEvent::Note { text: note } => {
                state.turn(vertex, &mut text);
                writeln!(text, "#{vertex} {note}").ok();
            }
            BuildEvent::Cached => {
                state.tails.forget(vertex);
                state.end(vertex, "CACHED", &mut text);
            }
            BuildEvent::Done { took } => {
                state.tails.forget(vertex);
                state.end(vertex, &format!("DONE {}", seconds(took)), &mut text);
            }
            BuildEvent::Canceled => state.end(vertex, "CANCELED", &mut text),
            BuildEvent::Failed { error, .. } => {
                state.end(vertex, &format!("ERROR: {error}"), &mut text);
                let title = state.titles.get(&vertex).map_or("", String::as_str);
                text.push_str(&failure(title, &state.tails, vertex));
                text.push('\n');
            }
        }
        if !text.is_empty() {
            output::talk(text.trim_end_matches('\n'));
        }
    }

    fn note(&self, text: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last = None;
        output::talk(text);
    }
}
