//! What the selected container says, and its processes.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Look, heading, line, row};
use crate::branches::{Branches, cut};
use crate::commands::container_tree::processor_time;
use crate::top::model::Model;

/// Where there is so little room, what a process is says more than whose it is.
const NARROW: u16 = 50;

/// The last lines, the newest at the bottom.
pub(super) fn log(model: &Model, look: Look, frame: &mut Frame<'_>, place: Rect) {
    if place.is_empty() {
        return;
    }
    heading(frame, place, &format!("LOG{}", of(model)));
    let room = usize::from(place.height - 1);
    let lines = &model.detail.log;
    for (number, text) in (1..).zip(&lines[lines.len().saturating_sub(room)..]) {
        line(frame, row(place, number), cut(text, place.width.into(), look.utf8), Style::new());
    }
}

/// As many as fit.
pub(super) fn processes(model: &Model, look: Look, frame: &mut Frame<'_>, place: Rect) {
    if place.is_empty() {
        return;
    }
    let count = model.detail.processes.len();
    let room = usize::from(place.height - 1);
    let more = if count > room { format!("  ({room} of {count})") } else { String::new() };
    heading(frame, place, &format!("PROCESSES{}{more}", of(model)));
    let mut branches = Branches::new(look.utf8);
    for (number, branch) in (1..).zip(model.detail.processes.iter().take(room)) {
        let before = branches.next(branch.depth, branch.last);
        let process = &branch.item;
        let who = if place.width < NARROW {
            String::new()
        } else {
            format!("{:<8} {} ", process.user, processor_time(process.cpu))
        };
        let text = format!("{:>7} {who}{before}{}", process.pid, process.command);
        line(frame, row(place, number), cut(&text, place.width.into(), look.utf8), Style::new());
    }
}

fn of(model: &Model) -> String {
    let rows = model.rows();
    rows.get(model.position(&rows)).map(|c| format!(" of {}", c.name)).unwrap_or_default()
}
