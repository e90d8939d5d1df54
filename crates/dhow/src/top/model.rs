//! What is on the screen, apart from how it is drawn: the containers with their last minute, what is selected, sorted by,
//! filtered, asked. Samples and keys change it; what a key wants from outside is its answer.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

use base::Id;
use engine::ContainerLoad;
use state::container::Status;

use super::keys::Key;
use super::watch::{Container, Detail, Sample};

/// Samples that are kept of each: one a second.
pub(super) const MINUTE: usize = 60;
/// A notice is shown for so many samples.
const NOTICE: u8 = 5;

/// What to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    Cpu,
    Memory,
    Network,
    Block,
    Pids,
}

/// What is shown below the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Panes {
    Both,
    Log,
    Processes,
    None,
}

/// What can be done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Stop,
    Kill,
    Restart,
    Pause,
    Unpause,
}

impl Action {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
        }
    }
}

/// What a key wants that the model cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// To leave.
    Quit,
    /// To let the shell have the terminal.
    Suspend,
    /// The screen anew.
    Redraw,
    /// The selected one's details.
    Detail,
    /// A sample at once.
    Sample,
    /// To do something to a container.
    Act(Action, Id, String),
}

/// What a container did in the last minute.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Percent of a processor.
    pub(super) cpu: VecDeque<f64>,
    /// Bytes.
    pub(super) memory: VecDeque<f64>,
    last: Option<ContainerLoad>,
    /// Bytes a second: received, sent, read, written.
    pub(super) rates: [f64; 4],
}

impl History {
    fn add(&mut self, load: ContainerLoad, seconds: f64) {
        let values = |load: &ContainerLoad| [load.received, load.sent, load.block_read, load.block_written];
        if let Some(last) = &self.last
            && seconds > 0.0
        {
            let (before, now) = (values(last), values(&load));
            self.rates = std::array::from_fn(|at| now[at].saturating_sub(before[at]) as f64 / seconds);
        }
        self.last = Some(load);
        for (values, value) in [(&mut self.cpu, load.cpu_percent), (&mut self.memory, load.memory as f64)] {
            if values.len() == MINUTE {
                values.pop_front();
            }
            values.push_back(value);
        }
    }
}

/// A line about what has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) is_error: bool,
    left: u8,
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) containers: Vec<Container>,
    histories: HashMap<Id, History>,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// Keys go to the filter.
    pub(super) filtering: bool,
    /// Also those that do not run.
    pub(super) all: bool,
    pub(super) panes: Panes,
    pub(super) help: bool,
    /// What is asked, of whom.
    pub(super) question: Option<(Action, Id, String)>,
    pub(super) notice: Option<Notice>,
    pub(super) detail: Detail,
    selected: Option<Id>,
    /// Where the selected one stood, for the case that it goes.
    place: usize,
    /// How many rows a page has: as many as were drawn.
    pub(super) page: usize,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            containers: Vec::new(),
            histories: HashMap::new(),
            sort: Sort::Cpu,
            reversed: false,
            filter: String::new(),
            filtering: false,
            all: false,
            panes: Panes::Both,
            help: false,
            question: None,
            notice: None,
            detail: Detail::default(),
            selected: None,
            place: 0,
            page: 1,
        }
    }
}

impl Model {
    /// The containers are so by now.
    pub(super) fn take_sample(&mut self, sample: Sample) {
        let seconds = sample.elapsed.as_secs_f64();
        self.histories.retain(|id, _| sample.containers.iter().any(|c| c.id == *id));
        for container in &sample.containers {
            match container.load {
                Some(load) => self.histories.entry(container.id.clone()).or_default().add(load, seconds),
                // One that is started again begins anew.
                None => drop(self.histories.remove(&container.id)),
            }
        }
        self.containers = sample.containers;
        self.settle();
        self.notice = self.notice.take().and_then(|notice| {
            let left = notice.left.checked_sub(1)?;
            Some(Notice { left, ..notice })
        });
    }

    /// What is known of the selected one; of another, it has come too late.
    pub(super) fn take_detail(&mut self, detail: Detail) {
        if detail.id == self.selected {
            self.detail = detail;
        }
    }

    /// Says something, for a while.
    pub(super) fn say(&mut self, text: impl Into<String>, is_error: bool) {
        self.notice = Some(Notice { text: text.into(), is_error, left: NOTICE });
    }

    /// The selected one.
    pub(super) fn selected(&self) -> Option<&Id> {
        self.selected.as_ref()
    }

    pub(super) fn history(&self, id: &Id) -> Option<&History> {
        self.histories.get(id)
    }

    /// Those that the filter lets through, sorted.
    pub(super) fn rows(&self) -> Vec<&Container> {
        let wanted = self.filter.to_lowercase();
        let matches = |c: &&Container| {
            c.name.to_lowercase().contains(&wanted)
                || c.image.to_lowercase().contains(&wanted)
                || c.id.as_str().starts_with(&wanted)
        };
        let mut rows: Vec<&Container> = self.containers.iter().filter(matches).collect();
        rows.sort_by(|a, b| {
            let order = self.compare(a, b);
            // Names stand still among equals, whichever way it goes.
            let order = if self.reversed { order.reverse() } else { order };
            order.then_with(|| a.name.cmp(&b.name))
        });
        rows
    }

