//! The table of containers: as many columns as fit, the most telling ones first.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::{Look, heading, line, row};
use crate::branches::cut;
use crate::human;
use crate::top::model::{Model, Sort};
use crate::top::text::{rate, sparkline};
use crate::top::watch::Container;
use state::container::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Cpu,
    CpuMinute,
    Memory,
    Limit,
    MemoryMinute,
    Network,
    Block,
    Pids,
    About,
}

/// From left to right.
const ORDER: [Column; 9] = [
    Column::Cpu,
    Column::CpuMinute,
    Column::Memory,
    Column::Limit,
    Column::MemoryMinute,
    Column::Network,
    Column::Block,
    Column::Pids,
    Column::About,
];

/// Which go first where there is little room.
const WORTH: [Column; 9] = [
    Column::Cpu,
    Column::Memory,
    Column::Pids,
    Column::Limit,
    Column::CpuMinute,
    Column::Network,
    Column::Block,
    Column::About,
    Column::MemoryMinute,
];

/// A name has at least so much room, and at most.
const NAME: (usize, usize) = (10, 40);

impl Column {
    fn width(self) -> usize {
        match self {
            Self::Cpu => 6,
            Self::CpuMinute | Self::Memory | Self::Limit => 8,
            Self::MemoryMinute => 12,
            Self::Network | Self::Block => 11,
            Self::Pids => 5,
            Self::About => 24,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU %",
            Self::CpuMinute | Self::MemoryMinute => "MINUTE",
            Self::Memory => "MEMORY",
            Self::Limit => "LIMIT",
            Self::Network => "NET I/O /s",
            Self::Block => "BLK I/O /s",
            Self::Pids => "PIDS",
            Self::About => "STATUS",
        }
    }

    fn sorts(self, sort: Sort) -> bool {
        matches!(
            (self, sort),
            (Self::Cpu, Sort::Cpu)
                | (Self::Memory, Sort::Memory)
                | (Self::Network, Sort::Network)
                | (Self::Block, Sort::Block)
                | (Self::Pids, Sort::Pids)
        )
    }

    fn is_text(self) -> bool {
        matches!(self, Self::CpuMinute | Self::MemoryMinute | Self::About)
    }
}

/// Draws as many rows as there is room for: the page on which the selected one is.
pub(super) fn draw(model: &Model, look: Look, frame: &mut Frame<'_>, place: Rect) {
    if place.is_empty() {
        return;
    }
    let (name, columns) = fitting(place.width.into());
    let mark = match (model.reversed, look.utf8) {
        (false, true) => "▼",
        (true, true) => "▲",
        (false, false) => "v",
        (true, false) => "^",
    };
    let marked = |title: &str, sorted: bool| if sorted { format!("{title}{mark}") } else { title.to_owned() };
    let mut text = pad(&marked("NAME", model.sort == Sort::Name), name, true, look);
    for column in &columns {
        // A title that is marked may take the place of the blank before it.
        let title = marked(column.title(), column.sorts(model.sort));
        text.push_str(&pad(&format!(" {title}"), column.width() + 1, column.is_text(), look));
    }
    heading(frame, place, &text);
    let rows = model.rows();
    let room = usize::from(place.height - 1);
    if rows.is_empty() && room > 0 {
        let text = if model.containers.is_empty() { "no container runs" } else { "none is like that" };
        line(frame, row(place, 1), text.to_owned(), Style::new());
    }
    let selected = model.position(&rows);
    let first = selected.checked_div(room).unwrap_or(0) * room;
    for (number, container) in (1..).zip(rows.iter().skip(first).take(room)) {
        let mut text = pad(&container.name, name, true, look);
        for column in &columns {
            text.push(' ');
            text.push_str(&pad(
                &cell(model, container, *column, look),
                column.width(),
                column.is_text(),
                look,
            ));
        }
        let style = if Some(&container.id) == model.selected() {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            style(container)
        };
        let width = usize::from(place.width);
        line(frame, row(place, number), format!("{text:<width$}"), style);
    }
}

/// The width of names, and the columns for which there is room beside them.
fn fitting(width: usize) -> (usize, Vec<Column>) {
    let mut room = width.saturating_sub(NAME.0);
    let mut chosen = Vec::new();
    for column in WORTH {
        let Some(rest) = room.checked_sub(column.width() + 1) else { break };
        room = rest;
        chosen.push(column);
    }
    let name = (NAME.0 + room).min(NAME.1).min(width);
    (name, ORDER.into_iter().filter(|column| chosen.contains(column)).collect())
}

fn style(container: &Container) -> Style {
    match (container.status, container.load) {
        (Status::Paused, _) => Style::new().fg(Color::Yellow),
        (_, None) => Style::new().add_modifier(Modifier::DIM),
        (_, Some(load)) if load.memory_percent() >= 90.0 => Style::new().fg(Color::Red),
        _ => Style::new(),
    }
}

fn cell(model: &Model, container: &Container, column: Column, look: Look) -> String {
    let Some(load) = &container.load else {
        return match column {
            // It is said where it is seen first: in a small terminal there is no other column for it.
            Column::Cpu => container.status.as_str().chars().take(6).collect(),
            Column::About => container.about.clone(),
            _ => String::new(),
        };
    };
    let history = model.history(&container.id);
    let rates = history.map_or([0.0; 4], |history| history.rates);
    match column {
        Column::Cpu if container.status == Status::Paused => "paused".to_owned(),
        Column::Cpu => format!("{:.1}", load.cpu_percent),
        Column::CpuMinute => history.map_or(String::new(), |history| {
            // What is next to nothing is not blown up.
            let most = history.cpu.iter().copied().fold(10.0, f64::max);
            sparkline(history.cpu.iter().copied(), most, column.width(), look.utf8)
        }),
        Column::MemoryMinute => history.map_or(String::new(), |history| {
            let most = history.memory.iter().copied().fold(1.0, f64::max);
            sparkline(history.memory.iter().copied(), most, column.width(), look.utf8)
        }),
        Column::Memory => size(load.memory),
        Column::Limit => size(load.memory_limit),
        Column::Network => format!("{}/{}", rate(rates[0]), rate(rates[1])),
        Column::Block => format!("{}/{}", rate(rates[2]), rate(rates[3])),
        Column::Pids => load.pids.to_string(),
        Column::About => container.about.clone(),
    }
}

/// Eight characters at most.
fn size(bytes: u64) -> String {
    let text = human::binary_size(bytes);
    if text.len() <= 8 { text } else { human::size(bytes, 3) }
}

/// In so many columns, to the left or to the right.
fn pad(text: &str, width: usize, left: bool, look: Look) -> String {
    use unicode_width::UnicodeWidthStr;
    let text = cut(text, width, look.utf8);
    let blanks = " ".repeat(width - text.width());
    if left { text + &blanks } else { blanks + &text }
}
