//! The model as a screen: a title, the table, below it the panes of the selected one, and a line for keys and questions.

mod panes;
mod table;

use engine::ContainerLoad;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;

use super::model::{Model, Panes};
use crate::human;

/// What the terminal can show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Line drawing and blocks.
    pub(super) utf8: bool,
}

/// Eight lines of forty columns: in a small terminal there is room for no more.
const HELP: &[&str] = &[
    "arrows, page up/down, home, end: select",
    "c m i b p n: sort by CPU, memory, net,",
    "  block I/O, pids, name; again: reverse",
    "/: filter by name, image, id; Esc: all",
    "a: those that do not run too",
    "Tab: logs, processes, both, neither",
    "s: stop  k: kill  r: restart",
    "space: pause, go on  q: quit  ?: this",
];

/// The fewest rows that the table has beside panes.
const TABLE: u16 = 3;
/// Beside each other they are at least so wide together.
const SIDE_BY_SIDE: u16 = 80;

/// Where everything stands.
pub(super) struct Places {
    pub(super) table: Rect,
    pub(super) processes: Rect,
    pub(super) log: Rect,
}

/// Draws it all, and tells the model how much fits.
pub(super) fn draw(model: &mut Model, look: Look, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    line(frame, row(area, 0), title(model), bold());
    if model.help {
        for (line_of, text) in (1..).zip(HELP) {
            line(frame, row(area, line_of), (*text).to_owned(), Style::new());
        }
    } else {
        let places = places(model, area);
        model.page = usize::from(places.table.height.saturating_sub(1));
        table::draw(model, look, frame, places.table);
        panes::processes(model, look, frame, places.processes);
        panes::log(model, look, frame, places.log);
    }
    if area.height > 1 {
        let (text, style) = footer(model);
        line(frame, row(area, area.height - 1), text, style);
    }
}

/// How the screen is divided.
pub(super) fn places(model: &Model, area: Rect) -> Places {
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(2), ..area };
    let rows = u16::try_from(model.rows().len()).unwrap_or(u16::MAX);
    let least = TABLE.max(body.height.saturating_sub(1) / 2);
    let height = match model.panes {
        Panes::None => body.height,
        _ => (rows.max(1).min(least) + 1).min(body.height),
    };
    let table = Rect { height, ..body };
    let rest = Rect { y: body.y + height, height: body.height - height, ..body };
    let none = Rect { height: 0, ..rest };
    let (processes, log) = match model.panes {
        Panes::None => (none, none),
        Panes::Processes => (rest, none),
        Panes::Both if rest.width >= SIDE_BY_SIDE => {
            let left = Rect { width: rest.width * 2 / 5, ..rest };
            // A column between them.
            let x = left.x + left.width + 1;
            (left, Rect { x, width: rest.width - left.width - 1, ..rest })
        }
        Panes::Both | Panes::Log => (none, rest),
    };
    Places { table, processes, log }
}

fn title(model: &Model) -> String {
    let loads: Vec<ContainerLoad> = model.containers.iter().filter_map(|c| c.load).collect();
    let cpu: f64 = loads.iter().map(|load| load.cpu_percent).sum();
    let memory: u64 = loads.iter().map(|load| load.memory).sum();
    let others = match model.containers.len() - loads.len() {
        0 => String::new(),
        others => format!(", {others} not"),
    };
    format!("{} running{others}  CPU {cpu:.1}%  memory {}", loads.len(), human::binary_size(memory))
}

/// What is asked, what has happened, what is typed, or which keys there are.
fn footer(model: &Model) -> (String, Style) {
    let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    if let Some((action, _, name)) = &model.question {
        return (format!("{} {name}? [y/N]", action.verb()), bold().add_modifier(Modifier::REVERSED));
    }
    if let Some(notice) = &model.notice {
        return (notice.text.clone(), if notice.is_error { red } else { Style::new() });
    }
    if model.filtering {
        return (format!("/{}_", model.filter), bold());
    }
    if !model.filter.is_empty() {
        return (format!("only /{}  (Esc: all)", model.filter), bold());
    }
    ("?: help  q: quit  /: filter  Tab: panes  s: stop  k: kill  r: restart".to_owned(), Style::new())
}

fn row(area: Rect, number: u16) -> Rect {
    let y = (area.y + number).min(area.bottom());
    Rect { y, height: u16::from(number < area.height), ..area }
}

/// A line, as far as there is room.
fn line(frame: &mut Frame<'_>, place: Rect, text: String, style: Style) {
    if !place.is_empty() {
        frame.render_widget(Line::styled(text, style), place);
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// What heads a table or a pane: reversed across it.
fn heading(frame: &mut Frame<'_>, place: Rect, text: &str) {
    let width = usize::from(place.width);
    line(frame, row(place, 0), format!("{text:<width$}"), Style::new().add_modifier(Modifier::REVERSED));
}