    /// The largest first, or the first letter.
    fn compare(&self, a: &Container, b: &Container) -> Ordering {
        let number = |c: &Container| {
            let load = c.load?;
            let rates = self.history(&c.id).map_or([0.0; 4], |history| history.rates);
            Some(match self.sort {
                Sort::Name => 0.0,
                // As it is shown: what cannot be told apart keeps its place.
                Sort::Cpu => (load.cpu_percent * 10.0).round(),
                Sort::Memory => load.memory as f64,
                Sort::Network => (rates[0] + rates[1]).round(),
                Sort::Block => (rates[2] + rates[3]).round(),
                Sort::Pids => load.pids as f64,
            })
        };
        match self.sort {
            Sort::Name => a.name.cmp(&b.name),
            _ => number(b).unwrap_or(-1.0).total_cmp(&number(a).unwrap_or(-1.0)),
        }
    }

    /// Where the selected one stands among the rows.
    pub(super) fn position(&self, rows: &[&Container]) -> usize {
        rows.iter().position(|c| Some(&c.id) == self.selected.as_ref()).unwrap_or(0)
    }

    /// Selects somebody, where the one that was is not among the rows any more.
    fn settle(&mut self) {
        let rows = self.rows();
        let found = rows.iter().position(|c| Some(&c.id) == self.selected.as_ref());
        let place = found.unwrap_or_else(|| self.place.min(rows.len().saturating_sub(1)));
        let selected = rows.get(place).map(|c| c.id.clone());
        self.place = place;
        self.select(selected);
    }

    fn select(&mut self, id: Option<Id>) {
        if id != self.selected {
            self.detail = Detail::default();
            self.selected = id;
        }
    }

    fn go(&mut self, by: isize) -> Wish {
        let rows = self.rows();
        let place = self.position(&rows).saturating_add_signed(by).min(rows.len().saturating_sub(1));
        let selected = rows.get(place).map(|c| c.id.clone());
        self.place = place;
        self.select(selected);
        Wish::Detail
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: Key) -> Wish {
        match key {
            Key::Interrupt => return Wish::Quit,
            Key::Suspend => return Wish::Suspend,
            Key::Redraw => return Wish::Redraw,
            _ => {}
        }
        if let Some((action, id, name)) = self.question.take() {
            return if matches!(key, Key::Char('y' | 'Y')) {
                self.say(format!("{} {name} …", action.verb()), false);
                Wish::Act(action, id, name)
            } else {
                Wish::Nothing
            };
        }
        if self.help {
            self.help = false;
            return if key == Key::Char('q') { Wish::Quit } else { Wish::Nothing };
        }
        let page = isize::try_from(self.page.max(1)).unwrap_or(isize::MAX);
        match key {
            Key::Up => self.go(-1),
            Key::Down => self.go(1),
            Key::PageUp => self.go(-page),
            Key::PageDown => self.go(page),
            Key::Home => self.go(isize::MIN),
            Key::End => self.go(isize::MAX),
            Key::Tab => {
                self.panes = match self.panes {
                    Panes::Both => Panes::Log,
                    Panes::Log => Panes::Processes,
                    Panes::Processes => Panes::None,
                    Panes::None => Panes::Both,
                };
                Wish::Detail
            }
            key if self.filtering => self.filter_key(key),
            Key::Escape if self.filter.is_empty() => Wish::Nothing,
            Key::Escape => {
                self.filter.clear();
                self.settle();
                Wish::Detail
            }
            Key::Char(letter) => self.command(letter),
            _ => Wish::Nothing,
        }
    }

    fn filter_key(&mut self, key: Key) -> Wish {
        match key {
            Key::Char(c) => self.filter.push(c),
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => self.filtering = false,
            Key::Escape => {
                self.filtering = false;
                self.filter.clear();
            }
            _ => {}
        }
        self.settle();
        Wish::Detail
    }

    fn command(&mut self, letter: char) -> Wish {
        match letter {
            'q' => return Wish::Quit,
            '?' | 'h' => self.help = true,
            '/' => self.filtering = true,
            'a' => {
                self.all = !self.all;
                return Wish::Sample;
            }
            'n' => self.sort_by(Sort::Name),
            'c' => self.sort_by(Sort::Cpu),
            'm' => self.sort_by(Sort::Memory),
            'i' => self.sort_by(Sort::Network),
            'b' => self.sort_by(Sort::Block),
            'p' => self.sort_by(Sort::Pids),
            's' => self.ask(Action::Stop),
            'k' => self.ask(Action::Kill),
            'r' => self.ask(Action::Restart),
            ' ' => {
                let rows = self.rows();
                let paused = rows.get(self.position(&rows)).is_some_and(|c| c.status == Status::Paused);
                self.ask(if paused { Action::Unpause } else { Action::Pause });
            }
            _ => {}
        }
        Wish::Nothing
    }

    fn sort_by(&mut self, sort: Sort) {
        self.reversed = self.sort == sort && !self.reversed;
        self.sort = sort;
    }

    /// Asks, before anything is done. Whom it is about stays what it was, whatever is selected then.
    fn ask(&mut self, action: Action) {
        let rows = self.rows();
        let one = rows.get(self.position(&rows)).map(|c| (action, c.id.clone(), c.name.clone()));
        self.question = one;
    }
}
