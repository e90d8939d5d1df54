//! A live view on a terminal: the steps, how long each takes, the last lines of those that run; drawn anew in its place.

use std::fmt::Write as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{BuildEvent, BuildProgress};

use super::seconds;
use super::tail::{Tails, failure};
use crate::{output, terminal};

/// Between two drawings.
const TICK: Duration = Duration::from_millis(100);
/// Lines that are shown of a step that runs.
const LINES: usize = 6;

/// The view. It stays as it was last when this is dropped.
pub(super) struct Live {
    shared: Arc<Shared>,
    drawer: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    steps: Vec<(usize, Step)>,
    tails: Tails,
    /// What was told of failures, to stand below.
    failures: Vec<String>,
    notes: Vec<String>,
    /// Lines of the last drawing.
    drawn: usize,
    ended: bool,
    began: Option<Instant>,
}

struct Step {
    title: String,
    began: Instant,
    note: Option<String>,
    end: Option<End>,
}

enum End {
    Cached,
    Done(Duration),
    Canceled,
    Failed(Duration),
}

impl Live {
    pub(super) fn start() -> Self {
        let state = Mutex::new(State { began: Some(Instant::now()), ..State::default() });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let drawer = {
            let shared = shared.clone();
            std::thread::Builder::new().name("progress".to_owned()).spawn(move || shared.draw_on())
        };
        Self { shared, drawer: drawer.ok() }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(drawer) = self.drawer.take() {
            drawer.join().ok();
        }
        let mut state = self.shared.lock();
        state.draw(true);
        for text in state.failures.drain(..).collect::<Vec<_>>() {
            output::talk(&text);
        }
        for text in state.notes.drain(..).collect::<Vec<_>>() {
            output::talk(&text);
        }
    }
}

impl BuildProgress for Live {
    fn event(&self, vertex: usize, event: BuildEvent<'_>) {
        let mut state = self.shared.lock();
        if let BuildEvent::Began { title } = event {
            let title = base::failure::printable(title.to_owned());
            state.steps.push((vertex, Step { title, began: Instant::now(), note: None, end: None }));
            return;
        }
        let state = &mut *state;
        let Some((_, step)) = state.steps.iter_mut().find(|(number, _)| *number == vertex) else { return };
        match event {
            BuildEvent::Began { .. } => {}
            BuildEvent::Output { bytes, after, .. } => state.tails.add(vertex, after, bytes),
            BuildEvent::Note { text } => step.note = Some(base::failure::printable(text.to_owned())),
            BuildEvent::Cached => step.end = Some(End::Cached),
            BuildEvent::Done { took } => step.end = Some(End::Done(took)),
            BuildEvent::Canceled => step.end = Some(End::Canceled),
            BuildEvent::Failed { took, .. } => {
                step.end = Some(End::Failed(took));
                state.failures.push(failure(&step.title, &state.tails, vertex));
            }
        }
        if step.end.is_some() {
            state.tails.forget(vertex);
        }
    }

    fn note(&self, text: &str) {
        self.shared.lock().notes.push(text.to_owned());
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw_on(&self) {
        let mut state = self.lock();
        while !state.ended {
            state.draw(false);
            state = self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn draw(&mut self, last: bool) {
        let (rows, columns) = terminal::size().map_or((24, 80), |(r, c)| (usize::from(r), usize::from(c)));
        let total = self.began.map(|began| began.elapsed()).unwrap_or_default();
        let ended = self.steps.iter().filter(|(_, step)| step.end.is_some()).count();
        let mut lines: Vec<String> = Vec::new();
        for (number, step) in &self.steps {
            let (mark, time) = match step.end {
                None => ("", step.began.elapsed()),
                Some(End::Cached) => ("CACHED ", Duration::ZERO),
                Some(End::Done(took)) => ("", took),
                Some(End::Canceled) => ("CANCELED ", Duration::ZERO),
                Some(End::Failed(took)) => ("ERROR ", took),
            };
            lines.push(row(&format!(" => {mark}{}", step.title), &seconds(time), columns));
            if let Some(note) = step.note.as_ref().filter(|note| step.end.is_none() || note_stays(note)) {
                lines.push(row(&format!(" => => {note}"), "", columns));
            }
            if step.end.is_none() {
                for (_, line) in self.tails.last(*number, LINES) {
                    let line = base::failure::printable(line.replace('\t', "    "));
                    lines.push(row(&format!(" => => # {line}"), "", columns));
                }
            }
        }
        let room = rows.saturating_sub(2);
        if !last && lines.len() > room {
            lines.drain(..lines.len() - room);
        }
        let state = if last { " FINISHED" } else { "" };
        let mut text = String::new();
        if self.drawn > 0 {
            write!(text, "\x1b[{}A", self.drawn).ok();
        }
        let head = format!("[+] Building {} ({ended}/{}){state}", seconds(total), self.steps.len());
        write!(text, "\r\x1b[J{}\n", clipped(&head, columns)).ok();
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len() + 1;
        output::raw(rustix::stdio::stderr(), text.as_bytes()).ok();
    }
}

/// Why a step was not cached is worth to be read afterwards.
fn note_stays(note: &str) -> bool {
    note.starts_with("not cached")
}

/// A line with something at its right end.
fn row(left: &str, right: &str, columns: usize) -> String {
    let room = columns.saturating_sub(right.len() + 2);
    let left = clipped(left, room);
    let width = unicode_width::UnicodeWidthStr::width(&*left);
    format!("{left}{}{right}", " ".repeat(room.saturating_sub(width) + 1))
}

fn clipped(text: &str, columns: usize) -> String {
    let mut width = 0;
    text.chars()
        .take_while(|c| {
            width += unicode_width::UnicodeWidthChar::width(*c).unwrap_or(0);
            width <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fit_the_terminal() {
        assert_eq!(row("left", "1.0s", 14), "left     1.0s");
        assert_eq!(row("a long title", "1.0s", 14), "a long t 1.0s");
        assert_eq!(clipped("日本", 3), "日");
    }
}
